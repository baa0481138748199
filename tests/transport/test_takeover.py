"""C3: a controller is stopped in the middle of an act while another takes over, and then goes on: no write of the older one comes
after the first of the newer one.

A history is one act of the older controller, stopped at one moment; what the newer one does meanwhile; and what the older one
tries afterwards. `make test` plays each moment in both lanes, `make chaos` hundreds of histories more, at random. The seed is
printed; with `JAILOPS_SEED` and `JAILOPS_FROM` the rest of them is played again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import pytest

from controller.errors import ControllerError, Retry, Stall
from controller.model import Answer, Lane
from controller.transport import Fence, Fleet
from tests.transport.proxy import Cut, proxy
from tests.transport.servers import OpenSsh, openssh, until

HISTORIES: Final = int(os.environ.get("JAILOPS_HISTORIES", "0"))
FROM: Final = int(os.environ.get("JAILOPS_FROM", "0"))
SEED: Final = int(os.environ.get("JAILOPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
AT_ONCE: Final = 4

OLD: Final = Fence(1, "old")
NEW: Final = Fence(2, "new")

Moment: TypeAlias = Literal["not begun", "on its way", "before its lock", "before its check", "at work", "not heard"]
"""Where the older controller's act is when it stops."""

LANES: Final[tuple[Lane, ...]] = get_args(Lane)

LONG: Final = 30_000
GREETING: Final = 6_000
"""Bytes of the older one's answer, and more than what comes before it."""

FLOCK: Final = """\
#!/bin/sh
# flock(1), which can be stopped before it takes a lock. Whoever comes first is.
for word; do case $word in *.lock) break ;; esac; done
if mv "$word.stop" "$word.stopped" 2>/dev/null; then while [ -e "$word.stopped" ]; do sleep 0.02; done; fi
exec /usr/bin/flock "$@"
"""


@dataclass(frozen=True)
class History:
    moment: Moment
    lane: Lane
    """The older controller's."""
    part: float
    """How much of its words gets through before it stops on its way, and of the answer before that does."""
    newer: tuple[Lane, ...]
    """The newer controller's acts."""
    after: tuple[Lane, ...]
    """What the older one tries afterwards."""

    @property
    def older_is_first(self) -> bool:
        """It was let in when it stopped; or it held the lane that the newer one wanted first, who was therefore not judged."""
        return self.moment in ("at work", "not heard") or (
            self.moment == "before its check" and self.newer[0] == self.lane
        )


def histories() -> Iterator[History]:
    """Every moment in both lanes against both lanes, then as many as wanted by chance."""
    for moment, lane, other in itertools.product(get_args(Moment), LANES, LANES):
        yield History(moment, lane, 0.9, (other,), LANES)
    chance = random.Random(SEED)
    for _ in range(HISTORIES):
        lanes = [tuple(chance.choices(LANES, k=chance.randint(1, 3))) for _ in range(2)]
        yield History(chance.choice(get_args(Moment)), chance.choice(LANES), chance.random(), *lanes)


class Play:
    """One history on one host: a state directory of its own, and a log of all that is written there."""

    def __init__(self, machine: OpenSsh, words: int, directory: Path) -> None:
        self.machine = machine
        self.words = words
        self.directory = directory
        self.log = directory / "log"
        self.gate = directory / "gate"
        self.up = directory / "up"
        self.refused_meanwhile = 0
        directory.mkdir()

    def script(self, who: str, *, waits: bool = False) -> str:
        write = f"echo {who} >>{self.log}"
        wait = f"touch {self.up}; while [ ! -e {self.gate} ]; do sleep 0.02; done" if waits else "sleep 0.02"
        return f"{write}; {wait}; {write}"

    async def run(self, history: History) -> Answer | ControllerError:
        """What became of the act that was stopped."""
        cut = None
        if history.moment == "on its way":
            cut = Cut("there", int(history.part * self.words), "nothing")
        elif history.moment == "not heard":
            cut = Cut("back", GREETING + int(history.part * (LONG - GREETING)), "nothing")
        async with (
            proxy(self.machine.endpoint, cut) as (between, through),
            Fleet({"node1": through}, state_dir=str(self.directory)) as older,
            Fleet({"node1": self.machine.endpoint}, state_dir=str(self.directory)) as newer,
        ):
            stop = self.directory / (
                "fence.lock" if history.moment == "before its check" else f"act.{history.lane}.lock"
            )
            stopped = stop.with_name(f"{stop.name}.stopped")
            reached: dict[Moment, Callable[[], bool]] = {
                "not begun": lambda: True,
                "on its way": between.reached.is_set,
                "before its lock": stopped.exists,
                "before its check": stopped.exists,
                "at work": self.up.exists,
                # Its words are longer than what gets through, and the host is done with it when it has no lane any more.
                "not heard": lambda: between.reached.is_set() and self.log.exists() and not self.running(history.lane),
            }

            def go_on() -> None:
                self.gate.touch()
                stopped.unlink(missing_ok=True)
                between.go_on()

            if history.moment.startswith("before"):
                stop.with_name(f"{stop.name}.stop").touch()
            act = asyncio.create_task(self.old(older, history, begin := asyncio.Event()))
            if history.moment != "not begun":
                begin.set()
            await until(reached[history.moment], 60)
            for lane in history.newer:
                await self.new(newer, lane, go_on)
            go_on()
            begin.set()
            outcome = await act
            for lane in history.after:
                with pytest.raises(Stall, match="fence 2 of new stands before 1 of old"):
                    await older.act("node1", lane, self.script("old"), 60, OLD)
            return outcome

    async def old(self, fleet: Fleet, history: History, begin: asyncio.Event) -> Answer | ControllerError:
        await begin.wait()
        script = self.script("old", waits=history.moment == "at work")
        try:
            return await fleet.act("node1", history.lane, f"{script}; head -c {LONG} /dev/zero", 60, OLD)
        except ControllerError as error:
            return error

    async def new(self, fleet: Fleet, lane: Lane, go_on: Callable[[], None]) -> None:
        """Where the newer one has to wait, the older one goes on after the second try."""
        for tried in itertools.count(1):
            try:
                await fleet.act("node1", lane, self.script("new"), 60, NEW)
            except Retry as error:
                assert "an earlier act still runs there" in str(error)  # noqa: PT017
                self.refused_meanwhile += 1
                if tried == 2:
                    go_on()
                await asyncio.sleep(0.05)
            else:
                return

    def running(self, lane: Lane) -> bool:
        return (self.directory / f"act.{lane}.by").exists()


@pytest.mark.timeout(120 + 2 * HISTORIES)
async def test_C3_no_write_of_the_older_one_after_the_first_of_the_newer(tmp_path: Path) -> None:
    print(f"JAILOPS_SEED={SEED}")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "flock").write_text(FLOCK)
    (shims / "flock").chmod(0o755)
    more = f"MaxStartups 100\nSetEnv PATH={shims}:/usr/bin:/bin"
    met: Counter[tuple[Moment, bool, bool]] = Counter()
    turns = asyncio.Semaphore(AT_ONCE)
    async with openssh(tmp_path, more=more) as machine:
        async with (
            proxy(machine.endpoint) as (whole, through),
            Fleet({"node1": through}, state_dir=str(tmp_path)) as older,
        ):
            await older.act("node1", "main", Play(machine, 0, tmp_path / "whole").script("old"), 60, OLD)
            words = whole.passed["there"]
            assert whole.passed["back"] < GREETING

        async def one(number: int, history: History) -> None:
            async with turns:
                play = Play(machine, words, tmp_path / f"{number}")
                outcome = await play.run(history)
            wrote = play.log.read_text().split()
            what = f"history {number} of seed {SEED}, {history}: {wrote}"
            assert wrote == ["old"] * 2 * history.older_is_first + ["new"] * 2 * len(history.newer), what
            assert isinstance(outcome, Answer if history.older_is_first else Stall), f"{what}, {str(outcome)[:300]}"
            if history.moment == "at work":
                assert play.refused_meanwhile >= 2, what
            met[history.moment, history.older_is_first, bool(play.refused_meanwhile)] += 1

        async with asyncio.TaskGroup() as tasks:
            for number, history in enumerate(histories()):
                if number >= FROM:
                    tasks.create_task(one(number, history))
    for (moment, first, waited), count in sorted(met.items()):
        print(f"{count:4} {moment}: {'done' if first else 'refused'}{', and waited for' if waited else ''}")
