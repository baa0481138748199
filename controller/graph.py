"""The manifests as one graph: every name resolved to the object it means.

In: the objects of one revision, already checked. Out: `Desired`, frozen, which answers the questions drivers ask ("which
hosts boot this image?"). It looks at nothing else and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from ipaddress import IPv4Address
from typing import Any

from controller.manifests import (
    BootServerSpec,
    BuildVMSpec,
    HostSpec,
    ImageSpec,
    JailSpec,
    Manifest,
    SanSpec,
    SiteSpec,
)


@dataclass(frozen=True)
class Pin:
    """An operator's word that a host is to boot an earlier generation."""

    generation: str
    actor: str
    reason: str

    def __str__(self) -> str:
        return f"pinned to {self.generation} by {self.actor}: {self.reason}"


@dataclass(frozen=True)
class Desired:
    """What one revision asks for."""

    build_vms: Mapping[str, Manifest[BuildVMSpec]] = field(default_factory=dict)
    sans: Mapping[str, Manifest[SanSpec]] = field(default_factory=dict)
    boot_servers: Mapping[str, Manifest[BootServerSpec]] = field(default_factory=dict)
    images: Mapping[str, Manifest[ImageSpec]] = field(default_factory=dict)
    hosts: Mapping[str, Manifest[HostSpec]] = field(default_factory=dict)
    jails: Mapping[tuple[str, str], Manifest[JailSpec]] = field(default_factory=dict)
    site: SiteSpec = field(default_factory=SiteSpec)
    toolchains: Mapping[str, str] = field(default_factory=dict)
    """Build VM -> what it compiles with, as it was seen last: it goes into what is built as the manifests do."""
    tips: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Build VM -> ``URL REF`` -> the commit there as it was seen last; empty when the server has no such ref."""
    revision: str = ""
    """The commit that says all this."""
    pins: Mapping[str, Pin] = field(default_factory=dict)
    """Host -> the generation that an operator wants there, until a newer commit is in force."""
    paused: frozenset[str] = frozenset()
    """Images whose rollout an operator has stopped."""

    def hosts_of_image(self, image: str) -> list[Manifest[HostSpec]]:
        return [host for _, host in sorted(self.hosts.items()) if host.spec.image == image]

    def hosts_of_boot_server(self, server: str) -> list[Manifest[HostSpec]]:
        return [host for _, host in sorted(self.hosts.items()) if host.spec.boot_server == server]

    def hosts_of_san(self, san: str) -> list[Manifest[HostSpec]]:
        return [host for _, host in sorted(self.hosts.items()) if host.spec.san == san]

    def images_of_san(self, san: str) -> list[Manifest[ImageSpec]]:
        return [image for _, image in sorted(self.images.items()) if image.spec.san == san]

    def jails_of(self, host: str) -> list[Manifest[JailSpec]]:
        """The host's jails in the order in which they start: `after` first, then by name."""
        jails = {name: jail for (owner, name), jail in sorted(self.jails.items()) if owner == host}
        order = TopologicalSorter({name: sorted(set(jail.spec.after)) for name, jail in jails.items()})
        return [jails[name] for name in order.static_order()]

    def host_address(self, host: str) -> str:
        return str(self.hosts[host].spec.address).partition("/")[0]

    def kept_as(self, host: str) -> str:
        """The name under which all that servers hold of a host is kept: its first one, whatever it is called since."""
        return self.hosts[host].spec.previous or host

    def names(self) -> dict[str, str]:
        """Every object by a name that a rename leaves alone, with its ``Kind/name`` of now: what a later revision is compared
        with before it may remove anything."""
        shelves = (self.build_vms, self.sans, self.boot_servers, self.images)
        found = {str(one): str(one) for shelf in shelves for one in shelf.values()}
        found |= {f"Host/{self.kept_as(name)}": str(host) for name, host in self.hosts.items()}
        return found | {f"Jail/{self.kept_as(host)}/{name}": f"Jail/{host}/{name}" for host, name in self.jails}


_SHELVES = {
    "BuildVM": "build_vms",
    "San": "sans",
    "BootServer": "boot_servers",
    "Image": "images",
    "Host": "hosts",
}


def resolve(objects: Iterable[Manifest[Any]]) -> Desired:
    """Put every object on its shelf. The objects have passed `manifests.check`, so every reference leads somewhere."""
    shelves: dict[str, Any] = {shelf: {} for shelf in (*_SHELVES.values(), "jails")}
    site = SiteSpec()
    for manifest in objects:
        if manifest.kind == "Site":
            site = manifest.spec
        elif manifest.kind == "Jail":
            shelves["jails"][manifest.spec.host, manifest.name] = manifest
        else:
            shelves[_SHELVES[manifest.kind]][manifest.name] = manifest
    return Desired(site=site, **shelves)


def rootfs(desired: Desired, image: str, generation: str) -> str:
    """Where a generation lies on the SAN."""
    spec = desired.images[image].spec
    return f"{desired.sans[spec.san].spec.nfs.root}/images/{image}/{generation}"


def host_share(desired: Desired, host: str) -> str:
    """The directory that holds one host's own files; it is exported to that host alone."""
    return f"{desired.sans[desired.hosts[host].spec.san].spec.nfs.root}/hosts/{desired.kept_as(host)}"


def target_iqn(desired: Desired, host: str) -> str:
    san = desired.sans[desired.hosts[host].spec.san].spec
    return f"{san.iscsi.iqn_prefix}:{desired.kept_as(host)}"


def hypervisor(desired: Desired, build_vm: str) -> str:
    """What the controller calls the machine on which a build VM runs: by the name of the San or BootServer that it is, else
    after the first build VM on it, with a sign that no name of a manifest holds. The build VM has a `vm` block."""
    place = _hypervisor_place(desired, build_vm)
    servers: tuple[Mapping[str, Manifest[Any]], ...] = (desired.sans, desired.boot_servers)
    for name, one in (item for shelf in servers for item in sorted(shelf.items())):
        if (one.spec.ssh.address, one.spec.ssh.port) == place:
            return name
    first = next(name for name in sorted(desired.build_vms) if _hypervisor_place(desired, name) == place)
    return f"{first}:hypervisor"


def _hypervisor_place(desired: Desired, build_vm: str) -> tuple[IPv4Address, int] | None:
    vm = desired.build_vms[build_vm].spec.vm
    return (vm.hypervisor.ssh.address, vm.hypervisor.ssh.port) if vm is not None else None
