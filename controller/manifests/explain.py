"""What pydantic refuses, in our words: field, found, expected, and the nearest right name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.manifests.scalar import WRONG
from controller.manifests.schema import at
from controller.model import Origin
from controller.problem import Problem, listed, nearest, quoted, shown
from controller.trees import Path, Tree, value_at

_MAPPING: Final = frozenset({"model_type", "dict_type", "mapping_type", "typed_dict_type", "model_attributes_type"})
_LIST: Final = frozenset({"tuple_type", "list_type"})
_ECHO: Final = frozenset({"default_factory_not_called"})
"""Errors that only say that there was another one."""

_WORD: Final = re.compile(r"[A-Za-z0-9_./-]{1,64}")

_SECRET: Final = frozenset({"secret", "hostKeySecret", "passwordHash", "rootPasswordHash", "password"})
"""Where somebody may have written the secret itself, which no message repeats."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The document that is judged, for positions and for naming it."""

    path: str
    kind: str
    label: str
    tree: Tree


def explain(error: ValidationError, subject: Subject) -> tuple[Problem, ...]:
    """All problems of one document, in the order in which they stand there."""
    details = error.errors(include_url=False, include_input=False)
    problems = [_problem(detail, subject) for detail in details if detail["type"] not in _ECHO]
    return tuple(sorted(problems, key=lambda problem: (problem.origin.line, problem.origin.column, problem.field)))


def dotted(field: Path) -> str:
    """``spec.users[0].name``; a key that is no plain word is quoted."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_plain(step)}" for step in field).removeprefix(".")


def _plain(key: str) -> str:
    return key if _WORD.fullmatch(key) else quoted(key)


def _problem(detail: ErrorDetails, subject: Subject) -> Problem:
    is_key = detail["loc"][-1:] == ("[key]",) or detail["type"] == "extra_forbidden"
    context = detail.get("ctx", {})
    field = (*(step for step in detail["loc"] if step != "[key]"), *context.get("at", ()))
    word = field[-1] if is_key else value_at(subject.tree.value, field)
    expected, suggestion = _expected(detail, field, subject, word)
    found = context.get("found") or (quoted(str(field[-1])) if is_key else _found(subject.tree, field))
    if detail["type"] == "extra_forbidden":
        found = f"the unknown field {found}"
    return Problem(_origin(subject, field, is_key), dotted(field), found, expected, suggestion, subject.label)


def _origin(subject: Subject, field: Path, is_key: bool) -> Origin:
    places = subject.tree.places
    while field not in places:
        field = field[:-1]
    block = not isinstance(value_at(subject.tree.value, field), str)
    place = places[field].key if is_key or block else places[field].value
    return Origin(subject.path, *place)


def _found(tree: Tree, field: Path) -> str:
    value = value_at(tree.value, field)
    if isinstance(value, str) and not _SECRET.isdisjoint(field):
        return "something else (not shown: it may be a secret)"
    return shown(value)


def _expected(detail: ErrorDetails, field: Path, subject: Subject, word: object) -> tuple[str, str]:
    """What is expected, and what was meant by `word`: the key, where it is the key that is wrong, or else the value."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == WRONG:
        return context["expected"], context["suggestion"]
    if kind == "extra_forbidden":
        known = at(subject.kind, field[:-1]).get("properties", {})
        return listed(known), nearest(str(word), known)
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        return listed(words), nearest(word, words) if isinstance(word, str) else ""
    return _shape(kind, field, subject), ""


def _shape(kind: str, field: Path, subject: Subject) -> str:
    schema = at(subject.kind, field)
    if kind in _MAPPING or schema.get("type") == "object":
        return f"a mapping{_fields(schema)}"
    if kind == "too_short":
        return "at least one entry"
    if kind in _LIST or schema.get("type") == "array":
        return "a list (lines that begin with '- ')"
    return str(schema.get("errorMessage") or listed(schema.get("enum") or [schema.get("const", "a value")]))


def _fields(schema: Any) -> str:
    required = schema.get("required")
    if not required and schema.get("maxProperties") == 1:
        return f" with one of {', '.join(schema['properties'])}"
    return f" with {', '.join(required)}" if required else ""
