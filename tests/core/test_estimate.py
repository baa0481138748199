"""How long a build goes on: as long as the last good one of the same layer took, and said where a person looks."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from controller.drivers import LAYERS
from controller.model import Progress, Ref, Status
from controller.reconcile import estimated
from controller.show import status as show_status
from controller.store import Store

STARTED, NOW = 10_000.0, 10_060.0
"""The build in question is a minute old."""
WORLD = Ref("world", "one")
ENDED = {
    "long": ("world", "one", "world-1", "done", 1_000.0, 8_200.0),
    "short": ("world", "one", "world-2", "done", 9_000.0, 9_300.0),
    "passed": ("world", "one", "world-3", "done", 9_500.0, 9_550.0),
    "failed": ("world", "one", "world-4", "failed", 9_600.0, 9_700.0),
    "no beginning": ("world", "one", "world-5", "done", None, 9_800.0),
    "other layer": ("image", "one", "0123456789ab", "done", 9_900.0, 9_970.0),
    "other image": ("world", "two", "world-6", "done", 9_900.0, 9_990.0),
}


@pytest.mark.parametrize(
    ("ended", "to_go"),
    [
        ([], None),
        (["other layer", "other image", "failed", "no beginning"], None),
        (["long"], 7140.0),
        (["long", "failed", "other layer", "other image", "no beginning"], 7140.0),
        (["short", "long"], 240.0),
        (["long", "short"], 240.0),
        (["short", "passed"], 0.0),
    ],
    ids=lambda one: ",".join(one) if isinstance(one, list) else None,
)
def test_the_last_good_build_of_the_same_layer_tells(ended: list[str], to_go: float | None, tmp_path: Path) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        for one in ended:
            store.build_ended(*ENDED[one], "")
        status = Status(WORLD, "Changing", busy=Progress("buildworld", 0.25, STARTED))
        found = estimated(status, store.last_build_seconds, NOW)
    assert found.busy == Progress("buildworld", 0.25, STARTED, to_go)
    assert (found.ref, found.state) == (WORLD, "Changing")


@pytest.mark.parametrize(
    "status",
    [
        Status(WORLD, "Ready"),
        Status(WORLD, "Changing", busy=Progress("starting")),
        Status(Ref("base", "one"), "Changing", busy=Progress("ezjail-admin install", 0.5, STARTED)),
    ],
    ids=["at rest", "no beginning", "no layer"],
)
def test_what_cannot_be_estimated_is_as_it_was(status: Status) -> None:
    assert estimated(status, lambda *_: 7200.0, NOW) == status


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_is_asked_for_by_its_own_name(kind: str) -> None:
    took = {(kind, "one"): 90.0}
    status = Status(Ref(kind, "one"), "Changing", busy=Progress("stage", None, STARTED))
    found = estimated(status, lambda layer, image: took[layer, image], NOW)
    assert found.busy == Progress("stage", None, STARTED, 30.0)


@pytest.mark.parametrize(
    ("busy", "shown"),
    [
        (Progress("buildworld", 0.25, STARTED, 7140.0), " 25 % buildworld, 1 min so far, about 2 h to go"),
        (Progress("buildworld", 0.25, STARTED, 240.0), " 25 % buildworld, 1 min so far, about 4 min to go"),
        (Progress("buildworld", 0.25, STARTED, 0.0), " 25 % buildworld, 1 min so far"),
        (Progress("buildworld", 0.25, STARTED), " 25 % buildworld, 1 min so far"),
    ],
)
def test_status_says_it(busy: Progress, shown: str, tmp_path: Path) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        store.set_statuses([Status(WORLD, "Changing", busy=busy)], STARTED)
        said = StringIO()
        show_status(Console(file=said, width=200), store, NOW)
    (line,) = [line.rstrip() for line in said.getvalue().splitlines() if line.startswith("world/one")]
    assert line.endswith(shown)
