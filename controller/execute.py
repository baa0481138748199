"""Acting: the actions of one plan, machines side by side, one action at a time on each machine.

In: a plan. Out: one outcome per action, none lost, whatever happens. An outcome "done" says only that the steps ended as
their driver expected; proof is the next look. The intent is written to the store before the first step of an action and
the result after its last, so that a crash in between is known as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic, time
from typing import Protocol

import structlog

from controller.encode.sh import fill, holes
from controller.errors import ControllerError, Indeterminate, Stall, Wait
from controller.model import Action, Answer, Lane, Outcome, Plan, Result, Run, StepResult

log = structlog.get_logger(__name__)


class Acts(Protocol):
    """The part of a fleet that acting needs. `act` is refused by the host when another controller took over."""

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]: ...

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer: ...


class Journal(Protocol):
    def intend(self, action: Action, now: float) -> int: ...

    def ended(self, entry: int, outcome: Outcome, now: float) -> None: ...


class Secrets(Protocol):
    def values(self, names: frozenset[str]) -> Mapping[str, str]:
        """The secrets by name. Raises Stall that names the missing one, never a value."""
        ...


async def execute(plan: Plan, fleet: Acts, journal: Journal, secrets: Secrets, stop: asyncio.Event) -> list[Outcome]:
    """Perform a plan. When `stop` is set, running actions end and no further one begins."""
    locks: dict[str, asyncio.Lock] = {}
    tasks = [
        asyncio.create_task(_perform(action, fleet, journal, secrets, stop, locks), name=str(action.change.ref))
        for action in plan.actions
    ]
    outcomes = await asyncio.gather(*tasks)
    return [outcome for outcome in outcomes if outcome is not None]


async def _perform(
    action: Action,
    fleet: Acts,
    journal: Journal,
    secrets: Secrets,
    stop: asyncio.Event,
    locks: dict[str, asyncio.Lock],
) -> Outcome | None:
    host = action.change.resource.host
    async with locks.setdefault(host, asyncio.Lock()):
        if stop.is_set():
            return None
        entry = journal.intend(action, time())
        started = monotonic()
        done: list[StepResult] = []
        result: Result = "failed"
        message, hint = "interrupted", ""
        try:
            await _take(action, fleet, secrets, done)
            result, message = "done", ""
        except Wait as error:
            result, message = "waiting", str(error)
        except Indeterminate as error:
            result, message = "indeterminate", str(error)
        except Stall as error:
            message, hint = str(error), error.hint
        except ControllerError as error:
            message = str(error)
        except Exception as error:
            message = f"cannot finish: {type(error).__name__} in {action.change.ref}'s driver"
            hint = "this is a fault of jailops: please report it with the log"
            log.exception("driver failed", object=str(action.change.ref))
        outcome = Outcome(
            action.change.ref,
            action.summary,
            action.change.cause,
            result,
            message,
            hint,
            tuple(done),
            monotonic() - started,
        )
        journal.ended(entry, outcome, time())
        log.info("acted", object=str(outcome.ref), result=result, summary=action.summary, message=message or None)
        return outcome


async def _take(action: Action, fleet: Acts, secrets: Secrets, done: list[StepResult]) -> None:
    """Run the driver's steps, sending it each answer."""
    steps = action.steps()
    answer: Answer | None = None
    while True:
        try:
            step = steps.send(answer) if answer is not None else next(steps)
        except StopIteration:
            return
        answer = await _run(step, action, fleet, secrets, done)


async def _run(step: Run, action: Action, fleet: Acts, secrets: Secrets, done: list[StepResult]) -> Answer:
    host = step.host or action.change.resource.host
    script = fill(step.script, secrets.values(holes(step.script)))
    started = monotonic()
    try:
        if step.writes:
            answer = await fleet.act(host, step.lane, script, step.timeout)
        else:
            (answer,) = await fleet.ask(host, step.lane, [script], step.timeout)
    except ControllerError as error:
        done.append(StepResult(step.label, host, None, monotonic() - started, str(error)))
        raise
    done.append(StepResult(step.label, host, answer.exit, answer.seconds))
    return answer
