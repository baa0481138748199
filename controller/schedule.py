"""When to look. APScheduler is a timer and nothing else: everything that wakes the controller says only "look".

Lost, doubled and forged wake-ups cost the same: one look. The work never runs inside a job, so a slow pass cannot be
dropped, doubled or cut short by the scheduler's own rules (misfire grace, max instances, shutdown).
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

_LATE = 5.0
"""Seconds after which a tick that did not come is not waited for any more."""


class _FromNow(IntervalTrigger):  # type: ignore[misc]  # APScheduler has no types
    """The next tick is counted from now. APScheduler would count from the last one and list all that were missed, which after
    a clock was set forward by a year takes a minute and gigabytes."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return super().get_next_fire_time(now if previous_fire_time else None, now)  # type: ignore[no-any-return]


class Wake:
    """Waits for the next reason to look."""

    def __init__(self, interval: float, jitter: float) -> None:
        self._interval = interval
        self._jitter = jitter or None
        self._event = asyncio.Event()
        self._why: list[str] = []
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._scheduler.add_job(
            self._tick,
            _FromNow(seconds=interval, jitter=self._jitter),
            id="look",
            replace_existing=True,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def every(self, seconds: float) -> None:
        """Look this often from now on. A change takes effect at once; the same again changes nothing."""
        if seconds != self._interval:
            self._interval = seconds
            self._schedule(seconds)

    def _schedule(self, seconds: float) -> None:
        self._scheduler.reschedule_job("look", trigger=_FromNow(seconds=seconds, jitter=self._jitter))

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def poke(self, why: str) -> None:
        """Look now. Safe to call any number of times."""
        self._why.append(why)
        self._event.set()

    async def wait(self, at_most: float | None = None) -> str:
        """The reason for the next look: what poked, or "progress" when `at_most` seconds passed quietly."""
        # APScheduler goes by the time of day: after the clock was set back by a year, the next tick is a year away.
        latest = self._interval + (self._jitter or 0.0) + _LATE
        try:
            async with asyncio.timeout(latest if at_most is None else min(at_most, latest)):
                await self._event.wait()
        except TimeoutError:
            if at_most is not None and at_most <= latest:
                return "progress"
            self._schedule(self._interval)
            return "interval"
        why, self._why = self._why, []
        self._event.clear()
        return ",".join(sorted(set(why)))

    async def _tick(self) -> None:
        # A coroutine, so that APScheduler runs it on the loop and not in a thread.
        self.poke("interval")
