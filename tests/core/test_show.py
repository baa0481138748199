"""What programs are shown of a plan."""

from __future__ import annotations

from typing import Any, cast

from rich.console import Console

from controller.diff import Verdict
from controller.graph import Desired
from controller.model import Action, Change, Hold, Origin, Plan, Record, Ref, Resource
from controller.reconcile import Look
from controller.revision import Wanted
from controller.show import Planned, _hop, plan_data, record


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


def test_a_pass_says_what_a_person_can_do_about_what_is_held() -> None:
    console = Console(width=200)
    held = (Hold(Ref("jail", "a/web"), "failed", "no disk", "attach it"),)
    with console.capture() as printed:
        record(console, Record("0123abc", "A", "B", "apply", 0.0, 0.0, "failed: nothing to do", "failed", held=held))
    assert printed.get().splitlines() == [
        "failed  jail/a/web: no disk",
        "       what you can do: attach it",
        "failed: nothing to do",
    ]
