"""All objects by kind and name, and the words for a conflict between two of them. Pure; for the cross-checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.manifests.explain import dotted
from controller.manifests.load import AnyManifest, Manifest, S, pick
from controller.manifests.models import (
    BootServerSpec,
    BuildVMSpec,
    HostSpec,
    ImageSpec,
    JailSpec,
    SanSpec,
    SiteSpec,
)
from controller.manifests.problem import Problem
from controller.manifests.yamltree import Path


@dataclass(frozen=True, slots=True)
class World:
    """What is declared. When a name is declared twice, the first one answers to it."""

    build_vms: tuple[Manifest[BuildVMSpec], ...]
    sans: tuple[Manifest[SanSpec], ...]
    boot_servers: tuple[Manifest[BootServerSpec], ...]
    images: tuple[Manifest[ImageSpec], ...]
    hosts: tuple[Manifest[HostSpec], ...]
    jails: tuple[Manifest[JailSpec], ...]
    sites: tuple[Manifest[SiteSpec], ...]
    host: Mapping[str, Manifest[HostSpec]]
    image: Mapping[str, Manifest[ImageSpec]]
    san: Mapping[str, Manifest[SanSpec]]
    boot_server: Mapping[str, Manifest[BootServerSpec]]
    controller: frozenset[IPv4Address]

    @property
    def servers(self) -> tuple[Manifest[BuildVMSpec] | Manifest[SanSpec] | Manifest[BootServerSpec], ...]:
        return (*self.build_vms, *self.sans, *self.boot_servers)


def world(objects: Iterable[AnyManifest], controller: Iterable[str] = ()) -> World:
    """Raises ValueError when an address of the controller is none."""
    given = tuple(objects)
    sans, boot_servers = pick(given, SanSpec), pick(given, BootServerSpec)
    images, hosts = pick(given, ImageSpec), pick(given, HostSpec)
    return World(
        build_vms=pick(given, BuildVMSpec),
        sans=sans,
        boot_servers=boot_servers,
        images=images,
        hosts=hosts,
        jails=pick(given, JailSpec),
        sites=pick(given, SiteSpec),
        host=_by_name(hosts),
        image=_by_name(images),
        san=_by_name(sans),
        boot_server=_by_name(boot_servers),
        controller=frozenset(IPv4Address(address) for address in controller),
    )


def problem(one: AnyManifest, path: Path, found: str, expected: str, suggestion: str = "") -> Problem:
    """Something wrong with a field of a valid object."""
    return Problem(one.at(*path), dotted(path), found, expected, suggestion, str(one))


def taken(owner: AnyManifest, path: Path) -> str:
    """The other place of a conflict."""
    return f"{owner} has it at {owner.at(*path)}"


def _by_name(objects: tuple[Manifest[S], ...]) -> dict[str, Manifest[S]]:
    return {one.name: one for one in reversed(objects)}
