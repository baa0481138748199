"""What every driver speaks: what to ask, what the answer meant, what should be, and what to do about it. In data.

A driver never awaits, logs, reads a clock or opens a file. It is given values and returns values; its `steps` is a
generator that yields `Run`s and is sent each one's `Answer`, so that one driver serves the daemon, `jailops plan` and
the tests alike. A new resource type is a driver, an encoder and a folder of cases; the core does not learn its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from controller.encode.text import GrammarError
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import (
    Answer,
    Change,
    Difference,
    Facts,
    Observed,
    Probe,
    Ref,
    Resource,
    Risk,
    Seen,
    Steps,
    Unseen,
)

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What drivers may know when they say what should be: the manifests, the last look, and what was applied before."""

    desired: Desired
    observed: Observed
    applied: Mapping[Ref, Facts] = field(default_factory=dict)
    digest: Callable[[str], str] = lambda text: text
    """sha256 of a text whose `secret()` holes are filled. Raises Stall when a secret is missing."""
    retry: frozenset[Ref] = frozenset()
    """Objects whose last failure the operator wants forgotten."""
    generations: Mapping[str, str] = field(default_factory=dict)
    """Host -> the generation it should boot: see `controller.drivers.published`."""
    ready: frozenset[Ref] = frozenset()
    """Objects that the last look found as wanted."""
    reboots: Mapping[str, str] = field(default_factory=dict)
    """Host that runs another generation than it should -> why it is not rebooted now; empty when it may be."""
    age: float = 0.0
    """Seconds since the look."""
    young: bool = False
    """This controller has looked for too short a time to judge by what it did not see."""
    kept: frozenset[tuple[str, str]] = frozenset()
    """Image and generation of what is never removed, whatever nobody needs any more."""

    def seen(self, ref: Ref) -> Seen | None:
        """What the last look saw of an object, or None when it is unknown."""
        return self.observed.seen.get(ref)

    def drift_mode(self, ref: Ref) -> str:
        """What the Site says about changes made by hand to objects of this kind: enforce, warn or ignore."""
        return {str(kind): str(mode) for kind, mode in self.desired.site.drift.items()}.get(ref.kind, "enforce")


class Explanation(NamedTuple):
    """A change in a person's words."""

    summary: str
    reason: str
    risk: Risk = "none"


class Driver(Protocol):
    @property
    def kind(self) -> str: ...

    def resources(self, desired: Desired) -> Iterator[Resource]:
        """Every object of this kind that the manifests ask for."""
        ...

    def retired(self, ref: Ref, memory: Mapping[str, Any], desired: Desired) -> Resource | None:
        """An object that we made and no manifest declares any more, or None when nothing remains to be done for it."""
        ...

    def memory(self, resource: Resource) -> Mapping[str, Any]:
        """What must be remembered, as JSON, to retire the object later."""
        ...

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        """What to ask. Equal probes of several objects are asked once."""
        ...

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        """What the answers mean. Raises Retry for what cannot be known now and Stall for what needs a person."""
        ...

    def want(self, resource: Resource, world: World) -> Facts | None:
        """What should be true. Raises Wait when that depends on something that is not there yet."""
        ...

    def told(self, resource: Resource, world: World) -> Facts:
        """What people are told beside what the look brought: why it should be so. Shown, never compared."""
        ...

    def explain(self, change: Change) -> Explanation: ...

    def differences(self, change: Change, world: World) -> Sequence[Difference]:
        """Which inputs of an object differ from those of what hosts boot now, and what each takes."""
        ...

    def steps(self, change: Change, world: World) -> Steps: ...


class Base:
    """The answers most drivers give."""

    kind: ClassVar[str] = ""

    def retired(self, ref: Ref, memory: Mapping[str, Any], desired: Desired) -> Resource | None:
        del ref, memory, desired
        return None

    def memory(self, resource: Resource) -> Mapping[str, Any]:
        del resource
        return {}

    def differences(self, change: Change, world: World) -> Sequence[Difference]:
        del change, world
        return ()

    def told(self, resource: Resource, world: World) -> Facts:
        del resource, world
        return {}


def answered(answers: Sequence[Answer | Unseen]) -> list[Answer]:
    """All answers, or the reason why one is missing: most drivers can say nothing then.

    Raises Retry, or Stall when only a person can help (a changed host key, a refused login).
    """
    missing = [answer for answer in answers if isinstance(answer, Unseen)]
    if missing and missing[0].hint:
        raise Stall(missing[0].reason, hint=missing[0].hint)
    if missing:
        raise Retry(missing[0].reason)
    return [answer for answer in answers if isinstance(answer, Answer)]


def parsed(what: str, host: str, parse: Callable[[str], T], text: str) -> T:
    """An answer that cannot be read is unknown, never empty."""
    try:
        return parse(text)
    except (GrammarError, ValueError) as error:
        raise Retry(f"cannot read {what} of {host}: {error}") from error


def checked(answer: Answer, doing: str) -> Answer:
    """An answer whose exit status was 0. Raises Stall with what the machine said, else."""
    if answer.exit != 0:
        raise Stall(f"cannot {doing}: {last_words(answer)}")
    return answer


def last_words(answer: Answer) -> str:
    """What a failed command said, short enough for a line."""
    text = " / ".join(line.strip() for line in (answer.err or answer.out).strip().splitlines()[-3:])
    return f"{text or 'no message'} (exit {answer.exit})"


def differs(want: Facts | None, have: Facts | None) -> bool:
    """Only the fields that are wanted are ours to compare."""
    if want is None or have is None:
        return want is not have
    return any(have.get(name) != value for name, value in want.items())


def differing(want: Facts, have: Facts | None) -> list[str]:
    """The wanted fields that the world does not have."""
    return [name for name, value in want.items() if have is None or have.get(name) != value]
