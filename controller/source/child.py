"""One command in a child process of its own: argv, environment and limits in, exit status and output out.

The child leads its own session, so the whole family (git, ssh, git-remote-https, index-pack) ends together at the
deadline or when the caller is cancelled. Its limits are set by sh before the command starts, because code between fork and exec
is not safe in a process with threads. Never reads our environment, never inherits a terminal or a file.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

_LIMITED = """ulimit -c 0; ulimit -f "$1"; ulimit -v "$2"; ulimit -t "$3"; shift 3; exec "$@" """
"""A limit that is already lower cannot be raised: sh says so, and the lower one holds."""

_UNSHARE = ("unshare", "--user", "--map-current-user", "--net", "--")
_unshare: Sequence[str] | None = None

_STDERR_KEPT = 16 * 1024
_GRACE = 1.0
"""Seconds between asking and killing: git removes its lock files when asked."""


class DeadlinePassed(Exception):
    """The command did not end in time and was killed with all its children."""


class TooMuchOutput(Exception):
    """The command printed more than the caller can use and was killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use: bytes of one file, bytes of address space, seconds of processor time."""

    file_bytes: int
    memory_bytes: int
    cpu_seconds: int = 600


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended by itself. `exit` is negative for a signal."""

    exit: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "backslashreplace").strip()


async def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    limits: Limits,
    *,
    deadline: float,
    stdin: bytes = b"",
    max_output: int = 1024 * 1024,
    alone: bool = False,
) -> Done:
    """Run a command and wait at most `deadline` seconds. Raises DeadlinePassed, TooMuchOutput, OSError.

    `alone`: without any network, where the kernel lets us have a namespace for it.
    """
    if alone:
        argv = (*await _namespace(), *argv)
    numbers = (limits.file_bytes // 512, limits.memory_bytes // 1024, limits.cpu_seconds)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", _LIMITED, argv[0], *(str(n) for n in numbers), *argv,
        env=dict(env), cwd="/", stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(deadline):
            stdout, stderr, _ = await asyncio.gather(
                _capped(process, max_output), _tail(process), _feed(process, stdin)
            )
            await process.wait()
    except TimeoutError:
        raise DeadlinePassed from None
    finally:
        await _end(process)
    if stdout is None:
        raise TooMuchOutput
    return Done(process.returncode or 0, stdout, stderr)


async def _namespace() -> Sequence[str]:
    """The words that put a command where there is no network; none where that cannot be had. Asked once."""
    global _unshare
    if _unshare is None:
        try:
            probe = await asyncio.create_subprocess_exec(
                *_UNSHARE, "true", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
            )
            _unshare = _UNSHARE if await probe.wait() == 0 else ()
        except OSError:
            _unshare = ()
    return _unshare


async def _capped(process: Process, limit: int) -> bytes | None:
    assert process.stdout
    kept = bytearray()
    while chunk := await process.stdout.read(65536):
        kept += chunk
        if len(kept) > limit:
            _signal(process, signal.SIGKILL)
            return None
    return bytes(kept)


async def _tail(process: Process) -> str:
    assert process.stderr
    kept = b""
    while chunk := await process.stderr.read(4096):
        kept = (kept + chunk)[-_STDERR_KEPT:]
    return kept.decode("utf-8", "backslashreplace")


async def _feed(process: Process, data: bytes) -> None:
    assert process.stdin
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ended without reading: its exit status tells
    finally:
        process.stdin.close()


async def _end(process: Process) -> None:
    """Leave no child behind, not even when we are cancelled a second time while waiting."""
    if process.returncode is not None:
        return
    try:
        _signal(process, signal.SIGTERM)
        async with asyncio.timeout(_GRACE):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    """To the whole group. The leader may be gone while its children still run, so its exit status is not asked."""
    with suppress(ProcessLookupError, PermissionError):  # nobody left (BSD answers EPERM for a group of zombies)
        os.killpg(process.pid, number)
