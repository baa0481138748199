"""When a window is open: cron expressions in time zones, over changes of the clock too."""

from __future__ import annotations

from datetime import datetime

import pytest

from controller.manifests.window import Window


def window(cron: str, zone: str, duration: str) -> Window:
    return Window.model_validate({"cron": cron, "timeZone": zone, "duration": duration})


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("cron", "zone", "duration", "now", "is_open"),
    [
        ("0 3 * * SAT", "UTC", "2h", "2026-11-28T02:59:59+00:00", False),
        ("0 3 * * SAT", "UTC", "2h", "2026-11-28T03:00:00+00:00", True),
        ("0 3 * * SAT", "UTC", "2h", "2026-11-28T04:59:59+00:00", True),
        ("0 3 * * SAT", "UTC", "2h", "2026-11-28T05:00:00+00:00", False),
        ("0 3 * * SAT", "UTC", "2h", "2026-11-29T03:30:00+00:00", False),
        # The same minute elsewhere.
        ("0 3 * * SAT", "Europe/Berlin", "2h", "2026-11-28T02:30:00+00:00", True),
        ("0 3 * * SAT", "Europe/Berlin", "2h", "2026-11-28T04:30:00+00:00", False),
        # Over midnight, and over the end of a year.
        ("30 23 31 12 *", "UTC", "90m", "2027-01-01T00:59:00+00:00", True),
        ("30 23 31 12 *", "UTC", "90m", "2027-01-01T01:01:00+00:00", False),
        # 02:30 does not exist on that day: it opens when the clock has jumped to 03:00.
        ("30 2 * * *", "Europe/Berlin", "30m", "2026-03-29T01:10:00+00:00", True),
        ("30 2 * * *", "Europe/Berlin", "30m", "2026-03-29T00:50:00+00:00", False),
        # 02:30 is there twice: open for its time, whichever of the two it began at.
        ("30 2 * * *", "Europe/Berlin", "30m", "2026-10-25T03:10:00+00:00", False),
    ],
)
def test_a_window(cron: str, zone: str, duration: str, now: str, is_open: bool) -> None:
    assert window(cron, zone, duration).open_at(at(now)) is is_open


def test_when_it_opens_next() -> None:
    opens = window("0 3 * * SAT", "Europe/Berlin", "2h").next_after(at("2026-11-26T12:00:00+00:00"))
    assert opens.isoformat() == "2026-11-28T03:00:00+01:00"
