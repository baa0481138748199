"""What Git says: YAML blobs in, typed frozen objects or every problem out.

Pure: reads no file, and bad input is a value, never an exception.

    blobs -> yamltree (text with positions) -> load (kinds and models) -> check (objects against each other)
"""

from __future__ import annotations

from controller.manifests.base import SPREAD, HostSsh, Ssh
from controller.manifests.check import check
from controller.manifests.image import ImageSpec
from controller.manifests.load import Blob, Loaded, Manifest, load, parse_blob, together, unread, wanted
from controller.manifests.node import HostSpec, JailSpec
from controller.manifests.power import Ipmi, Power, Redfish, WakeOnLan
from controller.manifests.problem import Problem
from controller.manifests.servers import BootServerSpec, BuildVMSpec, SanSpec
from controller.manifests.site import SiteSpec

__all__ = [
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
    "load",
    "parse_blob",
    "together",
    "unread",
    "wanted",
]
