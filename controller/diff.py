"""What must change: wanted facts against seen facts, field by field. What was not observed is not touched.

In: resources, a world and what was applied before. Out: changes, holds, and one status for every object. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from traceback import extract_tb

from controller.drivers import DRIVERS, World
from controller.drivers.base import differs
from controller.errors import FAULT, ControllerError, Stall, Wait
from controller.model import Cause, Change, Facts, Held, Hold, Ref, Resource, State, Status


@dataclass(frozen=True)
class Verdict:
    """One look, judged."""

    changes: tuple[Change, ...]
    holds: tuple[Hold, ...]
    statuses: Mapping[Ref, Status]
    wants: Mapping[Ref, Facts | None]

    @property
    def ready(self) -> frozenset[Ref]:
        return frozenset(ref for ref, status in self.statuses.items() if status.state in ("Ready", "Retired"))


def judge(resources: Sequence[Resource], world: World, known: Mapping[Ref, str]) -> Verdict:
    """Compare every object. `known` holds the digest of the wanted facts that each object was last brought to."""
    changes: list[Change] = []
    holds: list[Hold] = []
    statuses: dict[Ref, Status] = {}
    wants: dict[Ref, Facts | None] = {}
    for resource in resources:
        verdict = _judge_one(resource, world, known, wants)
        if isinstance(verdict, Change):
            changes.append(verdict)
            statuses[resource.ref] = Status(
                resource.ref, "Drifted", "differs from the manifests", origin=resource.origin, detail=verdict.detail
            )
        elif isinstance(verdict, Hold):
            holds.append(verdict)
            statuses[resource.ref] = _held(resource, verdict, world)
        else:
            statuses[resource.ref] = verdict
    return Verdict(tuple(changes), tuple(holds), statuses, wants)


def digest_of(facts: Facts | None) -> str:
    """A short name for a set of facts, equal for equal facts whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def watched(change: Change) -> Hold:
    """What differs by hand and is left so, because the Site only warns of it."""
    told = DRIVERS[change.ref.kind].explain(change)
    return Hold(
        change.ref,
        "watched",
        f"differs by hand: {told.reason}; the Site says only to warn, so jailops does not {told.summary}",
        hint=f"undo it by hand, or have jailops do it: {change.ref.kind}: enforce in spec.drift of the Site",
    )


def contested(change: Change, times: int) -> Hold:
    """Somebody else wants it otherwise, and has said so more often than jailops."""
    told = DRIVERS[change.ref.kind].explain(change)
    return Hold(
        change.ref,
        "contested",
        f"changed by hand once more, after jailops put it back {times} times within an hour: {told.reason}",
        hint="find who or what else changes it. If that is right, push it; if not, stop it, then: "
        f"jailops retry {change.ref}",
    )


def faulty(ref: Ref, doing: str, error: Exception) -> Hold:
    """An object whose driver has a fault. Deciding logs nothing, so the place is told here; not the error's own words, which
    may hold anything."""
    *_, place = extract_tb(error.__traceback__)
    where = f"{type(error).__name__} in its driver ({place.name}, line {place.lineno})"
    return Hold(ref, "stalled", f"cannot {doing}: {where}", FAULT)


def _judge_one(
    resource: Resource, world: World, known: Mapping[Ref, str], wants: dict[Ref, Facts | None]
) -> Change | Hold | Status:
    ref = resource.ref
    if ref in world.observed.stalled:
        message, hint = world.observed.stalled[ref]
        return Hold(ref, "stalled", message, hint)
    seen = world.observed.seen.get(ref)
    if seen is None:
        return Hold(ref, "unknown", world.observed.unknown.get(ref, "was not looked at"))
    try:
        want = DRIVERS[ref.kind].want(resource, world)
    except Wait as wait:
        return Hold(ref, "busy" if wait.under_way else "waiting", str(wait))
    except Stall as stall:
        return Hold(ref, "stalled", str(stall), stall.hint)
    except ControllerError as error:
        return Hold(ref, "unknown", str(error))
    except ValueError as error:
        # An encoder refused a value: the manifest says something that no machine can be told.
        return Hold(ref, "stalled", f"cannot write the settings of {ref}: {error}", f"change {resource.origin}")
    except Exception as error:
        return faulty(ref, f"say what {ref} should be", error)
    wants[ref] = want
    if seen.busy is not None:
        return Hold(ref, "busy", seen.busy.stage)
    try:
        detail = {**seen.detail, **DRIVERS[ref.kind].told(resource, world)}
    except Exception as error:
        return faulty(ref, f"tell why {ref} should be so", error)
    if not differs(want, seen.facts):
        state: State = "Retired" if resource.retired else "Ready"
        return Status(ref, state, str(detail.get("says", "")), origin=resource.origin, detail=detail)
    cause = _cause(resource, want, known)
    if cause == "drift" and world.drift_mode(ref) == "ignore":
        return Status(ref, "Ready", "differs by hand; the Site ignores that", origin=resource.origin, detail=detail)
    return Change(resource, want, seen.facts, cause, detail)


def _cause(resource: Resource, want: Facts | None, known: Mapping[Ref, str]) -> Cause:
    if resource.retired:
        return "retire"
    if resource.ref not in known:
        return "new"
    return "drift" if known[resource.ref] == digest_of(want) else "intent"


_STATES: Mapping[Held, State] = {
    "waiting": "Waiting",
    "unknown": "Unknown",
    "stalled": "Stalled",
    "busy": "Changing",
    "failed": "Failed",
    "not-converging": "NotConverging",
    "contested": "Contested",
    "watched": "Drifted",
}


def held_status(status: Status, hold: Hold) -> Status:
    """How an object stands that is not touched now."""
    return replace(status, state=_STATES[hold.why], message=hold.message, hint=hold.hint)


def _held(resource: Resource, hold: Hold, world: World) -> Status:
    seen = world.observed.seen.get(resource.ref)
    plain = Status(
        resource.ref,
        "Unknown",
        origin=resource.origin,
        busy=seen.busy if seen else None,
        detail=seen.detail if seen else {},
    )
    return held_status(plain, hold)
