"""One line of JSON for each blob, between the process that reads and the one that acts: values in, values out. Pure.

    {"unreadable": "why"}
    {"documents": [[value, places, whole], …], "problems": [[line, column, found, expected], …], "lost": false}

A value is a text, null (NOTHING), a list or an object. Its places are four numbers for each node, in the order in which
one walks the value. The reading side is not trusted: whatever is not exactly this raises ValueError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from controller.model import Origin
from controller.problem import NOTHING, Nothing, Problem
from controller.trees import MAX_DEPTH, Path, Place, Tree, Trees, Value


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A blob that is whole and no manifest file; why not."""

    message: str


def line(one: Trees | Unreadable) -> str:
    """What one blob holds."""
    if isinstance(one, Unreadable):
        return json.dumps({"unreadable": one.message})
    documents = [
        [_plain(tree.value), [n for place in tree.places.values() for n in (*place.value, *place.key)], tree.whole]
        for tree in one.documents
    ]
    problems = [[p.origin.line, p.origin.column, p.found, p.expected] for p in one.problems]
    return json.dumps({"documents": documents, "problems": problems, "lost": one.lost})


def _plain(value: Value) -> Any:
    if isinstance(value, Nothing):
        return None
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def read(text: str, path: str) -> Trees | Unreadable:
    """A line back. `path` is the file's, which the other side does not know. Raises ValueError."""
    try:
        said = json.loads(text)
        if said.keys() == {"unreadable"}:
            return Unreadable(_text(said["unreadable"]))
        if said.keys() != {"documents", "problems", "lost"}:
            raise ValueError("other fields than those of a blob")
        documents = tuple(_tree(*one) for one in said["documents"])
        problems = tuple(
            Problem(Origin(path, _number(at), _number(column)), "", _text(found), _text(expected))
            for at, column, found, expected in said["problems"]
        )
        return Trees(documents, problems, _truth(said["lost"]))
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not what was agreed on: {type(error).__name__}") from None


def _tree(value: object, numbers: object, whole: object) -> Tree:
    places: dict[Path, Place] = {}
    given = iter([_number(one) for one in cast("list[object]", numbers)])
    read = _value(value, (), places, given)
    if next(given, None) is not None:
        raise ValueError("more places than values")
    return Tree(read, places, _truth(whole))


def _value(value: object, path: Path, places: dict[Path, Place], numbers: Iterator[int]) -> Value:
    """Walks as `yamltree` does. Depth is bounded, so that this may call itself."""
    if len(path) > MAX_DEPTH:
        raise ValueError("too deep")
    line, column, key_line, key_column = islice(numbers, 4)
    places[path] = Place((line, column), (key_line, key_column))
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return tuple(_value(one, (*path, index), places, numbers) for index, one in enumerate(value))
    if isinstance(value, dict):
        return {key: _value(one, (*path, key), places, numbers) for key, one in value.items()}
    return _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _number(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("no line or column")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value
