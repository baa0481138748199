"""The frozen values that travel between the stages of a pass. They hold data and no behaviour beyond naming it.

Snapshot → Site → Observed → Change → Plan → Outcome → Record
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NewType, TypeAlias

Facts: TypeAlias = Mapping[str, Any]
"""What is or should be true of one object: JSON-like values only, comparable with ==. Never a secret, only digests."""

Script = NewType("Script", str)
"""POSIX sh text in which every foreign value went through `controller.encode.sh`. Only encoders make these."""

Lane: TypeAlias = Literal["main", "disk"]
"""Which long-lived shell of a host runs a script. Whatever may touch the jail disk goes to "disk", which may hang and
be replaced without the host's other facts going dark (freebsd.md 11.2)."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of one reconciled object, such as ``jail/node1/example`` or ``lun/node1``."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a manifest says something. Lines and columns count from 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script did. It exists only if our own end marker was read: a lost connection is an exception."""

    exit: int
    stdout: bytes
    stderr: bytes
    seconds: float = 0.0

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "backslashreplace")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Why a probe brought no answer. Neither present nor absent."""

    reason: str
    hint: str = ""
    """What a person can do, when only a person can."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One read-only question to one host. All probes of a host and lane travel as one request."""

    host: str
    script: Script
    lane: Lane = "main"


@dataclass(frozen=True, slots=True)
class Progress:
    """Long work that is under way: nothing is planned for its object, and its dependents wait."""

    stage: str
    ratio: float | None = None
    started: float | None = None
    """Unix time in seconds."""
    eta: float | None = None
    """Seconds still to go, estimated from earlier runs."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a driver read. `facts` None is *proved* absence; what could not be proved is raised, not returned."""

    facts: Facts | None
    busy: Progress | None = None
    detail: Facts = field(default_factory=dict)
    """Shown to people and used by other drivers, never compared."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One object under management: what the driver needs to ask about it and to decide what it should be."""

    ref: Ref
    host: str
    """The machine on which it lives; actions on one machine run one after the other."""
    spec: Any
    """The driver's own frozen input."""
    needs: tuple[Ref, ...] = ()
    """What must be ready first. When one of these fails, this object waits and every other goes on."""
    origin: Origin = Origin("")
    retired: bool = False
    """True when no manifest declares it any more but we made it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one look brought: what was seen, and why the rest was not."""

    seen: Mapping[Ref, Seen]
    unknown: Mapping[Ref, str]
    stalled: Mapping[Ref, tuple[str, str]] = field(default_factory=dict)
    """Message and hint for objects that a person must look at."""
    hosts: Mapping[str, str | None] = field(default_factory=dict)
    """For every host asked: None when it answered, else why not."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """By how many seconds at least the clock of a host that answered is ahead of ours, or behind it (negative)."""


Cause: TypeAlias = Literal["intent", "drift", "new", "retire"]
"""new: never applied before; intent: the manifests changed; drift: the world changed; retire: it left the manifests."""

Risk: TypeAlias = Literal["none", "restart", "disruptive"]


class Effect(NamedTuple):
    """What a change takes before it is true on the machines."""

    kind: Literal["none", "live", "restart", "reboot", "rebuild"]
    says: str
    """For people: "live, restart of cron"."""


class Difference(NamedTuple):
    """One input that differs. Texts are empty where there is nothing: an input that came, one that went."""

    input: str
    before: str
    after: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Change:
    """One object whose facts differ from what is wanted."""

    resource: Resource
    want: Facts | None
    have: Facts | None
    cause: Cause
    detail: Facts = field(default_factory=dict)
    """`Seen.detail` of the look this change was decided on."""

    @property
    def ref(self) -> Ref:
        return self.resource.ref


@dataclass(frozen=True, slots=True)
class Run:
    """A step: run a script on a host. The driver that yields it is sent the `Answer`, whatever its exit status."""

    label: str
    """For people: what this does, in a few words, without secrets."""
    script: Script
    host: str = ""
    """Empty: the resource's own host."""
    lane: Lane = "main"
    timeout: float = 30.0
    writes: bool = True
    """False for a look before an act: it needs no fence and counts as no write."""


PowerOp: TypeAlias = Literal["status", "off", "on", "wake"]
"""off and on wait until the machine is so. wake sends a packet and knows nothing."""


@dataclass(frozen=True, slots=True)
class Power:
    """A step: ask a machine's BMC for its power, or switch it. It is answered "on" or "off" (`Answer.out`), wake "".

    An answer to off and on is what the BMC said afterwards, never what was asked for.
    """

    label: str
    op: PowerOp
    host: str = ""
    """Empty: the resource's own host."""
    timeout: float = 60.0


Step: TypeAlias = Run | Power

Steps: TypeAlias = Generator[Step, Answer, None]


@dataclass(frozen=True, slots=True)
class Action:
    """One change with its explanation; `steps` is called once, by execute, and never by `plan`."""

    change: Change
    summary: str
    reason: str
    risk: Risk
    steps: Callable[[], Steps]
    inputs: Sequence[Difference] = ()
    """What goes into the object and differs, each with what it takes on the hosts."""


Held: TypeAlias = Literal["waiting", "unknown", "stalled", "busy", "failed", "not-converging", "contested", "watched"]


@dataclass(frozen=True, slots=True)
class Hold:
    """An object that differs, or may differ, and why nothing is done about it now."""

    ref: Ref
    why: Held
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order, and what will not be."""

    actions: tuple[Action, ...] = ()
    later: tuple[Action, ...] = ()
    """Changes that need an object of `actions` first: decided again, on a fresh look, once that is there."""
    held: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step as it went. `status` None means that its end was not seen."""

    label: str
    host: str
    status: int | None
    seconds: float
    note: str = ""


Result: TypeAlias = Literal["done", "failed", "indeterminate", "waiting"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action. "done" means the steps ended; proof comes from the next look."""

    ref: Ref
    summary: str
    cause: Cause
    result: Result
    message: str = ""
    hint: str = ""
    steps: tuple[StepResult, ...] = ()
    seconds: float = 0.0


State: TypeAlias = Literal[
    "Ready", "Changing", "Waiting", "Unknown", "Stalled", "Failed", "NotConverging", "Contested", "Retired", "Drifted"
]


@dataclass(frozen=True, slots=True)
class Status:
    """How one object stands at the end of a pass."""

    ref: Ref
    state: State
    message: str = ""
    hint: str = ""
    origin: Origin = Origin("")
    busy: Progress | None = None
    detail: Facts = field(default_factory=dict)


PassResult: TypeAlias = Literal["converged", "progressing", "held", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Hops:
    """How far one host is on the way of its generation. Empty: none. None: that is not known."""

    host: str
    image: str = ""
    declared: str = ""
    """What the manifests want it to boot, or what it is pinned to."""
    built: str | None = None
    """The same, once it is complete on the share."""
    published: str | None = None
    """What its DHCP entry names."""
    booted: str | None = None
    """What it runs."""
    proved: str | None = None
    """What proved itself on it last."""
    failed: tuple[str, ...] | None = ()
    """What did not, under this revision."""
    marked: tuple[str, ...] | None = ()
    """What did not under any, and has not proved itself since."""
    kept_as: str = ""
    """Its first name, by which generations know it; empty when that is `host`."""


@dataclass(frozen=True, slots=True)
class Record:
    """The audit entry of one pass: what was asked for, planned, done and refused, with durations in seconds."""

    revision: str
    author: str
    subject: str
    trigger: str
    started: float
    seconds: float
    said: str
    """One sentence that tells the whole pass."""
    result: PassResult
    outcomes: tuple[Outcome, ...] = ()
    held: tuple[Hold, ...] = ()
    refused: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()
    statuses: Sequence[Status] = ()
    hosts: tuple[Hops, ...] = ()
    pinned: tuple[str, ...] = ()
    """What operators have pinned, why and to what."""
    signer: str = ""
    """Who signed the commit, with the key; empty where no signatures are asked for."""
    later: tuple[str, ...] = ()
    """What is planned and needs something else first, each with its object."""
