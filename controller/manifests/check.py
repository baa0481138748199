"""All objects of a tree against each other. Pure: valid objects in, every cross-check's problem out.

What one document alone can get wrong, `load` has said already.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.manifests.load import AnyManifest
from controller.manifests.owners import names, owners
from controller.manifests.problem import Problem
from controller.manifests.references import references
from controller.manifests.subnets import subnets
from controller.manifests.world import world


def check(objects: Iterable[AnyManifest], controller_addresses: frozenset[str] = frozenset()) -> tuple[Problem, ...]:
    """Problems in the order of the places. `controller_addresses` are IPv4 literals, ValueError if one is not."""
    given = tuple(objects)
    once: dict[str, AnyManifest] = {}
    for one in given:
        once.setdefault(str(one), one)
    everything = world(given, controller_addresses)
    found = [
        *names(given),
        *owners(world(once.values(), controller_addresses)),
        *references(everything),
        *subnets(everything),
    ]
    return tuple(sorted(found, key=lambda one: (one.origin.path, one.origin.line, one.origin.column, one.found)))
