"""Several scripts as one request to a long-lived shell, and its two output streams cut back into answers.

In: script texts, and bytes as they arrive, in pieces of any size. Out: the request's bytes, and one `Answer` per script
whose end was seen on both streams. Pure: no clock, no loop, no network.

Each script runs in a subshell of its own, so that a syntax error, ``exit`` or ``cd`` stays inside, with an empty
standard input. An end marker holds a random nonce that no command can learn: it stands only in the shell's own input,
never in a variable, an argument or the environment. What came before the first marker belongs to nobody and is dropped:
a login shell's greeting, or the late words of a background process of the request before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from controller.encode.sh import q
from controller.errors import Retry, Stall
from controller.model import Answer

OUTPUT_CAP: Final = 8 * 1024 * 1024
"""Bytes kept per script and stream."""

_KEEP: Final = 64
"""More than a whole marker: what must be kept of a flood so that its end is found."""

_STATUS: Final = re.compile(rb"([0-9]{1,3})\.\n")
_STATUS_SIZE: Final = 5

Reply: TypeAlias = Answer | Retry | Stall
"""What became of one script: its answer, or why there is none."""


def request(nonce: str, scripts: Sequence[str]) -> bytes:
    """The text for the shell. Raises ValueError for a script that holds NUL."""
    parts = [_marker(nonce, 0, "0")]
    for index, script in enumerate(scripts, start=1):
        # The blank keeps a script that begins with "-" from being read as an option of eval.
        parts.append(f"( eval {q(' ' + script)} ) </dev/null\n")
        parts.append(_marker(nonce, index, "$?"))
    return "".join(parts).encode("utf-8", "surrogateescape")


def _marker(nonce: str, index: int, status: str) -> str:
    """echo, not printf: it is a builtin everywhere, so that the nonce is in no process's arguments."""
    return f"echo {nonce}.{index}.{status}.; echo {nonce}.{index}.0. >&2\n"


class Frames:
    """The answers of one request as they come in."""

    def __init__(self, host: str, nonce: str, count: int, *, started: float, cap: int = OUTPUT_CAP) -> None:
        self._host = host
        self._count = count
        self._at = started
        self._cap = cap
        self._stdout = _Stream(nonce, cap)
        self._stderr = _Stream(nonce, cap)
        self.replies: list[Reply] = []

    @property
    def complete(self) -> bool:
        """Every script's end was seen, and the request's beginning (which matters when it has no scripts)."""
        return min(len(self._stdout.pieces), len(self._stderr.pieces)) > self._count

    @property
    def unclaimed(self) -> bytes:
        """What arrived and belongs to no answer yet: a shell that could not start says why here."""
        return bytes(self._stderr.rest + self._stdout.rest)

    def feed(self, data: bytes, *, stderr: bool, now: float) -> None:
        """Take some bytes; `now` in seconds of any steady clock."""
        (self._stderr if stderr else self._stdout).feed(data)
        ended = min(len(self._stdout.pieces), len(self._stderr.pieces)) - 1
        for index in range(len(self.replies) + 1, ended + 1):
            self.replies.append(self._reply(self._stdout.pieces[index], self._stderr.pieces[index], now - self._at))
            self._at = now

    def _reply(self, out: _Piece, err: _Piece, seconds: float) -> Reply:
        if out.flooded or err.flooded:
            stream = "standard output" if out.flooded else "standard error"
            return Stall(
                f"cannot use an answer of {self._host}: flooded, more than {self._cap} bytes on {stream}",
                hint="run the command by hand on that machine and look at what it prints so much of",
            )
        return Answer(out.status, out.data, err.data, seconds)


@dataclass(frozen=True, slots=True)
class _Piece:
    data: bytes
    status: int
    flooded: bool


@dataclass(slots=True)
class _Stream:
    """One output stream, cut at its markers. Memory is bounded by the cap, whatever arrives."""

    nonce: str
    cap: int
    pieces: list[_Piece] = field(default_factory=list)
    rest: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _flooded: bool = False

    def feed(self, data: bytes) -> None:
        self.rest += data
        while (piece := self._next()) is not None:
            self.pieces.append(piece)
        if len(self.rest) > self.cap + _KEEP:
            self._flooded = True
            del self.rest[:-_KEEP]
            self._searched = 0

    def _next(self) -> _Piece | None:
        mark = f"{self.nonce}.{len(self.pieces)}.".encode()
        start = self.rest.find(mark, self._searched)
        if start < 0:
            self._searched = max(0, len(self.rest) - len(mark) + 1)
            return None
        end = start + len(mark)
        status = _STATUS.match(self.rest, end)
        if status is None:
            # Half a marker waits for its end; a nonce followed by anything else is not from our shell.
            self._searched = start if len(self.rest) - end < _STATUS_SIZE else end
            return None if self._searched == start else self._next()
        piece = _Piece(bytes(self.rest[:start]), int(status[1]), self._flooded or start > self.cap)
        del self.rest[: status.end()]
        self._searched, self._flooded = 0, False
        return piece
