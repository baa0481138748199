"""What a revision takes away, and whether it may: a budget per revision and one per day, objects that are protected, and disks
that hosts would lose by a name. Beyond the budgets a person must have named exactly this removal. Pure.

Only objects that left Git count, whatever became of them: retiring keeps their data, and still nobody wants a hundred jails
stopped because a script moved a directory. What somebody has let through by name is not counted again. A host that says its
first name in `previous` has not left, and neither have its jails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controller.graph import Desired

DAY = 24 * 3600.0
"""Seconds that a removal counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a push may do by itself, from `jailops.toml`."""

    removed: int = 2
    removed_percent: float = 10.0
    removed_per_day: int = 10
    addresses: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Removal:
    """The objects, as ``Kind/name``, that one revision has and the next has not."""

    names: tuple[str, ...]
    of: int
    """How many there were."""

    @property
    def plan(self) -> str:
        """The name under which a person lets it through: the same objects give the same one."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]


def removal(before: Mapping[str, str], after: Collection[str]) -> Removal:
    """`before`: each object by a name that a rename leaves alone -> what it is called."""
    return Removal(tuple(sorted(before[one] for one in before.keys() - set(after))), len(before))


def too_much(gone: Removal, earlier: Sequence[float], limits: Limits, now: float) -> str:
    """Why it must wait for a person or another day; empty when it may be. `earlier`: when others were removed (Unix time)."""
    objects = f"{len(gone.names)} object{'s' if len(gone.names) > 1 else ''}"
    told = f"{', '.join(gone.names[:10])}{' …' if len(gone.names) > 10 else ''}"
    at_once = max(limits.removed, int(gone.of * limits.removed_percent / 100))
    if len(gone.names) > at_once:
        return f"it removes {len(gone.names)} of {gone.of} objects at once, {at_once} are allowed: {told}"
    lately = sum(at > now - DAY for at in earlier)
    if gone.names and lately + len(gone.names) > limits.removed_per_day:
        return (
            f"it removes {objects} after {lately} in the last 24 hours, "
            f"{limits.removed_per_day} a day are allowed: {told}"
        )
    return ""


def protected(gone: Removal, before: Desired) -> list[str]:
    """Those of the removed objects that the revision before protects."""
    hosts = {str(host) for host in before.hosts.values() if host.spec.protect}
    jails = {str(jail) for jail in before.jails.values() if jail.spec.protect}
    return [name for name in gone.names if name in hosts | jails]


def lost_disks(before: Desired, after: Desired) -> Iterator[str]:
    """Hosts that would look for their disk under another name than it is kept under: what they found there would be empty."""
    for name, host in sorted(after.hosts.items()):
        first, origin = after.kept_as(name), host.at("spec", "previous")
        if name in before.hosts and before.kept_as(name) != first:
            kept = before.kept_as(name)
            must = f"previous: {kept}" if kept != name else "no previous"
            yield f"Host/{name} ({origin}): its disk is kept under the name {kept}, and it must say {must} as before"
        elif name not in before.hosts and first in before.hosts and before.kept_as(first) != first:
            kept = before.kept_as(first)
            yield f"Host/{name} ({origin}): the disk of {first} is kept under its first name: say previous: {kept}"


def renamed(before: Desired, after: Desired) -> list[str]:
    """What to ask about hosts that came with the card of one that left: a rename without `previous` is none."""
    gone = {before.hosts[name].spec.mac: name for name in before.hosts.keys() - after.hosts.keys()}
    return [
        f"Host/{name} has the MAC address of Host/{gone[host.spec.mac]}, which is gone: if it was renamed, "
        f"say previous: {before.kept_as(gone[host.spec.mac])} in its spec ({host.origin}), or it gets an empty disk"
        for name, host in sorted(after.hosts.items())
        if name not in before.hosts
        and host.spec.mac in gone
        and after.kept_as(name) != before.kept_as(gone[host.spec.mac])
    ]
