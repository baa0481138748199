"""Where things lie on a node, in one place because several drivers need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.encode.tgt import serial_for
from controller.graph import Desired, target_iqn


@dataclass(frozen=True)
class Disk:
    target: str
    portal: str
    label: str
    mount: str

    @property
    def serial(self) -> str:
        """Of the LUN: no other one has it."""
        return serial_for(self.target)

    @property
    def device(self) -> str:
        return f"/dev/ufs/{self.label}"


def disk_of(desired: Desired, host: str) -> Disk:
    spec = desired.hosts[host].spec
    san = desired.sans[spec.san].spec
    return Disk(target_iqn(desired, host), str(san.iscsi.portal), spec.jail_disk.label, spec.jail_disk.mount)


def jail_directory(desired: Desired, host: str) -> str:
    spec = desired.hosts[host].spec
    return spec.jails.directory or f"{spec.jail_disk.mount}/jails"


def mount_points(root: str, disk: str, mounts: Sequence[tuple[str, str, str]]) -> list[str]:
    """Where the manifest's mounts go, and what they show as far as it lies on the jail disk: mount(8) makes neither."""
    targets = [f"{root}/{target.strip('/')}" for _, target, _ in mounts]
    return [*targets, *(source for source, _, _ in mounts if source.startswith(f"{disk}/"))]


def frozen(value: Any) -> Any:
    """JSON gives lists where the spec has tuples."""
    return tuple(frozen(one) for one in value) if isinstance(value, list) else value
