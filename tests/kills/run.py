"""Controllers that die: a process that has imported everything forks one for each line it is told.

In, a line of JSON each: the settings, and where the controller is to die: at its Nth fail point (0: nowhere) or after some
seconds (SIGKILL). Out, a line each: the exit status, the fail points that were passed, and how the last pass ended. Fail
points are the boundaries of every write of the store and of every step on a machine; nothing of them is in the product. At its
point the process ends as in a crash: no handler runs, locks go with the process, connections end without a word.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from controller import app, settings
from controller.hands import Hands
from controller.model import Record
from controller.store import Store
from controller.transport.shell import Shell

DIED: Final = 137
PASSES: Final = 200
"""Far more than it takes until everything is as it should be, with a build and a reboot."""
_PAUSE: Final = 0.1


class Points:
    """Fail points as they are passed; the process ends at the one whose number was asked for."""

    def __init__(self, file: int, die_at: int) -> None:
        self._file = file
        self._die_at = die_at
        self._number = 0
        self._acting = False

    def inject(self) -> None:
        """Around what the parts of every controller do from now on in this process."""
        self._store()
        for name in ("act", "ask", "power"):
            self._step(name)
        self._sending()

    def at(self, name: str) -> None:
        self._number += 1
        os.write(self._file, f"{name}\n".encode())
        if self._number == self._die_at:
            os._exit(DIED)

    def _store(self) -> None:
        write = Store._writing

        @contextmanager
        def writing(store: Store) -> Iterator[Any]:
            # This generator, contextlib's two frames, and then who writes.
            name = f"store.{sys._getframe(2).f_code.co_name}"
            self.at(f"before {name}")
            with write(store) as db:
                yield db
            self.at(f"after {name}")

        Store._writing = writing  # type: ignore[method-assign, assignment]

    def _step(self, name: str) -> None:
        do: Callable[..., Awaitable[Any]] = getattr(Hands, name)

        async def step(*arguments: Any) -> Any:
            what = f"{name} on {arguments[1]}"
            self.at(f"before {what}")
            self._acting = name != "power"
            try:
                return await do(*arguments)
            finally:
                self._acting = False
                self.at(f"after {what}")

        setattr(Hands, name, step)

    def _sending(self) -> None:
        """The step was sent, and its answer will not be read: what hurts most in a real crash."""
        send = Shell._send

        def sending(shell: Shell, scripts: Any, *rest: Any, **more: Any) -> Any:
            sent = send(shell, scripts, *rest, **more)
            if self._acting and scripts:
                self.at(f"sent to {shell._name}")
            return sent

        Shell._send = sending  # type: ignore[method-assign, assignment]


async def converge(settings_file: Path) -> Record:
    """What `jailops apply --wait` does, until everything is as Git says."""
    loaded = settings.load(settings_file)
    with app.only_one(loaded):
        async with app.build(loaded) as built:
            for _ in range(PASSES):
                record = await app.once(built, "apply", insist=True)
                if record.result == "converged":
                    break
                await asyncio.sleep(_PAUSE)
            return record


def _child(job: dict[str, Any], points: int, said: int) -> None:
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    Points(points, job["die_at"]).inject()
    record = asyncio.run(converge(Path(job["settings"])))
    open_ = [f"{one.ref}: {one.state}: {one.message}" for one in record.statuses if one.state != "Ready"]
    os.write(said, json.dumps({"result": record.result, "open": open_, "acts": len(record.outcomes)}).encode())


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """One controller from birth to death."""
    passed, said = Path(f"{job['log']}.points"), Path(f"{job['log']}.said")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = (os.open(passed, flags, 0o600), os.open(said, flags, 0o600))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _child(job, *files)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    for file in files:
        os.close(file)
    timer = threading.Timer(job["die_after"], os.kill, (pid, signal.SIGKILL)) if job["die_after"] else None
    if timer is not None:
        timer.start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if timer is not None:
        timer.cancel()
        timer.join()  # the number is this child's until it is waited for
    _, status = os.waitpid(pid, 0)
    text = said.read_text()
    code = os.waitstatus_to_exitcode(status)
    return {"status": code, "points": passed.read_text().splitlines(), **(json.loads(text) if text else {})}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
