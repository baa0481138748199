"""All objects of a tree against each other. Pure: valid objects in, every cross-check's problem out.

What one document alone can get wrong, `load` has said already. Documents that are not valid count as far as their own
fields are good: for what only one may have, and as what a name may lead to.
"""

from __future__ import annotations

from collections.abc import Iterable

from controller.manifests.draft import Draft
from controller.manifests.load import AnyManifest
from controller.manifests.owners import names, owners
from controller.manifests.references import references
from controller.manifests.subnets import subnets
from controller.manifests.world import Declared, world
from controller.problem import Problem


def check(
    objects: Iterable[AnyManifest], controller_addresses: frozenset[str] = frozenset(), drafts: Iterable[Draft] = ()
) -> tuple[Problem, ...]:
    """Problems in the order of the places. `controller_addresses` are IPv4 literals, ValueError if one is not."""
    given, others = tuple(objects), tuple(drafts)
    once: dict[str, Declared] = {}
    named: tuple[Declared, ...] = (*given, *(one for one in others if one.identified))
    for each in named:
        once.setdefault(str(each), each)
    alone = [one for one in once.values() if not isinstance(one, Draft)]
    wrong = [one for one in others if once.get(str(one), one) is one]
    everything = world(given, controller_addresses, others)
    found = [
        *names(named),
        *owners(world(alone, controller_addresses, wrong)),
        *references(everything),
        *subnets(everything),
    ]
    return tuple(sorted(found, key=lambda one: (one.origin.path, one.origin.line, one.origin.column, one.found)))
