"""Acting: the actions of one plan, machines side by side, one action at a time on each machine.

In: plans. Out: one outcome per action, none lost, whatever happens. An outcome "done" says only that the steps ended as
their driver expected; proof is the next look. The intent is written to the store before the first step of an action and
the result after its last, so that a crash in between is known as one; an action whose intent could not be written never begins.
Right before an action begins it is judged once more, and one whose turn did not come while its pass waited never begins: the
next pass decides on what is true then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time
from typing import Protocol, TypeAlias, TypeVar

import structlog

from controller.encode.sh import fill, holes
from controller.errors import FAULT, ControllerError, Indeterminate, Stall, Wait
from controller.model import Action, Answer, Lane, Outcome, Plan, Power, PowerOp, Result, Step, StepResult
from controller.secret import Secret

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Acts(Protocol):
    """The part of a fleet that acting needs. `act` is refused by the host when another controller took over."""

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]: ...

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer: ...

    async def power(self, host: str, op: PowerOp, timeout: float) -> Answer: ...


class Journal(Protocol):
    def intend(self, action: Action, now: float) -> int: ...

    def ended(self, entry: int, outcome: Outcome, now: float) -> None: ...


class Secrets(Protocol):
    def values(self, names: frozenset[str]) -> Mapping[str, Secret]:
        """The secrets by name. Raises Stall that names the missing one, never a value."""
        ...


Overtaken: TypeAlias = Callable[[Action], str]
"""Why an action is not to be begun any more, as of this moment; empty when it is."""


class Executor:
    """Performs plans. A pass does not wait for ever: what takes longer than `patience` goes on by itself, its machine is
    left alone meanwhile, and its outcome comes with a later pass; what waits for its turn there is given up. So one sick
    machine never delays the others, and nothing is done on an old look."""

    def __init__(self, fleet: Acts, journal: Journal, secrets: Secrets, patience: float | None) -> None:
        self._fleet = fleet
        self._journal = journal
        self._secrets = secrets
        self._patience = patience
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: dict[asyncio.Task[Outcome | None], Action] = {}
        self._ended: list[Outcome] = []
        self._broken: ControllerError | None = None
        """Why the journal could not be written, until somebody has been told."""

    @property
    def busy(self) -> Mapping[str, str]:
        """Machine -> what is being done there still: of several the first, for the others wait their turn."""
        return {action.change.resource.host: action.summary for action in reversed(self._running.values())}

    async def perform(self, plan: Plan, stop: asyncio.Event, overtaken: Overtaken) -> list[Outcome]:
        """Begin all actions; return the outcomes of those that ended in time, and of earlier ones that ended since.

        When `stop` is set, running actions go on and no further one begins.
        """
        over = asyncio.Event()

        def may_begin() -> bool:
            return not (stop.is_set() or over.is_set() or self._broken)

        begun = {
            asyncio.create_task(self._one(action, may_begin, overtaken), name=str(action.change.ref)): action
            for action in plan.actions
        }
        self._running |= begun
        for task in begun:
            task.add_done_callback(self._note)
        try:
            if begun:
                await asyncio.wait(begun, timeout=self._patience)
        finally:
            over.set()
        return self.ended()

    def ended(self) -> list[Outcome]:
        """Outcomes that nobody has taken yet. Raises what the journal raised: nothing was begun that it does not hold."""
        if self._broken is not None:
            error, self._broken = self._broken, None
            raise error
        taken, self._ended = self._ended, []
        return taken

    async def finish(self, seconds: float) -> None:
        """Let what runs end for some seconds, then give it up: the journal keeps it open, and the next look tells."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        left = set(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _note(self, task: asyncio.Task[Outcome | None]) -> None:
        del self._running[task]
        outcome = None if task.cancelled() else task.result()
        if outcome is not None:
            self._ended.append(outcome)

    async def _one(self, action: Action, may_begin: Callable[[], bool], overtaken: Overtaken) -> Outcome | None:
        change = action.change
        async with self._locks.setdefault(change.resource.host, asyncio.Lock()):
            if not may_begin():
                return None
            try:
                why = overtaken(action)
            except ControllerError as error:
                self._broken = error
                return None
            except Exception as error:
                log.exception("action cannot be judged again", object=str(change.ref))
                why = f"cannot {action.summary} now: {type(error).__name__} when it was judged once more; {FAULT}"
            if why:
                log.info("not begun", object=str(change.ref), summary=action.summary, message=why)
                return Outcome(change.ref, action.summary, change.cause, "waiting", why)
            entry = self._written(lambda: self._journal.intend(action, time()))
            if entry is None:
                return None
            outcome = await _perform(action, self._fleet, self._secrets)
            log.info("acted", object=str(outcome.ref), result=outcome.result, summary=action.summary, **_words(outcome))
            self._written(lambda: self._journal.ended(entry, outcome, time()))
            return outcome

    def _written(self, write: Callable[[], T]) -> T | None:
        """What the journal answers; None when it cannot be written, which the pass is told."""
        try:
            return write()
        except ControllerError as error:
            self._broken = error
            return None


def _words(outcome: Outcome) -> dict[str, str]:
    return {"message": outcome.message} if outcome.message else {}


async def _perform(action: Action, fleet: Acts, secrets: Secrets) -> Outcome:
    started = monotonic()
    done: list[StepResult] = []
    result: Result = "failed"
    message, hint = "", ""
    try:
        await _take(action, fleet, secrets, done)
        result = "done"
    except Wait as error:
        result, message = "waiting", str(error)
    except Indeterminate as error:
        result, message = "indeterminate", str(error)
    except Stall as error:
        message, hint = str(error), error.hint
    except ControllerError as error:
        message = str(error)
    except Exception as error:
        message = f"cannot finish: {type(error).__name__} in the driver of {action.change.ref}"
        hint = FAULT
        log.exception("driver failed", object=str(action.change.ref))
    seconds = monotonic() - started
    change = action.change
    return Outcome(change.ref, action.summary, change.cause, result, message, hint, tuple(done), seconds)


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


async def _run(step: Step, action: Action, fleet: Acts, secrets: Secrets, done: list[StepResult]) -> Answer:
    host = step.host or action.change.resource.host
    started = monotonic()
    try:
        answer = await _answer(step, host, fleet, secrets)
    except ControllerError as error:
        done.append(StepResult(step.label, host, None, monotonic() - started, str(error)))
        raise
    done.append(
        StepResult(step.label, host, answer.exit, answer.seconds, answer.out if isinstance(step, Power) else "")
    )
    return answer


async def _answer(step: Step, host: str, fleet: Acts, secrets: Secrets) -> Answer:
    if isinstance(step, Power):
        return await fleet.power(host, step.op, step.timeout)
    script = fill(step.script, secrets.values(holes(step.script)))
    if step.writes:
        return await fleet.act(host, step.lane, script, step.timeout)
    (answer,) = await fleet.ask(host, step.lane, [script], step.timeout)
    return answer
