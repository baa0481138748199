"""What Git says: YAML blobs in, typed frozen objects or every problem out.

Pure: reads no file, and bad input is a value, never an exception.

    blobs -> reader (trees with positions) -> load (kinds and models) -> check (objects against each other)
"""

from __future__ import annotations

from controller.manifests.base import SPREAD, HostSsh, Ssh
from controller.manifests.check import check
from controller.manifests.image import ImageSpec
from controller.manifests.load import (
    MAX_TOTAL_BYTES,
    Blob,
    Loaded,
    Manifest,
    judged,
    load,
    parse_blob,
    together,
    unread,
    wanted,
)
from controller.manifests.node import HostSpec, JailSpec
from controller.manifests.power import Ipmi, Power, Redfish, WakeOnLan
from controller.manifests.servers import BootServerSpec, BuildVMSpec, SanSpec
from controller.manifests.site import SiteSpec
from controller.problem import Problem

__all__ = [
    "MAX_TOTAL_BYTES",
    "SPREAD",
    "Blob",
    "BootServerSpec",
    "BuildVMSpec",
    "HostSpec",
    "HostSsh",
    "ImageSpec",
    "Ipmi",
    "JailSpec",
    "Loaded",
    "Manifest",
    "Power",
    "Problem",
    "Redfish",
    "SanSpec",
    "SiteSpec",
    "Ssh",
    "WakeOnLan",
    "check",
    "judged",
    "load",
    "parse_blob",
    "together",
    "unread",
    "wanted",
]
