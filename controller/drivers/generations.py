"""What a generation is made of, how it is named, and which one each host should boot. Pure.

A generation's name is the hash of everything that goes into it, known before anything is built. What is a host's own
lies in that host's share; a generation only names where each share is, and a generation that differs from the booted
one in other hosts' lines alone leaves this host in sync.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.graph import Desired, host_share
from controller.manifests import HostSpec, ImageSpec
from controller.model import Facts, Observed, Ref

RECIPE = 1
"""Counts up when the same inputs give a different root filesystem because jailops prepares it differently."""


@dataclass(frozen=True)
class Inputs:
    """Everything that goes into one image's next generation, split into what costs hours and what costs seconds."""

    world: Mapping[str, Any]
    configuration: Mapping[str, Any]
    hosts: Mapping[str, Mapping[str, Any]]

    @property
    def world_key(self) -> str:
        return _key(self.world)

    @property
    def generation(self) -> str:
        return _key({"recipe": RECIPE, "world": self.world, "configuration": self.configuration, "hosts": self.hosts})

    def host_key(self, host: str) -> str:
        """Equal for two generations that this host cannot tell apart."""
        return _key(
            {
                "recipe": RECIPE,
                "world": self.world,
                "configuration": self.configuration,
                "host": self.hosts.get(host),
            }
        )


def inputs(desired: Desired, image: str) -> Inputs:
    """What the manifests say about one image."""
    manifest = desired.images[image]
    spec = manifest.spec
    hosts = desired.hosts_of_image(image)
    return Inputs(
        world=_world(spec),
        configuration=_configuration(spec, [host.spec for host in hosts]),
        hosts={
            host.name: {
                "address": desired.host_address(host.name),
                "share": share_source(desired, host.name),
            }
            for host in hosts
        },
    )


def share_source(desired: Desired, host: str) -> str:
    """What the node mounts for a moment at boot to fetch its own files (rc.initdiskless, ``diskless_remount``)."""
    san = desired.sans[desired.hosts[host].spec.san].spec
    return f"{san.nfs.address}:{host_share(desired, host)}/etc"


def choose(desired: Desired, observed: Observed, applied: Mapping[Ref, Facts]) -> dict[str, str]:
    """Host -> the generation it should boot: the wanted one once it is complete, until then the one it is served now.

    A host whose entry is lost gets the one that was last applied, else the newest that was made for it too: in an older
    one, a new host finds nothing of its own and hangs at boot. A host that has none of these is absent from the answer.
    An image that could not be looked at changes nothing.
    """
    chosen: dict[str, str] = {}
    for name, host in desired.hosts.items():
        complete = complete_generations(observed, host.spec.image)
        target = inputs(desired, host.spec.image).generation
        served = _named_by(entry_now(observed, host.spec.boot_server, name), host.spec.image)
        before = _named_by(entry_before(applied, host.spec.boot_server, name), host.spec.image)
        if target in complete:
            chosen[name] = target
        elif served is not None:
            chosen[name] = served
        elif before is not None and (before in complete or not complete):
            chosen[name] = before
        elif own := [one for one, manifest in complete.items() if name in manifest.get("hosts", {})]:
            chosen[name] = max(own, key=lambda one: (complete[one].get("finished", 0), one))
    return chosen


def complete_generations(observed: Observed, image: str) -> Mapping[str, Mapping[str, Any]]:
    """Generation -> its manifest, for those that are complete on the share. Empty also when it was not seen."""
    seen = observed.seen.get(Ref("image", image))
    found: Mapping[str, Mapping[str, Any]] = seen.detail.get("generations", {}) if seen else {}
    return found


def entry_now(observed: Observed, boot_server: str, host: str) -> Facts | None:
    """What the boot server says to a host now, as the last look saw it."""
    seen = observed.seen.get(Ref("dhcp", boot_server))
    found: Facts | None = ((seen.facts or {}).get("hosts", {}) if seen else {}).get(host)
    return found


def entry_before(applied: Mapping[Ref, Facts], boot_server: str, host: str) -> Facts | None:
    """What it said when it was last found as wanted: all that is known of an entry that somebody spoiled."""
    found: Facts | None = applied.get(Ref("dhcp", boot_server), {}).get("hosts", {}).get(host)
    return found


def _named_by(entry: Facts | None, image: str) -> str | None:
    """The generation that an entry names by the end of its root-path; None when it is one of another image."""
    parts = str((entry or {}).get("root-path", "")).rsplit("/", 2)
    return parts[2] if len(parts) == 3 and parts[1] == image else None


def same_for_host(generations: Mapping[str, Mapping[str, Any]], host: str, one: str, other: str) -> bool:
    """Whether a host cannot tell two generations apart."""
    if one == other:
        return True
    keys = [generations.get(name, {}).get("hosts", {}).get(host) for name in (one, other)]
    return keys[0] is not None and keys[0] == keys[1]


def _world(spec: ImageSpec) -> dict[str, Any]:
    return {
        "release": spec.release,
        "architecture": spec.architecture,
        "source": spec.source.model_dump(mode="json", exclude_none=True),
        "srcConf": sorted(spec.src_conf),
        "makeOptions": dict(spec.make_options),
        "kernel": spec.kernel.model_dump(mode="json"),
    }


def _configuration(spec: ImageSpec, hosts: list[HostSpec]) -> dict[str, Any]:
    dumped = spec.model_dump(mode="json", exclude_none=True, by_alias=True)
    own = ("packages", "packageRepository", "rcConf", "loaderConf", "users", "rootAuthorizedKeys", "files", "memory")
    return {name: dumped.get(name) for name in own} | {
        "mounts": sorted({host.jail_disk.mount for host in hosts}),
        "managers": sorted({host.jails.manager for host in hosts}),
        "jailDirectories": sorted({host.jails.directory or f"{host.jail_disk.mount}/jails" for host in hosts}),
        "rulesets": sorted({str(host.jails.devfs_ruleset) for host in hosts}),
    }


def _key(value: object) -> str:
    """Twelve hex digits: 48 bits, enough for names among the few generations that one share holds."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
