"""What a SAN remembers of one host's boots: what it was last told to boot, what proved itself, what did not.

It lies on the share, outside of everything that a node can mount, so that it outlives the controller and its store, and two
controllers read the same. Times are the SAN's, in Unix seconds. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from controller.errors import Retry
from controller.graph import Desired
from controller.model import Change, Facts, Observed, Ref

KIND = "boot"


@dataclass(frozen=True, slots=True)
class Asked:
    """A reboot that was asked for and has not proved itself yet."""

    generation: str
    at: float
    """0 until it is written down: the SAN's clock says it then, so that the same wish is the same at every look."""
    back: bool
    """It is the way back from a generation that failed."""
    tries: int = 1
    """How often it was asked for."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A generation that did not prove itself on this host."""

    revision: str
    """The commit in force then: under a newer one it may be booted again, and is still nothing to roll back to."""
    at: float
    why: str


@dataclass(frozen=True, slots=True)
class BootState:
    good: str = ""
    """The last generation that proved itself."""
    asked: Asked | None = None
    returning: bool = False
    """A generation failed, and the host has not proved itself since."""
    jails: tuple[str, ...] = ()
    """The declared jails that ran before the host was last told to reboot: they must run again."""
    failed: Mapping[str, Failed] = field(default_factory=dict)
    tried: str = ""
    """With which settings of its own (`bootconf.fingerprint`) it was last told to reboot."""

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"jails": list(self.jails)}

    def text(self) -> str:
        return json.dumps(self.facts(), sort_keys=True, indent=1) + "\n"

    def bad(self, revision: str) -> frozenset[str]:
        """The generations that failed while this revision was in force."""
        return frozenset(name for name, one in self.failed.items() if one.revision == revision)

    def asking(self, generation: str, jails: tuple[str, ...], *, running: str, back: bool, tried: str) -> BootState:
        """Told to boot a generation. What it runs now counts as good when nothing else has proved itself yet."""
        before = self.jails if self.returning else jails
        asked = Asked(generation, 0, back)
        return replace(self, good=self.good or running, asked=asked, jails=before, tried=tried)

    def forgetting(self, gone: Collection[str]) -> BootState:
        """Without the marks of generations that are no more."""
        return replace(self, failed={name: one for name, one in self.failed.items() if name not in gone})

    def newly_marked(self, before: BootState) -> bool:
        """Whether a generation failed since then, be it once more."""
        return any(before.failed.get(name) != one for name, one in self.failed.items())

    def asking_again(self) -> BootState:
        """The same once more: what was asked for last may never have reached the machine."""
        assert self.asked is not None
        return replace(self, asked=replace(self.asked, at=0, tries=self.asked.tries + 1))

    def waiting_anew(self) -> BootState:
        """The clock by which it waits was set back."""
        assert self.asked is not None
        return replace(self, asked=replace(self.asked, at=0))

    def withdrawing(self) -> BootState:
        """It never went down: it has not been rebooted with anything."""
        return replace(self, asked=None, tried="")

    def proving(self, generation: str) -> BootState:
        marks = {name: one for name, one in self.failed.items() if name != generation}
        return BootState(generation, failed=marks, tried=self.tried)

    def failing(self, generation: str, mark: Failed) -> BootState:
        return replace(self, asked=None, returning=True, failed={**self.failed, generation: mark})

    def stamped(self, now: float) -> BootState:
        """With the time at which it is written down."""
        failed = {name: replace(one, at=one.at or now) for name, one in self.failed.items()}
        return replace(self, asked=replace(self.asked, at=self.asked.at or now) if self.asked else None, failed=failed)

    def forgiving(self) -> BootState:
        """An operator wants everything tried again."""
        return BootState(self.good)


def of_facts(facts: Facts | None) -> BootState:
    """The state of an object that was seen; nothing yet when there is no file."""
    if facts is None:
        return BootState()
    asked = facts["asked"]
    return BootState(
        str(facts["good"]),
        Asked(asked["generation"], float(asked["at"]), bool(asked["back"]), int(asked["tries"])) if asked else None,
        bool(facts["returning"]),
        tuple(facts["jails"]),
        {name: Failed(one["revision"], float(one["at"]), one["why"]) for name, one in facts["failed"].items()},
        str(facts.get("tried", "")),
    )


def parse(text: str, host: str) -> BootState:
    """The file as we write it. Raises Retry for any other: what cannot be read is not "never booted"."""
    try:
        return of_facts(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Retry(f"cannot read what is remembered of the boots of {host}: {error}") from error


def state_of(observed: Observed, host: str) -> BootState:
    """What the last look saw of a host's boots; nothing when it was not seen, which must refuse nobody anything."""
    seen = observed.seen.get(Ref(KIND, host))
    return of_facts(seen.facts if seen else None)


def path_of(desired: Desired, host: str) -> str:
    san = desired.sans[desired.hosts[host].spec.san].spec
    return f"{san.nfs.root}/boots/{desired.kept_as(host)}.json"


def on_trial(observed: Observed) -> Mapping[str, str]:
    """Host -> why nothing is done on it now: it boots, and must come up by itself to prove its generation; or that is unknown."""
    found = {
        ref.name: f"it is not known whether {ref.name} boots just now: {why}"
        for ref, why in observed.unknown.items()
        if ref.kind == KIND
    }
    for ref, seen in observed.seen.items():
        asked = of_facts(seen.facts).asked if ref.kind == KIND else None
        if asked is not None:
            found[ref.name] = f"{ref.name} boots {asked.generation}: it must come up by itself"
    return found


def asks(change: Change) -> bool:
    """Whether a change is a reboot about to be asked for: nothing else is to be done on that host."""
    if change.ref.kind != KIND:
        return False
    want, have = of_facts(change.want).asked, of_facts(change.have).asked
    return want is not None and (have is None or want.tries != have.tries)
