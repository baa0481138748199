"""What alerts go by: a machine that is away has one of its own, and does not set off JailopsPassFailing; a node that jailops
never reboots sets off none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pytest

from controller.metrics import HOPS, Metrics, pending_since
from controller.model import Hops, PassResult, Progress, Record, Ref, State, Status

GOOD: Mapping[PassResult, bool] = {
    "converged": True,
    "progressing": True,
    "held": True,
    "refused": True,
    "failed": False,
}


@pytest.mark.parametrize("result", get_args(PassResult))
def test_every_pass_is_a_success_but_one_that_failed(result: PassResult) -> None:
    metrics = Metrics()
    metrics.passed(Record("", "", "", "test", 100.0, 5.0, "", result), (), {}, {})
    good = metrics.registry.get_sample_value("jailops_pass_last_success_timestamp_seconds")
    last = metrics.registry.get_sample_value("jailops_pass_last_timestamp_seconds")
    assert (good, last) == (105.0 if GOOD[result] else 0.0, 105.0)


def test_what_is_not_known_has_no_line() -> None:
    metrics = Metrics()
    hosts = (Hops("n", "x", "new", built="", published="old", booted="new", proved=None),)
    layers = tuple(
        Status(Ref("world", name), "Changing", busy=Progress("", ratio))
        for name, ratio in (("waits", None), ("runs", 0.5))
    )
    metrics.passed(Record("", "", "", "t", 1.0, 1.0, "", "held", hosts=hosts, statuses=layers), (), {}, {})
    found = metrics.registry.get_sample_value
    hops = [found("jailops_host_generation_hop", {"host": "n", "hop": hop}) for hop in HOPS]
    assert hops == [0.0, 0.0, 1.0, None]
    ratios = [found("jailops_build_progress_ratio", {"image": name, "layer": "world"}) for name in ("waits", "runs")]
    assert ratios == [None, 0.5]


PENDING = "RebootPending: runs generation a, b is published"


@pytest.mark.parametrize(
    ("state", "message", "never", "since"),
    [
        ("Waiting", PENDING, (), 50.0),
        ("Waiting", PENDING, ("n",), None),
        ("Unknown", "no route", (), 50.0),  # it was, and nobody can say that it is not
        ("Unknown", "no route", ("n",), None),
        ("Ready", "", (), None),
    ],
)
def test_since_when_a_reboot_is_pending(
    state: State, message: str, never: tuple[str, ...], since: float | None
) -> None:
    nodes = (Status(Ref("node", "n"), state, message), Status(Ref("node", "new"), "Waiting", PENDING))
    record = Record("", "", "", "test", 100.0, 5.0, "", "held", statuses=nodes)
    found = {"new": 105.0} | ({} if since is None else {"n": since})
    assert pending_since({"n": 50.0, "gone": 40.0}, record, never) == found
