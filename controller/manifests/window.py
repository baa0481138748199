"""Maintenance windows: when they open is a cron expression in a time zone, how long they stay open a duration. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from controller.manifests.base import Model, doc
from controller.manifests.scalar import TEXT, Refused, parsed, text
from controller.manifests.words import Duration

_cron_text = text(
    r"[A-Za-z0-9*/,#-]+( [A-Za-z0-9*/,#-]+){4}",
    "five fields of crontab(5): minute, hour, day of month, month, day of week",
    "0 3 * * SAT",
    base=TEXT,
    longest=100,
)
_zone_text = text(
    r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}",
    "a time zone of the tz database",
    "Europe/Berlin",
    longest=64,
)


def _cron(value: str) -> str:
    try:
        CronSim(value, datetime.min.replace(year=2000))
    except CronSimError as error:
        raise Refused(f"five fields of crontab(5) ({str(error).lower()})") from None
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused("a time zone of the tz database, such as Europe/Berlin") from None
    return value


Cron: TypeAlias = Annotated[str, parsed(_cron_text, _cron)]
TimeZone: TypeAlias = Annotated[str, parsed(_zone_text, _zone)]


class Window(Model):
    """When a node may be rebooted without asking anybody."""

    cron: Cron = doc("When it opens.")
    time_zone: TimeZone = doc("The time zone of that.", default="UTC")
    duration: Duration = doc("How long it stays open: no reboot begins after that.", "2h")

    def open_at(self, now: float) -> bool:
        """Whether it is open at a Unix time."""
        here = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(self.time_zone))
        # A minute is asked for that begins before a given one: this one counts from its first second on.
        openings = CronSim(self.cron, here + timedelta(minutes=1), reverse=True)
        opened = next(one.timestamp() for one in openings if one.timestamp() <= now)
        return now - opened < self.duration

    def next_after(self, now: float) -> datetime:
        """When it opens next, in its own time zone."""
        here = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(self.time_zone))
        return next(CronSim(self.cron, here))
