"""Two SSH servers for one suite: OpenSSH's sshd as a child process, and asyncssh's in this process.

Both listen on loopback, know one client key, and end with everything that ran in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from controller.transport import Endpoint

_CONFIG = """\
{more}
ListenAddress 127.0.0.1:{port}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
"""


@dataclass
class Machine:
    """A machine that listens. `scratch` is a directory that both sides see."""

    endpoint: Endpoint
    scratch: Path
    log: Path

    async def drop(self) -> None:
        """Cut every connection without a word."""
        raise NotImplementedError


@dataclass
class OpenSsh(Machine):
    process: subprocess.Popen[bytes]

    async def drop(self) -> None:
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        for pid in self.daemons():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.daemons():
            os.kill(pid, signal.SIGCONT)

    def daemons(self) -> list[int]:
        return [pid for pid in _descendants(self.process.pid) if _title(pid).startswith("sshd")]

    def sessions(self) -> list[int]:
        return [pid for pid in self.daemons() if "[listener]" not in _title(pid)]


@dataclass
class InProcess(Machine):
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)

    async def drop(self) -> None:
        for connection in self.connections:
            connection.abort()


async def _pump(source: Any, sink: Any) -> None:
    """Bytes from one stream to another until either ends."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        if isinstance(sink, asyncio.StreamWriter):
            sink.close()


def _descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            found += [int(child), *_descendants(int(child))]
    return found


def _title(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().removeprefix("/usr/sbin/")
    return ""


def new_key(path: Path) -> str:
    """A private key in a file; returns its public line."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path)
    path.chmod(0o600)
    line: str = key.export_public_key("openssh").decode().strip()
    return line


def _keys(directory: Path) -> tuple[str, Path]:
    client = directory / "client_key"
    (directory / "authorized_keys").write_text(new_key(client) + "\n")
    return new_key(directory / "host_key"), client


async def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another process does and does not tell."""
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def openssh(directory: Path, *, more: str = "", before: str = "") -> AsyncIterator[OpenSsh]:
    """A real sshd in namespaces of its own: its /run is private, and its end is the end of all that it started.

    `more` is added to its configuration; `before` runs as shell text in its namespaces first.
    """
    host_key, client = _keys(directory)
    port = free_port()
    (directory / "sshd_config").write_text(_CONFIG.format(dir=directory, port=port, more=more))
    log = directory / "sshd.log"
    with _child(directory, log, before) as process:
        await _listening(port, process, log)
        user = pwd.getpwuid(os.getuid()).pw_name
        endpoint = Endpoint("node1", "127.0.0.1", host_key, client, port=port, user=user)
        yield OpenSsh(endpoint, directory, log, process)


@contextlib.contextmanager
def _child(directory: Path, log: Path, before: str) -> Iterator[subprocess.Popen[bytes]]:
    own = [] if os.getuid() == 0 else ["--user", "--map-current-user"]
    run = "mount -t tmpfs tmpfs /run && mkdir /run/sshd" if os.getuid() == 0 else ":"
    script = f"{run} && {before or ':'} && exec /usr/sbin/sshd -D -e -f {directory}/sshd_config"
    namespaces = ["unshare", *own, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*namespaces, "sh", "-c", script], stdout=errors, stderr=errors, stdin=subprocess.DEVNULL
        ) as it,
    ):
        try:
            yield it
        finally:
            it.kill()


async def _listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(10):
        while True:
            assert process.poll() is None, f"sshd did not start, see {log}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


@contextlib.asynccontextmanager
async def in_process(directory: Path, *, login_shell: str = "/bin/sh") -> AsyncIterator[InProcess]:
    """asyncssh's server, whose commands go through a login shell just as sshd's do."""
    host_key, client = _keys(directory)
    children: list[asyncio.subprocess.Process] = []
    connections: list[asyncssh.SSHServerConnection] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            connections.append(conn)

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_exec(
            login_shell,
            "-c",
            process.command or "",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        children.append(child)
        into = asyncio.create_task(_pump(process.stdin, child.stdin))
        try:
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            process.exit(await child.wait())
        finally:
            into.cancel()

    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[directory / "host_key"],
        authorized_client_keys=str(directory / "authorized_keys"),
        process_factory=serve,
        encoding=None,
    )
    endpoint = Endpoint("node1", "127.0.0.1", host_key, client, port=listener.get_port(), user="root")
    try:
        yield InProcess(endpoint, directory, directory / "no.log", connections)
    finally:
        listener.close()
        for connection in connections:
            connection.abort()
        await listener.wait_closed()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
