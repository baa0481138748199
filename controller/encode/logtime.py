"""When a line of a log was written: syslog's files old and new, the journal's ``short-unix``, and Kea's own file.

A line, the machine's clock and its zone come in; Unix time and what the line says, without host name and tag, come out. A
line whose time cannot be read is None: never guessed, never "now".
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final


def dated(line: str, now: float, zone: int) -> tuple[float, str] | None:
    """`zone` is the machine's distance from UTC in seconds, for lines that do not say theirs. An hour that the clocks were
    changed in since then is off by that hour."""
    for pattern, read in _DATES:
        if found := pattern.match(line):
            try:
                at = read(found, now, timezone(timedelta(seconds=zone)))
            except ValueError:
                return None
            return at, _TAG.sub("", line[found.end() :], count=1)
    return None


def _unix(found: re.Match[str], _now: float, _zone: timezone) -> float:
    return float(found[1])


def _iso(found: re.Match[str], _now: float, zone: timezone) -> float:
    """With its own zone (rsyslog), or in that of the machine (Kea's file)."""
    at = datetime.fromisoformat(found[1].replace("Z", "+00:00").replace(" ", "T"))
    return (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()


def _bsd(found: re.Match[str], now: float, zone: timezone) -> float:
    """RFC 3164 has no year and no zone: the machine's own zone, and the year in which it is not in the future."""
    year = datetime.fromtimestamp(now, zone).year
    for candidate in (year + 1, year, year - 1):
        try:
            at = datetime.strptime(f"{candidate} {found[1]}", "%Y %b %d %H:%M:%S").replace(tzinfo=zone).timestamp()
        except ValueError:  # the 29th of February
            continue
        if at <= now + 86_400:
            return at
    raise ValueError(f"no year fits {found[1]}")


_DATES: Final = (
    (re.compile(r"(\d{9,11}\.\d+) \S+ "), _unix),
    (re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)) \S+ "), _iso),
    (re.compile(r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (?:<[\w.]+> )?\S+ "), _bsd),
    (re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) "), _iso),
)
_TAG: Final = re.compile(r"\A[\w./-]+(?:\[\d+\])?: ")
