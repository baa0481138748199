"""The fault matrix: what can go wrong, what must be true then, and which tests show it.

In: tests/matrix.toml. Out: its rows, and the tables of docs/reliability.md. It judges nothing; test_matrix does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

TESTS = Path(__file__).parents[1]
PARTS: Final[Mapping[str, str]] = {
    "G": "Git source",
    "M": "Manifests",
    "D": "Mass change and plans",
    "S": "Machines",
    "C": "The controller itself",
}
"""First letter of a row -> what the rows with it are about."""


@dataclass(frozen=True)
class Row:
    """One row. `open`: what no test shows yet; `not_for_us`: why there is nothing to show."""

    id: str
    fault: str
    behaviour: str
    tests: tuple[str, ...]
    open: str = ""
    not_for_us: str = ""


def rows() -> tuple[Row, ...]:
    """All rows, in the order of the file. A key that is none raises TypeError."""
    tables = tomllib.loads((TESTS / "matrix.toml").read_text())
    return tuple(Row(name, **{**table, "tests": tuple(table["tests"])}) for name, table in tables.items())


def page() -> str:
    """The figures, and a table for each part."""
    known = rows()
    parts = [(PARTS[letter], list(group)) for letter, group in groupby(known, lambda row: row.id[0])]
    return f"{_figures(known)}\n{''.join(_table(title, group) for title, group in parts)}"


def _figures(known: Iterable[Row]) -> str:
    shown = [row for row in known if row.tests]
    whole = [row for row in shown if not row.open]
    others = [row.id for row in known if not row.tests]
    return (
        f"Of {len(shown) + len(others)} rows {len(whole)} are shown whole, {len(shown) - len(whole)} in part, "
        f"and {len(others)} by no test: {', '.join(others)}.\n"
    )


def _table(title: str, group: Iterable[Row]) -> str:
    head = "| row | what goes wrong | what must be true then | shown by | not shown yet |\n|---|---|---|---|---|\n"
    return f"## {title}\n\n{head}{''.join(map(_line, group))}\n"


def _line(row: Row) -> str:
    cells = (row.id, row.fault, row.behaviour, _named(row.tests) or f"nothing: {row.not_for_us}", row.open)
    return f"| {' | '.join(cells)} |\n"


def _named(tests: Iterable[str]) -> str:
    """Each file once, as a link, with its tests behind it."""
    split = (one.split("::", 1) for one in sorted(tests))
    return "; ".join(
        f"[{path.removeprefix('tests/')}](../{path}): {', '.join(_with_cases(name for _, name in of_file))}"
        for path, of_file in groupby(split, itemgetter(0))
    )


def _with_cases(names: Iterable[str]) -> Iterator[str]:
    """Each test once, with those of its cases that are meant."""
    for name, named in groupby((one.partition("[") for one in names), itemgetter(0)):
        cases = [f"`{case.removesuffix(']')}`" for _, _, case in named if case]
        yield f"`{name}`" + (f" ({', '.join(cases)})" if cases else "")
