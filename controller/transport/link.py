"""All that is held for one machine: its connection, its shells, and what may be tried next.

In: scripts for a lane. Out: replies. One connection per machine, opened when first needed; one shell per lane, replaced
when it hangs; requests of one lane run one after the other, lanes do not wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import asyncssh

from controller.errors import ControllerError, Indeterminate, Retry
from controller.model import Lane
from controller.transport.breaker import LONGEST_SECONDS, Breaker
from controller.transport.endpoint import Endpoint, connection_options
from controller.transport.frames import Reply
from controller.transport.shell import COMMAND, Shell
from controller.transport.translate import before_sending

ABANDONED_MOST: Final = 8
"""Hanging shells that one connection may carry: sshd's MaxSessions is 10, and two lanes must still fit."""

_CLOSE_SECONDS: Final = 2.0


class _Watch(asyncssh.SSHClient):
    """Knows how far a connection came."""

    def __init__(self) -> None:
        self._connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    @property
    def in_key_exchange(self) -> bool:
        """The server has told its version and not yet proved its host key."""
        if self._connection is None or self._connection.get_extra_info("server_version") is None:
            return False
        return self._connection.get_server_host_key() is None


class Link:
    """One machine's connection and shells."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        cap: int,
        clock: Callable[[], float],
        connected: Callable[[str], None],
        longest_pause: float = LONGEST_SECONDS,
    ) -> None:
        self.endpoint = endpoint
        self._cap = cap
        self._connected = connected
        self._breaker = Breaker(clock, longest_pause)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._ending: list[asyncssh.SSHClientConnection] = []
        self._connecting = asyncio.Lock()
        self._retired = False
        self._hung_up = False
        """The last attempt to connect ended in the key exchange."""
        self._lanes: dict[Lane, Shell] = {}
        self._turns: defaultdict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._abandoned: set[Shell] = set()

    @property
    def closed(self) -> bool:
        return self._connection is None and all(one.is_closed() for one in self._ending)

    async def ask(
        self,
        lane: Lane,
        scripts: Sequence[str],
        timeout: float,
        *,
        sent: Callable[[], None],
        force: bool,
        run: float | None = None,
    ) -> list[Reply]:
        """One request. Raises Retry or Stall when nothing was sent; `sent` is called once just before sending.

        `run` in seconds is what the answer may take from then on; without it, what is left of `timeout`.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        turn = self._turns[lane]
        async with self._before(deadline, f"its {lane} lane was busy"):
            await turn.acquire()
        try:
            shell = await self._shell(lane, deadline, force=force)
            sent()
            return await self._run(lane, shell, scripts, deadline if run is None else clock() + run)
        finally:
            turn.release()

    def at_work(self, lane: Lane) -> bool:
        """A request of this lane has not ended yet."""
        return lane in self._turns and self._turns[lane].locked()

    async def close(self) -> None:
        """End the connection for good; what is under way becomes Indeterminate. Waits 2 s at most."""
        self._retired = True
        if self._connection is not None:
            self._connection.close()
            self._ending.append(self._connection)
        for connection in self._ending:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await connection.wait_closed()
            except TimeoutError:
                connection.abort()

    def cut(self) -> None:
        """End the connection for good, at once and without waiting."""
        self._retired = True
        if self._connection is not None:
            self._drop(self._connection)

    def _drop(self, connection: asyncssh.SSHClientConnection) -> None:
        """Never use this connection again. asyncssh calls it closed only some turns of the loop later."""
        connection.abort()
        if self._connection is connection:
            self._connection = None
        self._ending = [*(one for one in self._ending if not one.is_closed()), connection]

    async def _run(self, lane: Lane, shell: Shell, scripts: Sequence[str], deadline: float) -> list[Reply]:
        try:
            replies = await shell.run(scripts, deadline)
        except BaseException:
            self._give_up(lane, shell)
            raise
        if isinstance(replies[-1], Indeterminate):
            self._give_up(lane, shell)
        return replies

    def _give_up(self, lane: Lane, shell: Shell) -> None:
        self._lanes.pop(lane, None)
        if not shell.closed:
            self._abandoned.add(shell)

    async def _shell(self, lane: Lane, deadline: float, *, force: bool) -> Shell:
        connection = await self._connect(deadline, force=force)
        shell = self._lanes.get(lane)
        if shell is not None and shell.usable:
            return shell
        if len(self._abandoned) >= ABANDONED_MOST:
            raise Retry(
                f"cannot open another shell on {self.endpoint.name}: {len(self._abandoned)} earlier ones still hang; "
                "look there for commands that wait for a disk or an NFS server"
            )
        shell = await self._open(connection, deadline)
        await self._greet(lane, shell, deadline)
        self._lanes[lane] = shell
        return shell

    async def _open(self, connection: asyncssh.SSHClientConnection, deadline: float) -> Shell:
        shell = Shell(self.endpoint.name, cap=self._cap, gone=self._abandoned.discard)
        try:
            async with self._before(deadline, "it opened no session"):
                await connection.create_session(lambda: shell, COMMAND, encoding=None)
        except (OSError, asyncssh.Error) as exc:
            raise before_sending(self.endpoint, exc) from exc
        except BaseException:
            # A machine that does not even open a session answers nothing else on this connection either.
            self._drop(connection)
            raise
        return shell

    async def _greet(self, lane: Lane, shell: Shell, deadline: float) -> None:
        try:
            async with self._before(deadline, f"/bin/sh of its {lane} lane did not answer"):
                await shell.greet()
        except BaseException:
            shell.abandon()
            self._give_up(lane, shell)
            raise

    async def _connect(self, deadline: float, *, force: bool) -> asyncssh.SSHClientConnection:
        async with self._before(deadline, "another attempt to connect went on"):
            await self._connecting.acquire()
        try:
            if self._connection is None or self._connection.is_closed():
                if not force:
                    self._breaker.check()
                self._connection = await self._attempt(deadline)
            return self._connection
        finally:
            self._connecting.release()

    async def _attempt(self, deadline: float) -> asyncssh.SSHClientConnection:
        try:
            async with self._before(deadline, "it did not answer"):
                connection = await self._dial()
        except ControllerError as error:
            self._breaker.failed(error)
            raise
        if self._retired:
            self._drop(connection)
            raise Retry(f"cannot ask {self.endpoint.name}: it is known by another address or key by now", after=1)
        self._breaker.succeeded()
        self._connected(self.endpoint.name)
        return connection

    async def _dial(self) -> asyncssh.SSHClientConnection:
        watch = _Watch()
        hung_up, self._hung_up = self._hung_up, False
        try:
            return await asyncssh.connect(**connection_options(self.endpoint), client_factory=lambda: watch)
        except (OSError, asyncssh.Error) as exc:
            self._hung_up = watch.in_key_exchange
            raise before_sending(self.endpoint, exc, hung_up_again=hung_up and self._hung_up) from exc

    @contextlib.asynccontextmanager
    async def _before(self, deadline: float, what: str) -> AsyncIterator[None]:
        """A deadline that passes in here passes before anything was sent."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as exc:
            raise Retry(f"cannot ask {self.endpoint.name} ({self.endpoint.where}): {what} before the deadline") from exc
