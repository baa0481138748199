"""All kinds of manifest in one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from controller.manifests.base import Document
from controller.manifests.image import Image, ImageSpec
from controller.manifests.node import Host, HostSpec, Jail, JailSpec
from controller.manifests.servers import BootServer, BootServerSpec, BuildVM, BuildVMSpec, San, SanSpec
from controller.manifests.site import Site, SiteSpec

Spec: TypeAlias = BuildVMSpec | SanSpec | BootServerSpec | ImageSpec | HostSpec | JailSpec | SiteSpec
AnyDocument: TypeAlias = BuildVM | San | BootServer | Image | Host | Jail | Site

KINDS: Final[Mapping[str, type[Document]]] = {
    "BuildVM": BuildVM,
    "San": San,
    "BootServer": BootServer,
    "Image": Image,
    "Host": Host,
    "Jail": Jail,
    "Site": Site,
}

__all__ = [
    "KINDS",
    "AnyDocument",
    "BootServer",
    "BootServerSpec",
    "BuildVM",
    "BuildVMSpec",
    "Document",
    "Host",
    "HostSpec",
    "Image",
    "ImageSpec",
    "Jail",
    "JailSpec",
    "San",
    "SanSpec",
    "Site",
    "SiteSpec",
    "Spec",
]
