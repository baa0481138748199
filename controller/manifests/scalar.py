"""How a YAML scalar becomes a typed value: always from text, with one sentence that says what is expected.

`Scalar` stands inside ``Annotated`` and gives pydantic the validator and the JSON Schema of one type, so that the
loader's message, the editor's hint and the reference table say the same. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

WRONG: Final = "wrong"
"""The error type of every refusal of ours; its context holds what `wrong` was given."""

JsonSchema = Mapping[str, Any]

TEXT: Final[JsonSchema] = {"type": ["string", "number", "boolean"]}
"""Free text as people write it: `YES`, `10.10` and `true` need no quotes."""

NAME: Final[JsonSchema] = {"type": ["string", "integer"]}
"""Text of a narrow grammar that a number may satisfy as well."""

STRING: Final[JsonSchema] = {"type": "string"}
"""Text that no number and no boolean can be."""


class Refused(ValueError):
    """A value that does not fit, with a more precise expectation than its type's, or with a suggestion."""

    def __init__(self, expected: str = "", suggestion: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.suggestion = suggestion


def wrong(
    expected: str, suggestion: str = "", *, at: tuple[str | int, ...] = (), found: str = ""
) -> PydanticCustomError:
    """The error to raise in a validator. `at` names a field below the validated one, `found` says more than its value."""
    context = {"expected": expected, "suggestion": suggestion, "at": at, "found": found}
    return PydanticCustomError(WRONG, "expected {expected}", context)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A type made from one YAML scalar. `parse` raises ValueError, or `Refused` when it can say more."""

    expected: str
    parse: Callable[[str], object]
    schema: JsonSchema
    examples: tuple[str | int, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        del handler
        plain = source in (str, int, bool)
        serialization = None if plain else core_schema.to_string_ser_schema(when_used="json")
        return core_schema.no_info_plain_validator_function(self.validate, serialization=serialization)

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del source, handler
        examples = {"examples": list(self.examples)} if self.examples else {}
        return {**self.schema, "errorMessage": self.expected, **examples}

    def validate(self, value: object) -> object:
        """Raises PydanticCustomError of type `WRONG`."""
        if not isinstance(value, str):
            raise wrong(self.expected)
        try:
            return self.parse(value)
        except Refused as refused:
            raise wrong(refused.expected or self.expected, refused.suggestion) from None
        except ValueError:
            raise wrong(self.expected) from None


def text(pattern: str, expected: str, *examples: str, base: JsonSchema = STRING, longest: int = 1024) -> Scalar:
    """Text that matches a pattern as a whole. Write the pattern so that ECMA 262 understands it as well."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(value: str) -> str:
        if len(value) > longest or not compiled.fullmatch(value):
            raise ValueError
        return value

    schema = {**base, "pattern": f"^(?:{pattern})$", "maxLength": longest}
    return Scalar(expected, parse, schema, examples)


def parsed(base: Scalar, parse: Callable[[str], object], expected: str = "") -> Scalar:
    """A type whose text must fit `base` first and is then looked at by `parse`."""

    def both(value: str) -> object:
        base.parse(value)
        return parse(value)

    return Scalar(expected or base.expected, both, base.schema, base.examples)


def yes_or_no() -> Scalar:
    """What YAML and JSON call a boolean, in their own two words alone."""

    def parse(value: str) -> bool:
        if value not in ("true", "false"):
            raise ValueError
        return value == "true"

    return Scalar("true or false", parse, {"type": "boolean"}, (True,))


def whole(low: int, high: int, *examples: int, expected: str = "") -> Scalar:
    """A whole decimal number."""
    what = expected or f"a whole number from {low} to {high}"
    digits = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)

    def parse(value: str) -> int:
        if not digits.fullmatch(value) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    number = {"type": "integer", "minimum": low, "maximum": high}
    return Scalar(what, parse, {"anyOf": [number, {"type": "string", "pattern": "^-?(0|[1-9][0-9]*)$"}]}, examples)
