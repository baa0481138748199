"""A BMC that speaks Redfish over HTTPS on loopback, as unkind as a test wants it, and certificates to believe or not."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RESET = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset"
SESSIONS = "/redfish/v1/SessionService/Sessions"


@dataclass(slots=True)
class Fake:
    """What the BMC does, and what it was asked."""

    password: str
    state: str = "On"
    obeys: bool = True
    hangs: str = ""
    """The path at which it never answers again."""
    refuses: tuple[int, dict[str, Any]] | None = None
    """Status and body of its answer to a reset."""
    asked: list[str] = field(default_factory=list)
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, login: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(f"{method} {path}")
        if path == self.hangs:
            self.over.wait()
        if path == "/redfish/v1/":
            named = ("Systems", "Managers", "SessionService")
            return 200, {name: {"@odata.id": f"/redfish/v1/{name}"} for name in named}
        if login != "Basic " + base64.b64encode(f"jailops:{self.password}".encode()).decode():
            return 401, {"error": {"code": "Base.1.0.GeneralError"}}
        if path == "/redfish/v1/Managers":
            return 200, {"Members": []}
        if path == RESET:
            return self._reset(body["ResetType"])
        if path != "/redfish/v1/Systems/1":
            return 404, {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.0.ResourceMissing"}]}}
        action = {"#ComputerSystem.Reset": {"target": RESET}}
        return 200, {"@odata.id": path, "PowerState": self.state, "Actions": action, "Links": {}}

    def _reset(self, kind: str) -> tuple[int, dict[str, Any]]:
        if self.refuses:
            return self.refuses
        if self.obeys:
            self.state = {"ForceOff": "Off", "On": "On"}[kind]
        return 200, {}


@contextmanager
def serving(fake: Fake, certificate: Path) -> Iterator[Fake]:
    """`certificate`: PEM with its private key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = fake.answer(self.command, self.path, self.headers.get("Authorization", ""), json.loads(body or "{}"))
            text = json.dumps(said[1]).encode()
            self.send_response(said[0])
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that break off are what tests are about."""

        def finish_request(self, request: Any, client_address: Any) -> None:
            with context.wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), Handler) as server:
        fake.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield fake
        finally:
            fake.over.set()
            server.shutdown()
            thread.join()


def certificate(path: Path, signer: Path | None = None) -> str:
    """Write a certificate of 127.0.0.1 with its key, signed by another or by itself; its SHA-256 fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path.stem)])
    issuer, by = (name, key) if signer is None else _signer(signer)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), True)
    )
    made = builder.sign(by, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem + private)
    return hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


def _signer(path: Path) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(path.read_bytes()).subject, key
