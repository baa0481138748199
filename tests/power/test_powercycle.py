"""Off, proven off, on: the steps as a table of what a BMC says, and how execute performs and records them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from controller.drivers.powercycle import off_then_on, reach, reboot_over_ssh
from controller.errors import ControllerError, Indeterminate, Retry, Stall
from controller.execute import Executor
from controller.manifests import Power as Switches
from controller.model import Action, Answer, Change, Lane, Outcome, Plan, Power, PowerOp, Ref, Resource, Run, Steps
from controller.secret import Secret
from tests.power.hosts import desired, switches

IPMI = "ipmi: {address: 198.51.100.90, user: jailops, password: {file: bmc}}"
WAKE = "wakeOnLan: {broadcast: 198.51.100.255}"


def given(power: str) -> Switches | None:
    return switches(desired(power), "node1")


def taken(steps: Steps, said: Sequence[str]) -> list[str]:
    """The operations in order while a BMC says this; last, what was raised."""
    told: list[str] = []
    left, answer = list(said), None
    while True:
        try:
            step = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            assert not left, f"nobody heard {left}"
            return told
        except Stall as stall:
            return [*told, f"Stall: {stall}{'' if stall.hint else ' (and no hint)'}"]
        assert isinstance(step, Power)
        assert step.host == "node1"
        told.append(step.op)
        answer = Answer(0, left.pop(0).encode(), b"")


FLAPS = "Stall: cannot prove node1 off: its BMC said off, and on each of the 3 times it was asked again"


@pytest.mark.parametrize(
    ("power", "said", "steps"),
    [
        pytest.param(
            IPMI, ["on", "off", "off", "on", "on"], ["status", "off", "status", "on", "status"], id="as it should"
        ),
        pytest.param(IPMI, ["off", "on", "on"], ["status", "on", "status"], id="off already: no plug is pulled"),
        pytest.param(
            IPMI,
            ["on", "off", "on", "off", "on", "on"],
            ["status", "off", "status", "status", "on", "status"],
            id="off only at the second look",
        ),
        pytest.param(
            IPMI,
            ["on", "off", "on", "on", "on"],
            ["status", "off", "status", "status", "status", FLAPS],
            id="says off and is on: never switched on",
        ),
        pytest.param(
            IPMI,
            ["off", "on", "off"],
            ["status", "on", "status", "Stall: cannot keep node1 on: its BMC said on, and off when it was asked again"],
            id="does not stay on",
        ),
        pytest.param(WAKE, [""], ["wake"], id="can only be woken"),
        pytest.param(
            "",
            [],
            ["Stall: cannot switch node1 off and on: its manifest has no spec.power"],
            id="nobody can but a person",
        ),
    ],
)
def test_off_then_on(power: str, said: Sequence[str], steps: Sequence[str]) -> None:
    assert taken(off_then_on("node1", given(power)), said) == steps


def test_what_can_be_reached() -> None:
    assert [reach(given(power)) for power in (IPMI, WAKE, "")] == ["cycle", "wake", "none"]


def test_a_reboot_that_the_node_refuses_is_for_a_person() -> None:
    steps = reboot_over_ssh("node1")
    step = next(steps)
    assert isinstance(step, Run)
    assert (step.label, step.host, step.writes) == ("reboot node1", "node1", True)
    with pytest.raises(Stall, match=r"^cannot reboot node1: not root \(exit 1\)$"):
        steps.send(Answer(1, b"", b"not root\n"))


class Fleet:
    """A fleet whose BMCs say what they are told to."""

    def __init__(self, said: Sequence[str | ControllerError]) -> None:
        self.said = list(said)
        self.asked: list[tuple[str, PowerOp, float]] = []

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]:
        raise AssertionError(f"nobody asks {host} itself: {lane} {scripts} {timeout}")

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        raise AssertionError(f"nobody acts on {host} itself: {lane} {script} {timeout}")

    async def power(self, host: str, op: PowerOp, timeout: float) -> Answer:
        self.asked.append((host, op, timeout))
        said = self.said.pop(0)
        if isinstance(said, ControllerError):
            raise said
        return Answer(0, said.encode(), b"")


class Journal:
    def intend(self, action: Action, now: float) -> int:
        del action, now
        return 1

    def ended(self, entry: int, outcome: Outcome, now: float) -> None:
        assert entry == 1
        assert outcome.seconds <= now


class NoSecrets:
    def values(self, names: frozenset[str]) -> Mapping[str, Secret]:
        raise AssertionError(f"a power step names no secret: {names}")


async def performed(said: Sequence[str | ControllerError]) -> tuple[Outcome, Fleet]:
    resource = Resource(Ref("node", "node1"), "node1", None)
    change = Change(resource, {"generation": "b"}, {"generation": "a"}, "intent")
    action = Action(
        change, "switch node1 off and on", "it hangs", "disruptive", lambda: off_then_on("node1", given(IPMI))
    )
    fleet = Fleet(said)
    executor = Executor(fleet, Journal(), NoSecrets(), None)
    (outcome,) = await executor.perform(Plan((action,)), asyncio.Event(), lambda _: "")
    return outcome, fleet


async def test_a_power_step_is_recorded_as_any_other() -> None:
    outcome, fleet = await performed(["on", "off", "off", "on", "on"])
    assert (outcome.result, [(one.label, one.status, one.note) for one in outcome.steps]) == (
        "done",
        [
            ("ask for the power of node1", 0, "on"),
            ("switch node1 off", 0, "off"),
            ("is node1 off? (1 of 3)", 0, "off"),
            ("switch node1 on", 0, "on"),
            ("is node1 on?", 0, "on"),
        ],
    )
    assert fleet.asked[1] == ("node1", "off", 120.0)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Retry("cannot: silent"), "failed"),
        (Indeterminate("cannot see it"), "indeterminate"),
        (Stall("cannot", hint="look"), "failed"),
    ],
    ids=["silent", "end not seen", "a person"],
)
async def test_a_power_step_that_fails_ends_the_action_with_its_remedy(error: ControllerError, result: str) -> None:
    outcome, fleet = await performed(["on", error])
    assert (outcome.result, outcome.message, outcome.hint) == (result, str(error), getattr(error, "hint", ""))
    assert outcome.steps[-1].status is None
    assert [op for _, op, _ in fleet.asked] == ["status", "off"], "never on without a proved off"
