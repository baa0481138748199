"""Runs a command as the parent of all its orphans, interrupts it, and tells which of its processes are left.

    python reaper.py SIGNAL READY SECONDS COMMAND…

The command gets the signal SECONDS after it made the file READY. Once it ended, whatever it started and did not end is a
child of this process: what is still there after a second of grace (the time to read the end of a pipe) is printed, one
per line, then killed. What the command prints goes to standard error, and after it how it ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE = 1.0


def main(name: str, ready: str, seconds: str, *command: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with subprocess.Popen(command, stdout=sys.stderr, start_new_session=True) as process:
        while process.poll() is None and not Path(ready).exists():
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=float(seconds))
        if process.poll() is None:
            process.send_signal(signal.Signals[name])
    print(f"exit status {process.returncode}", file=sys.stderr)
    deadline = time.monotonic() + GRACE
    while _descendants() and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid, what in _descendants().items():
        print(what)
        os.kill(pid, signal.SIGKILL)


def _descendants() -> dict[int, str]:
    """Our living children, the dead ones among them buried."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    me = os.getpid()
    found: dict[int, str] = {}
    for word in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        with suppress(OSError):
            found[int(word)] = Path(f"/proc/{word}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
