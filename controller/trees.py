"""What a YAML file says, as plain values with the place of each: what `reader` makes and `manifests` judges. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from controller.problem import NOTHING, Nothing, Problem

MAX_DEPTH: Final = 20

Value: TypeAlias = "str | Nothing | tuple[Value, ...] | dict[str, Value]"
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value begins and where its key does: (line, column), both from 1."""

    value: tuple[int, int]
    key: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tree:
    """One document that is not empty. `whole` is False when something was left out, so that its fields say nothing."""

    value: Value
    places: Mapping[Path, Place]
    whole: bool


@dataclass(frozen=True, slots=True)
class Trees:
    """All of a file. `lost` is True when some of it could not be read, so that nobody knows which documents it has."""

    documents: tuple[Tree, ...]
    problems: tuple[Problem, ...]
    lost: bool = False


def value_at(value: object, path: Path) -> object:
    """A value inside another; NOTHING when there is none."""
    here: Any = value
    for step in path:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            return NOTHING
    return here


def place_of(places: Mapping[Path, Place], path: Path) -> Place:
    """Where a value stands, or what would hold it."""
    while path not in places:
        path = path[:-1]
    return places[path]
