"""The words of a pass: what it came to, and what is listed as not ours."""

from __future__ import annotations

from typing import Any, cast

import pytest

from controller import said
from controller.diff import Verdict
from controller.graph import Desired
from controller.model import Action, Change, Outcome, PassResult, Plan, Record, Ref, Resource, Result, State, Status
from controller.revision import Wanted

NO = "it removes 9 hosts"
NODE = Ref("node", "a")


@pytest.mark.parametrize(
    ("refused", "states", "outcome", "result", "sentence"),
    [
        ((), ["Ready", "Retired"], "done", "converged", "converged: 1 done"),
        ((), ["Ready", "Waiting"], "done", "progressing", "progressing: 1 done, 1 waiting"),
        ((), ["Waiting", "Unknown"], "done", "held", "held: 1 done, 1 waiting, 1 unknown"),
        ((), ["Unknown", "Failed"], "failed", "failed", "failed: nothing to do, 1 failed (node/a: no), 1 unknown, 1 failing"),
        ((), ["Ready"], "indeterminate", "failed", "failed: nothing to do, 1 failed (node/a: no)"),
        ((NO,), ["Ready"], "done", "refused", f"refused: 1 done, revision refused: {NO}"),
        ((NO,), ["Unknown"], "done", "refused", f"refused: 1 done, 1 unknown, revision refused: {NO}"),
        ((NO,), ["Failed"], "done", "failed", f"failed: 1 done, 1 failing, revision refused: {NO}"),
        ((NO,), ["Stalled"], "done", "failed", f"failed: 1 done, 1 for a person to look at, revision refused: {NO}"),
        ((NO,), ["NotConverging"], "done", "failed", f"failed: 1 done, 1 not converging, revision refused: {NO}"),
        ((NO,), ["Ready"], "indeterminate", "failed", f"failed: nothing to do, 1 failed (node/a: no), revision refused: {NO}"),
    ],
)  # fmt: skip
def test_what_a_pass_came_to_is_the_worst_that_holds(
    refused: tuple[str, ...], states: list[State], outcome: Result, result: PassResult, sentence: str
) -> None:
    statuses = {Ref("node", str(number)): Status(Ref("node", str(number)), one) for number, one in enumerate(states)}
    wanted = Wanted("0" * 40, "a", "s", 0.0, Desired(), refused)
    outcomes = [Outcome(NODE, "act", "new", outcome, "no")]
    record = said.record(wanted, "test", Verdict((), (), statuses, {}), Plan(), outcomes, 0.0, 0.0)
    assert (record.result, record.said, record.refused) == (result, sentence, refused)


def test_the_note_lists_what_is_planned_for_later() -> None:
    change = Change(Resource(Ref("jail", "a/web"), "a", None), {"running": True}, None, "new")
    later = Action(change, "create jail web on a", "it does not exist", "none", cast(Any, None))
    wanted = Wanted("0" * 40, "a", "s", 0.0, Desired())
    record = said.record(wanted, "push", Verdict((), (), {}, {}), Plan(later=(later,)), (), 0.0, 0.0)
    assert record.later == ("jail/a/web: create jail web on a (new)",)
    assert said.note(record).splitlines()[1:] == ["  then          jail/a/web: create jail web on a (new)"]


def listed(*statuses: Status) -> Record:
    verdict = Verdict((), (), {one.ref: one for one in statuses}, {})
    wanted = Wanted("0" * 40, "a", "s", 0.0, Desired())
    return said.record(wanted, "test", verdict, Plan(), (), 0.0, 0.0)


def test_another_object_of_ours_is_not_somebody_elses() -> None:
    iqn = "iqn.2026-11.org.example"
    record = listed(
        Status(Ref("lun", "a"), "Ready", detail={"unmanaged": [f"target {iqn}:b on san", f"target {iqn}:old on san"]}),
        Status(Ref("lun", "b"), "Stalled", detail={"unmanaged": ["volume /v/a on san", "volume /v/xb on san"]}),
        Status(Ref("lun", "gone"), "Retired", detail={"unmanaged": ["volume /v/b on san", "volume /v/gone on san"]}),
        Status(Ref("base", "a"), "Ready", detail={"unmanaged": ["jail web_example_org on a", "jail hand on a"]}),
        Status(Ref("node", "a"), "Ready", detail={"unmanaged": ["jail hand on a"]}),
        Status(Ref("jail", "a/web.example.org"), "Retired"),
    )
    assert record.unmanaged == ("jail hand on a", f"target {iqn}:old on san", "volume /v/xb on san")
    assert {str(one.ref): one.detail["unmanaged"] for one in record.statuses if one.detail} == {
        "base/a": ["jail hand on a"],
        "lun/a": [f"target {iqn}:old on san"],
        "lun/b": ["volume /v/xb on san"],
        "lun/gone": [],
        "node/a": ["jail hand on a"],
    }
