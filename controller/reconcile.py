"""One pass, from the top: the page to read first.

    Snapshot → Desired → Observed → Changes → Plan → Outcomes → Record

A pass looks at state, never at events, and may be stopped anywhere: the next one begins again with what is true. Within
a pass the look is repeated after every round of acts, because success is proved by looking again, and an object whose
needs have just come true is decided on fresh facts. The pass ends when a look finds nothing that can be done now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, time

from controller import said
from controller.diff import Verdict, digest_of, drift_mode, judge
from controller.drivers import DRIVERS, World, choose, resources_of
from controller.execute import Executor
from controller.graph import Desired
from controller.hands import Hands
from controller.model import Facts, Held, Hold, Outcome, Plan, Record, Ref, Resource, Status
from controller.observe import observe
from controller.plan import make_plan
from controller.revision import Revisions, Wanted
from controller.store import Remembered, Store, Trouble
from controller.vault import Vault

ROUNDS = 12
"""Far more than the longest chain of needs; a pass that wants more is going in circles."""

_PAUSE, _LONGEST_PAUSE = 15.0, 300.0
"""Seconds before a failed object is tried again, doubled each time."""


@dataclass(frozen=True)
class Look:
    """One look and what it means."""

    resources: Sequence[Resource]
    world: World
    verdict: Verdict


@dataclass
class Pass:
    """What one pass has gathered so far."""

    wanted: Wanted
    trigger: str
    started: float
    outcomes: list[Outcome] = field(default_factory=list)
    tried: dict[Ref, tuple[str, Facts | None]] = field(default_factory=dict)
    """What an act was meant to bring and what was there before it: seen again unchanged, it did not converge."""


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
    ) -> None:
        """`patience`: seconds that a pass waits for its acts; None: until they end."""
        self._store = store
        self._hands = hands
        self._revisions = revisions
        self._vault = vault
        self._look_timeout = look_timeout
        self.executor = Executor(hands, store, vault, patience)
        self._born = time()
        self._wants: dict[Ref, str] = {}
        """Digest of the facts that the last act of an object was to bring."""
        self.stop = asyncio.Event()
        self.last: Look | None = None
        """The last look, for metrics and pages."""

    async def tick(self, trigger: str, *, insist: bool = False) -> Record:
        """Bring the machines one pass closer to what Git says. `insist` forgets pauses after failures."""
        # From before Git is asked: who asks for a pass after a push must not be given one that fetched before it.
        started, begun = time(), monotonic()
        this = Pass(await self._revisions.wanted(), trigger, started)
        this.outcomes += self._taken(self.executor.ended())
        retry = self._asked_again(insist)
        for _ in range(ROUNDS):
            self.last = look = await self.look(this.wanted.desired, retry)
            self._note(look, this)
            plan = self.plan(look, this.outcomes)
            if not plan.actions or self.stop.is_set():
                break
            this.outcomes += await self._act(plan)
            this.tried |= {one.change.ref: (digest_of(one.change.want), one.change.have) for one in plan.actions}
        record = said.record(this.wanted, trigger, look.verdict, plan, this.outcomes, this.started, monotonic() - begun)
        record = replace(record, statuses=tuple(self._estimated(one) for one in record.statuses))
        self._store.set_statuses(record.statuses, time())
        self._store.record(record)
        await self._revisions.applied(this.wanted, record)
        return record

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        """Observe and compare. Changes nothing anywhere."""
        known = self._store.objects()
        resources = _resources(desired, known)
        applied = {ref: one.facts for ref, one in known.items() if one.facts is not None}
        self._hands.know(desired)
        observed = await observe(resources, self._hands, applied, timeout=self._look_timeout)
        world = World(desired, observed, applied, self._vault.digest, retry, choose(desired, observed, applied))
        digests = {ref: one.wanted for ref, one in known.items() if one.wanted is not None}
        # Judged twice: what some objects should be depends on which others are there already.
        world = replace(world, ready=judge(resources, world, digests).ready)
        return Look(resources, world, judge(resources, world, digests))

    def plan(self, look: Look, outcomes: Sequence[Outcome] = ()) -> Plan:
        """What would be done about it now, in order; `outcomes` are those of this pass. `jailops plan` prints this."""
        return make_plan(look.resources, look.verdict, look.world, refused=self._let_alone(look, outcomes))

    async def _act(self, plan: Plan) -> list[Outcome]:
        for action in plan.actions:
            resource = action.change.resource
            self._store.claim(resource, DRIVERS[resource.ref.kind].memory(resource))
            self._wants[resource.ref] = digest_of(action.change.want)
        return self._taken(await self.executor.perform(plan, self.stop))

    def _taken(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Outcomes as they came; what failed is given a pause."""
        for outcome in outcomes:
            if outcome.result == "failed":
                self._trouble(outcome.ref, self._wants[outcome.ref], outcome.message, outcome.hint, pause=True)
        return outcomes

    def _note(self, look: Look, this: Pass) -> None:
        """Remember what is proved, and what did not come right although its acts went well."""
        self._store.settle_unfinished(self._born, time())
        ready = look.verdict.ready
        by_ref = {resource.ref: resource for resource in look.resources}
        known = self._store.objects()
        proofs = []
        for ref in ready:
            wanted = digest_of(look.verdict.wants.get(ref))
            if ref not in known or known[ref].wanted != wanted:
                memory = DRIVERS[ref.kind].memory(by_ref[ref])
                proofs.append((ref, memory, wanted, look.verdict.wants.get(ref)))
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
        converging, or only watched; and in one pass nothing is tried again whose end was not seen."""
        held: dict[Ref, Hold] = {}
        unseen = {one.ref: one.message for one in outcomes if one.result in ("indeterminate", "waiting")}
        troubles = self._store.troubles()
        for change in look.verdict.changes:
            trouble = troubles.get(change.ref)
            host = change.resource.host
            if host in self.executor.busy:
                held[change.ref] = Hold(change.ref, "busy", f"waits on {host}: {self.executor.busy[host]}")
            elif change.ref in unseen:
                held[change.ref] = Hold(change.ref, "waiting", unseen[change.ref])
            elif change.cause == "drift" and drift_mode(look.world, change.ref) == "warn":
                held[change.ref] = Hold(change.ref, "watched", "differs by hand; the Site says only to warn")
            elif trouble and change.ref not in look.world.retry and trouble.wanted == digest_of(change.want):
                why: Held = "not-converging" if trouble.next_try is None else "failed"
                if trouble.next_try is None or trouble.next_try > time():
                    held[change.ref] = Hold(change.ref, why, trouble.message, trouble.hint)
        return held

    def _estimated(self, status: Status) -> Status:
        """How long a build has to go, as its image's last good one tells."""
        last = self._store.last_build_seconds(status.ref.name) if status.ref.kind == "image" and status.busy else None
        if last is None or status.busy is None or status.busy.started is None:
            return status
        return replace(status, busy=replace(status.busy, eta=max(last - (time() - status.busy.started), 0.0)))

    def _asked_again(self, insist: bool) -> frozenset[Ref]:
        """Objects that an operator wants tried again; the request is used up by this pass."""
        asked = self._store.requests("retry")
        refs = [Ref(*text.split("/", 1)) for text in asked]
        if insist:
            refs += [trouble.ref for trouble in self._store.troubles().values() if trouble.next_try is not None]
        self._store.clear_trouble(refs)
        self._store.done_request("retry", asked)
        return frozenset(refs)


def _resources(desired: Desired, known: Mapping[Ref, Remembered]) -> list[Resource]:
    """What the manifests declare, and what we made and they declare no more."""
    declared = resources_of(desired)
    refs = {resource.ref for resource in declared}
    gone = (
        DRIVERS[ref.kind].retired(ref, one.memory, desired) for ref, one in sorted(known.items()) if ref not in refs
    )
    return [*declared, *(resource for resource in gone if resource is not None)]
