"""What an image's layers are made of, and their names: hashes of everything that goes in, known before anything is built.

Three layers, each on top of the one before: *world* (what is compiled), *packages*, and the generation with its
configuration. Equal key means no work. What is a host's own lies in that host's share; a generation only names where each
share is, and one that differs from the booted one in other hosts' lines alone leaves this host in sync. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.graph import Desired, host_share
from controller.manifests import HostSpec, ImageSpec

RECIPE: Final[Mapping[str, int]] = {"world": 2, "packages": 2, "configuration": 4}
"""Counts up when the same inputs give another layer because jailops prepares it differently."""

NO_COMPILER: Final = "no compiler"
"""How what a build VM compiles with begins when it has no cc."""

_SHORT = 120
"""Characters of a value that is kept as it is; a longer one is known by its digest."""
_PRIVATE = frozenset({"content", "config"})
"""Texts of whole files: nobody else needs to read them, so only their digests are kept."""
_ENTRY_NAMES = ("name", "path")
"""What an entry of a list is called by, so that another one before it does not rename it."""


@dataclass(frozen=True)
class Inputs:
    """Everything that goes into one image's next generation, split into what costs hours, minutes and seconds."""

    world: Mapping[str, Any]
    packages: Mapping[str, Any]
    configuration: Mapping[str, Any]
    hosts: Mapping[str, Mapping[str, Any]]
    missing: str = ""
    """Why the keys are not known yet; empty when they are."""

    @property
    def world_key(self) -> str:
        return _key({"recipe": RECIPE["world"], "world": self.world})

    @property
    def packages_key(self) -> str:
        """Empty when there are no packages, and so no layer of them."""
        made_of = {"recipe": RECIPE["packages"], "world": self.world_key, "packages": self.packages}
        return _key(made_of) if self.packages["packages"] else ""

    @property
    def generation(self) -> str:
        return _key({**self._shared, "hosts": self.hosts})

    def host_key(self, host: str) -> str:
        """Equal for two generations that this host cannot tell apart."""
        return _key({**self._shared, "host": self.hosts.get(host)})

    @property
    def _shared(self) -> dict[str, Any]:
        below = self.packages_key or self.world_key
        return {"recipe": RECIPE["configuration"], "below": below, "configuration": self.configuration}


def inputs(desired: Desired, image: str) -> Inputs:
    """What the manifests and the build VM say about one image."""
    spec = desired.images[image].spec
    hosts = desired.hosts_of_image(image)
    return Inputs(
        world=_world(desired, spec),
        packages={
            "packages": packages_of(desired, image),
            "repository": spec.package_repository.url if spec.package_repository else None,
        },
        configuration=_configuration(spec, [host.spec for host in hosts]),
        hosts={
            desired.kept_as(host.name): {
                "address": desired.host_address(host.name),
                "share": share_source(desired, host.name),
            }
            for host in hosts
        },
        missing=_missing(desired, spec),
    )


def packages_of(desired: Desired, image: str) -> list[str]:
    """The packages of the root: those that the manifest names, and ezjail where a host uses it."""
    own = set(desired.images[image].spec.packages)
    uses = {host.spec.jails.manager for host in desired.hosts_of_image(image)}
    return sorted(own | (uses & {"ezjail"}))


def share_source(desired: Desired, host: str) -> str:
    """What the node mounts for a moment at boot to fetch its own files (rc.initdiskless, ``diskless_remount``)."""
    san = desired.sans[desired.hosts[host].spec.san].spec
    return f"{san.nfs.address}:{host_share(desired, host)}/etc"


def flat(made_of: Inputs) -> dict[str, str]:
    """Every input by a name such as ``rcConf.sshd_enable``, with its value, or its digest when it is long or private."""
    parts = {**made_of.world, **made_of.packages, **made_of.configuration, "hosts": made_of.hosts, "recipe": RECIPE}
    return dict(sorted(_flat("", parts)))


def differences(before: Mapping[str, str], after: Mapping[str, str], host: str = "") -> list[tuple[str, str, str]]:
    """(input, before, after) for all that differs between two `flat`; with a host, only what that host can tell apart."""
    names = sorted(before.keys() | after.keys())
    return [
        (name, before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name) != after.get(name)
        and (not host or not name.startswith("hosts.") or name.startswith(f"hosts.{host}."))
    ]


def _world(desired: Desired, spec: ImageSpec) -> dict[str, Any]:
    made = {"release": spec.release, "architecture": spec.architecture, "source": _source(desired, spec)}
    if spec.source.dist is not None:
        return made
    return made | {
        "srcConf": sorted(spec.src_conf),
        "makeOptions": dict(spec.make_options),
        "kernel": spec.kernel.model_dump(mode="json"),
        "incremental": spec.incremental,
        "toolchain": desired.toolchains.get(spec.build_vm, ""),
    }


def _source(desired: Desired, spec: ImageSpec) -> dict[str, Any]:
    """The very source: where it is fetched from is no part of it when its digest is."""
    git, svn, dist = spec.source.git, spec.source.svn, spec.source.dist
    if git is not None:
        return {"git": {"commit": git.commit or _tip(desired, spec)}}
    if svn is not None:
        return {"svn": svn.model_dump(mode="json")}
    assert dist is not None
    return {"dist": {name: one["sha256"] for name, one in dist.model_dump(exclude_none=True).items()}}


def _tip(desired: Desired, spec: ImageSpec) -> str | None:
    """The commit of a branch or tag; empty when the server has none of that name, None when it was not asked yet."""
    git = spec.source.git
    return desired.tips.get(spec.build_vm, {}).get(f"{git.url} {git.ref}") if git else None


def _missing(desired: Desired, spec: ImageSpec) -> str:
    if spec.source.dist is not None:
        return ""
    compiler = desired.toolchains.get(spec.build_vm, "")
    if not compiler:
        return f"it is not known yet what {spec.build_vm} compiles with"
    if compiler.startswith(NO_COMPILER):
        return f"{spec.build_vm} has no compiler (cc)"
    git = spec.source.git
    if git is not None and git.ref and not _tip(desired, spec):
        return (
            f"{spec.build_vm} could not ask {git.url} for {git.ref} yet"
            if _tip(desired, spec) is None
            else f"{git.url} has no {git.ref}"
        )
    return ""


def _configuration(spec: ImageSpec, hosts: list[HostSpec]) -> dict[str, Any]:
    dumped = spec.model_dump(mode="json", exclude_none=True, by_alias=True)
    own = ("rcConf", "loaderConf", "users", "rootAuthorizedKeys", "rootPasswordHash", "files", "memory")
    return {name: dumped[name] for name in own if name in dumped} | {
        "mounts": sorted({host.jail_disk.mount for host in hosts}),
        "managers": sorted({host.jails.manager for host in hosts}),
        "jailDirectories": sorted({host.jails.directory or f"{host.jail_disk.mount}/jails" for host in hosts}),
        "rulesets": sorted({str(host.jails.devfs_ruleset) for host in hosts}),
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), one)
    elif isinstance(value, (list, tuple)):
        yield from _entries(name, value)
    elif value is not None:
        yield name, _short(str(value), private=name.rpartition(".")[2] in _PRIVATE)


def _entries(name: str, values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """An entry of a list is known by its own name, or by itself when it is a plain word."""
    for one in values:
        if isinstance(one, Mapping):
            key = next(key for key in _ENTRY_NAMES if key in one)
            yield f"{name}.{one[key]}", "yes"
            yield from _flat(f"{name}.{one[key]}", {other: each for other, each in one.items() if other != key})
        else:
            yield f"{name}.{_short(str(one))}", "yes"


def _short(text: str, *, private: bool = False) -> str:
    if private or len(text) > _SHORT or "\n" in text:
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return text


def _key(value: object) -> str:
    """Twelve hex digits: 48 bits, enough for names among the few that one share holds."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
