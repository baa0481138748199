"""Real Git remotes for the tests: a person's work tree with its bare repository, and servers on loopback."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.reader.wire import Unreadable
from controller.source import GitSource

TOKEN = "glpat-0123456789abcdefXYZ"

_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Admin",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Admin",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}


def git(where: Path, *words: str, stdin: bytes | None = None) -> str:
    """Plain git as a person runs it."""
    done = subprocess.run(["git", *words], cwd=where, env=_ENV, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout.decode().strip()


@dataclass(frozen=True)
class Person:
    """Somebody with a work tree who pushes to a bare remote, branch main."""

    work: Path
    remote: Path

    def commit(self, files: Mapping[str, str | bytes | None], subject: str = "change") -> str:
        """Commit these contents (None removes a file) and return the id. Nothing is pushed."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                git(self.work, "rm", "--quiet", name)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            git(self.work, "add", "--force", name)
        git(self.work, "commit", "--quiet", "--allow-empty", "--message", subject)
        return git(self.work, "rev-parse", "HEAD")

    def push(self, *words: str) -> None:
        git(self.work, "push", "--quiet", *(words or ("--force", "origin", "HEAD:refs/heads/main")))

    def publish(self, files: Mapping[str, str | bytes | None], subject: str = "change") -> str:
        revision = self.commit(files, subject)
        self.push()
        return revision


def new_person(base: Path) -> Person:
    remote, work = base / "remote" / "infra.git", base / "work"
    remote.parent.mkdir()
    git(base, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(base, "clone", "--quiet", str(remote), str(work))
    git(work, "symbolic-ref", "HEAD", "refs/heads/main")
    return Person(work, remote)


async def said(source: GitSource, revision: str) -> dict[str, object]:
    """What each manifest file of a revision says: the values of its documents, or why it cannot be read."""
    read = await source.read((await source.snapshot(revision)).blobs)
    return {
        entry.path: one.message if isinstance(one, Unreadable) else [tree.value for tree in one.documents]
        for entry, one in read.items()
    }


@dataclass
class Https:
    """git http-backend behind TLS and a token, with faults to switch on."""

    url: str
    ca_file: Path
    token_file: Path
    status: int = 0
    """Answer everything with this status."""
    stall_after: int | None = None
    """Send so many bytes of a pack, then nothing more."""
    seen: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)


@contextmanager
def https_remote(base: Path, root: Path) -> Iterator[Https]:
    cert, key = _certificate(base)
    token_file = base / "token"
    token_file.write_text(TOKEN + "\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    remote = Https(f"https://localhost:{server.server_port}/infra.git", cert, token_file)
    _Backend.remote, _Backend.root = remote, root
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield remote
    finally:
        remote.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Backend(BaseHTTPRequestHandler):
    remote: Https
    root: Path
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: object) -> None:
        self.remote.seen.append(format % args)

    def _serve(self, body: bytes) -> None:
        wanted = "Basic " + base64.b64encode(f"jailops:{TOKEN}".encode()).decode()
        if self.remote.status:
            self._answer(self.remote.status, [("Location", "https://localhost:1/moved.git")], b"")
        elif self.headers.get("Authorization") != wanted:
            self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        else:
            self._backend(body)

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": "/nonexistent",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "jailops",
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self._answer(status, [(name, value) for name, value in headers if name != "Status"], content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        stall = self.remote.stall_after
        if stall is None or len(content) <= stall:
            self.wfile.write(content)
            return
        self.wfile.write(content[:stall])
        self.wfile.flush()
        self.remote.stalled.set()
        self.remote.stopping.wait()
        self.close_connection = True


def _certificate(base: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now()
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    cert_file, key_file = base / "cert.pem", base / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return cert_file, key_file


@dataclass(frozen=True)
class Ssh:
    """A real sshd on loopback that lets one key in."""

    url: str
    key_file: Path
    other_key_file: Path
    host_key: str
    other_host_key: str


@contextmanager
def ssh_remote(base: Path, remote: Path) -> Iterator[Ssh]:
    home = base / "sshd"
    home.mkdir()
    for name in ("host", "other_host", "client", "other_client"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(home / name)]
        subprocess.run(keygen, check=True)
    shutil.copy(home / "client.pub", home / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # what the package's own start script does
    port = _free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": home / "host",
        "AuthorizedKeysFile": home / "authorized_keys",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *words], stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        yield Ssh(
            f"ssh://{user}@127.0.0.1:{port}{remote}",
            home / "client",
            home / "other_client",
            (home / "host.pub").read_text(),
            (home / "other_host.pub").read_text(),
        )
    finally:
        daemon.terminate()
        daemon.wait()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for_port(port: int) -> None:
    until = monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert monotonic() < until, f"nothing listens on port {port}"
            sleep(0.02)


def processes_naming(text: str) -> list[tuple[str, str]]:
    """Command line and environment of every process whose command line holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            cmdline = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            environ = (entry / "environ").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in cmdline or text in environ:
            found.append((cmdline, environ))
    return found


def leftovers(mirror: Path) -> list[str]:
    """Temporary and lock files that a killed git could have left."""
    return [str(p) for p in (mirror / "repo.git").rglob("*") if p.name.startswith("tmp_") or p.name.endswith(".lock")]


def flip(path: Path, count: int = 40) -> None:
    """Invert bytes in the middle of a file."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for place in range(max(12, middle - count // 2), min(len(data) - 1, middle + count // 2)):
        data[place] ^= 0xFF
    path.write_bytes(data)
