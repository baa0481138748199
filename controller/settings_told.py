"""What is wrong with jailops.toml, in a person's words: place, setting, what was found, what is expected, what was meant.

In: pydantic's refusal, the file's text, the environment. Out: one line per problem, in the order in which they stand
there. tomllib keeps no positions, so keys are found again by a scan that knows sections, dotted keys and plain lines;
a key that it does not find is placed at its section, or at the beginning.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from controller.problem import listed, nearest, quoted, shown

_SECTION: Final = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*")
_PREFIX: Final = "JAILOPS_"
HIDDEN: Final = "hidden"
"""The type of a refusal that says itself what was found, and in its context what is expected: the value holds a secret."""

Field = tuple[str, ...]
Place = tuple[int, int]
"""Line and column, from 1."""


@dataclass(frozen=True)
class Source:
    """Where settings come from."""

    path: Path
    text: str
    environment: Mapping[str, str]


def problems(error: ValidationError, source: Source, model: type[BaseModel]) -> list[str]:
    """One line per problem; those of the environment come last. Values of unknown settings are never repeated."""
    places = _places(source.text)
    told = []
    for detail in error.errors(include_url=False, include_input=False):
        field = tuple(str(step) for step in detail["loc"] if not isinstance(step, int))
        variable = _variable(field, source.environment)
        place = _place(field, places)
        where = f"environment variable {variable}" if variable else f"{source.path}:{place[0]}:{place[1]}"
        found, expected = _found(detail, field, source, variable), _expected(detail, field, model)
        told.append((bool(variable), place, f"{where}: {'.'.join(field)}: found {found}, expected {expected}"))
    return [line for _, _, line in sorted(told)]


def _places(text: str) -> dict[Field, Place]:
    """Section -> its header, setting -> its value."""
    found: dict[Field, Place] = {}
    section: Field = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _SECTION.match(line):
            section = tuple(header[1].split("."))
            found.setdefault(section, (number, header.start(1)))
        elif key := _KEY.match(line):
            found.setdefault((*section, *key[1].split(".")), (number, key.end() + 1))
    return found


def _place(field: Field, places: Mapping[Field, Place]) -> Place:
    while field and field not in places:
        field = field[:-1]
    return places.get(field, (1, 1))


def _variable(field: Field, environment: Mapping[str, str]) -> str:
    """The environment variable that gave a setting, or nothing."""
    for length in range(len(field), 0, -1):
        name = _PREFIX + "__".join(field[:length]).upper()
        if name in (known := {one.upper(): one for one in environment}):
            return known[name]
    return ""


def _found(detail: ErrorDetails, field: Field, source: Source, variable: str) -> str:
    if detail["type"] == "missing":
        return "nothing"
    if detail["type"] == HIDDEN:
        return detail["msg"]
    if detail["type"] == "extra_forbidden":
        return f"the unknown {'section' if len(field) == 1 else 'setting'} {quoted(field[-1])}"
    if variable:
        return shown(source.environment[variable])
    value: Any = tomllib.loads(source.text)
    for step in detail["loc"]:
        value = value[step]
    return str(value).lower() if isinstance(value, (bool, int, float)) else shown(value)


def _expected(detail: ErrorDetails, field: Field, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        known = list(_inside(model, field[:-1]))
        meant = nearest(field[-1], known)
        return listed(known) + (f"; did you mean {quoted(meant)}?" if meant else "")
    option = _option(model, field)
    if option is None:
        return "a value"
    section = option.annotation
    if isinstance(section, type) and issubclass(section, BaseModel):
        needed = [name for name, one in section.model_fields.items() if one.is_required()]
        return f"a section [{field[-1]}]" + (f" with {listed(needed)}" if needed else "")
    return _shape(option, detail)


def _shape(option: FieldInfo, detail: ErrorDetails) -> str:
    """A type in words, with its bounds; then what the setting means."""
    context = detail.get("ctx", {})
    kind = _kind(option.annotation)
    if detail["type"] == HIDDEN:
        kind = context["expected"]
    if detail["type"] == "string_pattern_mismatch":
        kind = f"a text such as {quoted(str((option.examples or [option.default])[0]))}"
    if detail["type"].startswith("ip_v4"):
        kind = "an IPv4 address"
    bounds = [f"{word} {context[name]:g}" for name, word in _BOUNDS.items() if name in context]
    return f"{' '.join([kind, *bounds])} ({(option.description or '').rstrip('.')})"


_BOUNDS: Final = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return listed(get_args(annotation))
    if origin in (Union, types.UnionType):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    if origin is tuple:
        return 'a list of texts, ["…", "…"]'
    if origin is not None:
        return 'a table, { name = "…" }'
    return {bool: "true or false", int: "a whole number", float: "a number", Path: "a path in quotes"}.get(
        annotation, "a text in quotes"
    )


def _option(model: type[BaseModel], field: Field) -> FieldInfo | None:
    option: FieldInfo | None = None
    for step in field:
        inside = _fields(model if option is None else option.annotation)
        if step not in inside:
            return option
        option = inside[step]
    return option


def _inside(model: type[BaseModel], field: Field) -> Iterator[str]:
    option = _option(model, field)
    yield from _fields(model if option is None else option.annotation)


def _fields(model: Any) -> Mapping[str, FieldInfo]:
    known: Mapping[str, FieldInfo] = getattr(model, "model_fields", {})
    return known
