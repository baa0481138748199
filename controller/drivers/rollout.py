"""Which hosts may be rebooted into another generation now, and why the others may not: policy, window, waves. Pure.

One decision for all hosts of a look, because each host that goes takes a place that others wait for. What is not seen counts
as away, and what is away lets nobody else go: a rollout never makes a bad day worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from controller.drivers.base import World
from controller.drivers.bootconf import owed
from controller.drivers.bootstate import KIND, state_of
from controller.drivers.effects import needs_reboot
from controller.drivers.generations import bootable_by, running_now
from controller.graph import Desired
from controller.manifests import SPREAD
from controller.model import Ref


def rollout(world: World) -> Mapping[str, str]:
    """Host that should reboot -> why not now; empty when it may."""
    decided: dict[str, str] = {}
    for host in _in_turn(world):
        going = [name for name, why in decided.items() if not why]
        decided[host] = _refusal(world, host, going)
    return decided


def pending(world: World, host: str) -> bool:
    """Whether a host runs another generation than it should, or lacks what only a boot brings, as far as that is known."""
    running, published = running_now(world.observed, host), world.generations.get(host)
    if not running or published is None:
        return False
    bootable = bootable_by(world.desired, world.observed, host)
    return bool(needs_reboot(bootable, world.desired.kept_as(host), running, published) or owed(world, host))


def running_jails(desired: Desired, host: str) -> list[str]:
    """The jails of a host that should run."""
    return [jail.name for jail in desired.jails_of(host) if jail.spec.state == "running"]


def _in_turn(world: World) -> list[str]:
    """Canaries first, then by name."""
    desired = world.desired
    waiting = [host for host in sorted(desired.hosts) if pending(world, host)]
    return sorted(waiting, key=lambda host: host not in _canaries(desired, host))


def _canaries(desired: Desired, host: str) -> Sequence[str]:
    return desired.images[desired.hosts[host].spec.image].spec.rollout.canary


def _refusal(world: World, host: str, going: Sequence[str]) -> str:
    return next(filter(None, _reasons(world, host, going)), "")


def _reasons(world: World, host: str, going: Sequence[str]) -> Iterator[str]:
    """What speaks against it, the weightiest first."""
    spec = world.desired.hosts[host].spec
    now = now_of(world, host)
    if spec.reboot.policy == "never":
        yield "jailops never reboots it (policy never), and nobody is reminded to"
    if spec.reboot.policy == "manual":
        yield "reboot it when it suits (policy manual)"
    if spec.image in world.desired.paused:
        yield f"the rollout of {spec.image} is paused; go on with: jailops rollout resume {spec.image}"
    if now is None:
        yield "what is remembered of its boots is not seen"
    elif spec.reboot.window is not None and not spec.reboot.window.open_at(now):
        opens = spec.reboot.window.next_after(now)
        yield f"its window opens {opens:%a %d %b %H:%M} ({spec.reboot.window.time_zone})"
    if Ref("dhcp", spec.boot_server) not in world.ready:
        yield f"dhcp/{spec.boot_server} is not as it should be"
    if Ref("hostshare", host) not in world.ready:
        yield f"hostshare/{host} is not as it should be"
    if disorder := _lacks(world, host):
        yield f"it is not in order itself: {disorder}; if a reboot is what mends that, reboot it by hand"
    yield from _waves(world, host, going)


def now_of(world: World, host: str) -> float | None:
    """The SAN's clock, by which all of this goes: as it was at the last look, and what has passed since."""
    seen = world.seen(Ref(KIND, host))
    return float(seen.detail["now"]) + world.age if seen else None


def _waves(world: World, host: str, going: Sequence[str]) -> Iterator[str]:
    desired = world.desired
    image = desired.hosts[host].spec.image
    canaries = _canaries(desired, host)
    if host not in canaries:
        first = [name for name in canaries if not _has_proved(world, name, world.generations.get(host))]
        if first:
            yield f"{', '.join(first)} goes first and has not proved itself yet"
    others = [one.name for one in desired.hosts_of_image(image) if one.name != host]
    away = {name: "reboots now" if name in going else _disorder(world, name) for name in others}
    away = {name: why for name, why in away.items() if why}
    most = desired.images[image].spec.rollout.max_unavailable
    if len(away) >= most:
        told = "; ".join(f"{name}: {why}" for name, why in sorted(away.items()))
        yield f"maxUnavailable of {image} is {most}, and not in order is {told}"
    yield from _spread(world, host, going)


def _spread(world: World, host: str, going: Sequence[str]) -> Iterator[str]:
    """Two jails of one group are never down together."""
    for (owner, name), jail in sorted(world.desired.jails.items()):
        group = jail.metadata.labels.get(SPREAD)
        if owner == host or not group or group not in _groups(world.desired, host) or jail.spec.state != "running":
            continue
        if owner in going or _disorder(world, owner) or Ref("jail", f"{owner}/{name}") not in world.ready:
            yield f"jail {name} on {owner}, which shares the label {SPREAD}: {group} with one of its own, is down"


def _groups(desired: Desired, host: str) -> set[str]:
    jails = [jail for jail in desired.jails_of(host) if jail.spec.state == "running"]
    return {jail.metadata.labels[SPREAD] for jail in jails if SPREAD in jail.metadata.labels}


def _has_proved(world: World, host: str, published: str | None) -> bool:
    """Whether a canary runs what another host would get, and has proved it."""
    boots, kept_as = state_of(world.observed, host), world.desired.kept_as(host)
    bootable = bootable_by(world.desired, world.observed, host)
    return (
        published is not None
        and not needs_reboot(bootable, kept_as, boots.good, published)
        and not needs_reboot(bootable, kept_as, running_now(world.observed, host), published)
        and not boots.asked
    )


def _disorder(world: World, host: str) -> str:
    """Why a host does not count as available; empty when it does."""
    boots = state_of(world.observed, host)
    if boots.asked:
        return f"it boots {boots.asked.generation}"
    if boots.returning:
        return "it is being led back"
    return _lacks(world, host)


def _lacks(world: World, host: str) -> str:
    """What a host lacks of what a reboot does not bring. Not that it is being led back: something newer may mend it."""
    if not running_now(world.observed, host):
        return "it is not seen"
    needed = [Ref("session", host), Ref("filesystem", host)]
    needed += [Ref("jail", f"{host}/{name}") for name in running_jails(world.desired, host)]
    missing = [str(ref) for ref in needed if ref not in world.ready]
    return f"{missing[0]} is not as it should be" if missing else ""
