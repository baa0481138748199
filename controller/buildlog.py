"""The log of a build, read from the build VM piece by piece. Nothing is written anywhere.

In: the name of a layer, the manifests in force. Out: pieces of text for a terminal, until the log's end or, when followed,
the job's; and words about what is not in the log: that the VM is away, that the build ended badly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.drivers import LAYERS, resources_of
from controller.drivers.layers import Layer
from controller.encode.job import Attempt, Job, job_look_script, parse_job
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.hands import Hands
from controller.model import Ref, Resource

_EVERY = 1.0
"""Seconds between two questions while a log is followed."""
_WAIT = 30.0
_CONTROLS = {code: "?" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}
"""A log may hold anything; a terminal must not obey it."""


def layer_named(what: str, desired: Desired, busy: Collection[Ref]) -> Resource:
    """The layer's resource, by KIND/NAME or by a name that only one has; of several, only one that is `busy` being built.
    Raises Stall that names those there are."""
    layers = {one.ref: one for one in resources_of(desired) if one.ref.kind in LAYERS}
    named = [ref for ref in layers if what in (str(ref), ref.name)]
    under_way = [ref for ref in named if ref in busy]
    if len(named) > 1 and len(under_way) != 1:
        raise Stall(
            f"cannot show the log of {what}: several layers are so called",
            hint=f"name one of {', '.join(map(str, named))}",
        )
    if not named:
        raise Stall(
            f"cannot show the log of {what}: there is no such layer",
            hint=f"there is {', '.join(map(str, layers)) or 'none'}",
        )
    found = layers[(named if len(named) == 1 else under_way)[0]]
    spec: Layer = found.spec
    if spec.missing:
        raise Stall(f"cannot show the log of {what}: {spec.missing}", hint="have it looked at: jailops apply")
    return found


async def read_log(
    resource: Resource, hands: Hands, *, say: Callable[[str], None], follow: bool = False, attempt: int | None = None
) -> AsyncIterator[str]:
    """The whole log so far, and, when followed, what comes until the job ends; or that of an earlier run, by its number.

    `say` is told what is not the log's. Raises Stall when there is no such log, and when what was followed ended badly.
    """
    reader = _Reader(resource, hands, say, attempt)
    while True:
        job = await reader.look()
        if job.tail:
            yield job.tail.decode("utf-8", "backslashreplace").translate(_CONTROLS)
        if reader.offset < job.log_size:
            continue
        if not follow or job.state != "running":
            break
        await asyncio.sleep(_EVERY)
    if follow:
        _ended_well(resource, job)


@dataclass
class _Reader:
    """Where a reader of a log stands. Lost connections are made again: a build may take longer than one lasts."""

    resource: Resource
    hands: Hands
    say: Callable[[str], None]
    attempt: int | None
    offset: int = 0
    started: float | None = None

    async def look(self) -> Job:
        """The next piece, from the beginning again when the job has begun anew meanwhile."""
        job = await self._asked()
        _there(self.resource, job, self.attempt, begun=self.started is not None)
        if self.started not in (None, job.started):
            self.say(f"another try of {self.resource.ref} has begun")
            self.offset, self.started = 0, job.started
            return await self.look()
        self.offset, self.started = job.offset + len(job.tail), job.started
        return job

    async def _asked(self) -> Job:
        spec: Layer = self.resource.spec
        host, script = self.resource.host, job_look_script(spec.jobs, spec.job, self.offset, self.attempt)
        away = False
        while True:
            try:
                (answer,) = await self.hands.ask(host, "main", [script], _WAIT)
                job = parse_job(answer)
            except Retry as error:
                if self.offset == 0:
                    raise
                if not away:
                    self.say(
                        f"{error}; the log goes on here when {host} answers again, and the build needs nobody meanwhile"
                    )
                away = True
                await asyncio.sleep(min(error.after, _WAIT))
                continue
            if away:
                self.say(f"{host} answers again")
            return job


def _there(resource: Resource, job: Job, attempt: int | None, *, begun: bool) -> None:
    """Raises Stall unless there is the log that was asked for."""
    spec: Layer = resource.spec
    kept = "; ".join(_told(one) for one in job.attempts)
    if attempt is not None:
        if attempt not in [one.number for one in job.attempts]:
            raise Stall(
                f"cannot show attempt {attempt} of {resource.ref}: there is no such attempt",
                hint=f"there is {kept or 'none'}; without --attempt it is the newest try's log",
            )
    elif job.state == "absent" and begun:
        raise Stall(
            f"cannot follow {resource.ref} any further: its build was stopped, or makes room for another try",
            hint="see what became of it: jailops status",
        )
    elif job.state == "absent":
        raise Stall(
            f"cannot show the log of {resource.ref}: no job {spec.job} is on {resource.host}",
            hint="it was not built there yet, or waits for what it needs: jailops status"
            + (f"; with --attempt there is {kept}" if kept else ""),
        )


def _told(attempt: Attempt) -> str:
    """For people: its number, when it was begun, how it ended, and why it was run again."""
    begun = datetime.fromtimestamp(attempt.started, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    end = "no result" if attempt.exit is None else f"exit {attempt.exit}"
    return f"{attempt.number} (of {begun}, {end}, {attempt.why})"


def _ended_well(resource: Resource, job: Job) -> None:
    """Raises Stall for what failed or vanished."""
    if job.state == "done" and job.exit == 0:
        return
    end = f"failed (exit {job.exit})" if job.state == "done" else "vanished without a result"
    raise Stall(
        f"the build of {resource.ref} {end}",
        hint=f"what jailops makes of it says jailops status; the same inputs are tried again with: jailops retry {resource.ref}",
    )
