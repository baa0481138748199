"""What a push changes in the manifests of hosts and jails, field by field, and what each change takes. Pure.

Of images it is told by the inputs of their generations (`inputs.flat`), which also hold what does not stand in a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.drivers.effects import FIELDS
from controller.graph import Desired
from controller.manifests import Manifest
from controller.model import Difference, Effect, Origin

_SHORT: Final = 60
"""Characters of a value that is shown whole."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One object that both revisions have, and what differs in its spec."""

    name: str
    """``Host/node1`` or ``Jail/node1/web``, as the newer revision calls it."""
    origin: Origin
    fields: tuple[Difference, ...]


def changed_fields(before: Desired, after: Desired) -> tuple[Changed, ...]:
    """Every host and jail whose fields differ. What came or went is none: its own actions tell that."""
    pairs: list[tuple[Manifest[Any], Manifest[Any]]] = [
        (before.hosts[name], host) for name, host in sorted(after.hosts.items()) if name in before.hosts
    ]
    pairs += [(old, jail) for place, jail in sorted(after.jails.items()) if (old := _earlier(before, after, place))]
    found = (Changed(str(new), new.origin, tuple(_differences(old, new))) for old, new in pairs)
    return tuple(one for one in found if one.fields)


def _earlier(before: Desired, after: Desired, place: tuple[str, str]) -> Manifest[Any] | None:
    """What a jail was: also on another host, when it is the only one of its name that went."""
    if place in before.jails:
        return before.jails[place]
    went = [jail for old, jail in before.jails.items() if old not in after.jails and old[1] == place[1]]
    return went[0] if len(went) == 1 else None


def _differences(old: Manifest[Any], new: Manifest[Any]) -> Iterator[Difference]:
    was, now = (one.spec.model_dump(mode="json", by_alias=True, exclude_none=True) for one in (old, new))
    for field, effect in FIELDS[new.kind].items():
        had, has = _value(was, field), _value(now, field)
        if had == has:
            continue
        if isinstance(effect, Effect):
            yield Difference(field, _shown(had), _shown(has), effect)
            continue
        # A map each of whose entries takes something of its own.
        had, has = had or {}, has or {}
        for entry in sorted({*had, *has}):
            if had.get(entry) != has.get(entry):
                yield Difference(f"{field}.{entry}", _shown(had.get(entry)), _shown(has.get(entry)), effect(entry))


def _value(spec: Mapping[str, Any], field: str) -> Any:
    found: Any = spec
    for step in field.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    """Empty where there is nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
