"""What a driver made of a scene, as the text that ``expected.txt`` holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from controller.diff import judge
from controller.errors import ControllerError, Stall
from controller.model import Action, Answer, Hold, Power, Step
from controller.plan import make_plan

from .scene import Scene, masked


def report(scene: Scene) -> str:
    """Facts, difference, plan and steps. Every answer that the case gives must have been asked for."""
    return masked("\n".join([*_report(scene), ""]), scene.world.desired)


def _report(scene: Scene) -> Iterator[str]:
    if scene.resource is None:
        yield "nothing remains to be done for it"
        return
    observed = scene.world.observed
    if scene.ref in observed.seen:
        yield "have"
        yield from _facts(observed.seen[scene.ref].facts)
        yield from (f"unmanaged: {one}" for one in observed.seen[scene.ref].detail.get("unmanaged", ()))
    verdict = judge([scene.resource], scene.world, scene.known)
    plan = make_plan([scene.resource], verdict, scene.world)
    for change in verdict.changes:
        yield f"want ({change.cause})"
        have = change.have or {}
        differing = {name: value for name, value in (change.want or {}).items() if have.get(name) != value}
        yield from _facts(differing if change.want is not None else None)
    for hold in plan.held:
        yield from _hold(hold)
    for action in plan.actions:
        yield from ("plan", f"  {action.summary}", f"  because {action.reason}", f"  risk {action.risk}", "steps")
        yield from _steps(action, scene.answers)
    if not verdict.changes and not plan.held:
        status = verdict.statuses[scene.ref]
        yield f"nothing differs: {status.state}" + (f", {status.message}" if status.message else "")


def _facts(facts: Mapping[str, Any] | None) -> Iterator[str]:
    if facts is None:
        yield "  absent"
    for name, value in (facts or {}).items():
        if isinstance(value, str) and "\n" in value:
            yield f"  {name}:"
            yield from (f"    | {line}".rstrip() for line in value.splitlines())
        elif isinstance(value, Mapping) and value:
            yield f"  {name}:"
            yield from (f"    {key}: {json.dumps(one)}" for key, one in sorted(value.items()))
        else:
            yield f"  {name}: {json.dumps(value)}"


def _hold(hold: Hold) -> Iterator[str]:
    yield f"held ({hold.why}): {hold.message}"
    if hold.hint:
        yield f"  hint: {hold.hint}"


def _steps(action: Action, answers: Mapping[str, Answer]) -> Iterator[str]:
    asked = set()
    for step in drive(action, answers):
        if not isinstance(step, ControllerError):
            asked.add(step.label)
            yield f"  {_where(action, step)}: {step.label}"
        else:
            yield f"  {type(step).__name__}: {step}"
            if isinstance(step, Stall) and step.hint:
                yield f"    hint: {step.hint}"
            break
    else:
        yield "  done"
    assert asked >= answers.keys(), f"nobody asked for {sorted(answers.keys() - asked)}"


def drive(action: Action, answers: Mapping[str, Answer]) -> Iterator[Step | ControllerError]:
    """Run the driver's generator as execute does; the last value is what it raised, if it did."""
    steps = action.steps()
    answer: Answer | None = None
    while True:
        try:
            step = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            return
        except ControllerError as error:
            yield error
            return
        yield step
        answer = answers.get(step.label, Answer(0, b"", b""))


def _where(action: Action, step: Step) -> str:
    host = step.host or action.change.resource.host
    if isinstance(step, Power):
        return f"{host} (power {step.op})"
    return " ".join([host, *([step.lane] if step.lane != "main" else []), *([] if step.writes else ["(look)"])])
