"""Hostile repositories through everything that is decided about them before a machine is touched.

    python -m tests.fuzz.manifests --cases 1000000 --limit 1

Loaded, checked, resolved; for every object what is asked, what it should be, and its steps from nothing as if each went well.
Anything but a problem or a ControllerError is a crash. Nothing may be run, connected to or written: an audit hook of the
interpreter sees every attempt, and a command `canary` stands first in the PATH. Interrupted, it goes on where it was
(`--state`); a case is made again from seed and number alone: `--show NUMBER`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import secrets
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from resource import RLIMIT_AS, RUSAGE_SELF, getrusage, setrlimit
from time import process_time
from types import FrameType
from typing import Any

from controller.diff import digest_of
from controller.drivers import DRIVERS, World, resources_of
from controller.errors import ControllerError
from controller.graph import resolve
from controller.manifests import Blob, Loaded, check, load, parse_blob
from controller.model import Answer, Change, Observed, Resource, Seen, Steps
from tests.drivers.scene import COMPILER, REVISION, digest
from tests.fuzz.canary import Canary
from tests.fuzz.hostile import in_files, repository

_PR_SET_PDEATHSIG = 1
BATCH = 500
STUCK = 60
"""Seconds after which a case is given up as hanging."""
MEMORY = 200
"""MiB that reading hostile manifests may take (row M1 of the fault matrix)."""

ACTS = ("subprocess.", "os.", "socket.", "shutil.", "ctypes.", "pty.", "urllib.", "ftplib.", "sqlite3.")
FROM_A_LOOK = ("boot", "node", "retention", "bootretention", "vm")
"""Nothing is done about these that a look did not bring."""
BARE = Seen(None, detail=defaultdict(str, needs=None, others={}, job={}, tftp=True, included=True))
"""How an object looks on machines that have nothing yet, but serve."""
READS = ("os.listdir", "os.scandir", "os.putenv")


@dataclass
class Tally:
    """What became of some cases."""

    seed: str = ""
    cases: int = 0
    accepted: int = 0
    steps: int = 0
    crashes: list[str] = field(default_factory=list)
    slowest: list[float] = field(default_factory=lambda: [0.0, 0])
    """Processor seconds, and of which case."""
    memory: int = 0
    """MiB that the largest process had at most."""

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.accepted += other.accepted
        self.steps += other.steps
        self.crashes += other.crashes
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)


class Hang(BaseException):
    """A case takes longer than anybody would wait."""


_attempts: list[str] = []
"""What the interpreter was asked to do to the world while a case was decided."""
_watching = False


def decided(files: dict[str, bytes]) -> int | None:
    """All that is decided about a repository. The number of steps that follow, or None when it has problems."""
    loaded = load((Blob(name, name, data) for name, data in sorted(files.items())), _remembered)
    problems = [*loaded.problems, *check(loaded.objects, frozenset({"198.51.100.9"}), loaded.drafts)]
    for problem in problems:
        assert str(problem).isprintable(), "a problem is one line that a terminal may show"
    if problems:
        return None
    desired = resolve(loaded.objects)
    desired = replace(desired, toolchains=dict.fromkeys(desired.build_vms, COMPILER), revision=REVISION)
    objects = resources_of(desired)
    observed = Observed({one.ref: BARE for one in objects if one.ref.kind not in FROM_A_LOOK}, {})
    generations = dict.fromkeys(desired.hosts, "0" * 12)
    ready = frozenset(one.ref for one in objects)
    world = World(desired, observed, digest=digest, generations=generations, ready=ready)
    return sum(_made(one, world) for one in objects)


def _made(resource: Resource, world: World) -> int:
    """What is asked about an object, what it should be, and the steps that make it from nothing. The number of steps."""
    driver = DRIVERS[resource.ref.kind]
    json.dumps(driver.memory(resource))
    driver.probes(resource)
    if resource.ref.kind in FROM_A_LOOK:
        return 0
    try:
        change = Change(resource, driver.want(resource, world), None, "new", BARE.detail)
    except ControllerError:
        return 0
    digest_of(change.want)
    if change.want is None:
        return 0
    assert driver.explain(change).summary
    return _taken(driver.steps(change, world))


def _taken(steps: Steps) -> int:
    """Every step goes well and says nothing, until the driver has enough or is surprised."""
    taken = 0
    try:
        next(steps)
        while taken < 50:
            taken += 1
            steps.send(Answer(0, b"", b""))
    except (StopIteration, ControllerError):
        return taken
    return taken


@lru_cache(maxsize=2000)
def _parsed(path: str, data: bytes) -> Loaded:
    return parse_blob(Blob(path, path, data))


def _remembered(blob: Blob) -> Loaded:
    """Files that are as they were in another case are parsed once, as the controller does it."""
    return _parsed(blob.path, blob.data) if len(blob.data) < 10_000 else parse_blob(blob)


def batch(seed: str, numbers: range) -> Tally:
    """Some cases, one after the other, watched."""
    global _watching
    tally = Tally()
    for number in numbers:
        files = repository(seed, number)
        signal.alarm(STUCK)
        begun, _watching = process_time(), True
        try:
            steps = decided(files)
        except (Exception, Hang) as error:
            tally.crashes.append(f"{number}: {type(error).__name__}: {str(error)[:300]!r}")
            steps = None
        _watching = False
        signal.alarm(0)
        tally.slowest = max(tally.slowest, [process_time() - begun, number])
        tally.cases += 1
        tally.accepted += steps is not None
        tally.steps += steps or 0
        if _attempts:
            tally.crashes.append(f"{number}: tried {', '.join(_attempts)}")
            _attempts.clear()
    tally.memory = getrusage(RUSAGE_SELF).ru_maxrss // 1024
    return tally


def guarded(directory: str) -> None:
    """Make this process one in which hostile values are decided on: watched, bounded, in a directory of its own."""
    # Workers would outlive a run that is killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.chdir(directory)
    setrlimit(RLIMIT_AS, (2**30, 2**30))
    signal.signal(signal.SIGALRM, _stuck)
    repository("", 0)  # whatever is imported or read only once
    sys.addaudithook(_noted)


def _stuck(_number: int, _frame: FrameType | None) -> None:
    raise Hang(f"no answer after {STUCK} s")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as ctrl-C does."""
    raise KeyboardInterrupt


def _noted(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and isinstance(arguments[1], str) and not set(arguments[1]).isdisjoint("wax+")
    if writes or (event.startswith(ACTS) and event not in READS):
        _attempts.append(f"{event} {arguments!r}"[:200])


def run(seed: str, cases: int, jobs: int, state: Path | None) -> Tally:
    """All cases from where an earlier run stopped."""
    whole = Tally(**json.loads(state.read_text())) if state and state.exists() else Tally(seed or secrets.token_hex(4))
    print(f"seed {whole.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="jailops-fuzz-") as directory:
        canary = Canary(Path(directory))
        before = set(os.listdir(directory))
        os.environ |= canary.environment
        todo = [range(at, min(at + BATCH, cases)) for at in range(whole.cases, cases, BATCH)]
        with ProcessPoolExecutor(jobs, initializer=guarded, initargs=(directory,)) as pool:
            for tally in _in_order(pool, whole.seed, todo, jobs):
                whole.add(tally)
                if state:
                    state.with_suffix(".new").write_text(json.dumps(vars(whole)))
                    state.with_suffix(".new").replace(state)
        whole.crashes += [f"executed: {call}" for call in canary.called()]
        whole.crashes += [f"left behind: {name}" for name in sorted(set(os.listdir(directory)) - before)]
    return whole


def _in_order(pool: ProcessPoolExecutor, seed: str, todo: list[range], jobs: int) -> Iterator[Tally]:
    """As `map`, without a million cases in the queue."""
    for at in range(0, len(todo), 4 * jobs):
        yield from pool.map(batch, [seed] * 4 * jobs, todo[at : at + 4 * jobs])


def main(arguments: Iterable[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--state", type=Path, help="a file that remembers how far a run came")
    parser.add_argument("--limit", type=float, help="processor seconds that a single case may take")
    parser.add_argument("--show", type=int, help="write this case's files to the directory case-NUMBER and stop")
    given = parser.parse_args(None if arguments is None else list(arguments))
    if given.show is not None:
        in_files(Path(f"case-{given.show}"), repository(given.seed, given.show))
        return 0
    tally = run(given.seed, given.cases, given.jobs, given.state)
    print(json.dumps(vars(tally)))
    slow = given.limit is not None and tally.slowest[0] > given.limit
    return int(bool(tally.crashes) or slow or tally.memory > MEMORY)


if __name__ == "__main__":
    sys.exit(main())
