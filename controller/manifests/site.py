"""The Site: policy that may live in Git. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from controller.manifests.base import Document, Metadata, Model, doc
from controller.manifests.words import Duration

DriftKind: TypeAlias = Literal[
    "dhcp",
    "bootfiles",
    "exports",
    "lun",
    "hostshare",
    "live",
    "vm",
    "buildvm",
    "world",
    "packages",
    "image",
    "node",
    "boot",
    "session",
    "filesystem",
    "base",
    "addresses",
    "jail",
]
DriftMode: TypeAlias = Literal["enforce", "warn", "ignore"]


class SiteSpec(Model):
    """How the controller behaves towards everything."""

    interval: Duration = doc("How often everything is looked at, without a push.", default=60, written="60s")
    drift: Mapping[DriftKind, DriftMode] = doc(
        "What to do about changes made by hand, for each kind of object: enforce puts it back, warn shows it, ignore "
        "says nothing. A kind that is not named is enforced.",
        {"dhcp": "enforce", "jail": "warn"},
        default={},
    )


class Site(Document):
    """Policy. At most one document of this kind."""

    kind: Literal["Site"] = doc("The kind of object.", "Site")
    metadata: Metadata = doc("Name and notes.")
    spec: SiteSpec = doc("What it says.", default=SiteSpec())
