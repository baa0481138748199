"""rcorder(8): the order in which start scripts run, from their PROVIDE, REQUIRE, BEFORE and KEYWORD lines. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WORDS = ("PROVIDE", "REQUIRE", "BEFORE", "KEYWORD")
SKIPPED = frozenset({"nostart", "firstboot"})
"""What /etc/rc leaves out on an ordinary boot of a host."""


@dataclass(frozen=True, slots=True)
class Script:
    path: str
    provide: tuple[str, ...]
    require: tuple[str, ...]
    before: tuple[str, ...]
    keyword: frozenset[str]


def header(path: str, text: str) -> Script:
    """The lines ``# WORD: names`` (also ``REQUIRES`` and so on) of the comment at the head of a script."""
    found: dict[str, list[str]] = {word: [] for word in WORDS}
    begun = False
    for line in text.splitlines():
        word, colon, names = line.lstrip("# ").partition(":")
        known = word.removesuffix("S")
        if line.startswith("#") and colon and known in found:
            found[known] += names.split()
            begun = True
        elif begun and not line.startswith("#"):
            break
    provide, require, before, keyword = (tuple(found[word]) for word in WORDS)
    return Script(path, provide, require, before, frozenset(keyword))


def ordered(scripts: Sequence[Script]) -> list[str]:
    """Paths in running order: each script behind what it requires, otherwise as given. Cycles are cut where met."""
    providers: dict[str, list[Script]] = defaultdict(list)
    for one in scripts:
        for name in one.provide:
            providers[name].append(one)
    first: dict[str, list[Script]] = defaultdict(list)
    for one in scripts:
        for name in one.before:
            for other in providers[name]:
                first[other.path].append(one)
    done: dict[str, bool] = {}
    chain = [path for one in scripts for path in visit(one, providers, first, done)]
    skipped = {one.path for one in scripts if one.keyword & SKIPPED}
    return [path for path in chain if path not in skipped]


def visit(
    one: Script, providers: Mapping[str, list[Script]], first: Mapping[str, list[Script]], done: dict[str, bool]
) -> Iterator[str]:
    if one.path in done:
        return
    done[one.path] = True
    for name in one.require:
        for other in providers.get(name, ()):
            yield from visit(other, providers, first, done)
    for other in first.get(one.path, ()):
        yield from visit(other, providers, first, done)
    yield one.path
