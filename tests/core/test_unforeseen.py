"""An exception that is none of ours, at each stage of a pass: what failed is marked, the others go on, the daemon stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from controller import drivers
from controller.app import App, _pass
from controller.diff import judge
from controller.drivers import World
from controller.drivers.base import Base, Explanation
from controller.errors import FAULT, Retry
from controller.graph import Desired
from controller.metrics import Metrics
from controller.model import Answer, Change, Facts, Lane, Probe, Record, Ref, Resource, Run, Script, Seen, Steps, Unseen
from controller.observe import observe
from controller.reconcile import Controller, Look
from controller.revision import Revisions, Wanted
from controller.store import Store
from tests.core.test_removal import Site, site

__all__ = ["site"]

BAD, GOOD = Ref("thing", "bad"), Ref("thing", "good")
WANT: Facts = {"x": 1}


class Boom(Exception):
    """Nobody foresaw it."""


@dataclass
class Fault:
    """Where it happens, and how often."""

    stage: str
    left: int = 1

    def at(self, stage: str, ref: Ref | str = BAD) -> None:
        if self.left and stage == self.stage and ref in (BAD, BAD.name, ""):
            self.left -= 1
            raise Boom("secret words")


class Things(Base):
    kind = "thing"

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        self.fault.at("probes", resource.ref)
        return (Probe(resource.ref.name, Script("look")),)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        self.fault.at("read", resource.ref)
        (answer,) = answers
        if isinstance(answer, Unseen):
            raise Retry(answer.reason)
        return Seen({"x": int(answer.out)})

    def want(self, resource: Resource, world: World) -> Facts:
        del world
        self.fault.at("want", resource.ref)
        return WANT

    def told(self, resource: Resource, world: World) -> Facts:
        del world
        self.fault.at("told", resource.ref)
        return {}

    def memory(self, resource: Resource) -> Mapping[str, Any]:
        self.fault.at("memory", resource.ref)
        return {}

    def explain(self, change: Change) -> Explanation:
        self.fault.at("explain", change.ref)
        return Explanation(f"mend {change.ref.name}", "it is broken")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        self.fault.at("steps", change.ref)
        yield Run("mend", Script("mend"))


class Place:
    """Two machines, Git, and what may break in between."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.have = {"bad": 0, "good": 0}
        self.overruled: set[str] = set()
        self.last_seen: dict[str, float] = {}

    async def ask_each(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]:
        del lane, timeout
        self.fault.at("look", host)
        return [Answer(0, str(self.have[host]).encode(), b"") for _ in scripts]

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        del lane, script, timeout
        self.fault.at("act", host)
        self.have[host] = 1
        return Answer(0, b"", b"")

    def offer_again(self, hosts: Iterable[str]) -> None:
        del hosts

    async def wanted(self, *, at_once: bool = False) -> Wanted:
        del at_once
        self.fault.at("git", "")
        return Wanted("0" * 40, "A", "B", 0.0, Desired())

    async def applied(self, wanted: Wanted, record: Record) -> None:
        del wanted, record

    git_error, fetched_at, committed_at = "", 0.0, 0.0


class NoSecrets:
    def values(self, names: frozenset[str]) -> dict[str, str]:
        assert not names
        return {}


class Two(Controller):
    """Looks at two machines for two objects, and decides and acts as ever."""

    def __init__(self, store: Store, place: Place, fault: Fault) -> None:
        every = cast(Any, place)
        super().__init__(store, every, every, cast(Any, NoSecrets()), look_timeout=1.0, patience=None)
        self.place, self.fault, self.store = place, fault, store

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        self.fault.at("decide", "")
        resources = [Resource(BAD, "bad", None), Resource(GOOD, "good", None)]
        observed = await observe(resources, cast(Any, self.place), {}, timeout=1.0)
        world = World(desired, observed, retry=retry)
        known = {ref: one.wanted for ref, one in self.store.objects().items() if one.wanted is not None}
        return Look(resources, world, judge(resources, world, known), 0.0)

    def _since(self, look: Look) -> World:
        self.fault.at("overtaken", "")
        return look.world


class Broken(Metrics):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault

    def passed(self, *words: Any) -> None:
        self.fault.at("metrics", "")
        super().passed(*words)


Site_ = Callable[[str], App]


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site_:
    def made(stage: str) -> App:
        fault = Fault(stage)
        place = Place(fault)
        monkeypatch.setitem(drivers.DRIVERS, "thing", Things(fault))
        store = Store(tmp_path / "jailops.sqlite")
        controller = Two(store, place, fault)
        every = cast(Any, place)
        return App(cast(Any, None), store, every, every, every, controller, Broken(fault))

    return made


STAGES = (
    # stage, what is said of the object
    ("probes", ("Unknown", "cannot look at thing/bad: Boom in its driver")),
    ("look", ("Unknown", "cannot ask bad: Boom")),
    ("read", ("Unknown", "cannot understand what bad answered: Boom")),
    ("want", ("Stalled", "cannot say what thing/bad should be: Boom in its driver (at, line ")),
    ("told", ("Stalled", "cannot tell why thing/bad should be so: Boom in its driver (at, line ")),
    ("explain", ("Stalled", "cannot say what to do about thing/bad: Boom in its driver (at, line ")),
    ("memory", ("Failed", "cannot mend bad: what must be remembered of thing/bad could not be said")),
    ("steps", ("Failed", "cannot finish: Boom in the driver of thing/bad")),
    ("act", ("Failed", "cannot finish: Boom in the driver of thing/bad")),
)


async def one_pass(app: App) -> Record | None:
    return await _pass(app, "test", asyncio.Event())


@pytest.mark.parametrize(("stage", "said"), STAGES, ids=[one[0] for one in STAGES])
async def test_C7_the_object_is_marked_and_the_other_goes_on(app: Site_, stage: str, said: tuple[str, str]) -> None:
    made = app(stage)
    fault = cast(Two, made.controller).fault
    fault.left = 1000
    with capture_logs() as log:
        record = await one_pass(made)
    assert record is not None
    marked, fine = record.statuses
    assert (marked.ref, marked.state, fine.state) == (BAD, said[0], "Ready")
    assert marked.message.startswith(said[1])
    assert "secret words" not in f"{record}"
    assert cast(Two, made.controller).place.have["good"] == 1
    assert FAULT in marked.hint or any(one["log_level"] == "error" for one in log)
    made.store.clear_trouble([BAD])
    fault.left = 0
    again = await one_pass(made)
    assert again is not None
    assert [one.state for one in again.statuses] == ["Ready", "Ready"], "it is over, and so is the trouble"


@pytest.mark.parametrize("stage", ["git", "decide"])
async def test_C7_a_pass_that_breaks_is_marked_and_the_next_one_is_whole(app: Site_, stage: str) -> None:
    made = app(stage)
    with capture_logs() as log:
        assert await one_pass(made) is None
    assert [one["event"] for one in log] == ["pass failed: this is a fault of jailops"]
    assert made.metrics.registry.get_sample_value("jailops_passes_total", {"result": "failed"}) == 1.0
    record = await one_pass(made)
    assert record is not None
    assert [one.state for one in record.statuses] == ["Ready", "Ready"]


async def test_C7_an_act_that_cannot_be_judged_again_does_not_begin(app: Site_) -> None:
    made = app("overtaken")
    record = await one_pass(made)
    assert record is not None
    (first,) = (one for one in record.outcomes if one.result == "waiting")
    assert first.message.startswith("cannot mend bad now: Boom when it was judged once more")
    assert (await one_pass(made)) is not None
    assert cast(Two, made.controller).place.have == {"bad": 1, "good": 1}


async def test_C7_metrics_that_break_do_not_make_a_pass_fail(app: Site_) -> None:
    made = app("metrics")
    with capture_logs() as log:
        record = await one_pass(made)
    assert record is not None
    assert record.result == "converged"
    assert "metrics not brought up to date: this is a fault of jailops" in [one["event"] for one in log]


@pytest.mark.parametrize("where", ["fetch", "snapshot", "accept", "write_note"])
async def test_C7_git_that_breaks_leaves_the_last_good_revision_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    good = site.push(3, "Three jails")
    assert (await site.look()).revision == good
    newer = site.push(4, "One more")
    left = [1]

    def break_once(name: str) -> Callable[..., Any]:
        real = getattr(Revisions, name, None) or getattr(site.revisions._source, name)

        async def broken(*words: Any, **more: Any) -> Any:
            if left[0]:
                left[0] -= 1
                raise Boom("secret words")
            return await real(*words, **more)

        return broken

    monkeypatch.setattr(site.revisions._source, where, break_once(where))
    monkeypatch.setattr(site.revisions, "_notes", where == "write_note")
    first = await site.look()
    assert first.revision == (newer if where == "write_note" else good)
    assert "secret words" not in f"{first}"
    if where != "write_note":
        assert "Boom" in f"{first.git_error}{first.refused}"
    assert left == [0]
    assert (await site.look()).revision == newer
