"""When an action begins, and when it does not any more: its turn came too late, or something has come between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from controller.diff import judge
from controller.drivers import World, choose, rollout
from controller.execute import Executor
from controller.graph import Desired, Pin
from controller.model import Action, Answer, Change, Lane, Outcome, Plan, PowerOp, Ref, Resource, Run, Script, Steps
from controller.plan import make_plan, overtaken
from controller.reconcile import Pass
from controller.revision import Wanted
from controller.secret import Secret
from tests.drivers.scene import CASES, IMAGE, Scene, scene

HOST = "disklessfreebsdbox"
WINDOW = CASES / "drivers" / "boot" / "reboot-window-open"
"""Sunday 23:43 in Berlin; its window is open from 22 to 24 o'clock."""


class Fleet:
    """Each script is answered when it is let go on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = asyncio.Event()

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]:
        raise AssertionError(f"{host} {lane} {scripts} {timeout}")

    async def power(self, host: str, op: PowerOp, timeout: float) -> Answer:
        raise AssertionError(f"{host} {op} {timeout}")

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        del host, lane, timeout
        self.begun.append(script)
        await self.go_on.wait()
        return Answer(0, b"", b"")


class Journal:
    def __init__(self) -> None:
        self.intended: list[str] = []

    def intend(self, action: Action, now: float) -> int:
        del now
        self.intended.append(action.summary)
        return 1

    def ended(self, entry: int, outcome: Outcome, now: float) -> None:
        del entry, outcome, now


class NoSecrets:
    def values(self, names: frozenset[str]) -> Mapping[str, Secret]:
        assert not names
        return {}


def action(name: str) -> Action:
    def steps() -> Steps:
        yield Run(name, Script(name))

    change = Change(Resource(Ref("jail", f"node1/{name}"), "node1", None), {"running": True}, None, "new")
    return Action(change, name, "it is not there", "none", steps)


async def test_what_waits_when_the_pass_is_over_never_begins() -> None:
    """The next pass decides on a look that is not older than the long act."""
    fleet, journal = Fleet(), Journal()
    executor = Executor(fleet, journal, NoSecrets(), 0.05)
    plan = Plan((action("long"), action("queued")))
    assert await executor.perform(plan, asyncio.Event(), lambda _: "") == []
    assert executor.busy == {"node1": "long"}
    fleet.go_on.set()
    await executor.finish(10)
    assert [one.summary for one in executor.ended()] == ["long"]
    assert (fleet.begun, journal.intended, executor.busy) == (["long"], ["long"], {})


async def test_an_act_is_judged_when_its_turn_has_come() -> None:
    """Not before: what overtakes the second one happens while the first one runs."""
    fleet, journal = Fleet(), Journal()
    executor = Executor(fleet, journal, NoSecrets(), None)
    plan = Plan((action("first"), action("second")))
    fleet.go_on.set()
    outcomes = await executor.perform(plan, asyncio.Event(), lambda _: "paused" if fleet.begun else "")
    assert [(one.summary, one.result, one.message) for one in outcomes] == [
        ("first", "done", ""),
        ("second", "waiting", "paused"),
    ]
    assert journal.intended == ["first"]


async def test_C7_a_driver_with_a_fault_fails_its_object_and_the_others_go_on() -> None:
    def faulty() -> Steps:
        yield Run("ask", Script("ask"))
        raise KeyError("no such answer")

    fleet, journal = Fleet(), Journal()
    fleet.go_on.set()
    plan = Plan((replace(action("bad"), steps=faulty), action("good")))
    bad, good = await Executor(fleet, journal, NoSecrets(), None).perform(plan, asyncio.Event(), lambda _: "")
    assert (bad.result, bad.message) == ("failed", "cannot finish: KeyError in the driver of jail/node1/bad")
    assert bad.hint == "this is a fault of jailops: please report it with the log"
    assert (good.result, journal.intended) == ("done", ["bad", "good"])


def test_what_has_no_outcome_is_not_said_not_to_converge() -> None:
    this = Pass(Wanted("1" * 40, "ann", "a jail", 0.0, Desired()), "test", 0.0)
    outcome = Outcome(Ref("jail", "node1/ended"), "ended", "new", "done")
    this.acted(Plan((action("ended"), action("queued"))), [outcome])
    assert (this.outcomes, list(this.tried)) == ([outcome], [outcome.ref])


def reboot(case: Path) -> tuple[Scene, Action]:
    found = scene(case)
    assert found.resource
    (only,) = make_plan([found.resource], judge([found.resource], found.world, {}), found.world).actions
    return found, only


def later(world: World, seconds: float, *, paused: bool = False, pinned: str = "") -> World:
    """As a pass sees it right before an act."""
    pins = {HOST: Pin(pinned, "ann", "ticket 1")} if pinned else {}
    desired = replace(world.desired, paused=frozenset([IMAGE] if paused else []), pins=pins)
    chosen = choose(desired, world.observed, world.applied)
    world = replace(world, desired=desired, generations=chosen, age=seconds)
    return replace(world, reboots=rollout(world))


@pytest.mark.parametrize(
    ("seconds", "paused", "pinned", "why"),
    [
        pytest.param(60, False, "", "", id="nothing has come between"),
        pytest.param(60, True, "", "the rollout of freebsd13 is paused; go on with: ", id="paused"),
        pytest.param(7200, False, "", "its window opens Sun 29 Nov 22:00 (Europe/Berlin)", id="the window has closed"),
        pytest.param(60, False, "0123456789ab", "something else is wanted by now", id="pinned to what it runs"),
    ],
)
def test_a_reboot_that_waited_is_judged_again(seconds: float, paused: bool, pinned: str, why: str) -> None:
    found, act = reboot(WINDOW)
    said = overtaken(act, later(found.world, seconds, paused=paused, pinned=pinned))
    assert why in said
    assert bool(said) == bool(why)
    assert said.startswith(f"cannot {act.summary} any more: " if why else "")


def test_a_way_back_waits_for_no_window_and_no_pause() -> None:
    found, act = reboot(CASES / "drivers" / "boot" / "back-over-ssh")
    assert overtaken(act, later(found.world, 7200, paused=True)) == ""
