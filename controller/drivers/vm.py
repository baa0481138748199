"""Build VMs that are switched on when a build needs them and off again when they are idle.

Two machines are asked: the hypervisor, whether the VM runs and what was last asked of it; and the VM, what goes on there. It is
wanted on while an image has work for it, and off once nothing was built there and nobody was logged in for a while. Everything
that is not known speaks for leaving it as it is. Off is asked for by the ACPI power button; nothing here kills a VM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers.base import Base, Explanation, World, checked, last_words
from controller.drivers.builds import layers_on, needs_build_vm
from controller.drivers.power import KIND, Switch, switch
from controller.encode.vm import (
    Inside,
    Power,
    Qemu,
    inside_script,
    parse_inside,
    parse_power,
    proof_script,
    start_script,
    stop_script,
)
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Observed, Probe, Progress, Ref, Resource, Run, Seen, Steps, Unseen

_SETTLING = 20
"""Seconds that must lie between two starts: a VM that ends at once is tried again with the pauses of a failure."""
ON, OFF = {"power": "on"}, {"power": "off"}


@dataclass(frozen=True)
class BuildVm:
    name: str
    power: Switch
    jobs: str
    """Where jobs are kept on the VM."""
    idle: int
    """Seconds after which it is shut down."""
    layers: tuple[Ref, ...]
    """What is built on it."""


class VmPower(Base):
    kind: ClassVar[str] = KIND

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, manifest in sorted(desired.build_vms.items()):
            power = switch(desired, name)
            if power is None or manifest.spec.vm is None:
                continue
            layers = tuple(one.ref for one in layers_on(desired, name))
            spec = BuildVm(name, power, f"{manifest.spec.work_dir}/jobs", manifest.spec.vm.idle, layers)
            yield Resource(power.ref, power.hypervisor, spec, origin=manifest.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: BuildVm = resource.spec
        return spec.power.probe, Probe(spec.name, inside_script(spec.jobs))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: BuildVm = resource.spec
        outside, within = answers
        if isinstance(outside, Unseen):
            return _without_hypervisor(spec, outside, within)
        power = parse_power(outside, spec.name)
        inside = None if isinstance(within, Unseen) else parse_inside(within, spec.name)
        if power.ending or (_told(spec, power, "stop") and not _booted_since(inside, power)):
            return Seen(ON, busy=Progress("shutting down", started=power.at or None), detail={"atRest": True})
        if inside is not None:
            return Seen(ON, detail=_goings_on(spec, inside, power))
        if not power.on:
            says = "off: is started when a build needs it"
            failed = " (its last run ended in a failure)" if power.word in ("failed", "crashed") else ""
            # A start that it did not survive is told from one that changed nothing by when it was.
            facts = OFF | ({"asked": f"{power.asked} {power.at}"} if power.asked else {})
            return Seen(facts, detail={"atRest": True, "says": says + failed})
        assert isinstance(within, Unseen)
        if within.hint:
            raise Stall(within.reason, hint=within.hint)
        if _told(spec, power, "start"):
            busy = Progress("starting: its sshd does not answer yet", started=float(power.at))
            return Seen(ON, busy=busy, detail={"atRest": True})
        raise Retry(
            f"cannot use {spec.name}: it is {power.word} on {resource.host}, and its sshd does not answer; look at its "
            f"screen{_screen(spec)}: {within.reason}"
        )

    def want(self, resource: Resource, world: World) -> Facts | None:
        spec: BuildVm = resource.spec
        seen = world.seen(resource.ref)
        have = {"power": (seen.facts or OFF)["power"]} if seen else OFF
        needs = [needs_build_vm(ref, world) for ref in spec.layers]
        if True in needs:
            return ON
        if seen is None or seen.busy is not None or None in needs or not seen.detail.get("mayStop", False):
            return have
        if seen.detail["ignored"] and resource.ref not in world.retry:
            raise Stall(
                f"cannot shut down {spec.name}: its power button was pressed, and it is still on",
                hint=f"look at its screen{_screen(spec)}; nothing cuts its power but you. It is tried again after "
                f"another {_minutes(spec.idle)}, or with: jailops retry {resource.ref}",
            )
        return OFF

    def explain(self, change: Change) -> Explanation:
        spec: BuildVm = change.resource.spec
        if change.want == ON:
            return Explanation(f"start build VM {spec.name}", "a build needs it")
        return Explanation(f"shut down build VM {spec.name}", f"it was idle for {_minutes(spec.idle)}")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        return _start(change.resource) if change.want == ON else _stop(change.resource)


def at_rest(observed: Observed) -> frozenset[str]:
    """The build VMs that do not answer because they are off, or on their way, as they should be: nobody is alarmed."""
    return frozenset(
        ref.name for ref, seen in observed.seen.items() if ref.kind == KIND and seen.detail.get("atRest", False)
    )


def _without_hypervisor(spec: BuildVm, outside: Unseen, within: Answer | Unseen) -> Seen:
    """A VM that answers is on, whatever the hypervisor does; it cannot be shut down then."""
    if not isinstance(within, Unseen):
        return Seen(ON, detail={"mayStop": False, "says": f"on; its hypervisor cannot be asked: {outside.reason}"})
    if outside.hint:
        raise Stall(outside.reason, hint=outside.hint)
    raise Retry(f"cannot see whether {spec.name} runs: {outside.reason}")


def _goings_on(spec: BuildVm, inside: Inside, power: Power) -> dict[str, Any]:
    """What a look at a VM that answers comes to."""
    idle = not inside.jobs and not inside.people and inside.idle >= spec.idle
    if inside.jobs:
        says = f"on: {', '.join(inside.jobs)} runs"
    elif inside.people:
        says = f"on: {', '.join(inside.people)} is logged in"
    elif idle:
        says = f"on, idle for {_minutes(inside.idle)}: is kept on while an image of it has failed or is not known"
    else:
        says = f"on, idle for {_minutes(inside.idle)}: is shut down after {_minutes(spec.idle)}"
    if not power.on:
        says = f"on, and not as the manifest says (there it is {power.word}): shut it down by hand"
    return {
        "says": says,
        "mayStop": idle and power.on,
        "ignored": power.asked == "stop"
        and power.since < spec.power.boot_timeout + spec.idle
        and not _booted_since(inside, power),
    }


def _booted_since(inside: Inside | None, power: Power) -> bool:
    """Whether it was started after something was last asked of it: two durations, each by one machine's own clock."""
    return inside is not None and inside.uptime < power.since


def _told(spec: BuildVm, power: Power, asked: str) -> bool:
    return power.on and power.asked == asked and spec.power.under_way(power)


def _start(resource: Resource) -> Steps:
    spec: BuildVm = resource.spec
    machine = spec.power.machine
    answer = yield Run("look once more", spec.power.probe.script, writes=False)
    power = parse_power(answer, spec.name)
    if power.on:
        return
    if power.asked == "start" and power.since < _SETTLING:
        raise Retry(
            f"cannot start {spec.name} again so soon: it ended by itself within {power.since} s of its last start"
        )
    checked((yield Run(f"start {spec.name}", start_script(machine))), f"start {spec.name}")
    checked((yield Run("see it run", proof_script(machine), writes=False)), f"start {spec.name}")


def _stop(resource: Resource) -> Steps:
    """Somebody may have logged in, and a job begun, since the look on which this was decided."""
    spec: BuildVm = resource.spec
    answer = yield Run("look once more", inside_script(spec.jobs), host=spec.name, writes=False)
    inside = parse_inside(answer, spec.name)
    if inside.jobs or inside.people:
        return
    pressed = yield Run("press its power button", stop_script(spec.power.machine))
    if pressed.exit != 0:
        raise Retry(f"cannot shut down {spec.name}: {last_words(pressed)}")


def _screen(spec: BuildVm) -> str:
    machine = spec.power.machine
    if isinstance(machine, Qemu) and machine.vnc is not None:
        return f" (VNC display {machine.vnc} on 127.0.0.1 of {spec.power.hypervisor})"
    return ""


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
