"""A document that is not valid, and what of it holds all the same: fields that are good by themselves. Pure.

It is no object and nothing is made of it. But what it claims for itself may be somebody else's, a name in it may lead nowhere,
and a name that leads to it leads somewhere: all of it is told, or not, before the document itself is mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.manifests.base import fill, reading
from controller.manifests.network import Cidr, IPv4, Mac
from controller.manifests.node import own_initiator
from controller.manifests.words import Hostname, Iqn, JailHostname, JailName, Name
from controller.model import Origin
from controller.trees import Path, Place, Tree, place_of, value_at

_NAME: Final[Path] = ("metadata", "name")
_HOST: Final[Path] = ("spec", "host")
_HOSTNAME: Final[Path] = ("spec", "hostname")
_ADDRESSES: Final[Path] = ("spec", "addresses")
_AFTER: Final[Path] = ("spec", "after")
_SSH: Final[Path] = ("spec", "ssh", "address")

_OWN: Final[Mapping[str, Mapping[Path, Any]]] = {
    "BuildVM": {_SSH: IPv4, ("spec", "vm", "qemu", "mac"): Mac},
    "San": {_SSH: IPv4},
    "BootServer": {_SSH: IPv4},
    "Host": {
        ("spec", "mac"): Mac,
        ("spec", "address"): Cidr,
        ("spec", "gateway"): IPv4,
        _HOSTNAME: Hostname,
        ("spec", "initiator"): Iqn,
    },
    "Jail": {_NAME: JailName, _HOSTNAME: JailHostname},
}
"""What an object is called and reached by, with its type. A jail's addresses come on top."""

LEADS: Final[Mapping[str, Mapping[Path, str]]] = {
    "Image": {("spec", "buildVM"): "BuildVM", ("spec", "san"): "San"},
    "Host": {("spec", "image"): "Image", ("spec", "bootServer"): "BootServer", ("spec", "san"): "San"},
    "Jail": {_HOST: "Host"},
}
"""Where names lead: the kind of what an object's field names. The jails that a jail starts after come on top."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Without kind and name it may be anything, such as what could not be read at all."""

    origin: Origin
    kind: str = ""
    """Empty when it is none that we know."""
    label: str = ""
    said: Mapping[Path, Any] = field(default_factory=dict, compare=False)
    """Its good fields, among those by which objects are told apart and found."""
    places: Mapping[Path, Place] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        return self.label

    @property
    def name(self) -> str:
        """Empty when it is not known."""
        return str(self.said.get(_NAME, ""))

    @property
    def host(self) -> str:
        """Of a jail; empty when it is not known."""
        return str(self.said.get(_HOST, ""))

    @property
    def identified(self) -> bool:
        """Whether its label is the one that a valid object of this name has."""
        return bool(self.kind and self.name and (self.host or self.kind != "Jail"))

    def may_be(self, kind: str, name: str, host: str = "") -> bool:
        """Whether it may be the object of that name, a jail perhaps only that of one host."""
        return self.kind in ("", kind) and self.name in ("", name) and (self.host in ("", host) if host else True)

    def listed(self, *path: str) -> Iterator[tuple[int, Any]]:
        """The good entries of a list, each with its place there."""
        for one, value in self.said.items():
            if one[:-1] == path and isinstance(one[-1], int):
                yield one[-1], value

    def at(self, *path: str | int) -> Origin:
        return Origin(self.origin.path, *place_of(self.places, path).value)

    def says(self, *path: str | int) -> bool:
        return path in self.places


def draft(origin: Origin, kind: str, label: str, tree: Tree) -> Draft:
    return Draft(origin, kind, label, dict(_good(kind, tree)), tree.places)


def _good(kind: str, tree: Tree) -> Iterator[tuple[Path, object]]:
    """With the defaults that objects are known by, unless what was left out may have brought others."""
    raw: object = tree.value
    types: dict[Path, Any] = {_NAME: Name, **_OWN.get(kind, {}), **dict.fromkeys(LEADS.get(kind, ()), Name)}
    hostname = types.get(_HOSTNAME)
    if hostname and tree.whole:
        raw = fill(raw, "spec", "hostname", value_at(raw, _NAME))
        name = reading(Name, value_at(raw, _NAME))
        raw = fill(raw, "spec", "initiator", own_initiator(raw)) if kind == "Host" and name else raw
    for path, one in ((_ADDRESSES, IPv4), (_AFTER, JailName)) if kind == "Jail" else ():
        entries = value_at(raw, path)
        if isinstance(entries, tuple):
            types |= {(*path, index): one for index in range(len(entries))}
    for path, one in types.items():
        value = reading(one, value_at(raw, path))
        if value is not None:
            yield path, value
