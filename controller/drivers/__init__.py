"""One driver per resource type. Which ones exist is answered by looking at `DRIVERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.drivers.backends import ByBackend
from controller.drivers.base import Driver, Explanation, World
from controller.drivers.bootfiles import BootFiles
from controller.drivers.ctld import CtldLuns
from controller.drivers.dhcp import IscDhcp
from controller.drivers.exports import FreebsdExports, GaneshaExports, LinuxExports
from controller.drivers.ezjail import EzJails, JailBase
from controller.drivers.generations import choose
from controller.drivers.hostshare import HostShares
from controller.drivers.image import Images, ended_builds
from controller.drivers.kea import KeaDhcp
from controller.drivers.lun import TgtLuns
from controller.drivers.node import Addresses, Filesystems, Nodes, Sessions
from controller.drivers.plainjail import PlainJails
from controller.graph import Desired
from controller.model import Resource

DRIVERS: Final[Mapping[str, Driver]] = {
    "exports": ByBackend(
        "exports", {"linux": LinuxExports(), "ganesha": GaneshaExports(), "freebsd": FreebsdExports()}
    ),
    "lun": ByBackend("lun", {"tgt": TgtLuns(), "ctld": CtldLuns()}),
    "hostshare": HostShares(),
    "image": Images(),
    "bootfiles": BootFiles(),
    "dhcp": ByBackend("dhcp", {"isc": IscDhcp(), "kea": KeaDhcp()}),
    "node": Nodes(),
    "addresses": Addresses(),
    "session": Sessions(),
    "filesystem": Filesystems(),
    "base": JailBase(),
    "jail": ByBackend("jail", {"ezjail": EzJails(), "jail.conf": PlainJails()}),
}


def resources_of(desired: Desired) -> list[Resource]:
    """Every object that the manifests declare."""
    return [resource for driver in DRIVERS.values() for resource in driver.resources(desired)]


__all__ = ["DRIVERS", "Driver", "Explanation", "World", "choose", "ended_builds", "resources_of"]
