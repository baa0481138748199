"""When to look. APScheduler is a timer and nothing else: everything that wakes the controller says only "look".

Lost, doubled and forged wake-ups cost the same: one look. The work never runs inside a job, so a slow pass cannot be
dropped, doubled or cut short by the scheduler's own rules (misfire grace, max instances, shutdown).
"""

from __future__ import annotations

import asyncio

from apscheduler.schedulers.asyncio import AsyncIOScheduler


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
            "interval",
            seconds=interval,
            jitter=self._jitter,
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
            self._scheduler.reschedule_job("look", trigger="interval", seconds=seconds, jitter=self._jitter)

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
        try:
            async with asyncio.timeout(at_most):
                await self._event.wait()
        except TimeoutError:
            return "progress"
        why, self._why = self._why, []
        self._event.clear()
        return ",".join(sorted(set(why)))

    async def _tick(self) -> None:
        # A coroutine, so that APScheduler runs it on the loop and not in a thread.
        self.poke("interval")
