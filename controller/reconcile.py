"""One pass, from the top: the page to read first.

    Snapshot → Desired → Observed → Changes → Plan → Outcomes → Record

A pass looks at state, never at events, and may be stopped anywhere: the next one begins again with what is true. Within
a pass the look is repeated after every round of acts, because success is proved by looking again, and an object whose
needs have just come true is decided on fresh facts. The pass ends when a look finds nothing that can be done now.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import Any

import structlog

from controller import said
from controller.diff import Verdict, contested, digest_of, judge, watched
from controller.drivers import DRIVERS, LAYERS, World, asks, choose, hops, needed_again, on_trial, resources_of, rollout
from controller.drivers.renamed import as_kept, as_now, memory_now
from controller.errors import FAULT
from controller.execute import Executor
from controller.graph import Desired, Pin
from controller.hands import Hands
from controller.model import Action, Change, Facts, Held, Hold, Outcome, Plan, Record, Ref, Resource, Status
from controller.observe import observe
from controller.plan import make_plan, overtaken
from controller.revision import Revisions, Wanted
from controller.store import Remembered, Store, Trouble
from controller.vault import Vault

log = structlog.get_logger(__name__)

ROUNDS = 12
"""Far more than the longest chain of needs; a pass that wants more is going in circles."""

_PAUSE, _LONGEST_PAUSE = 15.0, 300.0
"""Seconds before a failed object is tried again, doubled each time."""

_STUBBORN, _HOUR = 5, 3600.0
"""How often within an hour the same is put back before it is let be: whoever changes it again means it."""

_BY_ITSELF = ("interval", "progress")
"""What wakes without anybody having asked for it."""

_YOUNG = 30.0
"""Seconds for which a controller that has just begun takes nothing that it does not see for a proof."""


@dataclass(frozen=True)
class Look:
    """One look and what it means."""

    resources: Sequence[Resource]
    world: World
    verdict: Verdict
    at: float
    """When it began, by the monotonic clock."""


@dataclass
class Pass:
    """What one pass has gathered so far."""

    wanted: Wanted
    trigger: str
    started: float
    outcomes: list[Outcome] = field(default_factory=list)
    tried: dict[Ref, tuple[str, Facts | None]] = field(default_factory=dict)
    """What an act was meant to bring and what was there before it: seen again unchanged, it did not converge."""

    def acted(self, plan: Plan, outcomes: Sequence[Outcome]) -> None:
        """What has no outcome yet runs still, or was never begun: neither can have brought anything."""
        self.outcomes += outcomes
        ended = {one.ref for one in outcomes}
        changes = [action.change for action in plan.actions if action.change.ref in ended]
        self.tried |= {one.ref: (digest_of(one.want), one.have) for one in changes}


class Controller:
    """Everything a pass needs, built once."""

    def __init__(
        self,
        store: Store,
        hands: Hands,
        revisions: Revisions,
        vault: Vault,
        *,
        look_timeout: float,
        patience: float | None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """`patience`: seconds that a pass waits for its acts; None: until they end. `stop`: once set, nothing is begun."""
        self._store = store
        self._hands = hands
        self._revisions = revisions
        self._vault = vault
        self._look_timeout = look_timeout
        self.executor = Executor(hands, store, vault, patience)
        self._born = monotonic()
        self._before = store.last_entry()
        """The last entry of the journal that is not ours."""
        self._begun: dict[Ref, Change] = {}
        """What the last act of an object is about."""
        self.stop = stop or asyncio.Event()
        self.last: Look | None = None
        """The last look, for metrics and pages."""

    async def tick(self, trigger: str, *, insist: bool = False) -> Record:
        """Bring the machines one pass closer to what Git says. `insist` forgets pauses after failures."""
        # From before Git is asked: who asks for a pass after a push must not be given one that fetched before it.
        started, begun = time(), monotonic()
        this = Pass(await self._revisions.wanted(at_once=trigger not in _BY_ITSELF), trigger, started)
        this.outcomes += self._taken(self.executor.ended())
        retry = self._asked_again(insist)
        self._unpin(this.wanted.revision)
        for _ in range(ROUNDS):
            # Asked for once is tried once: what failed again at once would be tried in every round.
            self.last = look = await self.look(this.wanted.desired, retry - this.tried.keys())
            self._note(look, this)
            plan = self.plan(look, this.outcomes)
            if self.stop.is_set() or not (plan.actions or self._learned(look)):
                break
            this.acted(plan, await self._act(plan, look))
        record = said.record(this.wanted, trigger, look.verdict, plan, this.outcomes, this.started, monotonic() - begun)
        record = replace(
            record,
            statuses=tuple(estimated(one, self._store.last_build_seconds, time()) for one in record.statuses),
            hosts=hops(look.world.desired, look.world.observed),
            pinned=tuple(f"{host}: {pin}" for host, pin in sorted(look.world.desired.pins.items())),
        )
        self._store.set_statuses(record.statuses, time())
        self._store.record(record)
        await self._revisions.applied(this.wanted, record)
        return record

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        """Observe and compare. Changes nothing anywhere."""
        at, known = monotonic(), self._remembered(desired)
        applied = {ref: one.facts for ref, one in known.items() if one.facts is not None}
        desired = self._told(with_builders(desired, applied))
        resources = _resources(desired, known)
        self._hands.know(desired)
        observed = await observe(resources, self._hands, applied, timeout=self._look_timeout)
        world = World(desired, observed, applied, self._vault.digest, retry, choose(desired, observed, applied))
        world = replace(world, kept=needed_again(desired, observed), young=monotonic() - self._born < _YOUNG)
        digests = {ref: one.wanted for ref, one in known.items() if one.wanted is not None}
        # Judged twice: what some objects should be depends on which others are there already.
        world = replace(world, ready=judge(resources, world, digests).ready)
        world = replace(world, reboots=rollout(world))
        return Look(resources, world, judge(resources, world, digests), at)

    def known(self, desired: Desired) -> Desired:
        """With what is remembered of the build VMs, and what operators asked for."""
        return self._told(with_builders(desired, self._applied()))

    def plan(self, look: Look, outcomes: Sequence[Outcome] = ()) -> Plan:
        """What would be done about it now, in order; `outcomes` are those of this pass. `jailops plan` prints this."""
        return make_plan(look.resources, look.verdict, look.world, refused=self._let_alone(look, outcomes))

    def _told(self, desired: Desired) -> Desired:
        """With what operators asked for: pins, as long as their revision is in force, and paused rollouts."""
        pins: dict[str, Pin] = {}
        for text in self._store.requests("rollback"):
            asked = json.loads(text)
            kind, _, name = asked["target"].partition("/")
            if asked["revision"] != desired.revision:
                continue
            hosts = [host.name for host in desired.hosts_of_image(name)] if kind == "image" else [name]
            pins |= {host: Pin(asked["generation"], asked["actor"], asked["reason"]) for host in hosts}
        return replace(desired, pins=pins, paused=frozenset(self._store.requests("pause")))

    def _unpin(self, revision: str) -> None:
        """A pin ends with the commit under which it was asked for."""
        ended = [one for one in self._store.requests("rollback") if json.loads(one)["revision"] != revision]
        self._store.done_request("rollback", ended)
        for one in ended:
            log.warning("a pin ended with its commit", target=json.loads(one)["target"], revision=revision)

    def _learned(self, look: Look) -> bool:
        """Whether this look saw for the first time what names depend on: the next one asks by other names."""
        return with_builders(look.world.desired, self._applied()) != look.world.desired

    def _remembered(self, desired: Desired) -> dict[Ref, Remembered]:
        """What the store knows, by the names of now: a renamed host's objects are what they were."""
        names = {desired.kept_as(name): name for name in desired.hosts}
        now = ((as_now(ref, names), one) for ref, one in self._store.objects().items())
        return {ref: replace(one, ref=ref, memory=memory_now(one.memory, ref)) for ref, one in now}

    def _applied(self) -> dict[Ref, Facts]:
        return {ref: one.facts for ref, one in self._store.objects().items() if one.facts is not None}

    async def _act(self, plan: Plan, look: Look) -> list[Outcome]:
        faulty: list[Outcome] = []
        for action in plan.actions:
            resource = action.change.resource
            self._begun[resource.ref] = action.change
            memory = _memory(resource)
            if memory is None:
                message = f"cannot {action.summary}: what must be remembered of {resource.ref} could not be said"
                faulty.append(Outcome(resource.ref, action.summary, action.change.cause, "failed", message, FAULT))
            else:
                self._store.claim(as_kept(resource.ref, look.world.desired), memory)
        left = {one.ref for one in faulty}
        plan = replace(plan, actions=tuple(one for one in plan.actions if one.change.ref not in left))

        def too_late(action: Action) -> str:
            return overtaken(action, self._since(look))

        return self._taken([*faulty, *await self.executor.perform(plan, self.stop, too_late)])

    def _since(self, look: Look) -> World:
        """The world of a look with the time that has passed, and what operators have asked for meanwhile."""
        seen = look.world
        desired = self._told(seen.desired)
        generations = choose(desired, seen.observed, seen.applied)
        world = replace(seen, desired=desired, generations=generations, age=monotonic() - look.at)
        return replace(world, reboots=rollout(world))

    def _taken(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Outcomes as they came; what failed is given a pause, and what was put back is counted."""
        for outcome in outcomes:
            if outcome.result == "failed":
                wanted = digest_of(self._begun[outcome.ref].want)
                self._trouble(outcome.ref, wanted, outcome.message, outcome.hint, pause=True)
            elif outcome.result == "done" and outcome.cause == "drift":
                self._store.put_back(outcome.ref, _strife(self._begun[outcome.ref]), time())
        return outcomes

    def _note(self, look: Look, this: Pass) -> None:
        """Remember what is proved, and what did not come right although its acts went well."""
        self._store.settle_unfinished(self._before, time())
        ready = look.verdict.ready
        by_ref = {resource.ref: resource for resource in look.resources}
        known = self._remembered(look.world.desired)
        proofs = []
        for ref in ready:
            wanted = digest_of(look.verdict.wants.get(ref))
            if ref not in known or known[ref].wanted != wanted:
                memory = _memory(by_ref[ref])
                if memory is None:
                    continue
                proofs.append((as_kept(ref, look.world.desired), memory, wanted, look.verdict.wants.get(ref)))
        self._store.proved(proofs, time())
        self._store.clear_trouble([ref for ref in self._store.troubles() if ref in ready or ref not in by_ref])
        failed = {outcome.ref for outcome in this.outcomes if outcome.result != "done"}
        for change in look.verdict.changes:
            before = this.tried.get(change.ref)
            if change.ref not in failed and before == (digest_of(change.want), change.have):
                message = "NotConverging: every step went well, and the next look found it exactly as before"
                self._trouble(
                    change.ref, before[0], message, "look at the object by hand, then: jailops retry", pause=False
                )

    def _trouble(self, ref: Ref, wanted: str, message: str, hint: str, *, pause: bool) -> None:
        last = self._store.troubles().get(ref)
        same = last if last is not None and last.wanted == wanted else None
        tries = (same.tries if same else 0) + 1
        next_try = time() + min(_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE) if pause else None
        self._store.trouble(Trouble(ref, wanted, tries, next_try, message, hint, same.since if same else time()))

    def _let_alone(self, look: Look, outcomes: Sequence[Outcome]) -> dict[Ref, Hold]:
        """Objects that differ and are not touched now: their machine is busy, they are pausing after a failure, are not
        converging, fought over, or only watched; and in one pass nothing is tried again whose end was not seen."""
        held: dict[Ref, Hold] = {}
        unseen = {one.ref: one.message for one in outcomes if one.result in ("indeterminate", "waiting")}
        troubles = self._store.troubles()
        trials = dict(on_trial(look.world.observed))
        trials |= {one.ref.name: f"{one.ref.name} is about to be rebooted" for one in look.verdict.changes if asks(one)}
        for change in look.verdict.changes:
            trouble = troubles.get(change.ref)
            host = change.resource.host
            if host in self.executor.busy:
                held[change.ref] = Hold(change.ref, "busy", f"waits on {host}: {self.executor.busy[host]}")
            elif host in trials and change.ref != Ref("boot", host):
                held[change.ref] = Hold(change.ref, "waiting", trials[host])
            elif change.ref in unseen:
                held[change.ref] = Hold(change.ref, "waiting", unseen[change.ref])
            elif change.cause == "drift" and look.world.drift_mode(change.ref) == "warn":
                held[change.ref] = watched(change)
            elif change.cause == "drift" and (times := self._put_back(change)) >= _STUBBORN:
                held[change.ref] = contested(change, times)
            elif trouble and change.ref not in look.world.retry and trouble.wanted == digest_of(change.want):
                why: Held = "not-converging" if trouble.next_try is None else "failed"
                if trouble.next_try is None or _pausing(trouble.next_try, time()):
                    held[change.ref] = Hold(change.ref, why, trouble.message, trouble.hint)
        return held

    def _put_back(self, change: Change) -> int:
        """How often the very same was put back within an hour."""
        return self._store.times_put_back(change.ref, _strife(change), time() - _HOUR, time())

    def _asked_again(self, insist: bool) -> frozenset[Ref]:
        """Objects that an operator wants tried again; the request is used up by this pass. `insist` only ends pauses.

        A node is tried again by what switches it: its BMC may have refused us, which `boot` was told.
        """
        asked = self._store.requests("retry")
        refs = [Ref(*text.split("/", 1)) for text in asked]
        paused = [one.ref for one in self._store.troubles().values() if one.next_try is not None] if insist else []
        nodes = [ref.name for ref in refs if ref.kind in ("node", "boot")]
        self._hands.offer_again(nodes)
        self._store.clear_trouble([*refs, *(Ref("boot", node) for node in nodes), *paused])
        self._store.forget_put_back(refs)
        self._store.done_request("retry", asked)
        return frozenset(refs)


def _pausing(next_try: float, now: float) -> bool:
    """A try that lies further away than any pause is long was noted before the clock was set back: it is due."""
    return now < next_try <= now + _LONGEST_PAUSE


def _memory(resource: Resource) -> Mapping[str, Any] | None:
    """What its driver needs to retire it; None when the driver has a fault, which is this object's trouble alone."""
    try:
        return DRIVERS[resource.ref.kind].memory(resource)
    except Exception:
        log.exception("driver cannot say what to remember", object=str(resource.ref))
        return None


def estimated(status: Status, last: Callable[[str, str], float | None], now: float) -> Status:
    """How long a build has to go, as the last good one of the same layer tells: `last` says what that took, in seconds."""
    busy = status.busy
    if busy is None or busy.started is None or status.ref.kind not in LAYERS:
        return status
    took = last(status.ref.kind, status.ref.name)
    return status if took is None else replace(status, busy=replace(busy, eta=max(took - (now - busy.started), 0.0)))


def _strife(change: Change) -> str:
    """What was found and what was wanted instead: the same again and again is a fight with somebody."""
    return f"{digest_of(change.have)} {digest_of(change.want)}"


def with_builders(desired: Desired, applied: Mapping[Ref, Facts]) -> Desired:
    """With what the build VMs said, as it is remembered: names of layers depend on it also while a VM is off."""
    seen = {name: applied.get(Ref("buildvm", name), {}) for name in desired.build_vms}
    return replace(
        desired,
        toolchains={name: str(facts.get("toolchain", "")) for name, facts in seen.items()},
        tips={name: facts.get("tips", {}) for name, facts in seen.items()},
    )


def _resources(desired: Desired, known: Mapping[Ref, Remembered]) -> list[Resource]:
    """What the manifests declare, and what we made and they declare no more."""
    declared = resources_of(desired)
    refs = {resource.ref for resource in declared}
    gone = (_retired(ref, one.memory, desired) for ref, one in sorted(known.items()) if ref not in refs)
    return [*declared, *(resource for resource in gone if resource is not None)]


def _retired(ref: Ref, memory: Mapping[str, Any], desired: Desired) -> Resource | None:
    """What is left of an object that the manifests declare no more; one that its driver cannot say is left alone."""
    try:
        return DRIVERS[ref.kind].retired(ref, memory, desired)
    except Exception:
        log.exception("driver cannot say what is left of an object", object=str(ref))
        return None
