"""The controller's own clock is set, forward and back by a year, between runs and in the middle of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller import reconcile, revision
from controller.model import Answer, Unseen
from controller.observe import _ahead
from controller.reconcile import _pausing
from controller.removal import DAY
from controller.store import Store
from tests.core.daemons import Daemon, prepare, started
from tests.core.test_contested import OURS, REF, THEIRS, Fight, Place, clock
from tests.core.test_removal import NOW, Site, site

__all__ = ["clock", "site"]

YEAR = 365 * DAY


class Faketime:
    """What the daemon takes for the time of day; the steady clock goes on as ever."""

    def __init__(self, file: Path) -> None:
        self._file = file
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.ahead(0)

    def ahead(self, years: int) -> None:
        self._file.write_text(f"{years:+d}y\n")


@pytest.fixture
def faketime(tmp_path: Path) -> Faketime:
    return Faketime(tmp_path / "ahead")


def fence(daemon: Daemon) -> int:
    with Store(daemon.database, read_only=True) as store:
        return int(store.get("fence"))


async def year(daemon: Daemon) -> int:
    return int((await daemon.says("pass"))["timestamp"][:4])


async def test_S17_a_clock_that_is_set_between_runs(tmp_path: Path, faketime: Faketime) -> None:
    """The machines let the one in that came last, so its number must be the highest."""
    prepare(tmp_path)
    fences, years = [], []
    for ahead in (0, 1, -1):
        faketime.ahead(ahead)
        async with started(tmp_path, env=faketime.env) as daemon:
            years.append(await year(daemon))
            assert await daemon.asked("/readyz") == "ok\n"
            fences.append(fence(daemon))
            assert await daemon.end() == 0
    assert years == [years[0], years[0] + 1, years[0] - 1]
    assert fences == sorted(set(fences))


async def test_S17_a_clock_that_is_set_while_it_runs(tmp_path: Path, faketime: Faketime) -> None:
    """It looks again by itself, as often as it should."""
    prepare(tmp_path)
    async with started(tmp_path, env=faketime.env, interval=1.0) as daemon:
        now = await year(daemon)
        for ahead in (1, -1):
            faketime.ahead(ahead)
            while await year(daemon) != now + ahead:
                pass
            for _ in range(2):
                assert "interval" in (await daemon.says("pass"))["trigger"]
            assert await daemon.asked("/healthz") == "ok\n"
        assert await daemon.end() == 0


@pytest.mark.parametrize(
    ("next_try", "pausing"),
    [
        pytest.param(1000.0, False, id="due"),
        pytest.param(1001.0, True, id="not yet"),
        pytest.param(1300.0, True, id="the longest pause"),
        pytest.param(1301.0, False, id="further away than any pause: the clock was set back"),
        pytest.param(1000.0 - YEAR, False, id="long ago: it was set forward"),
    ],
)
def test_S17_a_pause_after_a_failure_is_never_longer_than_the_longest(next_try: float, pausing: bool) -> None:
    assert _pausing(next_try, 1000.0) is pausing
    assert reconcile._LONGEST_PAUSE == 300.0


@pytest.mark.parametrize("years", [1, -1])
async def test_S17_what_was_fought_over_is_not_let_be_for_a_year(
    tmp_path: Path, clock: list[float], years: int
) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        fight = Fight(store, Place())
        assert (await fight.tick("test")).result == "converged"
        for _ in range(5):
            await fight.changed(THEIRS)
        assert (await fight.changed(THEIRS)).state == "Contested"
        clock[0] += years * YEAR
        assert ((await fight.changed(THEIRS)).state, fight.place.have) == ("Ready", OURS)
        (at,) = (row[0] for row in store._rows("SELECT at FROM putback WHERE at > ?", (clock[0] - 1,)))
        assert at == clock[0]


async def test_S17_an_open_entry_is_settled_whatever_the_clock_says(tmp_path: Path, clock: list[float]) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        with store._writing() as db:
            db.execute(
                "INSERT INTO journal (kind, name, summary, intended_at) VALUES ('thing', 'a', 'mend a', ?)",
                (clock[0] + YEAR,),
            )
        fight = Fight(store, Place())
        assert store.unfinished() == [(REF, "mend a")]
        await fight.tick("test")
        assert store.unfinished() == []


@pytest.fixture
def times(site: Site, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float]]:
    """The time of day and the steady clock of who reads Git."""
    day, steady = [NOW], [50.0]
    monkeypatch.setattr(revision, "time", lambda: day[0])
    monkeypatch.setattr(revision, "monotonic", lambda: steady[0])
    site.revisions._born = NOW - 50.0
    return day, steady


async def used_up(site: Site) -> str:
    """The day's budget of five removals; the commit that asks for a sixth."""
    site.push(12, "Twelve jails")
    await site.look()
    for left in range(11, 6, -1):
        site.push(left, "One goes")
        await site.look()
    held = site.push(6, "And one more")
    assert (await site.look()).revision != held
    return held


async def test_S17_a_clock_that_is_set_forward_makes_no_new_day(
    site: Site, times: tuple[list[float], list[float]]
) -> None:
    day, steady = times
    held = await used_up(site)
    day[0] += YEAR
    assert (await site.look()).revision != held
    steady[0] += DAY + 1
    assert (await site.look()).revision == held


async def test_S17_a_clock_that_is_set_back_makes_a_day_of_its_own(
    site: Site, times: tuple[list[float], list[float]]
) -> None:
    """What was removed counts for one day from then on, not for a year."""
    day, steady = times
    held = await used_up(site)
    day[0] -= YEAR
    assert (await site.look()).revision != held
    day[0], steady[0] = day[0] + DAY + 1, steady[0] + DAY + 1
    assert (await site.look()).revision == held


CLOCKS = (
    pytest.param(b"1000\n", 0.0, id="as ours"),
    pytest.param(b"1020\n", 0.0, id="within the look"),
    pytest.param(b"1100\n", 80.0, id="ahead"),
    pytest.param(b"900\n", -99.0, id="behind"),
    pytest.param(b"0\n", -999.0, id="1970"),
    pytest.param(b"no idea\n", None, id="no time"),
)


@pytest.mark.parametrize(("said", "ahead"), CLOCKS)
def test_S17_a_machines_clock_is_measured_outside_of_the_look(said: bytes, ahead: float | None) -> None:
    found = _ahead({"node1": Answer(0, said, b""), "node2": Unseen("away")}, 1000.0, 1020.0)
    assert found == ({} if ahead is None else {"node1": ahead})
