"""Where a secret must never stand: in our log, store and notes, in any process's arguments, in a child's environment.

Process arguments are gathered while the tests run, of every process that this computer shows, thus also of those inside
the lab's machines.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.loop.stage import RealStage

CONTROLLER = b"-m\0controller\0"
PAUSE = 0.05
"""Seconds between two looks at all processes."""
NOT_OURS = (b"tgtadm", b"LIBISCSI_CHAP_PASSWORD=")
"""tgt-admin(8) hands CHAP secrets to tgtadm(8) as arguments, and tgt has no other way; the tests' own initiator is none
of the controller's."""


class Arguments:
    """The argument lists of all processes that were seen, and the environments of the controllers' children."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.environments: set[bytes] = set()
        self._end = threading.Event()

    def watch(self) -> None:
        while not self._end.wait(PAUSE):
            lines: dict[int, bytes] = {}
            parents: dict[int, int] = {}
            for place in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    lines[int(place.name)] = (place / "cmdline").read_bytes()
                    parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            self.seen.update(lines.values())
            for process in parents:
                # Between fork and exec a child shows the environment with which its parent was started.
                child = CONTROLLER not in lines[process]
                if child and any(CONTROLLER in lines[one] for one in _above(process, parents)):
                    with suppress(OSError):
                        self.environments.add(lines[process] + Path(f"/proc/{process}/environ").read_bytes())

    def end(self) -> None:
        self._end.set()


def _above(process: int, parents: Mapping[int, int]) -> Iterator[int]:
    """Parent, its parent, and so on."""
    while (process := parents.get(process, 0)) in parents:
        yield process


@contextmanager
def watched() -> Iterator[Arguments]:
    """All processes, looked at until the end."""
    arguments = Arguments()
    thread = threading.Thread(target=arguments.watch, name="process arguments")
    thread.start()
    try:
        yield arguments
    finally:
        arguments.end()
        thread.join()


async def leaks(stage: RealStage, arguments: Arguments) -> list[str]:
    """Every place where a secret was found, as `secret: place`."""
    told = {"the controller's log": stage.log.read_bytes(), "the notes": (await _notes(stage)).encode()}
    told |= {str(file): file.read_bytes() for file in stage.loaded.store.directory.glob("jailops.sqlite*")}
    told |= {
        line.replace(b"\0", b" ").decode(errors="replace"): line
        for line in arguments.seen
        if not any(word in line for word in NOT_OURS)
    }
    told |= {f"environment {number}": text for number, text in enumerate(arguments.environments)}
    found = ((name, place) for name, secret in secrets(stage).items() for place, text in told.items() if secret in text)
    return [f"{name}: {place}" for name, place in found]


def secrets(stage: RealStage) -> dict[str, bytes]:
    """Name -> what gives a secret away: a short one whole, of a private key the line with its private half."""
    directory = stage.loaded.secrets.directory
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {str(file.relative_to(directory)): _essence(file.read_bytes()) for file in files}


def _essence(secret: bytes) -> bytes:
    words = secret.split()
    return words[-6] if b"PRIVATE" in words else secret.strip()


async def _notes(stage: RealStage) -> str:
    await stage.git("fetch", "-q", "origin", "+refs/notes/jailops:refs/notes/jailops")
    return await stage.git("log", "--notes=jailops")
