"""One owner for each thing: names, MAC and IP addresses, host names, initiators, labels. Pure cross-checks.

The one that is looked at first is the owner (servers, then hosts, then jails, each in the order of the files); each later
one is a problem that names both places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.encode.names import safename
from controller.manifests.load import AnyManifest, Manifest
from controller.manifests.models import HostSpec, JailSpec
from controller.manifests.problem import Problem, quoted
from controller.manifests.world import World, problem, taken
from controller.manifests.yamltree import Path

_NAME: Path = ("metadata", "name")


@dataclass(frozen=True, slots=True)
class Claim:
    """An object says, in some field, that something is its own. `key` is what must not be claimed twice."""

    key: object
    found: str
    owner: AnyManifest
    path: Path


def names(objects: Iterable[AnyManifest]) -> Iterator[Problem]:
    """Objects that are declared twice."""
    claims = (Claim(str(one), quoted(one.name), one, _NAME) for one in objects)
    yield from _disputed(claims, "a name that no other object of its kind has")


def owners(world: World) -> Iterator[Problem]:
    """What different objects both claim. Wants each object once."""
    yield from _disputed(_sites(world), "one Site at most")
    yield from _disputed(_macs(world), "a MAC address that no other host has")
    yield from _disputed(_hostnames(world), "a host name that nothing else has")
    yield from _disputed(_initiators(world), "an initiator that no other host has")
    yield from _disputed(_labels(world), "a label that no other disk of this San has")
    yield from _disputed(
        _collapsed(world), "a name that differs on its host when every sign outside A-Z, a-z, 0-9 is '_'"
    )
    yield from _servers(world)
    yield from _addresses(world)


def _disputed(claims: Iterable[Claim], expected: str) -> Iterator[Problem]:
    first: dict[object, Claim] = {}
    for claim in claims:
        holder = first.setdefault(claim.key, claim)
        if holder is not claim:
            yield problem(claim.owner, claim.path, claim.found, f"{expected} ({taken(holder.owner, holder.path)})")


def _sites(world: World) -> Iterator[Claim]:
    return (Claim("Site", "another Site", one, ("kind",)) for one in world.sites)


def _hosts(world: World, field: str, value: Callable[[HostSpec], str]) -> Iterator[Claim]:
    for one in world.hosts:
        yield Claim(value(one.spec).lower(), quoted(value(one.spec)), one, ("spec", field))


def _macs(world: World) -> Iterator[Claim]:
    return _hosts(world, "mac", lambda spec: spec.mac)


def _initiators(world: World) -> Iterator[Claim]:
    return _hosts(world, "initiator", lambda spec: spec.initiator)


def _hostnames(world: World) -> Iterator[Claim]:
    declared: tuple[Manifest[HostSpec] | Manifest[JailSpec], ...] = (*world.hosts, *world.jails)
    for one in declared:
        path = ("spec", "hostname") if one.says("spec", "hostname") else _NAME
        yield Claim(one.spec.hostname.lower(), quoted(one.spec.hostname), one, path)


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
    first: dict[tuple[IPv4Address, int], AnyManifest] = {}
    keys: dict[tuple[IPv4Address, int], str] = {}
    path = ("spec", "ssh", "hostKey")
    for one in world.servers:
        ssh = one.spec.ssh
        machine = (ssh.address, ssh.port)
        owner = first.setdefault(machine, one)
        if keys.setdefault(machine, ssh.host_key) != ssh.host_key:
            expected = f"the key that {owner} gives the same machine at {owner.at(*path)}"
            yield problem(one, path, "another host key", expected)


def _addresses(world: World) -> Iterator[Problem]:
    """Infrastructure first: a node or a jail that takes one of its addresses cuts off more than itself."""
    used = _infrastructure(world)
    for host in world.hosts:
        address, path = host.spec.address.ip, ("spec", "address")
        if address in used:
            yield problem(
                host, path, quoted(str(address)), f"an address of its own; this one belongs to {used[address]}"
            )
        used.setdefault(address, f"{host} ({host.at(*path)})")
    yield from _jail_addresses(world, used)


def _jail_addresses(world: World, used: Mapping[IPv4Address, str]) -> Iterator[Problem]:
    jails: dict[IPv4Address, str] = {}
    for jail in world.jails:
        for index, address in enumerate(jail.spec.addresses):
            path = ("spec", "addresses", index)
            if address in used:
                expected = f"another address: a jail on this one would cut off {used[address]}"
                yield problem(jail, path, quoted(str(address)), expected)
            elif address in jails:
                yield problem(
                    jail, path, quoted(str(address)), f"an address of its own; this one belongs to {jails[address]}"
                )
            jails.setdefault(address, f"{jail} ({jail.at(*path)})")


def _infrastructure(world: World) -> dict[IPv4Address, str]:
    """Each address that keeps the rest alive, with who has it."""
    used = dict.fromkeys(world.controller, "the controller")
    for owner, path, address in _server_addresses(world):
        used.setdefault(address, f"{owner} ({owner.at(*path)})")
    for host in world.hosts:
        used.setdefault(host.spec.gateway, f"the gateway of {host} ({host.at('spec', 'gateway')})")
    return used


def _server_addresses(world: World) -> Iterator[tuple[AnyManifest, Path, IPv4Address]]:
    for one in world.servers:
        yield one, ("spec", "ssh", "address"), one.spec.ssh.address
    for san in world.sans:
        yield san, ("spec", "nfs", "address"), san.spec.nfs.address
        yield san, ("spec", "iscsi", "portal"), san.spec.iscsi.portal.address
    for boot in world.boot_servers:
        yield boot, ("spec", "tftp", "address"), boot.spec.tftp.address
