"""One long-lived ``/bin/sh`` on one machine, over one SSH channel.

In: framed requests, one at a time. Out: one reply per script; those whose end was not seen are `Indeterminate`. Never
waits past the caller's deadline, nor for a shell that was given up, and never reports success without our marker.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

import asyncssh

from controller.errors import Indeterminate, Retry
from controller.transport.frames import Frames, Reply, request
from controller.transport.translate import plain

COMMAND: Final = "exec /bin/sh -s"
"""The only text that a login shell ever sees. csh takes it too."""

_PREAMBLE: Final = (
    # Appended, so that a machine's own order stays. sshd's path for a command may lack the sbin directories.
    b'PATH="${PATH:+$PATH:}/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"; export PATH\n'
    b"LC_ALL=C; export LC_ALL; umask 022; cd /\n"
)


class Shell(asyncssh.SSHClientSession[bytes]):
    """A shell. `greet` comes first, then `run` any number of times; it ends by `abandon` or with its channel."""

    def __init__(self, name: str, *, cap: int, gone: Callable[[Shell], None]) -> None:
        self._name = name
        self._cap = cap
        self._gone = gone
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._frames: Frames | None = None
        self._wake: asyncio.Future[None] | None = None
        self._ended = ""
        self.closed = False
        """The channel is gone, and with it whatever ran in it and held it open."""

    @property
    def usable(self) -> bool:
        """Another request may be sent."""
        return not self.closed and not self._ended

    async def greet(self) -> None:
        """Wait until the shell answers. Nothing but settings were sent, so a failure is a plain Retry."""
        frames, wake = self._send((), preamble=_PREAMBLE)
        await wake
        self._frames = None
        if not frames.complete:
            said = plain(frames.unclaimed[-300:].decode("utf-8", "backslashreplace"))
            raise Retry(f"cannot start /bin/sh on {self._name}: {self._ended}{': ' if said else ''}{said}")

    async def run(self, scripts: Sequence[str], deadline: float) -> list[Reply]:
        """Run scripts and return a reply for each; `deadline` is a time of the loop's clock.

        When it passes, the shell is given up with whatever runs in it: sshd refuses to signal root's processes.
        """
        frames, wake = self._send(scripts)
        why = ""
        try:
            async with asyncio.timeout_at(deadline):
                await wake
        except TimeoutError:
            why = "its deadline passed"
            self.abandon()
        except asyncio.CancelledError:
            self.abandon()
            raise
        self._frames = None
        missing = len(scripts) - len(frames.replies)
        return [*frames.replies, *(self._unseen(why or self._ended) for _ in range(missing))]

    def abandon(self) -> None:
        """Give the shell up. Its channel stays until the far side ends, which `gone` then tells."""
        self._frames = None
        if self._chan is None or self.closed:
            return
        with contextlib.suppress(OSError):
            self._chan.write_eof()

    def _send(self, scripts: Sequence[str], preamble: bytes = b"") -> tuple[Frames, asyncio.Future[None]]:
        """Everything in one write: asyncssh cuts it to the channel's window, and reads answers meanwhile."""
        nonce = secrets.token_hex(16)
        text = preamble + request(nonce, scripts)
        frames = Frames(self._name, nonce, len(scripts), started=time.monotonic(), cap=self._cap)
        wake = asyncio.get_running_loop().create_future()
        self._frames, self._wake = frames, wake
        if self._chan is None or self.closed:
            wake.set_result(None)
        else:
            self._chan.write(text)
        return frames, wake

    def _unseen(self, why: str) -> Indeterminate:
        return Indeterminate(f"cannot tell what became of a command on {self._name}: {why} before its end was seen")

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._chan = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self._frames is None:
            return
        self._frames.feed(data, stderr=datatype is not None, now=time.monotonic())
        if self._frames.complete:
            self._awake()

    def exit_status_received(self, status: int) -> None:
        self._ended = f"the shell exited with status {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        self._ended = f"the shell was ended by SIG{plain(signal, 20)}"

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._ended:
            self._ended = f"the connection was lost{f' ({plain(str(exc))})' if exc else ''}"
        self._awake()
        self._gone(self)
