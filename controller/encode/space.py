"""How much room a file system has: the question, what the answer means, and the same judged by a job where it runs.

``df -P`` is the same everywhere for bytes. For inodes it is not: GNU prints columns of their own, FreeBSD adds them to the
others, so they are found by their heading. Each line of the answer begins with ``=``, so that others may stand around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.encode.sh import raw, sh
from controller.encode.text import GrammarError
from controller.model import Script

MARK: Final = "="
_UNITS: Final = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes. `inodes` are those that are free; None where the file system makes them as they are needed."""

    total: int
    free: int
    inodes: int | None


def space_script(path: str) -> Script:
    """Two tables of df(1). Where there is no such directory, or no df, nothing."""
    return sh("{{ df -kP {path} && df -iP {path}; }} 2>/dev/null | sed 's/^/=/'", path=path)


def parse_space(text: str) -> Space:
    """The answer, among whatever other lines. Raises GrammarError for anything but two tables of one line each."""
    lines = [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]
    if len(lines) != 4:
        raise GrammarError(1, "not the two tables of df -kP and df -iP")
    blocks, inodes = dict(_columns(*lines[:2])), dict(_columns(*lines[2:]))
    total, free = _number(blocks, "1024-blocks"), _number(blocks, "avail", "available")
    counted = _number(inodes, "ifree") if "ifree" in inodes else 0
    used = _number(inodes, "iused") if "iused" in inodes else 0
    # btrfs says that it has none at all, used or free.
    return Space(total * 1024, max(free, 0) * 1024, max(counted, 0) if counted or used else None)


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be free for a layer: bytes and inodes."""

    bytes: int
    inodes: int
    where: str
    """For people, after what it needs."""


def room_script(path: str, needs: Needs) -> Script:
    """``lacks``: in words what there is too little of, as `Layers` says it; empty when there is enough, or df tells nothing."""
    return sh(
        """lacks=$({space} | awk -v bytes={bytes} -v inodes={inodes} -v more={more} -v files={files} {program})""",
        space=raw(space_script(path)),
        bytes=needs.bytes,
        inodes=needs.inodes,
        more=f"it needs about {size(needs.bytes)} {needs.where}",
        files=f"it needs about {needs.inodes} inodes {needs.where}",
        program=_ROOM,
    )


_ROOM: Final = """
function told(n,  u, i) {
  u = 1099511627776
  split("TiB GiB MiB KiB", unit, " ")
  for (i = 1; i <= 4; i++) { if (n >= u) return sprintf("%.1f %s", n / u, unit[i]); u /= 1024 }
  return sprintf("%.0f B", n)
}
{ sub(/^=/, "") }
NR % 2 { head = tolower($0); sub(/mounted on/, "mounted-on", head); columns = split(head, name, /[ \t]+/); next }
{ for (i = 2; i <= columns; i++) has[NR name[i]] = $(NF - columns + i) }
END {
  if (NR != 4) exit
  free = ("2avail" in has) ? has["2avail"] : has["2available"]
  if (free !~ /^-?[0-9]+$/ || has["21024-blocks"] !~ /^[0-9]+$/) exit
  if (free < 0) free = 0
  if (bytes > free * 1024) print more ", " told(free * 1024) " of " told(has["21024-blocks"] * 1024) " are free"
  else if (has["4ifree"] + has["4iused"] > 0 && inodes > has["4ifree"] + 0) print files ", " has["4ifree"] " are free"
}"""
"""`parse_space` for awk(1): two tables of one line each, columns by their headings and from the end."""


def size(amount: int) -> str:
    """For people."""
    for unit, name in _UNITS:
        if amount >= unit:
            return f"{amount / unit:.1f} {name}"
    return f"{amount} B"


def _columns(head: str, line: str) -> Iterator[tuple[str, str]]:
    """By heading, in lower case. A device may hold blanks, so they are counted from the end; "Mounted on" is one column."""
    names, values = head.lower().replace("mounted on", "mounted-on").split(), line.split()
    if names[:1] != ["filesystem"] or names[-1:] != ["mounted-on"] or len(values) < len(names):
        raise GrammarError(1, f"not a table of df: {head!r}")
    yield from zip(reversed(names[1:]), reversed(values), strict=False)


def _number(row: dict[str, str], *names: str) -> int:
    for name in names:
        value = row.get(name, "")
        if value.removeprefix("-").isdigit():
            return int(value)
    raise GrammarError(1, f"df tells no number of {names[0]}")
