"""fstab(5): entries in, lines out, and back. For /etc/fstab and for the fstab of one jail.

fstab(5) can encode blanks by vis(3); we neither write nor read such names, because mount -p, ezjail and rc.d/jail do
not agree about them. Never decides what should be mounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from controller.encode.text import GrammarError

_FIELD = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without blanks and without the backslash that begins a vis(3) sequence."""
_NUMBER = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file system. What comes over iSCSI needs pass number 0: boot-time fsck runs before iSCSI.""" ""

    device: str
    mountpoint: str
    fstype: str
    options: tuple[str, ...]
    dump: int = 0
    passno: int = 0


def render(entries: Iterable[Entry]) -> str:
    """One line per entry. Raises ValueError for names with blanks, control or non-ASCII characters."""
    return "".join(f"{_line(entry)}\n" for entry in entries)


def parse(text: str) -> tuple[Entry, ...]:
    """The entries in order. Dump and pass number may be left out and are 0 then, as in getfsent(3)."""
    lines = ((number, line.strip(" \t")) for number, line in enumerate(text.split("\n"), 1))
    return tuple(_entry(number, line) for number, line in lines if line and not line.startswith("#"))


def _line(entry: Entry) -> str:
    options = ",".join(entry.options)
    fields = (entry.device, entry.mountpoint, entry.fstype, options)
    wrong = next((field for field in fields if not _FIELD.fullmatch(field)), None)
    if wrong is not None:
        raise ValueError(f"cannot write {wrong!r} to an fstab: blanks, backslashes and empty fields are not allowed")
    if entry.device.startswith("#"):
        raise ValueError(f"cannot write {entry.device!r} to an fstab: it would be a comment")
    if any("," in option or not option for option in entry.options):
        raise ValueError(f"cannot write the options {options!r} to an fstab: one is empty or holds a comma")
    return " ".join((*fields, str(entry.dump), str(entry.passno)))


def _entry(number: int, line: str) -> Entry:
    fields = line.split()
    if not 4 <= len(fields) <= 6:
        raise GrammarError(number, f"{len(fields)} fields where an fstab line has 4 to 6")
    device, mountpoint, fstype, options = fields[:4]
    for field in fields[:4]:
        if not _FIELD.fullmatch(field):
            raise GrammarError(number, f"an encoded or unprintable name: {field!r}")
    numbers = [_number(number, field) for field in fields[4:]] + [0, 0]
    parts = tuple(options.split(","))
    if "" in parts:
        raise GrammarError(number, f"an empty option in {options!r}")
    return Entry(device, mountpoint, fstype, parts, numbers[0], numbers[1])


def _number(line: int, field: str) -> int:
    if not _NUMBER.fullmatch(field):
        raise GrammarError(line, f"not a dump or pass number: {field!r}")
    return int(field)
