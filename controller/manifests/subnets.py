"""Addresses lie in their networks. Pure cross-checks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from controller.manifests.load import AnyManifest, Manifest
from controller.manifests.models import HostSpec
from controller.manifests.world import World, problem
from controller.problem import Problem, quoted
from controller.trees import Path


def subnets(world: World) -> Iterator[Problem]:
    for host in world.hosts:
        yield from _host(world, host)
    for jail in world.jails:
        on = world.host.get(jail.spec.host)
        if on is not None:
            network, where = on.spec.address.network, f"the network of {on}"
            for index, address in enumerate(jail.spec.addresses):
                yield from _inside(jail, ("spec", "addresses", index), address, network, where)


def _host(world: World, host: Manifest[HostSpec]) -> Iterator[Problem]:
    spec = host.spec
    network = spec.address.network
    yield from _inside(host, ("spec", "address"), spec.address.ip, network, "its network")
    yield from _inside(host, ("spec", "gateway"), spec.gateway, network, "the host's network")
    boot = world.boot_server.get(spec.boot_server)
    if boot is not None and spec.address.ip not in boot.spec.dhcp.subnet:
        expected = f"an address in {boot.spec.dhcp.subnet}, which {boot} serves ({boot.at('spec', 'dhcp', 'subnet')})"
        yield problem(host, ("spec", "address"), quoted(str(spec.address)), expected)


def _inside(one: AnyManifest, path: Path, address: IPv4Address, network: IPv4Network, where: str) -> Iterator[Problem]:
    if address not in network:
        yield problem(one, path, quoted(str(address)), f"an address in {network}, {where}")
    elif address == network.network_address:
        yield problem(one, path, quoted(str(address)), f"another address: it is the network's own ({network})")
    elif address == network.broadcast_address:
        yield problem(one, path, quoted(str(address)), f"another address: it is the broadcast address of {network}")
