"""The fault matrix is kept: no row is forgotten, every test that it names is there, and every test named after a row is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.docs.matrix import PARTS, TESTS, Row, rows

LAST: Mapping[str, int] = {"G": 10, "M": 9, "D": 6, "S": 17, "C": 13}
"""The number of the last row of each part of the project's reference, hazards section 3."""
ROWS = [f"{letter}{number}" for letter, last in LAST.items() for number in range(1, last + 1)]
KNOWN = rows()
ROW = pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.id)


@cache
def named_in(path: Path) -> frozenset[str]:
    """The names of a file's tests, none when there is no such file. It is read, not run."""
    nodes = ast.walk(ast.parse(path.read_text() if path.exists() else ""))
    functions = (one for one in nodes if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


def test_every_row_of_the_reference_is_there_once_and_in_order() -> None:
    assert [row.id for row in KNOWN] == ROWS
    assert list(PARTS) == list(LAST)


@ROW
def test_a_row_has_a_test_or_says_why_it_has_none(row: Row) -> None:
    assert bool(row.tests) is not bool(row.not_for_us), "either the one or the other"
    assert len(set(row.tests)) == len(row.tests), "each test once"
    assert all(text.endswith(".") for text in (row.fault, row.behaviour, row.open or ".")), "sentences"
    for text in (row.fault, row.behaviour, row.open, row.not_for_us):
        assert not {"|", "\n"} & set(text), "it must fit into a cell of a table"


@ROW
def test_a_row_names_tests_that_exist(row: Row) -> None:
    for one in row.tests:
        named = re.fullmatch(r"tests/(\S+)::(test_\w+)(?:\[(\S+)\])?", one)
        assert named, f"{one}: tests/PATH::NAME or tests/PATH::NAME[CASE]"
        assert named[2] in named_in(TESTS / named[1]), f"{one}: there is no such test"
        if case := named[3]:
            assert [*TESTS.glob(f"cases/*/{case}"), *TESTS.glob(f"cases/*/{case}.yaml")], (
                f"{one}: there is no such case"
            )


def test_a_test_that_is_named_after_a_row_is_in_it() -> None:
    listed = {row.id: {one.partition("[")[0] for one in row.tests} for row in KNOWN}
    after = [
        (row[1], f"{path.relative_to(TESTS.parent)}::{name}")
        for path in sorted(TESTS.rglob("test_*.py"))
        for name in sorted(named_in(path))
        if (row := re.match(r"test_([A-Z]\d+)_", name))
    ]
    assert len(after) > 30
    assert [(row, one) for row, one in after if one not in listed.get(row, ())] == []


def test_the_security_policy_names_rows_that_are_shown_and_tests_that_exist() -> None:
    text = (TESTS.parent / "SECURITY.md").read_text()
    promises = text.partition("## What is promised")[2].partition("## What is not covered")[0]
    named = set(re.findall(r"\b[GMDSC]\d+\b", promises))
    shown = {row.id for row in KNOWN if row.tests}
    assert len(named) > 20
    assert named - shown == set()
    every = {name for path in TESTS.rglob("test_*.py") for name in named_in(path)}
    assert set(re.findall(r"\btest_\w+(?=`)", text)) - every == set()
