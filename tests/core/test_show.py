"""What programs are shown of a plan."""

from __future__ import annotations

from typing import Any, cast

from controller.diff import Verdict
from controller.graph import Desired
from controller.model import Action, Change, Origin, Plan, Ref, Resource
from controller.reconcile import Look
from controller.revision import Wanted
from controller.show import Planned, _hop, plan_data


def test_no_and_not_known_are_two_answers() -> None:
    assert [_hop(one, "new") for one in ("new", "old", "", None)] == [
        "[green]yes[/]",
        "[yellow]old[/]",
        "[yellow]no[/]",
        "[magenta]?[/]",
    ]


def test_what_left_the_manifests_has_no_place_in_them() -> None:
    def action(name: str, origin: Origin) -> Action:
        resource = Resource(Ref("jail", name), "node1", None, origin=origin, retired=not origin.path)
        return Action(
            Change(resource, None, {}, "retire"), "stop it", "it left the manifests", "disruptive", cast(Any, None)
        )

    planned = Plan((action("node1/gone", Origin("")), action("node1/web", Origin("jails/web.yaml", 9, 3))))
    wanted = Wanted("0123abc", "A", "B", 0.0, cast(Desired, None))
    data = plan_data(Planned(wanted, Look((), cast(Any, None), Verdict((), (), {}, {}), 0.0), planned))
    assert [(one["object"], one["origin"]) for one in data["now"]] == [
        ("jail/node1/gone", ""),
        ("jail/node1/web", "jails/web.yaml:9:3"),
    ]
