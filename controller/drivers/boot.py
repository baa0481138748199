"""Reboots into another generation, the proof that a node came up by itself, and the way back when it did not.

What a host was told and what became of it lies on the SAN (`bootstate`). A reboot is noted there first, then asked for. From
then on nothing is done on the node until it has proved itself or its deadline has passed: a new boot, the right generation,
the pinned host key (or it would not be seen at all), a read-only root, memory disks that are mounted and not full, disk, file
system, and the jails that ran before. What does not prove itself is marked with what is known of it; the host is served the
last generation that did (`generations.choose`), and rebooted once more.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar, Final

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, checked, differs, last_words, parsed
from controller.drivers.bootconf import fingerprint
from controller.drivers.bootstate import KIND, Asked, BootState, Failed, asks, of_facts, parse, path_of
from controller.drivers.boottime import read_timeline, timeline_probes
from controller.drivers.generations import bootable_by, is_gone, same_for_host
from controller.drivers.node import read_booted
from controller.drivers.places import Disk, disk_of
from controller.drivers.powercycle import Reach, power_of, reach, reboot_over_ssh, switched
from controller.drivers.rollout import pending, running_jails
from controller.encode import kernel, mounts
from controller.encode.sh import lines, put_file, raw, sh
from controller.errors import ControllerError, Retry, Stall, Wait
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Step, Steps, Unseen

MEMORY: Final = ("/etc", "/var")
"""The memory disks of every node."""
_TRIES: Final = 3
"""How often a reboot is asked for that was lost, or a way back, before a person is asked."""
_ENDLESS: Final = 3
"""Deadlines after which a node that boots again and again is not waited for any more."""
_STEPPED: Final = 60.0
"""Seconds by which a clock goes back that was set."""
_LONG_AGO: Final = 3600.0
"""Seconds past its deadline after which a boot that nobody watched is not judged any more."""


@dataclass(frozen=True)
class Boot:
    """One host, as far as its boots go."""

    host: str
    image: str
    san: str
    path: str
    """The file on the SAN."""
    disk: Disk
    deadline: int
    """Seconds."""
    reach: Reach
    """What can be done when it does not answer."""


@dataclass(frozen=True)
class Node:
    """What a node that answers says of its boot."""

    generation: str
    path: str
    """Of its root, as kenv(1) has it."""
    up: float
    """Seconds since it booted, by its own clock."""
    flaws: tuple[str, ...]
    """What is wrong with its root and memory disks."""


class Boots(Base):
    kind: ClassVar[str] = KIND

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            path, disk = path_of(desired, name), disk_of(desired, name)
            can = reach(host.spec.power)
            spec = Boot(name, host.spec.image, host.spec.san, path, disk, host.spec.reboot.deadline, can)
            yield Resource(Ref(KIND, name), name, spec, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: Boot = resource.spec
        disk = spec.disk
        memory = looks.guarded_by_disk(disk.target, disk.device, disk.mount, Script(f"df -k {' '.join(MEMORY)}"))
        return (
            Probe(spec.san, _memory(spec)),
            Probe(spec.host, looks.booted()),
            Probe(spec.host, Script("date +%s")),
            Probe(spec.host, looks.mounts()),
            # The only question of these that a disk without its SAN might hold up.
            Probe(spec.host, memory, "disk"),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: Boot = resource.spec
        remembered, *node = answers
        if isinstance(remembered, Unseen):
            raise Retry(f"cannot see what is remembered of the boots of {spec.host}: {remembered.reason}")
        clock, _, text = remembered.out.partition("\n")
        if remembered.exit not in (0, looks.ABSENT) or not clock.isdigit():
            raise Retry(f"cannot see what is remembered of the boots of {spec.host}: {last_words(remembered)}")
        state = parse(text, spec.host) if remembered.exit == 0 else None
        away = next((one for one in node[:3] if isinstance(one, Unseen)), None)
        detail = {"image": spec.image, "now": float(clock), "away": away, "node": None if away else _node(spec, node)}
        return Seen(state.facts() if state else None, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        assert seen is not None, "it is asked for only when it was seen"
        look = Look(resource.spec, world, of_facts(seen.facts), seen.detail)
        failed_or_tried = look.state.returning or look.state.tried or look.state.bad(world.desired.revision)
        if resource.ref in world.retry and failed_or_tried:
            return look.state.forgiving().facts()
        state = look.trial() if look.state.asked else look.at_rest()
        return state.facts() if state != BootState() else None

    def explain(self, change: Change) -> Explanation:
        spec: Boot = change.resource.spec
        want, have = of_facts(change.want), of_facts(change.have)
        node: Node | None = change.detail["node"]
        if want.asked and asks(change):
            from_outside = f"wake {spec.host}" if spec.reach == "wake" else f"switch {spec.host} off and on"
            how = from_outside if node is None else f"reboot {spec.host}"
            runs = _silence(change.detail["away"]) if node is None else _runs(node, want.asked)
            why = f"{_newest(have)[0]} did not prove itself there, and {runs}" if want.asked.back else runs
            again = f" ({want.asked.tries}. try)" if want.asked.tries > 1 else ""
            return Explanation(f"{how} into {want.asked.generation}{again}", why, "disruptive")
        if want.asked:
            return Explanation(f"wait anew for {spec.host}", f"the clock of {spec.san} was set back")
        if want.newly_marked(have):
            name, why = _newest(want)
            return Explanation(f"mark {name} as bad for {spec.host}", why)
        if have.asked and (want.returning or want.good != have.asked.generation):
            return Explanation(f"let {spec.host} be", "it was asked to reboot and never went down")
        if want == have.forgiving():
            return Explanation(f"forget what failed on {spec.host}", "an operator asked")
        return Explanation(f"note that {spec.host} proved {want.good}", "it booted it, and all is there")

    def steps(self, change: Change, world: World) -> Steps:
        spec: Boot = change.resource.spec
        want, have, node = of_facts(change.want), of_facts(change.have), change.detail["node"]
        if not asks(change):
            written = yield from _remember(spec, want)
            if have.asked and want.newly_marked(have):
                yield from _tell_how_far(spec, have.asked, written, world)
            return
        if node is not None:
            answer = yield Run("look once more", looks.booted(), writes=False)
            if answer.out.splitlines()[1:2] != [node.path]:
                raise Retry(f"cannot reboot {spec.host}: it booted something else since the look")
        power = world.desired.hosts[spec.host].spec.power
        # Asked first: a BMC that does not listen to us has switched nothing, and that is no try.
        found = (yield from power_of(spec.host, power)) if node is None else ""
        yield from _remember(spec, want)
        try:
            if node is None:
                yield from switched(spec.host, power, found)
            else:
                yield from reboot_over_ssh(spec.host)
        except ControllerError:
            # A way back that is refused counts as tried, or a machine would be switched for ever.
            if want.asked and not want.asked.back:
                yield from _remember(spec, have)
            raise


@dataclass(frozen=True)
class Look:
    """One host in one look: what is remembered, and what is seen."""

    spec: Boot
    world: World
    state: BootState
    detail: Facts

    @property
    def node(self) -> Node | None:
        node: Node | None = self.detail["node"]
        return node

    @property
    def away(self) -> Unseen:
        """Why there is no node."""
        away: Unseen = self.detail["away"]
        return away

    @property
    def now(self) -> float:
        return float(self.detail["now"])

    def trial(self) -> BootState:
        """A reboot was asked for: proved, failed, or still to be waited for."""
        asked = self.state.asked
        assert asked is not None
        since = self.now - asked.at
        if since < -_STEPPED:
            return self.state.waiting_anew()
        missing = list(self._missing(asked, since))
        if not missing:
            return self.state.proving(asked.generation)
        if self._over(asked, since):
            return self._judged(asked, since, missing)
        left = max(self.spec.deadline - since, 0)
        raise Wait(
            f"boots {asked.generation} since {since:.0f} s, {left:.0f} s left; still missing: {'; '.join(missing)}",
            on=f"node/{self.spec.host}",
            under_way=True,
        )

    def _over(self, asked: Asked, since: float) -> bool:
        """Whether it has had its time. What this controller has not looked at for long enough is not judged; and a node that
        came late has its time from its own boot on, but not for ever."""
        if since <= self.spec.deadline or self.world.young:
            return False
        late = self.node is not None and self.node.generation == asked.generation and self.node.up < self.spec.deadline
        return not late or since > _ENDLESS * self.spec.deadline

    def _judged(self, asked: Asked, since: float, missing: Sequence[str]) -> BootState:
        never_down = self.node is not None and self.node.up > since
        again = asked.tries < _TRIES and not self._never() and (self.node is not None or self.spec.reach != "none")
        if never_down:
            # No fault of the generation: the order was lost.
            return self.state.asking_again() if again else self.state.withdrawing()
        if not asked.back:
            return self._failing(asked.generation, missing)
        if again:
            return self.state.asking_again()
        failed, _ = _newest(self.state)
        if self.node is None and self.spec.reach == "wake":
            raise self._out_of_reach(asked.generation, "it can only be woken, which did not help")
        raise Stall(
            f"cannot bring {self.spec.host} up: neither {failed} nor {asked.generation}, which proved itself before: "
            f"{'; '.join(missing)}",
            hint="look at its console, its disk and its network; once it runs it is believed again, and "
            f"jailops retry boot/{self.spec.host} begins from the start",
        )

    def at_rest(self) -> BootState:
        """No reboot is under way: perhaps there is one to begin, or one that somebody else made to prove."""
        published = self.world.generations.get(self.spec.host)
        if published is None:
            raise Wait(f"no generation of {self.spec.image} is complete yet", on=f"image/{self.spec.image}")
        settled = self._settled(published)
        pin = self.world.desired.pins.get(self.spec.host)
        if pin and pin.generation != published and settled == self.state:
            raise Stall(
                f"cannot boot {self.spec.host} into what it is {pin}: that generation is not there, was made without it, or "
                "failed on it",
                hint="jailops status shows which there are; a newer commit takes the pin away",
            )
        return settled

    def _settled(self, published: str) -> BootState:
        if self.state.returning and (self.node is None or self.node.generation != published):
            return self._go_back(published)
        if self.node is None:
            cannot = f"cannot see what {self.spec.host} booted: {self.away.reason}"
            raise Stall(cannot, hint=self.away.hint) if self.away.hint else Retry(cannot)
        return self._go_on(published) if pending(self.world, self.spec.host) else self._by_itself()

    def _go_on(self, published: str) -> BootState:
        why = self.world.reboots.get(self.spec.host, "not decided yet")
        if why:
            raise Wait(f"RebootPending: {why}", on=f"node/{self.spec.host}")
        return self._asking(published, back=False)

    def _go_back(self, published: str) -> BootState:
        """Our reboot failed: the host is led back without asking for a window or a wave; to something new only by its policy."""
        failed, why = _newest(self.state)
        host = self.world.desired.hosts[self.spec.host].spec
        if published != self.state.good and self.node is not None:
            return self._go_on(published)
        if published in self.state.bad(self.world.desired.revision):
            raise Stall(
                f"cannot bring {self.spec.host} up: {failed} failed, and there is no earlier generation to go back to: {why}",
                hint=f"look at its console; when it is mended: jailops retry boot/{self.spec.host}",
            )
        if Ref("dhcp", host.boot_server) not in self.world.ready:
            raise Wait(f"{failed} failed; DHCP does not lead back to {published} yet", on=f"dhcp/{host.boot_server}")
        if self._never():
            raise Stall(
                f"cannot lead {self.spec.host} back to {published}: jailops never reboots it (policy never)",
                hint=f"reboot it by hand: DHCP gives it {published} now. {failed} failed: {why}",
            )
        if self.node is None and self.spec.reach == "none":
            raise self._out_of_reach(published, "its power is not ours to switch")
        return self._asking(published, back=True)

    def _never(self) -> bool:
        """Also what is under way when a push says so is not rebooted any more."""
        return self.world.desired.hosts[self.spec.host].spec.reboot.policy == "never"

    def _out_of_reach(self, generation: str, why_not: str) -> Stall:
        failed, why = _newest(self.state)
        return Stall(
            f"cannot lead {self.spec.host} back to {generation}: {_silence(self.away)}, and {why_not}",
            hint=f"switch it off and on: DHCP gives it {generation} now. {failed} failed: {why}",
        )

    def _asking(self, generation: str, *, back: bool) -> BootState:
        running = self.node.generation if self.node else ""
        jails = tuple(name for name in running_jails(self.world.desired, self.spec.host) if self._runs(name))
        desired, bad, host = self.world.desired, self.state.bad(self.world.desired.revision), self.spec.host
        gone = {one for one in self.state.failed if one not in bad and is_gone(desired, self.world.observed, host, one)}
        tried = fingerprint(desired, host)
        return self.state.forgetting(gone).asking(generation, jails, running=running, back=back, tried=tried)

    def _by_itself(self) -> BootState:
        """It runs what it should, by whoever's reboot."""
        assert self.node is not None
        bootable = bootable_by(self.world.desired, self.world.observed, self.spec.host)
        kept_as = self.world.desired.kept_as(self.spec.host)
        if same_for_host(bootable, kept_as, self.state.good, self.node.generation) and not self.state.returning:
            return self.state
        jails = tuple(
            name
            for name in running_jails(self.world.desired, self.spec.host)
            if Ref("jail", f"{self.spec.host}/{name}") in self.world.applied
        )
        missing = list(self._unproved(jails))
        if missing and self._is_ours_to_judge(self.node):
            return self._failing(self.node.generation, missing)
        if missing:
            raise Wait(
                f"runs {self.node.generation}, not proved yet: {'; '.join(missing)}", on=f"node/{self.spec.host}"
            )
        return self.state.proving(self.node.generation)

    def _is_ours_to_judge(self, node: Node) -> bool:
        """A reboot that we did not ask for is undone only where we may reboot, and not when it was long ago."""
        policy = self.world.desired.hosts[self.spec.host].spec.reboot.policy
        late = self.spec.deadline < node.up < self.spec.deadline + _LONG_AGO and not self.world.young
        return policy in ("window", "immediate") and late and self.state.good not in ("", node.generation)

    def _failing(self, generation: str, missing: Sequence[str]) -> BootState:
        why = f"not proved within {self.spec.deadline} s: {'; '.join(missing)}"
        return self.state.failing(generation, Failed(self.world.desired.revision, 0, why))

    def _missing(self, asked: Asked, since: float) -> Iterator[str]:
        """What a reboot of ours has not shown yet."""
        if self.node is None:
            yield f"{_silence(self.away)} ({self.away.reason})"
        elif self.node.up > since:
            yield "it has not gone down yet"
        elif self.node.generation != asked.generation:
            yield f"it booted {self.node.generation or 'something else'}"
        else:
            yield from self._unproved(self.state.jails)

    def _unproved(self, jails: Sequence[str]) -> Iterator[str]:
        """What a node that is up lacks. By what is there, not by what a push may want of it since."""
        assert self.node is not None
        yield from self.node.flaws
        disk = self.spec.disk
        yield from self._lacks("session", "iSCSI session", {"state": "Connected"})
        yield from self._lacks("filesystem", "file system", {"label": True, "mounted": disk.device})
        for name in running_jails(self.world.desired, self.spec.host):
            if name in jails and not self._runs(name):
                yield f"jail {name} does not run"

    def _lacks(self, kind: str, what: str, needed: Facts) -> Iterator[str]:
        ref = Ref(kind, self.spec.host)
        seen = self.world.seen(ref)
        if seen is None:
            yield f"its {what} is not seen ({self.world.observed.unknown.get(ref, 'it was not looked at')})"
        elif differs(needed, seen.facts):
            told = ", ".join(f"{name} {(seen.facts or {}).get(name)}" for name in needed)
            yield f"its {what} is not there ({told})"

    def _runs(self, jail: str) -> bool:
        seen = self.world.seen(Ref("jail", f"{self.spec.host}/{jail}"))
        return seen is not None and bool((seen.facts or {}).get("running"))


def _silence(away: Unseen) -> str:
    """Where only a person can help, somebody answers: not with the declared host key, or who does not let us in."""
    return "it cannot be looked at" if away.hint else "it does not answer"


def _memory(spec: Boot) -> Script:
    """The SAN's clock, then the file; exit 44 when there is none."""
    return lines(Script("date +%s"), looks.cat(spec.path))


def _node(spec: Boot, answers: Sequence[Answer | Unseen]) -> Node:
    booted, clock, table, space = answers
    assert isinstance(booted, Answer)
    assert isinstance(clock, Answer)
    assert isinstance(table, Answer)
    root = read_booted(spec.host, booted)
    now = float(parsed("the clock", spec.host, int, clock.out))
    mounted = parsed("mount -p", spec.host, mounts.parse_p, checked(table, "list mounts").out)
    flaws = (*_root_flaws(mounted), *_memory_flaws(spec, mounted, space))
    return Node(root.generation, root.path, max(now - root.began, 0.0), flaws)


def _root_flaws(mounted: Sequence[mounts.Mount]) -> Iterator[str]:
    root = next((one for one in mounted if one.mountpoint == "/"), None)
    if root is None or not root.read_only:
        yield "its root is not mounted read-only"


def _memory_flaws(spec: Boot, mounted: Sequence[mounts.Mount], space: Answer | Unseen) -> Iterator[str]:
    points = {one.mountpoint for one in mounted}
    missing = [path for path in MEMORY if path not in points]
    if missing:
        yield f"no memory disk is mounted on {', '.join(missing)}"
        return
    if isinstance(space, Unseen):
        yield f"the room in its memory disks is not seen ({space.reason})"
        return
    if space.exit == looks.AWAY:
        return  # The disk is not there, which is said by what looks at it.
    for one in parsed(
        "df", spec.host, kernel.df, checked(space, f"ask {spec.host} for the room in its memory disks").out
    ):
        if one.available <= 0:
            yield f"the memory disk {one.mountpoint} is full"


def _remember(spec: Boot, state: BootState) -> Generator[Step, Answer, BootState]:
    """Write it down, with the SAN's time of this moment."""
    answer = yield Run("what time is it?", Script("date +%s"), host=spec.san, writes=False)
    if answer.exit != 0 or not answer.out.strip().isdigit():
        raise Retry(f"cannot remember the boots of {spec.host}: {spec.san} does not say what time it is")
    stamped = state.stamped(float(answer.out))
    yield from _write(spec, stamped)
    return stamped


def _write(spec: Boot, state: BootState) -> Steps:
    put = put_file(spec.path, state.text(), 0o600)
    script = sh("mkdir -p -m 700 {folder} && {put}", folder=spec.path.rpartition("/")[0], put=raw(put))
    checked((yield Run("remember it on the SAN", script, host=spec.san)), f"remember the boots of {spec.host}")


def _tell_how_far(spec: Boot, asked: Asked, state: BootState, world: World) -> Steps:
    """The mark is there; it also tells how far the node came, as boot server and SAN have it in their logs.

    Since it was asked to boot, up to this moment: a look at a node that is away takes seconds, in which a boot begins.
    """
    mark = state.failed[asked.generation]
    answers = []
    for probe in timeline_probes(world.desired, spec.host):
        label = f"how far did {spec.host} come, by {probe.host}?"
        answers.append((yield Run(label, probe.script, host=probe.host, writes=False)))
    found = read_timeline(world.desired, spec.host, answers, mark.at - asked.at)
    told = replace(mark, why=f"{mark.why}; {found.reason if isinstance(found, Unseen) else found.told}")
    yield from _write(spec, replace(state, failed={**state.failed, asked.generation: told}))


def _runs(node: Node, asked: Asked) -> str:
    same = node.generation == asked.generation
    return "it takes what changed of its own only when it boots" if same else f"it runs {node.generation}"


def _newest(state: BootState) -> tuple[str, str]:
    """The generation that failed last, and why. A mark that is not written down yet is the newest."""
    name = max(state.failed, key=lambda one: state.failed[one].at or inf, default="")
    return (name, state.failed[name].why) if name else ("the generation before", "its mark is gone")
