"""What makes the controller look, and what its pages say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Metric
from rich.console import Console

from controller import show
from controller.metrics import Metrics
from controller.model import Progress, Ref, Status
from controller.schedule import Wake
from controller.store import Store
from controller.web.server import Health, application

HOUR = 3600.0


@pytest_asyncio.fixture
async def wake() -> AsyncIterator[Wake]:
    wake = Wake(HOUR, 5.0)
    wake.start()
    yield wake
    wake.stop()


async def test_pokes_before_a_look_are_one_reason_for_it(wake: Wake) -> None:
    for why in ("signal", "start", "signal"):
        wake.poke(why)
    assert await wake.wait() == "signal,start"
    assert await wake.wait(0.0) == "progress", "it is used up"
    wake.poke("signal")
    assert await wake.wait(HOUR) == "signal"


async def test_a_poke_ends_a_wait_that_began_before_it(wake: Wake) -> None:
    waiting = asyncio.create_task(wake.wait(HOUR))
    await asyncio.sleep(0)
    wake.poke("signal")
    assert await asyncio.wait_for(waiting, 10) == "signal"


async def test_the_interval_wakes_again_and_again_and_follows_the_site() -> None:
    wake = Wake(HOUR, 0.0)
    wake.start()
    wake.every(0.01)
    assert [await asyncio.wait_for(wake.wait(), 10) for _ in range(2)] == ["interval", "interval"]
    wake.stop()


async def test_each_interval_is_longer_by_a_jitter_of_its_own(wake: Wake) -> None:
    """Asked of the timer itself: what it would wait after each of a hundred looks."""
    job = wake._scheduler.get_job("look")
    now = datetime.now(UTC)
    waits = {(job.trigger.get_next_fire_time(now, now) - now) / timedelta(seconds=1) for _ in range(100)}
    assert len(waits) > 50
    assert min(waits) >= HOUR - 0.001
    assert max(waits) <= HOUR + 5.001
    assert max(waits) - min(waits) > 1.0


async def page(health: Health, path: str, now: float) -> tuple[int, str]:
    """What the daemon's own pages answer at a moment."""
    pages = httpx.ASGITransport(application(Metrics().registry, health, lambda: now))
    async with httpx.AsyncClient(transport=pages, base_url="http://jailops") as client:
        answer = await client.get(path)
    return answer.status_code, answer.text


HEALTHZ = (
    ("just started", 0.0, 1000.0, (200, "ok\n")),
    ("no pass ever ended", 0.0, 1901.0, (503, "no pass has ended for 901 seconds\n")),
    ("passes go on, long after the start", 9_999_000.0, 9_999_900.0, (200, "ok\n")),
    ("they stopped", 9_999_000.0, 9_999_901.0, (503, "no pass has ended for 901 seconds\n")),
)


@pytest.mark.parametrize(("last_pass", "now", "answer"), [one[1:] for one in HEALTHZ], ids=[one[0] for one in HEALTHZ])
async def test_healthz_says_whether_passes_go_on(last_pass: float, now: float, answer: tuple[int, str]) -> None:
    assert await page(Health(1000.0, last_pass, stale_after=900.0), "/healthz", now) == answer


async def test_readyz_waits_for_the_first_pass_and_healthz_does_not() -> None:
    health = Health(started=1000.0)
    assert await page(health, "/readyz", 1001.0) == (503, "no pass has ended yet\n")
    assert await page(health, "/healthz", 1001.0) == (200, "ok\n")
    health.last_pass = 1000.5
    assert await page(health, "/readyz", 1001.0) == (503, "no pass has gone well yet: the log says why\n")
    health.ready = True
    assert await page(health, "/readyz", 1001.0) == (200, "ok\n")


async def test_metrics_and_nothing_else() -> None:
    status, text = await page(Health(1000.0), "/metrics", 1001.0)
    assert status == 200
    assert "\njailops_build_info{" in text
    assert (await page(Health(1000.0), "/", 1001.0))[0] == 404


class Counting(CollectorRegistry):
    """Knows how often it was asked."""

    times = 0

    def collect(self) -> Iterator[Metric]:
        self.times += 1
        return iter(super().collect())


async def test_C9_a_flood_makes_the_page_once_a_second() -> None:
    registry, now = Counting(), [0.0]
    pages = httpx.ASGITransport(application(registry, Health(0.0), lambda: now[0]))
    async with httpx.AsyncClient(transport=pages, base_url="http://jailops") as client:
        for second in range(3):
            now[0] = second + 0.5
            answers = await asyncio.gather(*(client.get("/metrics") for _ in range(100)))
            assert {answer.status_code for answer in answers} == {200}
            assert registry.times == second + 1


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_for_what_is_under_way_on_a_terminal(tmp_path: Path, terminal: bool) -> None:
    written = StringIO()
    console = Console(file=written, force_terminal=terminal, width=100, color_system=None)
    busy = Progress("buildworld", 0.42, started=1000.0)
    statuses = [Status(Ref("world", "freebsd13"), "Changing", busy=busy), Status(Ref("lun", "node1"), "Ready")]
    with Store(tmp_path / "jailops.sqlite") as store:
        store.set_statuses(statuses, 1000.0)
        with show.bars(console) as update:
            assert update(store) == 1, "how much is under way is said to programs, too"
            store.set_statuses([Status(Ref("world", "freebsd13"), "Ready"), *statuses[1:]], 1001.0)
            assert update(store) == 0
    assert ("world/freebsd13 buildworld" in written.getvalue()) is terminal
    assert (" 42%" in written.getvalue()) is terminal
    assert bool(written.getvalue()) is terminal
