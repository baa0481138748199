"""A fight with somebody who wants it otherwise: it is put back a few times, then let be and told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from controller import drivers, reconcile
from controller.diff import digest_of, judge
from controller.drivers import World
from controller.drivers.base import Base, Explanation
from controller.graph import Desired
from controller.model import (
    Answer,
    Change,
    Facts,
    Lane,
    Observed,
    Record,
    Ref,
    Resource,
    Run,
    Script,
    Seen,
    Status,
    Steps,
)
from controller.reconcile import Controller, Look
from controller.revision import Wanted
from controller.store import Store

REF = Ref("thing", "a")
OURS: Facts = {"x": 1}
THEIRS: Facts = {"x": 2}


class Things(Base):
    kind = "thing"

    def want(self, resource: Resource, world: World) -> Facts:
        del world
        return cast(Facts, resource.spec)

    def explain(self, change: Change) -> Explanation:
        return Explanation(f"mend {change.ref.name}", f"x is {(change.have or {}).get('x')}")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        yield Run("mend", Script(str((change.want or {})["x"])))


class Place:
    """The machine, the manifests, and Git: what is there, and what is wanted."""

    def __init__(self) -> None:
        self.have: Facts | None = None
        self.want = OURS

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        del host, lane, timeout
        self.have = {"x": int(script)}
        return Answer(0, b"", b"")

    def offer_again(self, hosts: Iterable[str]) -> None:
        del hosts

    async def wanted(self, *, at_once: bool = True) -> Wanted:
        del at_once
        return Wanted("0" * 40, "A", "B", 0.0, Desired())

    async def applied(self, wanted: Wanted, record: Record) -> None:
        del wanted, record


class NoSecrets:
    def values(self, names: frozenset[str]) -> dict[str, str]:
        assert not names
        return {}


class Fight(Controller):
    """Looks at one place, and decides and acts as ever."""

    def __init__(self, store: Store, place: Place) -> None:
        every = cast(Any, place)
        super().__init__(store, every, every, cast(Any, NoSecrets()), look_timeout=1.0, patience=None)
        self.store, self.place = store, place

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        resource = Resource(REF, "host", self.place.want)
        world = World(desired, Observed({REF: Seen(self.place.have)}, {}), retry=retry)
        known = {ref: one.wanted for ref, one in self.store.objects().items() if one.wanted is not None}
        return Look((resource,), world, judge([resource], world, known), 0.0)

    async def changed(self, have: Facts) -> Status:
        """Somebody changes it, and a pass comes."""
        self.place.have = have
        (status,) = (await self.tick("test")).statuses
        return status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(reconcile, "time", lambda: now[0])
    monkeypatch.setitem(drivers.DRIVERS, "thing", Things())
    return now


async def worn_out(store: Store, clock: Sequence[float]) -> Fight:
    del clock
    fight = Fight(store, Place())
    assert (await fight.tick("test")).result == "converged"
    for _ in range(5):
        assert (await fight.changed(THEIRS)).state == "Ready"
        assert fight.place.have == OURS
    return fight


async def test_D6_what_somebody_changes_again_and_again_is_let_be_and_told(tmp_path: Path, clock: list[float]) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        fight = await worn_out(store, clock)
        status = await fight.changed(THEIRS)
        assert (status.state, fight.place.have) == ("Contested", THEIRS)
        assert status.message == "changed by hand once more, after jailops put it back 5 times within an hour: x is 2"
        assert status.hint.endswith("then: jailops retry thing/a")
        assert (await fight.tick("test")).result == "failed"
        assert fight.place.have == THEIRS
        assert (await fight.changed({"x": 3})).state == "Ready", "something else is no such fight"
        assert (await fight.changed(THEIRS)).state == "Contested", "it was right in between, and is fought over again"


async def test_D6_it_goes_on_when_somebody_asks_when_it_is_wanted_otherwise_and_later(
    tmp_path: Path, clock: list[float]
) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        fight = await worn_out(store, clock)
        assert (await fight.changed(THEIRS)).state == "Contested"
        store.request("retry", str(REF), clock[0])
        assert (await fight.changed(THEIRS)).state == "Ready"
        for _ in range(4):
            await fight.changed(THEIRS)
        assert (await fight.changed(THEIRS)).state == "Contested"
        fight.place.want = {"x": 7}
        assert ((await fight.changed(THEIRS)).state, fight.place.have) == ("Ready", {"x": 7})
        fight.place.want = OURS
        await fight.tick("test")
        assert (await fight.changed(THEIRS)).state == "Contested"
        clock[0] += 3600
        assert (await fight.changed(THEIRS)).state == "Ready"


async def test_it_is_remembered_over_a_restart(tmp_path: Path, clock: list[float]) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        place = (await worn_out(store, clock)).place
    with Store(tmp_path / "jailops.sqlite") as store:
        assert store.times_put_back(REF, f"{digest_of(THEIRS)} {digest_of(OURS)}", clock[0] - 1, clock[0]) == 5
        assert (await Fight(store, place).changed(THEIRS)).state == "Contested"
