"""What an operator asked for is tried once in a pass, however many rounds the pass has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from controller.diff import Verdict
from controller.drivers import World
from controller.graph import Desired
from controller.model import Action, Change, Observed, Outcome, Plan, Record, Ref, Resource
from controller.reconcile import Controller, Look
from controller.revision import Wanted
from controller.store import Store

ASKED, OTHER = Ref("world", "one"), Ref("dhcp", "server")


class Revisions:
    async def wanted(self, *, at_once: bool = True) -> Wanted:
        del at_once
        return Wanted("0123abc", "A", "B", 0.0, Desired())

    async def applied(self, wanted: Wanted, record: Record) -> None:
        del wanted, record


class Machines:
    def offer_again(self, hosts: Iterable[str]) -> None:
        del hosts


class Rounds(Controller):
    """A pass that acts on one object in each of its rounds, and asks no machine. It notes what each look took for asked."""

    def __init__(self, store: Store, acts: Sequence[Ref]) -> None:
        nobody = cast(Any, None)
        super().__init__(store, cast(Any, Machines()), cast(Any, Revisions()), nobody, look_timeout=1.0, patience=None)
        self.acts = acts
        self.asked: list[frozenset[Ref]] = []

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        self.asked.append(retry)
        return Look((), World(desired, Observed({}, {})), Verdict((), (), {}, {}), 0.0)

    def plan(self, look: Look, outcomes: Sequence[Outcome] = ()) -> Plan:
        del look, outcomes
        acts = self.acts[len(self.asked) - 1 : len(self.asked)]
        changes = [Change(Resource(ref, "host", None), {"x": 1}, None, "new") for ref in acts]
        return Plan(tuple(Action(one, "build it", "", "none", cast(Any, None)) for one in changes), (), ())

    async def _act(self, plan: Plan, look: Look) -> list[Outcome]:
        del look
        return [Outcome(one.change.ref, one.summary, "new", "failed") for one in plan.actions]


@pytest.mark.parametrize(
    ("acts", "asked"),
    [
        ([ASKED, ASKED], [{ASKED}, set(), set()]),
        ([OTHER, ASKED, OTHER], [{ASKED}, {ASKED}, set(), set()]),
        ([], [{ASKED}]),
    ],
    ids=["failed again at once", "when its needs have come true", "not possible"],
)
async def test_it_is_asked_for_until_it_was_tried(acts: list[Ref], asked: list[set[Ref]], tmp_path: Path) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        store.request("retry", str(ASKED), 1.0)
        controller = Rounds(store, acts)
        await controller.tick("test")
        assert controller.asked == asked
        assert store.requests("retry") == []
