"""The field tables of docs/manifests.md, made from the schemas, so that the page cannot drift from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from controller.drivers.effects import FIELDS, FILES, SERVICES, of_file
from controller.manifests.schema import at
from controller.model import Effect

_BLOCK = re.compile(r"(<!-- fields: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


_TAKES = re.compile(r"(<!-- what a change takes -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with every table made anew."""
    page = _TAKES.sub(lambda block: f"{block[1]}{takes()}{block[2]}", page)
    return _BLOCK.sub(lambda block: f"{block[1]}{table(block[2])}{block[3]}", page)


def takes() -> str:
    """What a change of each field takes, those of a kind that take the same in one row."""
    rows = []
    for kind, fields in FIELDS.items():
        said: dict[str, list[str]] = {}
        for name, effect in fields.items():
            said.setdefault(effect.says if isinstance(effect, Effect) else "see below", []).append(f"`{name}`")
        rows += [f"| {kind} | {', '.join(names)} | {what} |\n" for what, names in said.items()]
    services = ", ".join(f"`{name}`" for name in SERVICES)
    below = {path: " and what lies in it" if path.endswith("/") else "" for path in FILES}
    files = "".join(
        f"| `{path}`{more} | {of_file(f'{path}x' if more else path).says} |\n" for path, more in below.items()
    )
    return (
        "| kind | fields | take |\n|---|---|---|\n"
        + "".join(rows)
        + f"\nServices that are restarted while a node runs: {services}.\n\n| file | takes |\n|---|---|\n{files}"
    )


def tables_in(page: str) -> list[str]:
    return [block[2] for block in _BLOCK.finditer(page)]


def table(kind: str) -> str:
    rows = [row for top in ("metadata", "spec") for row in _rows(kind, (top,), top)]
    head = "| field | value | default | what it says |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def _rows(kind: str, path: tuple[str | int, ...], shown: str) -> Iterator[tuple[str, str, str, str]]:
    block = at(kind, path)
    required = block.get("required", [])
    for name in block.get("properties", {}):
        here = (*path, name)
        part = at(kind, here)
        yield f"`{shown}.{name}`", _value(part), _default(part, name in required), part.get("description", _value(part))
        if part.get("type") == "object" and part.get("properties") and shown.split(".")[-1] != "parameters":
            yield from _rows(kind, here, f"{shown}.{name}")
        if part.get("type") == "array" and at(kind, (*here, 0)).get("properties"):
            yield from _rows(kind, (*here, 0), f"{shown}.{name}[]")


def _value(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if part.get("type") == "array":
        return "list"
    if part.get("type") == "object":
        return "block" if part.get("properties") else "map"
    return str(part["errorMessage"])


def _default(part: Mapping[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    default = part.get("default")
    if default is None:
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
