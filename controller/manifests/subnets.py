"""Addresses lie in their networks. Pure cross-checks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from controller.manifests.world import Declared, World, problem
from controller.problem import Problem, quoted
from controller.trees import Path


def subnets(world: World) -> Iterator[Problem]:
    """Of documents that are not valid, as far as these fields are good by themselves."""
    networks: dict[str, tuple[IPv4Network, Declared]] = {}
    for host, address, gateway, boot in _hosts(world):
        if address is not None:
            networks.setdefault(host.name, (address.network, host))
            yield from _host(world, host, address, gateway, boot)
    for jail, name, index, ip in _jails(world):
        if name and name in networks:
            network, on = networks[name]
            yield from _inside(jail, ("spec", "addresses", index), ip, network, f"the network of {on}")


def _hosts(world: World) -> Iterator[tuple[Declared, IPv4Interface | None, IPv4Address | None, str]]:
    for host in world.hosts:
        yield host, host.spec.address, host.spec.gateway, host.spec.boot_server
    for draft in world.drafts:
        if draft.kind == "Host":
            said = {path[-1]: value for path, value in draft.said.items()}
            yield draft, said.get("address"), said.get("gateway"), said.get("bootServer", "")


def _jails(world: World) -> Iterator[tuple[Declared, str, int, IPv4Address]]:
    for jail in world.jails:
        for index, address in enumerate(jail.spec.addresses):
            yield jail, jail.spec.host, index, address
    for draft in world.drafts:
        if draft.kind == "Jail":
            for index, address in draft.listed("spec", "addresses"):
                yield draft, draft.host, index, address


def _host(
    world: World, host: Declared, address: IPv4Interface, gateway: IPv4Address | None, boot_server: str
) -> Iterator[Problem]:
    network = address.network
    yield from _inside(host, ("spec", "address"), address.ip, network, "its network")
    if gateway is not None:
        yield from _inside(host, ("spec", "gateway"), gateway, network, "the host's network")
    boot = world.boot_server.get(boot_server)
    if boot is not None and address.ip not in boot.spec.dhcp.subnet:
        expected = f"an address in {boot.spec.dhcp.subnet}, which {boot} serves ({boot.at('spec', 'dhcp', 'subnet')})"
        yield problem(host, ("spec", "address"), quoted(str(address)), expected)


def _inside(one: Declared, path: Path, address: IPv4Address, network: IPv4Network, where: str) -> Iterator[Problem]:
    if address not in network:
        yield problem(one, path, quoted(str(address)), f"an address in {network}, {where}")
    elif address == network.network_address:
        yield problem(one, path, quoted(str(address)), f"another address: it is the network's own ({network})")
    elif address == network.broadcast_address:
        yield problem(one, path, quoted(str(address)), f"another address: it is the broadcast address of {network}")
