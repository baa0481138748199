"""One driver per resource type. Which ones exist is answered by looking at `DRIVERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.drivers.backends import ByBackend
from controller.drivers.base import Driver, Explanation, World
from controller.drivers.boot import Boots
from controller.drivers.bootconf import BootConf
from controller.drivers.bootfiles import BootFiles
from controller.drivers.bootstate import asks, on_trial
from controller.drivers.builds import LAYERS, ended_builds
from controller.drivers.buildvm import BuildVMs
from controller.drivers.ctld import CtldLuns
from controller.drivers.dhcp import IscDhcp
from controller.drivers.exports import FreebsdExports, GaneshaExports, LinuxExports
from controller.drivers.ezjail import EzJails, JailBase
from controller.drivers.fields import Changed, changed_fields
from controller.drivers.generations import choose, hops, needed_again
from controller.drivers.hostshare import HostShares
from controller.drivers.kea import KeaDhcp
from controller.drivers.live import Live
from controller.drivers.lun import TgtLuns
from controller.drivers.node import Addresses, Filesystems, Nodes, Sessions
from controller.drivers.plainjail import PlainJails
from controller.drivers.retention import OldBootFiles, Retention
from controller.drivers.rollout import rollout
from controller.drivers.vm import VmPower, at_rest
from controller.graph import Desired
from controller.model import Resource

DRIVERS: Final[Mapping[str, Driver]] = {
    "exports": ByBackend(
        "exports", {"linux": LinuxExports(), "ganesha": GaneshaExports(), "freebsd": FreebsdExports()}
    ),
    "lun": ByBackend("lun", {"tgt": TgtLuns(), "ctld": CtldLuns()}),
    "hostshare": HostShares(),
    "vm": VmPower(),
    "buildvm": BuildVMs(),
    **LAYERS,
    "bootfiles": BootFiles(),
    "dhcp": ByBackend("dhcp", {"isc": IscDhcp(), "kea": KeaDhcp()}),
    "retention": Retention(),
    "bootretention": OldBootFiles(),
    "node": Nodes(),
    "bootconf": BootConf(),
    "boot": Boots(),
    "live": Live(),
    "addresses": Addresses(),
    "session": Sessions(),
    "filesystem": Filesystems(),
    "base": JailBase(),
    "jail": ByBackend("jail", {"ezjail": EzJails(), "jail.conf": PlainJails()}),
}


def resources_of(desired: Desired) -> list[Resource]:
    """Every object that the manifests declare."""
    return [resource for driver in DRIVERS.values() for resource in driver.resources(desired)]


__all__ = [
    "DRIVERS",
    "LAYERS",
    "Changed",
    "Driver",
    "Explanation",
    "World",
    "asks",
    "at_rest",
    "changed_fields",
    "choose",
    "ended_builds",
    "hops",
    "needed_again",
    "on_trial",
    "resources_of",
    "rollout",
]
