"""One look at everything: every question of every object, one request per host and lane, all hosts at once.

In: resources and a fleet. Out: `Observed`. A host that does not answer makes its own objects unknown and delays nobody;
an answer that a driver cannot read makes one object unknown. Nothing is written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import time
from typing import Protocol

import structlog

from controller.drivers import DRIVERS
from controller.errors import FAULT, ControllerError, Stall
from controller.model import Answer, Facts, Lane, Observed, Probe, Ref, Resource, Script, Seen, Unseen

_DISK_SECONDS = 10.0
"""Far more than a disk needs that answers. While its SAN is away it never does, and nobody else may wait for it."""

_CLOCK = Script("date +%s")

log = structlog.get_logger(__name__)


class Asks(Protocol):
    """The part of a fleet that looking needs."""

    async def ask_each(
        self, host: str, lane: Lane, scripts: Sequence[str], timeout: float
    ) -> Sequence[Answer | ControllerError]: ...


async def observe(
    resources: Sequence[Resource], fleet: Asks, applied: Mapping[Ref, Facts], *, timeout: float = 30.0
) -> Observed:
    """Ask once, read everything. `timeout` is in seconds for each host and lane."""
    probes: dict[Ref, Sequence[Probe]] = {}
    unknown: dict[Ref, str] = {}
    for resource in resources:
        try:
            probes[resource.ref] = DRIVERS[resource.ref.kind].probes(resource)
        except Exception as error:
            unknown[resource.ref] = f"cannot look at {resource.ref}: {type(error).__name__} in its driver"
            log.exception("driver cannot ask", object=str(resource.ref))
    asked = {probe for each in probes.values() for probe in each}
    clocks = {Probe(probe.host, _CLOCK) for probe in asked if probe.lane == "main"}
    begun = time()
    answers = await _ask_all(asked | clocks, fleet, timeout)
    ended = time()
    seen: dict[Ref, Seen] = {}
    stalled: dict[Ref, tuple[str, str]] = {}
    for resource in (one for one in resources if one.ref in probes):
        got = [answers[probe] for probe in probes[resource.ref]]
        try:
            seen[resource.ref] = DRIVERS[resource.ref.kind].read(resource, got, applied.get(resource.ref))
        except Stall as error:
            stalled[resource.ref] = (str(error), error.hint)
        except ControllerError as error:
            unknown[resource.ref] = str(error)
        except Exception as error:
            # Not the error's own words, which may hold anything that the machine said.
            unknown[resource.ref] = f"cannot understand what {resource.host} answered: {type(error).__name__}; {FAULT}"
            log.exception("driver cannot read an answer", object=str(resource.ref))
    told = {probe.host: answers[probe] for probe in clocks}
    return Observed(seen, unknown, stalled, _hosts(answers), _ahead(told, begun, ended))


async def _ask_all(probes: set[Probe], fleet: Asks, timeout: float) -> dict[Probe, Answer | Unseen]:
    """Group by host and lane, in a stable order, and ask all groups together."""
    groups: dict[tuple[str, Lane], list[Probe]] = {}
    for probe in sorted(probes, key=lambda one: (one.host, one.lane, one.script)):
        groups.setdefault((probe.host, probe.lane), []).append(probe)
    replies = await asyncio.gather(
        *(
            _ask_one(host, lane, asked, fleet, timeout if lane == "main" else min(timeout, _DISK_SECONDS))
            for (host, lane), asked in groups.items()
        )
    )
    return {probe: reply for group in replies for probe, reply in group}


async def _ask_one(
    host: str, lane: Lane, probes: Sequence[Probe], fleet: Asks, timeout: float
) -> list[tuple[Probe, Answer | Unseen]]:
    try:
        replies = await fleet.ask_each(host, lane, [probe.script for probe in probes], timeout)
    except ControllerError as error:
        return [(probe, _unseen(error)) for probe in probes]
    except Exception as error:
        log.exception("machine cannot be asked", host=host, lane=lane)
        return [(probe, Unseen(f"cannot ask {host}: {type(error).__name__}", FAULT)) for probe in probes]
    return [
        (probe, reply if isinstance(reply, Answer) else _unseen(reply))
        for probe, reply in zip(probes, replies, strict=True)
    ]


def _unseen(error: ControllerError) -> Unseen:
    return Unseen(str(error), error.hint if isinstance(error, Stall) else "")


def _hosts(answers: Mapping[Probe, Answer | Unseen]) -> dict[str, str | None]:
    """Every host asked: None when its main shell answered, else why not."""
    return {
        probe.host: answer.reason if isinstance(answer, Unseen) else None
        for probe, answer in answers.items()
        if probe.lane == "main"
    }


def _ahead(told: Mapping[str, Answer | Unseen], begun: float, ended: float) -> dict[str, float]:
    """How far clocks are off that say a time outside of the look, which lasted from `begun` to `ended` by our own."""
    found: dict[str, float] = {}
    for host, answer in told.items():
        if isinstance(answer, Answer) and answer.exit == 0 and answer.out.strip().isdigit():
            now = float(answer.out)
            # It says whole seconds.
            found[host] = now - ended if now > ended else min(now + 1 - begun, 0.0)
    return found
