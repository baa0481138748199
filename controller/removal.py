"""What a revision takes away, and whether it may: a budget per revision and one per day. Beyond them a person must have named
exactly this removal. Pure.

Only objects that left Git count, whatever became of them: retiring keeps their data, and still nobody wants a hundred jails
stopped because a script moved a directory. What somebody has let through by name is not counted again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

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


def removal(before: Collection[str], after: Collection[str]) -> Removal:
    return Removal(tuple(sorted(set(before) - set(after))), len(before))


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
