"""What a test run may leave behind, namely nothing: child processes, their namespaces, and the lab's files.

Every process of the lab hangs on a pipe whose other end only this process holds: when the run ends, even by SIGKILL,
the kernel closes the pipe, the holder reads the end of its input and dies, and its namespaces with everything in them
go too. Files are removed by the run itself, and those of a run that was killed by the next one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "jailops-lab-"
STARTING: Final = 10.0
"""Seconds that a daemon may take to come up before a test fails."""


class Holder:
    """A process that keeps namespaces alive until it is closed or we die.

    `argv` must end in a program that prints one line when all is set up and exits at the end of its input.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        # A session of its own: ctrl-C in the terminal reaches pytest only, which then closes things in order.
        self._process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.said = self._output.readline().decode().strip()
        if not self.said:
            raise RuntimeError(f"cannot start {argv}: exit status {self._process.wait()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the process and wait until it is gone."""
        self._input.close()
        self._output.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
            return
        self._process.kill()
        self._process.wait()


def run(argv: Sequence[str], *, input: str | None = None, timeout: float = 20.0) -> str:
    """The standard output of a command that must succeed; otherwise RuntimeError with all it printed."""
    done = subprocess.run(list(argv), input=input, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def until(what: str, true: Callable[[], bool], *, within: float = STARTING) -> None:
    """Wait until `true()` holds; AssertionError naming `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        time.sleep(0.02)


@contextmanager
def lab_directory() -> Iterator[Path]:
    """A directory for the files of one lab, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=_own_prefix()))
    try:
        yield directory
    finally:
        _remove(directory)


def sweep() -> None:
    """Remove the files of runs that are no more."""
    for directory in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        pid, started, _ = directory.name.removeprefix(PREFIX).split("-", 2)
        if _started(int(pid)) != started:
            _remove(directory)


@atexit.register
def _last_look() -> None:
    """A second ctrl-C, or one in the middle of the tidying up, leaves files for here."""
    for directory in Path(tempfile.gettempdir()).glob(_own_prefix() + "*"):
        _remove(directory)


def _own_prefix() -> str:
    return f"{PREFIX}{os.getpid()}-{_started(os.getpid())}-"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; with its number this names it for good."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _remove(directory: Path) -> None:
    """Never follows into something mounted: a lab's mounts are private, and if one is not, that is an error."""
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {directory}/" in line]
    assert not mounted, f"mounts of the lab are visible outside: {mounted}"
    shutil.rmtree(directory)
