"""sshd of one simulated machine: asyncssh on loopback, whose far side is the machine's own login shell.

In: a running `Machine`, its host keys, the client keys it lets in. Out: a listener on 127.0.0.1 whose port stays the same for the
life of the site. Commands get pipes on all three streams, no terminal and no forwarding. As with a real sshd, a command
goes on when its connection is lost.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import asyncssh

from controller.lab.machine import Machine

CHUNK: Final = 65536

Clients = Callable[[], Awaitable[Sequence[asyncssh.SSHKey]]]
"""The public keys that root may log in with, as they are at this moment."""


class Sshd:
    """One listener. `port` is chosen once and kept until `release`; nothing answers there until `start`, nor after `stop`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._kept = _free_port()
        self.port = int(self._kept.getsockname()[1])
        self.host_keys: tuple[str, ...] = ()
        """Public host keys of the running server, one line each."""
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._children: set[asyncio.Task[int]] = set()

    async def start(self, host_keys: Sequence[asyncssh.SSHKey], clients: Clients, shell: str) -> None:
        """Begin to let `clients` in as root, with `shell` as the login shell. They are asked for at every login."""
        await self.stop()
        self.host_keys = tuple(" ".join(key.export_public_key().decode().split()[:2]) for key in host_keys)

        async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
            await self._serve(process, shell)

        self._acceptor = await asyncssh.create_server(
            lambda: _Door(clients, self._connections),
            "127.0.0.1",
            self.port,
            server_host_keys=list(host_keys),
            process_factory=serve,
            encoding=None,
            allow_pty=False,
            agent_forwarding=False,
            line_editor=False,
            reuse_address=True,
        )

    async def stop(self) -> None:
        """Close the listener and cut every connection, as a machine that loses its power does."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        acceptor.close()
        for connection in tuple(self._connections):
            connection.abort()
        await acceptor.wait_closed()

    def release(self) -> None:
        """Let others have the port."""
        self._kept.close()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes], shell: str) -> None:
        if not self.machine.running:
            process.exit(255)
            return
        said = process.command
        argv = self.machine.argv([shell, "-c", said] if said is not None else [shell])
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
        ended = asyncio.create_task(child.wait())
        self._children.add(ended)
        ended.add_done_callback(self._children.discard)
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        feed = asyncio.create_task(_feed(process.stdin, child.stdin))
        try:
            await asyncio.gather(_carry(child.stdout, process.stdout), _carry(child.stderr, process.stderr))
            status = await asyncio.shield(ended)
            process.exit(status if status >= 0 else 128 - status)
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter) -> None:
    """Bytes from the client to the command, then end of input; a lost connection is end of input too."""
    try:
        with suppress(asyncssh.Error, OSError):
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()


async def _carry(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    """Bytes from the command to the client; when the client is gone they are thrown away."""
    gone = False
    while data := await source.read(CHUNK):
        try:
            if not gone:
                sink.write(data)
                await sink.drain()
        except (asyncssh.Error, OSError):
            gone = True


class _Door(asyncssh.SSHServer):
    """Root with one of the allowed keys, and nobody else."""

    def __init__(self, clients: Clients, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._clients = clients
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        del username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and key.public_data in {one.public_data for one in await self._clients()}


def _free_port() -> socket.socket:
    """A port that is bound and not listened on: who connects is refused, nobody else is given it, and the listener
    may share it (SO_REUSEADDR on both). A machine that is off for long would lose its port to any client otherwise."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept
