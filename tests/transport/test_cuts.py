"""S2: a connection is cut at every place of its stream: nothing is believed that was not seen, nothing is done twice.

`make test` plays a few cuts spread over both directions, `make chaos` hundreds. The seed is printed; with `JAILOPS_SEED` and
`JAILOPS_FROM` the rest of them is played again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from controller.encode.sh import q
from controller.errors import ControllerError, Indeterminate, Retry
from controller.model import Answer
from controller.transport import Endpoint, Fence, Fleet, endpoint
from tests.transport.proxy import Cut, How, Way, proxy
from tests.transport.servers import openssh

CUTS: Final = int(os.environ.get("JAILOPS_CUTS", "36"))
FROM: Final = int(os.environ.get("JAILOPS_FROM", "0"))
SEED: Final = int(os.environ.get("JAILOPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
AT_ONCE: Final = 6

SAID: Final = "".join(f"line {number} of what it says\n" for number in range(400))
WORD: Final = "".join(f"word {number} of a long script " for number in range(400))


def script(effect: Path) -> str:
    """Long there and long back, with one effect in the middle."""
    return f"x={q(WORD)}; echo once >>{effect}; printf %s {q(SAID)}; echo ${{#x}} >&2; exit 7"


ANSWER: Final = Answer(7, SAID.encode(), f"{len(WORD)}\n".encode())


def cuts(length: dict[Way, int]) -> Iterator[Cut]:
    """Spread over the whole stream, each at a place of its own between its neighbours, in every way to be cut."""
    chance = random.Random(SEED)
    ways: tuple[Way, ...] = get_args(Way)
    hows: tuple[How, ...] = get_args(How)
    of_a_way = -(-CUTS // len(ways))
    for number in range(CUTS):
        way = ways[number % len(ways)]
        at = int((number // len(ways) + chance.random()) * length[way] / of_a_way)
        yield Cut(way, at, hows[number // len(ways) % len(hows)])


async def act(machine: Endpoint, place: Path) -> Answer | ControllerError:
    async with Fleet({"node1": machine}, state_dir=str(place)) as fleet:
        try:
            answer = await fleet.act("node1", "main", script(place / "effect"), 30, Fence(1, "a"))
        except ControllerError as error:
            return error
    return dataclasses.replace(answer, seconds=0)


def effects(place: Path) -> int:
    """How often it was done, once nothing of it runs any more: an act holds its lane's lock."""
    if (place / "act.main.lock").exists():
        with (place / "act.main.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    return (place / "effect").read_text().count("once\n") if (place / "effect").exists() else 0


@pytest.mark.timeout(120 + 3 * CUTS)
async def test_S2_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"JAILOPS_SEED={SEED}")
    async with openssh(tmp_path, more="MaxStartups 100") as machine:
        async with proxy(machine.endpoint) as (whole, through):
            assert await act(through, tmp_path / "whole") == ANSWER
            length = dict(whole.passed)
        assert effects(tmp_path / "whole") == 1
        assert min(length.values()) > 10_000

        # Only what never comes back takes as long as this.
        for name, seconds in (("KEEPALIVE_SECONDS", 0.5), ("CONNECT_SECONDS", 3.0), ("LOGIN_SECONDS", 3.0)):
            monkeypatch.setattr(endpoint, name, seconds)
        met: Counter[str] = Counter()
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, cut: Cut) -> None:
            place = tmp_path / f"{number}"
            async with turns, proxy(machine.endpoint, cut) as (between, through):
                answer = await act(through, place)
                assert isinstance(answer, Answer) or between.reached.is_set(), (number, cut, answer)
            done = await asyncio.to_thread(effects, place)
            what = f"cut {number} of seed {SEED}, {cut}: {answer!r}, done {done} times"
            match answer:
                case Indeterminate():
                    assert done <= 1, what
                case Retry():
                    assert done == 0, what
                case _:
                    assert answer == ANSWER, what
                    assert done == 1, what
            met[f"{type(answer).__name__}, done {done} times"] += 1

        async with asyncio.TaskGroup() as tasks:
            for number, cut in enumerate(cuts(length)):
                if number >= FROM:
                    tasks.create_task(one(number, cut))
    print(f"{CUTS} cuts in {length} bytes: {dict(met)}")
    assert {"Retry, done 0 times", "Indeterminate, done 0 times", "Indeterminate, done 1 times"} <= set(met)
