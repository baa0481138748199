"""What a node took at its last boot from DHCP and from its own share, against what its next boot would bring it.

A changed gateway or host name reaches the boot server and the share at once, and the running node only when it boots.
Seen on the node itself: kenv(1) holds what the loader was told, the memory /etc what rc.initdiskless brought. What other
drivers apply live (services, addresses, jails) is theirs. Nothing is done here: `boot` reboots.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, last_words, parsed
from controller.drivers.bootstate import state_of
from controller.drivers.effects import REBOOT, applied_live, of_rc_conf, told
from controller.drivers.hostshare import disk_line, own_rc_conf
from controller.drivers.memory import read_settings
from controller.encode import fstab, kernel
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired
from controller.model import Answer, Change, Difference, Facts, Probe, Ref, Resource, Script, Seen, Steps, Unseen

KIND: Final = "bootconf"
_RC, _FSTAB, _RESOLV = "/etc/rc.conf.local", "/etc/fstab", "/etc/resolv.conf"
_LOADER: Final = {"ip": "address", "netmask": "netmask", "gateway": "gateway"}
"""``boot.netif.*`` of kenv(1) -> field of the Host. Not hwaddr: no reboot gives a machine another card, and one with another
MAC than its entry would not come back."""
_FIELDS: Final = {"hostname": "hostname", "jailops_disk_label": "jailDisk.label"}
"""Variables of rc.conf.local that stand for a field of the Host; all others are its rcConf."""
_OF_OTHERS: Final = re.compile(r"ifconfig_\w+_alias[0-9]+|jail_enable|jail_list")
"""Variables that only repeat at boot what drivers of addresses and jails keep true while the node runs."""


class BootConf(Base):
    kind: ClassVar[str] = KIND

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            yield Resource(Ref(KIND, name), name, None, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        loader = Script("kenv | grep '^boot\\.netif\\.'; :")
        return tuple(
            Probe(resource.host, one) for one in (loader, *(looks.cat(path) for path in (_RC, _FSTAB, _RESOLV)))
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        loader, settings, table, resolver = answered(answers)
        host = resource.host
        variables = parsed("kenv", host, kernel.kenv, loader.out)
        facts = {field: value for name, field in _LOADER.items() if (value := variables.get(f"boot.netif.{name}", ""))}
        facts |= _settings(read_settings(_RC, host, settings) or {})
        facts["jailDisk"] = fstab.render(parsed(_FSTAB, host, fstab.parse, _text(_FSTAB, host, table))).strip()
        return Seen(facts | _resolver(_text(_RESOLV, host, resolver)))

    def want(self, resource: Resource, world: World) -> Facts | None:
        host = resource.host
        own = _own(world, host)
        assert own is not None, "it is asked for only when it was seen"
        if not own.differences:
            return own.wanted
        changes = told(own.differences)
        if own.by_hand:
            raise Wait(
                f"changed by hand since it booted, its next boot brings it back: {changes}",
                on=str(resource.ref),
            )
        if own.tried:
            raise Stall(
                f"cannot bring {host} what its manifest says: it was rebooted for it, and it is as before: {changes}",
                hint=f"compare its DHCP entry and its own share with the files on the node, then: jailops retry boot/{host}",
            )
        raise Wait(f"RebootPending: a reboot would change: {changes}", on=str(Ref("node", host)))

    def explain(self, change: Change) -> Explanation:
        return Explanation(f"nothing is done to {change.ref}", "boot reboots it", "disruptive")

    def steps(self, change: Change, world: World) -> Steps:
        del change, world
        yield from ()


def booted_with(desired: Desired, host: str) -> dict[str, str]:
    """Field of the Host -> what its next boot brings."""
    spec = desired.hosts[host].spec
    return {
        "address": desired.host_address(host),
        "netmask": str(spec.address.netmask),
        "gateway": str(spec.gateway),
        **_settings(own_rc_conf(desired, host)),
        "jailDisk": fstab.render([disk_line(spec)]).strip(),
        "nameservers": " ".join(str(one) for one in spec.nameservers),
        "domain": spec.domain or "",
    }


def owed(world: World, host: str) -> list[Difference]:
    """What only a reboot brings a running host of its own fields; nothing that one has failed to bring already, or that
    somebody changed on the node: that is no reason to take its jails down."""
    own = _own(world, host)
    return [] if own is None or own.by_hand or own.tried else own.differences


class _Own(NamedTuple):
    """A node's own fields in one look."""

    wanted: Facts
    differences: list[Difference]
    by_hand: bool
    """It had all of this once: what differs was changed there."""
    tried: bool
    """It has been rebooted for it, and is not being rebooted now."""


def _own(world: World, host: str) -> _Own | None:
    """None when it was not seen."""
    ref = Ref(KIND, host)
    seen = world.seen(ref)
    if seen is None:
        return None
    have: Facts = seen.facts or {}
    wanted = {name: value for name, value in booted_with(world.desired, host).items() if _is_said(name, have)}
    boots = state_of(world.observed, host)
    tried = boots.asked is None and boots.tried == fingerprint(world.desired, host)
    return _Own(wanted, _differences(wanted, have), world.applied.get(ref) == wanted, tried)


def fingerprint(desired: Desired, host: str) -> str:
    """What a reboot is asked for with: the same again is not asked for twice."""
    return hashlib.sha256(repr(sorted(booted_with(desired, host).items())).encode()).hexdigest()[:12]


def _differences(wanted: Mapping[str, str], have: Facts) -> list[Difference]:
    gone = [name for name in have if name not in wanted and name.startswith("rcConf.")]
    return [
        Difference(name, str(have.get(name, "")), wanted.get(name, ""), REBOOT)
        for name in sorted({*wanted, *gone})
        if have.get(name, "") != wanted.get(name, "")
    ]


def _is_said(name: str, have: Facts) -> bool:
    """A loader that says nothing of its card proves no difference."""
    return name in have or name not in _LOADER.values()


def _settings(found: Mapping[str, str]) -> dict[str, str]:
    """What only a boot takes of rc.conf.local."""
    waits = {
        name: value
        for name, value in found.items()
        if not applied_live(of_rc_conf(name)) and not _OF_OTHERS.fullmatch(name)
    }
    return {_FIELDS.get(name, f"rcConf.{name}"): value for name, value in waits.items()}


def _resolver(text: str) -> dict[str, str]:
    """resolv.conf(5), as far as a manifest says it."""
    words = [line.split() for line in text.splitlines()]
    return {
        "nameservers": " ".join(one[1] for one in words if len(one) > 1 and one[0] == "nameserver"),
        "domain": " ".join(word for one in words if one[:1] == ["search"] for word in one[1:]),
    }


def _text(path: str, host: str, answer: Answer) -> str:
    if answer.exit not in (0, looks.ABSENT):
        raise Retry(f"cannot read {path} of {host}: {last_words(answer)}")
    return answer.out if answer.exit == 0 else ""
