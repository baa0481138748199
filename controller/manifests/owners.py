"""One owner for each thing: names, MAC and IP addresses, host names, initiators, labels. Pure cross-checks.

The one that is looked at first is the owner (servers, then hosts, then jails, each in the order of the files, and documents
that are not valid last); each later one is a problem that names both places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from controller.encode.names import safename
from controller.manifests.base import Ssh
from controller.manifests.load import AnyManifest, Manifest
from controller.manifests.models import HostSpec, JailSpec
from controller.manifests.world import Declared, World, problem, taken
from controller.problem import Problem, quoted
from controller.trees import Path

_NAME: Path = ("metadata", "name")
_VM: Path = ("spec", "vm")


@dataclass(frozen=True, slots=True)
class Claim:
    """An object says, in some field, that something is its own. `key` is what must not be claimed twice."""

    key: object
    found: str
    owner: Declared
    path: Path


def names(objects: Iterable[Declared]) -> Iterator[Problem]:
    """Objects that are declared twice."""
    claims = (Claim(str(one), quoted(one.name), one, _NAME) for one in objects)
    yield from _disputed(claims, "a name that no other object of its kind has")


def owners(world: World) -> Iterator[Problem]:
    """What different objects both claim. Wants each object once."""
    yield from _disputed(_sites(world), "one Site at most")
    yield from _disputed(_macs(world), "a MAC address that no other host has")
    yield from _disputed(_vms(world), "one that no other build VM of this hypervisor has")
    yield from _disputed(_hostnames(world), "a host name that nothing else has")
    yield from _disputed(_first_names(world), "the first name of no other host: its disk is kept under it")
    yield from _disputed(_initiators(world), "an initiator that no other host has")
    yield from _disputed(
        _chap_users(world), "a CHAP user that no other disk of this San has: tgt keeps one list for all targets"
    )
    yield from _disputed(_labels(world), "a label that no other disk of this San has")
    yield from _disputed(
        _collapsed(world), "a name that differs on its host when every sign outside A-Z, a-z, 0-9 is '_'"
    )
    yield from _disputed(_bmcs(world), "a BMC, and a system of it, that no other host is switched by")
    yield from _servers(world)
    yield from _addresses(world)
    yield from _switches(world)


def _disputed(claims: Iterable[Claim], expected: str) -> Iterator[Problem]:
    first: dict[object, Claim] = {}
    for claim in claims:
        holder = first.setdefault(claim.key, claim)
        if holder is not claim:
            yield problem(claim.owner, claim.path, claim.found, f"{expected} ({taken(holder.owner, holder.path)})")


def _sites(world: World) -> Iterator[Claim]:
    declared: tuple[Declared, ...] = (*world.sites, *(draft for draft in world.drafts if draft.kind == "Site"))
    return (Claim("Site", "another Site", one, ("kind",)) for one in declared)


def _hosts(world: World, field: str, value: Callable[[HostSpec], str]) -> Iterator[Claim]:
    for one in world.hosts:
        yield Claim(value(one.spec).lower(), quoted(value(one.spec)), one, ("spec", field))
    yield from _drafted(world, "spec", field)


def _drafted(world: World, *path: str) -> Iterator[Claim]:
    """The text that documents say in one field which are not valid in others."""
    for one in world.drafts:
        if path in one.said:
            yield Claim(one.said[path].lower(), quoted(one.said[path]), one, path)


def _macs(world: World) -> Iterator[Claim]:
    for vm in world.build_vms:
        if vm.spec.vm is not None and vm.spec.vm.qemu is not None:
            mac = vm.spec.vm.qemu.mac
            yield Claim(mac, quoted(mac), vm, (*_VM, "qemu", "mac"))
    yield from _drafted(world, "spec", "vm", "qemu", "mac")
    yield from _hosts(world, "mac", lambda spec: spec.mac)


def _vms(world: World) -> Iterator[Claim]:
    """Two virtual machines on one disk image destroy it."""
    for one in world.build_vms:
        vm = one.spec.vm
        if vm is None:
            continue
        blocks = {"qemu": ("disk", "tap", "vnc"), "libvirt": ("domain",)}
        for field in blocks[vm.kind]:
            value = getattr(getattr(vm, vm.kind), field)
            if value is not None:
                yield Claim((vm.hypervisor.ssh.address, field, value), quoted(str(value)), one, (*_VM, vm.kind, field))


def _first_names(world: World) -> Iterator[Claim]:
    for one in world.hosts:
        if one.spec.previous is not None:
            yield Claim(one.spec.previous, quoted(one.spec.previous), one, ("spec", "previous"))


def _initiators(world: World) -> Iterator[Claim]:
    return _hosts(world, "initiator", lambda spec: spec.initiator)


def _hostnames(world: World) -> Iterator[Claim]:
    declared: tuple[Manifest[HostSpec] | Manifest[JailSpec], ...] = (*world.hosts, *world.jails)
    for one in declared:
        path = ("spec", "hostname") if one.says("spec", "hostname") else _NAME
        yield Claim(one.spec.hostname.lower(), quoted(one.spec.hostname), one, path)
    for claim in _drafted(world, "spec", "hostname"):
        yield claim if claim.owner.says(*claim.path) else replace(claim, path=_NAME)


def _chap_users(world: World) -> Iterator[Claim]:
    for one in world.hosts:
        chap = one.spec.jail_disk.chap
        if chap is not None:
            yield Claim((one.spec.san, chap.user), quoted(chap.user), one, ("spec", "jailDisk", "chap", "user"))


def _labels(world: World) -> Iterator[Claim]:
    """Labels that are written down. The default one is the same everywhere, each on a disk of its own."""
    path = ("spec", "jailDisk", "label")
    for one in world.hosts:
        if one.says(*path):
            yield Claim((one.spec.san, one.spec.jail_disk.label), quoted(one.spec.jail_disk.label), one, path)


def _collapsed(world: World) -> Iterator[Claim]:
    for jail in world.jails:
        found = f"{quoted(jail.name)}, which is {quoted(safename(jail.name))} there"
        yield Claim((jail.spec.host, safename(jail.name)), found, jail, _NAME)


def _servers(world: World) -> Iterator[Problem]:
    """A machine may have several roles, but each one once, and it has one host key."""
    path = ("spec", "ssh", "address")
    claims = [
        Claim((one.kind, one.spec.ssh.address, one.spec.ssh.port), quoted(str(one.spec.ssh.address)), one, path)
        for one in world.servers
    ]
    yield from _disputed(claims, "a machine that no other object of this kind drives")
    yield from _host_keys(world)


def _host_keys(world: World) -> Iterator[Problem]:
    first: dict[tuple[IPv4Address, int], tuple[AnyManifest, Path]] = {}
    keys: dict[tuple[IPv4Address, int], str] = {}
    for one, path, ssh in _machines(world):
        machine = (ssh.address, ssh.port)
        owner, place = first.setdefault(machine, (one, path))
        if keys.setdefault(machine, ssh.host_key) != ssh.host_key:
            expected = f"the key that {owner} gives the same machine at {owner.at(*place, 'hostKey')}"
            yield problem(one, (*path, "hostKey"), "another host key", expected)


def _machines(world: World) -> Iterator[tuple[AnyManifest, Path, Ssh]]:
    for one in world.servers:
        yield one, ("spec", "ssh"), one.spec.ssh
    for vm in world.build_vms:
        if vm.spec.vm is not None:
            yield vm, (*_VM, "hypervisor", "ssh"), vm.spec.vm.hypervisor.ssh


def _addresses(world: World) -> Iterator[Problem]:
    """Infrastructure first: a node or a jail that takes one of its addresses cuts off more than itself."""
    used = _infrastructure(world)
    for host, path, address in _host_addresses(world):
        if address in used:
            yield problem(
                host, path, quoted(str(address)), f"an address of its own; this one belongs to {used[address]}"
            )
        used.setdefault(address, f"{host} ({host.at(*path)})")
    jails: dict[IPv4Address, str] = {}
    for jail, path, address in _jail_addresses(world):
        if address in used:
            expected = f"another address: a jail on this one would cut off {used[address]}"
            yield problem(jail, path, quoted(str(address)), expected)
        elif address in jails:
            yield problem(
                jail, path, quoted(str(address)), f"an address of its own; this one belongs to {jails[address]}"
            )
        jails.setdefault(address, f"{jail} ({jail.at(*path)})")


def _host_addresses(world: World) -> Iterator[tuple[Declared, Path, IPv4Address]]:
    for host in world.hosts:
        yield host, ("spec", "address"), host.spec.address.ip
    for one in world.drafts:
        if ("spec", "address") in one.said:
            yield one, ("spec", "address"), one.said["spec", "address"].ip


def _jail_addresses(world: World) -> Iterator[tuple[Declared, Path, IPv4Address]]:
    for jail in world.jails:
        for index, address in enumerate(jail.spec.addresses):
            yield jail, ("spec", "addresses", index), address
    for one in world.drafts:
        yield from ((one, path, address) for path, address in one.said.items() if path[:2] == ("spec", "addresses"))


def _infrastructure(world: World) -> dict[IPv4Address, str]:
    """Each address that keeps the rest alive, with who has it."""
    used = dict.fromkeys(world.controller, "the controller")
    for owner, path, address in _server_addresses(world):
        used.setdefault(address, f"{owner} ({owner.at(*path)})")
    for host in world.hosts:
        used.setdefault(host.spec.gateway, f"the gateway of {host} ({host.at('spec', 'gateway')})")
    return used


def _server_addresses(world: World) -> Iterator[tuple[Declared, Path, IPv4Address]]:
    for one, path, ssh in _machines(world):
        yield one, (*path, "address"), ssh.address
    for san in world.sans:
        yield san, ("spec", "nfs", "address"), san.spec.nfs.address
        yield san, ("spec", "iscsi", "portal"), san.spec.iscsi.portal.address
    for boot in world.boot_servers:
        yield boot, ("spec", "tftp", "address"), boot.spec.tftp.address
    for draft in world.drafts:
        if ("spec", "ssh", "address") in draft.said:
            yield draft, ("spec", "ssh", "address"), draft.said["spec", "ssh", "address"]


def _bmcs(world: World) -> Iterator[Claim]:
    """Two hosts with one switch: whoever switches the one off switches off the other."""
    for one in world.hosts:
        power = one.spec.power
        if power is not None and power.ipmi is not None:
            where = f"{power.ipmi.address}:{power.ipmi.port}"
            yield Claim(("ipmi", where), quoted(where), one, ("spec", "power", "ipmi", "address"))
        if power is not None and power.redfish is not None:
            where, system = str(power.redfish.url), power.redfish.system
            found = f"system {quoted(system)} of {where}"
            yield Claim(("redfish", where, system), found, one, ("spec", "power", "redfish", "system"))


def _switches(world: World) -> Iterator[Problem]:
    """A switch that goes off with what it switches, or with a jail, is none."""
    used = _inhabitants(world)
    for one in world.hosts:
        for path, address in _switch_addresses(one):
            if address in used:
                expected = f"an address that stays when hosts and jails go; this one belongs to {used[address]}"
                yield problem(one, path, quoted(address), expected)


def _inhabitants(world: World) -> dict[str, str]:
    """Every address and host name that hosts and jails have."""
    used: dict[str, str] = {}
    for host in world.hosts:
        used.setdefault(str(host.spec.address.ip), f"{host} ({host.at('spec', 'address')})")
    for jail in world.jails:
        for index, address in enumerate(jail.spec.addresses):
            used.setdefault(str(address), f"{jail} ({jail.at('spec', 'addresses', index)})")
    declared: tuple[Manifest[HostSpec] | Manifest[JailSpec], ...] = (*world.hosts, *world.jails)
    for one in declared:
        used.setdefault(one.spec.hostname.lower(), f"{one} ({one.at('spec', 'hostname')})")
    return used


def _switch_addresses(host: Manifest[HostSpec]) -> Iterator[tuple[Path, str]]:
    power = host.spec.power
    if power is not None and power.wake_on_lan is not None:
        yield ("spec", "power", "wakeOnLan", "broadcast"), str(power.wake_on_lan.broadcast)
    if power is not None and power.ipmi is not None:
        yield ("spec", "power", "ipmi", "address"), str(power.ipmi.address)
    if power is not None and power.redfish is not None:
        yield ("spec", "power", "redfish", "url"), power.redfish.url.host
