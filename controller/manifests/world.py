"""All objects by kind and name, and the words for a conflict between two of them. Pure; for the cross-checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias

from controller.manifests.draft import Draft
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
from controller.problem import Problem
from controller.trees import Path

Declared: TypeAlias = AnyManifest | Draft


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
    drafts: tuple[Draft, ...] = ()
    """Documents that are not valid."""

    @property
    def servers(self) -> tuple[Manifest[BuildVMSpec] | Manifest[SanSpec] | Manifest[BootServerSpec], ...]:
        return (*self.build_vms, *self.sans, *self.boot_servers)

    def may_exist(self, kind: str, name: str, host: str = "") -> bool:
        """Whether a document that is not valid is the object of that name, or may be it."""
        return any(draft.may_be(kind, name, host) for draft in self.drafts)


def world(objects: Iterable[AnyManifest], controller: Iterable[str] = (), drafts: Iterable[Draft] = ()) -> World:
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
        drafts=tuple(drafts),
    )


def problem(one: Declared, path: Path, found: str, expected: str, suggestion: str = "") -> Problem:
    """Something wrong with a field that is good by itself."""
    return Problem(one.at(*path), dotted(path), found, expected, suggestion, str(one))


def taken(owner: Declared, path: Path) -> str:
    """The other place of a conflict."""
    return f"{owner} has it at {owner.at(*path)}"


def _by_name(objects: tuple[Manifest[S], ...]) -> dict[str, Manifest[S]]:
    return {one.name: one for one in reversed(objects)}
