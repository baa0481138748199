"""JSON Schema 2020-12 for each kind, for editors and for whoever checks manifests without us.

Written for YAML as people write it: where we read a number from text, the schema takes the number. `errorMessage`
is an extension that YAML editors show; the loader says the same words. Pure: makes values, writes no file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from controller.manifests.models import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """File name to schema, one for each kind: ``{"host.json": {…}, …}``."""
    return {f"{kind.lower()}.json": dict(schema_of(kind)) for kind in KINDS}


def rendered() -> dict[str, str]:
    """File name to the text that belongs into ``schemas/``."""
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas().items()}


@cache
def schema_of(kind: str) -> Mapping[str, Any]:
    """The schema of one kind. Raises KeyError for an unknown one."""
    schema: dict[str, Any] = {"$schema": DIALECT, "title": f"jailops {kind}"}
    schema.update(_clean(KINDS[kind].model_json_schema(by_alias=True, mode="validation")))
    return schema


def at(kind: str, path: tuple[str | int, ...]) -> Mapping[str, Any]:
    """The part of a kind's schema that speaks of a field; empty when no field is there."""
    root = schema_of(kind)
    here: Mapping[str, Any] = root
    for step in path:
        here = _resolved(root, here)
        if isinstance(step, int):
            here = here.get("items", {})
        else:
            here = here.get("properties", {}).get(step) or _mapping(here.get("additionalProperties"))
    return _resolved(root, here)


def _mapping(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, dict) else {}


def _resolved(root: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part with its $ref followed; what stands beside the $ref speaks of this use and wins."""
    reference = part.get("$ref")
    if not reference:
        return part
    target = root["$defs"][reference.rpartition("/")[2]]
    return {**target, **{key: value for key, value in part.items() if key != "$ref"}}


def _clean(part: Any) -> Any:
    """Without generated titles, and without null: a field that has no value is left out."""
    if isinstance(part, list):
        return [_clean(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    cleaned: dict[str, Any] = {
        key: _named(value) if key in ("properties", "$defs") else _clean(value)
        for key, value in part.items()
        if not _noise(key, value)
    }
    alternatives = [entry for entry in cleaned.get("anyOf", []) if entry != {"type": "null"}]
    if len(alternatives) == 1:
        del cleaned["anyOf"]
        return {**alternatives[0], **cleaned}
    return cleaned


def _named(parts: Mapping[str, Any]) -> dict[str, Any]:
    """A map whose keys are names of fields, none of which is a keyword."""
    return {name: _clean(part) for name, part in parts.items()}


def _noise(key: str, value: Any) -> bool:
    if key == "default":
        return value is None or isinstance(value, dict)
    return key == "title"
