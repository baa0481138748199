"""Where one machine answers, whose key proves that it is the one, and with what it is logged in to.

In: values that manifests and settings have validated. Out: the options of one asyncssh connection, complete and
explicit. Never reads ``~/.ssh``, never asks an agent, never accepts a host key that is not pinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from controller.errors import Stall

CONNECT_SECONDS: Final = 10.0
LOGIN_SECONDS: Final = 15.0
KEEPALIVE_SECONDS: Final = 5
KEEPALIVE_COUNT: Final = 3

_CIPHERS: Final = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""Terrapin (CVE-2023-48795) needs chacha20-poly1305 or a CBC cipher, and OpenSSH of FreeBSD 10 knows no strict key
exchange; every OpenSSH since 6.2 has these."""


_SIGNATURES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One machine as the transport knows it."""

    name: str
    address: str
    host_key: str
    """One public key line as in ssh-keyscan's output without the host: ``ssh-ed25519 AAAA…``."""
    client_key_file: Path
    port: int = 22
    user: str = "root"
    connect_address: str = ""
    """Reach the machine here instead of at `address`: a tunnel, a port forward, a test."""
    connect_port: int = 0

    @property
    def where(self) -> str:
        """For people: the address and port that are really connected to."""
        return f"{self.connect_address or self.address}:{self.connect_port or self.port}"


def connection_options(endpoint: Endpoint) -> dict[str, Any]:
    """Keyword arguments for ``asyncssh.connect``. Raises Stall when the pinned key or the client key is unusable."""
    pinned = _pinned_key(endpoint)
    return {
        "host": endpoint.connect_address or endpoint.address,
        "port": endpoint.connect_port or endpoint.port,
        "username": endpoint.user,
        "config": None,
        "known_hosts": f"{endpoint.name} ".encode() + pinned.export_public_key("openssh"),
        "host_key_alias": endpoint.name,
        "server_host_key_algs": _signatures(pinned),
        "client_keys": [_client_key(endpoint)],
        "agent_path": None,
        "preferred_auth": "publickey",
        "encryption_algs": _CIPHERS,
        "compression_algs": ["none"],
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": LOGIN_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
    }


def _pinned_key(endpoint: Endpoint) -> asyncssh.SSHKey:
    line = endpoint.host_key.strip()
    try:
        if "\n" in line:
            raise ValueError("more than one line")
        return asyncssh.import_public_key(line)
    except ValueError as exc:
        raise Stall(
            f"cannot connect to {endpoint.name}: its pinned host key is not a public key: {exc}",
            hint=f"put one line such as 'ssh-ed25519 AAAA…' as the host key of {endpoint.name}",
        ) from exc


def _client_key(endpoint: Endpoint) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(endpoint.client_key_file)
    except (OSError, ValueError) as exc:
        raise Stall(
            f"cannot connect to {endpoint.name}: the client key {endpoint.client_key_file} cannot be used: {exc}",
            hint="the file must hold one OpenSSH private key without a passphrase, readable by jailops alone",
        ) from exc


def _signatures(key: asyncssh.SSHKey) -> list[str]:
    """The pinned key's type first. The others let a machine show the wrong key; RSA with SHA-1 is not among them."""
    mine = [kind for kind in _SIGNATURES if kind == key.get_algorithm() or (kind.startswith("rsa") and _is_rsa(key))]
    return [*mine, *(kind for kind in _SIGNATURES if kind not in mine)]


def _is_rsa(key: asyncssh.SSHKey) -> bool:
    return bool(key.get_algorithm() == "ssh-rsa")
