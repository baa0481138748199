"""In which order, and what not: changes become actions sorted by what needs what. Pure; no step is taken here.

A failing or held object stops only what depends on it. `jailops plan` prints exactly the value that execute performs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from graphlib import TopologicalSorter

from controller.diff import Verdict, faulty, judge
from controller.drivers import DRIVERS, World
from controller.model import Action, Change, Hold, Plan, Ref, Resource


def make_plan(
    resources: Sequence[Resource],
    verdict: Verdict,
    world: World,
    *,
    refused: Mapping[Ref, Hold] | None = None,
) -> Plan:
    """Order the changes. `refused` are objects that are not to be touched now, with the reason."""
    refused = refused or {}
    changes = {change.ref: change for change in verdict.changes}
    blocked: dict[Ref, str] = {hold.ref: hold.message for hold in verdict.holds}
    actions: list[Action] = []
    later: list[Action] = []
    held: list[Hold] = list(verdict.holds)
    for resource in in_order(resources):
        change = changes.get(resource.ref)
        if change is None:
            continue
        todo = refused.get(resource.ref) or _waits_for(resource, blocked) or _action(change, world)
        if isinstance(todo, Hold):
            held.append(todo)
            blocked[resource.ref] = todo.message
        elif any(need in changes for need in resource.needs):
            later.append(todo)
        else:
            actions.append(todo)
    return Plan(tuple(actions), tuple(later), tuple(held))


def overtaken(action: Action, world: World) -> str:
    """Why an action of a plan is not due any more in this world; empty when it is."""
    change = action.change
    verdict = judge([change.resource], world, {})
    if change.want in [one.want for one in verdict.changes]:
        return ""
    why = next((hold.message for hold in verdict.holds), "something else is wanted by now")
    return f"cannot {action.summary} any more: {why}"


def in_order(resources: Sequence[Resource]) -> list[Resource]:
    """What others need comes first; equals keep their order."""
    by_ref = {resource.ref: resource for resource in resources}
    sorter = TopologicalSorter(
        {resource.ref: [need for need in resource.needs if need in by_ref] for resource in resources}
    )
    return [by_ref[ref] for ref in sorter.static_order()]


def _waits_for(resource: Resource, blocked: Mapping[Ref, str]) -> Hold | None:
    for need in resource.needs:
        if need in blocked:
            return Hold(resource.ref, "waiting", f"waits for {need}: {blocked[need]}")
    return None


def _action(change: Change, world: World) -> Action | Hold:
    driver = DRIVERS[change.ref.kind]
    try:
        explanation = driver.explain(change)
        differences = driver.differences(change, world)
    except Exception as error:
        return faulty(change.ref, f"say what to do about {change.ref}", error)
    steps = partial(driver.steps, change, world)
    return Action(change, explanation.summary, explanation.reason, explanation.risk, steps, differences)
