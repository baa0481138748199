"""The controller dies at every fail point of every kind of act, at pairs of them, and at random moments; what it leaves is
what an undisturbed run leaves, and nothing was done twice.

`make test` plays a sample drawn from a seed, `make chaos` all of it:

    JAILOPS_SEED       the draw, printed; the same seed plays the same deaths
    JAILOPS_SCENES     which scenes, by name, separated by commas; "all"
    JAILOPS_POINTS, JAILOPS_PAIRS, JAILOPS_RANDOM
                       how many single deaths (0: every point once), pairs and random moments over all scenes
    JAILOPS_PLAYED     a file that notes each death that was played, with its outcome: a later run goes on after them
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from controller.drivers import DRIVERS
from controller.starter import repository
from tests.kills.bench import NODE, Bench, Reference, bench, compare
from tests.kills.scenes import SCENES, Scene

SEED: Final = int(os.environ.get("JAILOPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SAMPLE: Final = "jail,stopped by hand,exports"
CHOSEN: Final = os.environ.get("JAILOPS_SCENES", SAMPLE).split(",")
POINTS, PAIRS, MOMENTS = (
    int(os.environ.get(f"JAILOPS_{name}", most)) for name, most in (("POINTS", "12"), ("PAIRS", "4"), ("RANDOM", "4"))
)
PLAYED: Final = os.environ.get("JAILOPS_PLAYED", "")

NEVER_ACT: Final = {
    "node": "it is looked at; `boot` reboots it",
    "bootconf": "it is looked at; generations bring it",
}
NOT_PLAYED: Final = {
    "vm": "it is shut down when it was idle for some time: what an undisturbed run does depends on the clock",
}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(0)]


@dataclass(frozen=True)
class Death:
    """Where the controllers of one case die, one after the other: fail points by number, or a moment in seconds."""

    at: tuple[int, ...] = ()
    after: float = 0.0


@dataclass
class Tally:
    """What was played."""

    done: list[dict[str, Any]] = field(default_factory=list)
    file: Path | None = None

    @classmethod
    def load(cls) -> Tally:
        file = Path(PLAYED) if PLAYED else None
        lines = file.read_text().splitlines() if file is not None and file.exists() else []
        return cls([json.loads(line) for line in lines], file)

    def played(self, what: str, scene: str, move: int) -> list[dict[str, Any]]:
        return [one for one in self.done if (one["what"], one["scene"], one["move"]) == (what, scene, move)]

    def add(self, **one: Any) -> None:
        self.done.append(one)
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(f"{json.dumps(one)}\n")

    @property
    def wrong(self) -> list[str]:
        return [
            f"{one['scene']}, move {one['move']}, {one['what']} {one['at']} ({', '.join(one['points'])}): {wrong}"
            for one in self.done
            for wrong in one["wrong"]
        ]


def example() -> dict[str, str]:
    """One node that reboots at once, and few generations: each look costs the less."""
    files = repository()
    host, image, san = f"hosts/{NODE}.yaml", "images/freebsd13.yaml", "infrastructure/san.yaml"
    edits = (
        (host, "  jails:\n", "  reboot:\n    policy: immediate\n\n  jails:\n"),
        (image, "keep: 3", "keep: 2"),
        (san, "backend: ganesha", "backend: linux"),
    )
    return {path: files[path].replace(old, new) for path, old, new in edits} | {
        "hosts/jailbox2.yaml": "",
        "jails/jailbox2.yaml": "",
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with bench(tmp_path_factory.mktemp("kills"), example()) as one:
        yield one


@pytest.mark.asyncio(loop_scope="function")
async def test_C1_every_kind_that_acts_has_a_scene() -> None:
    played = {kind for scene in SCENES for kind in scene.kinds}
    assert played | NEVER_ACT.keys() | NOT_PLAYED.keys() == set(DRIVERS)
    assert not played & (NEVER_ACT.keys() | NOT_PLAYED.keys())


async def test_C1_wherever_it_dies_the_end_is_that_of_an_undisturbed_run(site: Bench) -> None:
    chance, tally = random.Random(SEED), Tally.load()
    scenes = [scene for scene in SCENES if CHOSEN == ["all"] or scene.name in CHOSEN]
    print(f"JAILOPS_SEED={SEED}: {', '.join(scene.name for scene in scenes)}")
    for scene in scenes:
        await _play(site, scene, chance, tally, len(scenes))
    counts = Counter(one["what"] for one in tally.done)
    reached = sum(len(one["at"]) == len(one["points"]) for one in tally.done)
    print(f"deaths: {dict(counts)}, of which {reached} met their point; fail points: {_distinct(tally)}")
    assert counts
    assert tally.wrong == []


async def _play(site: Bench, scene: Scene, chance: random.Random, tally: Tally, scenes: int) -> None:
    references = await _references(site, scene)
    deaths = _deaths(references, scene, chance, tally, scenes)
    while any(deaths):
        other = False
        for move, left in enumerate(deaths):
            what, death = left.pop(0) if left else ("none", Death())
            points, wrong = await _die(site, scene, move, death, references[move])
            if what != "none":
                tally.add(
                    what=what,
                    scene=scene.name,
                    move=move,
                    at=[*(death.at or [death.after])],
                    points=points,
                    wrong=wrong,
                )
                print(f"{scene.name}/{move} {what} {death.at or round(death.after, 2)} {points} {wrong}", flush=True)
            other = other or bool(wrong)
        if other:
            # What is wrong must not be found again in every later comparison.
            references = await _references(site, scene)


def _deaths(
    references: list[Reference], scene: Scene, chance: random.Random, tally: Tally, scenes: int
) -> list[list[tuple[str, Death]]]:
    """What is still to be played in each move of a scene."""
    found: list[list[tuple[str, Death]]] = []
    share = scenes * len(references)
    for move, reference in enumerate(references):
        every = range(1, len(reference.points) + 1)
        points = chance.sample(every, len(every) if POINTS == 0 else min(len(every), -(-POINTS // share)))
        pairs = [(chance.choice(every), chance.choice(every)) for _ in range(-(-PAIRS // share))]
        moments = [chance.uniform(0, reference.seconds) for _ in range(-(-MOMENTS // share))]
        died = {one["at"][0] for one in tally.played("point", scene.name, move)}
        found.append(
            [
                *[("point", Death((number,))) for number in points if number not in died],
                *[("pair", Death(pair)) for pair in pairs[len(tally.played("pair", scene.name, move)) :]],
                *[("moment", Death((), after)) for after in moments[len(tally.played("moment", scene.name, move)) :]],
            ]
        )
    return found


async def _references(site: Bench, scene: Scene) -> list[Reference]:
    """Every move undisturbed, after some that lead to where it begins each time."""
    for _ in range(scene.before):
        for move in range(len(scene.moves)):
            await _begin(site, scene, move)
            await site.run()
    last = site.store("SELECT coalesce(max(id), 0) FROM journal")[0][0]
    found = []
    for move in range(len(scene.moves)):
        await _begin(site, scene, move)
        said = await site.run()
        found.append(Reference(tuple(said["points"]), site.state(), site.effects(), said["seconds"]))
    acted = {kind for (kind,) in site.store(f"SELECT DISTINCT kind FROM journal WHERE id > {last}")}
    assert acted >= scene.kinds, f"{scene.name}: {scene.kinds - acted} did nothing"
    return found


async def _begin(site: Bench, scene: Scene, move: int) -> None:
    # The same is put back for the hundredth time here, and nobody fights over it.
    site.store("DELETE FROM putback")
    await scene.moves[move](site)
    site.forget_effects()


async def _die(site: Bench, scene: Scene, move: int, death: Death, reference: Reference) -> tuple[list[str], list[str]]:
    """The points at which controllers died, and what is wrong when the last one is done."""
    await _begin(site, scene, move)
    met = []
    for at in death.at:
        said = await site.run(die_at=at)
        if said["status"] == 0:
            break
        met.append(said["points"][-1])
    if death.after:
        said = await site.run(die_after=death.after)
        met += [] if said["status"] == 0 else [(said["points"] or ["begun"])[-1]]
    await site.run()
    wrong = compare(reference, site.state(), site.effects(), len(met))
    unsettled = site.store("SELECT summary FROM journal WHERE ended_at IS NULL")
    return met, [*wrong, *(f"left open: {summary}" for (summary,) in unsettled)]


def _distinct(tally: Tally) -> int:
    return len({(one["scene"], one["move"], *one["at"]) for one in tally.done if one["what"] == "point"})
