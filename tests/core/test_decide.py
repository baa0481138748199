"""Diff and plan: pure functions over small worlds, with a driver of three lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from controller import drivers
from controller.diff import digest_of, judge, watched
from controller.drivers.base import Base, Explanation, World, differs
from controller.errors import Stall, Wait
from controller.graph import Desired
from controller.model import Change, Facts, Hold, Observed, Progress, Ref, Resource, Run, Seen, Steps
from controller.plan import in_order, make_plan


class Things(Base):
    """Things should have what their spec says; a spec may be an error to raise instead."""

    kind = "thing"

    def want(self, resource: Resource, world: World) -> Facts | None:
        del world
        if isinstance(resource.spec, Exception):
            raise resource.spec
        return resource.spec  # type: ignore[no-any-return]

    def explain(self, change: Change) -> Explanation:
        return Explanation(f"mend {change.ref.name}", "it differs")

    def steps(self, change: Change, world: World) -> Steps:
        del change, world
        yield Run("mend", "true")  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.DRIVERS, "thing", Things())


def thing(name: str, spec: Any, *needs: str, retired: bool = False) -> Resource:
    return Resource(Ref("thing", name), "host", spec, tuple(Ref("thing", need) for need in needs), retired=retired)


def world(seen: Mapping[str, Facts | Seen | None], unknown: Mapping[str, str] | None = None) -> World:
    looked = {Ref("thing", name): one if isinstance(one, Seen) else Seen(one) for name, one in seen.items()}
    return World(Desired(), Observed(looked, {Ref("thing", name): why for name, why in (unknown or {}).items()}))


@pytest.mark.parametrize(
    ("want", "have", "differ"),
    [
        (None, None, False),
        ({"a": 1}, None, True),
        (None, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"b": 2}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, True),
    ],
)
def test_only_wanted_fields_count(want: Facts | None, have: Facts | None, differ: bool) -> None:
    assert differs(want, have) is differ


def test_what_was_not_seen_is_not_touched() -> None:
    verdict = judge([thing("a", {"x": 1})], world({}, {"a": "the host is silent"}), {})
    assert verdict.changes == ()
    assert verdict.holds == (Hold(Ref("thing", "a"), "unknown", "the host is silent"),)
    assert verdict.statuses[Ref("thing", "a")].state == "Unknown"


@pytest.mark.parametrize(
    ("error", "why"),
    [(Wait("later", on="x"), "waiting"), (Stall("no", hint="help"), "stalled"), (KeyError("C7"), "stalled")],
)
def test_a_want_that_cannot_be_said_holds_its_object_only(error: Exception, why: str) -> None:
    verdict = judge([thing("a", error), thing("b", {"x": 1})], world({"a": None, "b": None}), {})
    assert [hold.why for hold in verdict.holds] == [why]
    assert [change.ref.name for change in verdict.changes] == ["b"]


def test_C7_a_fault_is_told_with_its_place_and_without_its_words() -> None:
    (hold,) = judge([thing("a", KeyError("a-secret"))], world({"a": None}), {}).holds
    assert re.fullmatch(r"cannot say what thing/a should be: KeyError in its driver \(want, line \d+\)", hold.message)
    assert hold.hint == "this is a fault of jailops: please report it with the log"


def test_work_under_way_is_left_to_itself() -> None:
    verdict = judge([thing("a", {"x": 1})], world({"a": Seen(None, busy=Progress("building", 0.5))}), {})
    assert (verdict.changes, verdict.statuses[Ref("thing", "a")].state) == ((), "Changing")


@pytest.mark.parametrize(
    ("known", "retired", "cause"),
    [({}, False, "new"), ({"x": 1}, False, "drift"), ({"x": 0}, False, "intent"), ({"x": 1}, True, "retire")],
)
def test_why_something_differs(known: Facts, retired: bool, cause: str) -> None:
    resource = thing("a", {"x": 1}, retired=retired)
    digests = {resource.ref: digest_of(known)} if known else {}
    assert [change.cause for change in judge([resource], world({"a": {"x": 2}}), digests).changes] == [cause]


def test_what_is_only_watched_is_said_with_what_is_not_done_about_it() -> None:
    hold = watched(Change(thing("a", {"x": 1}), {"x": 1}, {"x": 2}, "drift"))
    assert (hold.ref, hold.why) == (Ref("thing", "a"), "watched")
    assert hold.message == "differs by hand: it differs; the Site says only to warn, so jailops does not mend a"
    assert hold.hint == "undo it by hand, or have jailops do it: thing: enforce in spec.drift of the Site"


def test_facts_have_one_digest_whatever_their_order() -> None:
    assert digest_of({"a": 1, "b": [1]}) == digest_of({"b": [1], "a": 1}) != digest_of({"a": 1, "b": [2]})


def test_needs_come_first_and_dependents_are_decided_again_later() -> None:
    resources = [thing("jail", {"x": 1}, "disk"), thing("disk", {"x": 1}), thing("other", {"x": 1})]
    assert [one.ref.name for one in in_order(resources)].index("disk") < [
        one.ref.name for one in in_order(resources)
    ].index("jail")
    looked = world({"jail": None, "disk": None, "other": None})
    plan = make_plan(resources, judge(resources, looked, {}), looked)
    assert {action.change.ref.name for action in plan.actions} == {"disk", "other"}
    assert [action.change.ref.name for action in plan.later] == ["jail"]


def test_a_held_object_stops_only_what_needs_it() -> None:
    resources = [
        thing("disk", {"x": 1}),
        thing("jail", {"x": 1}, "disk"),
        thing("web", {"x": 1}, "jail"),
        thing("free", {"x": 1}),
    ]
    looked = world({"jail": None, "web": None, "free": None}, {"disk": "the SAN is away"})
    plan = make_plan(resources, judge(resources, looked, {}), looked)
    assert [action.change.ref.name for action in plan.actions] == ["free"]
    assert {(hold.ref.name, hold.why) for hold in plan.held} == {
        ("disk", "unknown"),
        ("jail", "waiting"),
        ("web", "waiting"),
    }
    assert (
        next(hold for hold in plan.held if hold.ref.name == "jail").message == "waits for thing/disk: the SAN is away"
    )


def test_refused_objects_are_held_with_their_reason() -> None:
    resources = [thing("a", {"x": 1}), thing("b", {"x": 1}, "a")]
    looked = world({"a": None, "b": None})
    hold = Hold(Ref("thing", "a"), "not-converging", "tried twice")
    plan = make_plan(resources, judge(resources, looked, {}), looked, refused={hold.ref: hold})
    assert plan.actions == ()
    assert [(one.ref.name, one.why) for one in plan.held] == [("a", "not-converging"), ("b", "waiting")]
