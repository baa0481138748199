"""libxo(3) JSON as FreeBSD's tools print it: the rows of one list, with typed access to their fields.

Text that is no JSON, or has another shape than the one asked for, is a `GrammarError`: an empty answer is only what the
tool itself prints when there is nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from controller.encode.text import GrammarError

_NUMBER = re.compile(r"[0-9]{1,18}")

Row: TypeAlias = Mapping[str, Any]


def rows(text: str, container: str, item: str) -> tuple[Row, ...]:
    """The objects of ``{container: {item: […]}}``. A container without the item has none (iscsictl prints that)."""
    outer = _decoded(text)
    inner = outer.get(container) if isinstance(outer, dict) else None
    if not isinstance(inner, dict):
        raise GrammarError(1, f"no object {container!r} in the answer")
    if inner.keys() - {item}:
        raise GrammarError(1, f"something else than {item!r} in {container!r}")
    found = inner.get(item, [])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise GrammarError(1, f"{item!r} is not a list of objects")
    return tuple(found)


def text_of(row: Row, name: str) -> str:
    """A field that must be there and must be text."""
    value = row.get(name)
    if not isinstance(value, str):
        raise GrammarError(1, f"no text {name!r} in an object of the answer")
    return value


def number_of(row: Row, name: str) -> int:
    """A field that must be a whole number; jls(8) prints some as text."""
    value = row.get(name)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GrammarError(1, f"no number {name!r} in an object of the answer")
    return value


def texts_of(row: Row, name: str) -> tuple[str, ...]:
    """A list of texts; libxo leaves an empty one out."""
    value = row.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise GrammarError(1, f"{name!r} is not a list of texts")
    return tuple(value)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise GrammarError(problem.lineno, "not JSON") from None
    except (ValueError, RecursionError):  # a number or a nesting beyond what any tool prints
        raise GrammarError(1, "not the JSON of a tool") from None
