"""The listing of a revision, as ``git ls-tree -r -z -l`` prints it: bytes in, manifest files and problems out. Pure.

Only regular files named ``*.yaml`` or ``*.yml`` can be manifests. What lies in a dot-folder (``.github``) is not ours
to judge. Symbolic links and submodules are never followed and always told: behind them a person may expect manifests.
A name is judged when it could be meant as a manifest's: a screenshot may be called what it likes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.source.values import PathProblem, TreeEntry

_USABLE = re.compile(r"[A-Za-z0-9._/-]{1,400}")
_MEANT = re.compile(rb"\.ya?ml", re.IGNORECASE)
_RECORD = re.compile(
    rb"(?P<mode>[0-7]{6}) (?P<type>[a-z]+) (?P<id>[0-9a-f]{40,64}) +(?P<size>[0-9]+|-|BAD)\t(?P<path>.+)", re.S
)


class BadListing(ValueError):
    """git printed what we do not know, or says itself that an object is damaged."""


@dataclass(frozen=True, slots=True)
class _Line:
    mode: str
    blob_id: str
    size: int
    raw: bytes

    @property
    def shown(self) -> str:
        text = self.raw.decode("utf-8", "backslashreplace")[:400]
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def read_listing(listing: bytes) -> tuple[tuple[TreeEntry, ...], tuple[PathProblem, ...]]:
    """Sort a listing into manifest files and problems. Raises BadListing."""
    entries: list[TreeEntry] = []
    problems: list[PathProblem] = []
    for line in _lines(listing):
        if _hidden(line.raw):
            continue
        wrong = _wrong(line)
        if wrong:
            problems.append(PathProblem(line.shown, wrong))
        elif line.raw.endswith((b".yaml", b".yml")):
            entries.append(TreeEntry(line.raw.decode("ascii"), line.blob_id, line.size))
    alone, twins = _without_twins(entries)
    return alone, (*problems, *twins)


def _lines(listing: bytes) -> Iterator[_Line]:
    for record in filter(None, listing.split(b"\0")):
        match = _RECORD.fullmatch(record)
        if not match or match["size"] == b"BAD":
            raise BadListing(repr(record[:200]))
        size = int(match["size"]) if match["size"] != b"-" else 0
        yield _Line(match["mode"].decode(), match["id"].decode(), size, match["path"])


def _hidden(path: bytes) -> bool:
    """A dot-folder or dot-file. ``..`` is not hidden but wrong."""
    return any(part.startswith(b".") and part != b".." for part in path.split(b"/"))


def _wrong(line: _Line) -> str:
    if line.mode == "120000":
        return "is a symbolic link, which is never followed: put the file itself here"
    if line.mode == "160000":
        return "is a submodule, which is never fetched: put its manifests into this repository"
    if not line.mode.startswith("100"):
        return f"has the unknown mode {line.mode}"
    if not _MEANT.search(line.raw):
        return ""
    try:
        path = line.raw.decode("utf-8")
    except UnicodeDecodeError:
        return "has a name that is not UTF-8: rename it, using letters, digits, '.', '_' and '-'"
    if not _USABLE.fullmatch(path):
        return "has a name with other characters than letters, digits, '.', '_' and '-' (or over 400): rename it"
    if ".." in path.split("/") or "" in path.split("/"):
        return "has a path that leads out of its folder"
    if path.lower().endswith((".yaml", ".yml")) and not path.endswith((".yaml", ".yml")):
        return "would not be read: let its name end in .yaml or .yml, in small letters"
    return ""


def _without_twins(entries: Iterable[TreeEntry]) -> tuple[tuple[TreeEntry, ...], tuple[PathProblem, ...]]:
    """Two names that differ in case only are one file on many a person's machine: neither is trusted."""
    families: defaultdict[str, list[TreeEntry]] = defaultdict(list)
    for entry in entries:
        families[entry.path.lower()].append(entry)
    alone = tuple(family[0] for family in families.values() if len(family) == 1)
    problems = tuple(
        PathProblem(entry.path, "differs only in case from " + ", ".join(e.path for e in family if e is not entry))
        for family in families.values()
        if len(family) > 1
        for entry in family
    )
    return alone, problems
