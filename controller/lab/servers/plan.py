"""Which computers a simulated site has: frozen values, made by hand or from plain manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class VmPlan:
    name: str
    address: str
    share: str = "/mnt/jailops"
    source_dir: str = "/usr/src"
    object_dir: str = "/usr/obj"


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """What runs a build VM on a hypervisor: QEMU with a disk image, or libvirt, which calls it `name`."""

    vm: str
    name: str
    disk: str = ""
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class HypervisorPlan:
    """A machine of its own. What a San or boot server does beside its own work is not played here."""

    name: str
    address: str
    guests: tuple[GuestPlan, ...]


@dataclass(frozen=True, slots=True)
class SanPlan:
    name: str
    address: str
    nfs_root: str = "/export/jailops"
    volumes: str = "/srv/volumes"


@dataclass(frozen=True, slots=True)
class BootPlan:
    name: str
    address: str
    subnet: str = "198.51.100.0/24"
    gateway: str = ""
    include_file: str = "/etc/dhcp/jailops.conf"
    tftp_root: str = "/srv/tftp"


@dataclass(frozen=True, slots=True)
class NodePlan:
    name: str
    mac: str
    interface: str
    san: str
    boot_server: str


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Which computers there are."""

    vms: tuple[VmPlan, ...] = ()
    sans: tuple[SanPlan, ...] = ()
    boot_servers: tuple[BootPlan, ...] = ()
    nodes: tuple[NodePlan, ...] = ()
    hypervisors: tuple[HypervisorPlan, ...] = ()

    @property
    def guests(self) -> frozenset[str]:
        """The build VMs that a hypervisor switches on."""
        return frozenset(guest.vm for one in self.hypervisors for guest in one.guests)

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]]) -> SitePlan:
        """The plan that plain manifests (kind, metadata, spec with their YAML names) describe."""
        by_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for one in documents:
            by_kind.setdefault(one["kind"], []).append((one["metadata"]["name"], one["spec"]))
        gateways = [str(spec["gateway"]) for _, spec in by_kind.get("Host", []) if spec.get("gateway")]
        return cls(
            tuple(_vm(name, spec) for name, spec in by_kind.get("BuildVM", [])),
            tuple(_san(name, spec) for name, spec in by_kind.get("San", [])),
            tuple(_boot_server(name, spec, "".join(gateways[:1])) for name, spec in by_kind.get("BootServer", [])),
            tuple(_node(name, spec) for name, spec in by_kind.get("Host", [])),
            tuple(_hypervisors(by_kind.get("BuildVM", []))),
        )


def _vm(name: str, spec: Mapping[str, Any]) -> VmPlan:
    plan = VmPlan(name, str(spec["ssh"]["address"]))
    said = {"share": spec.get("share"), "source_dir": spec.get("sourceDir"), "object_dir": spec.get("objectDir")}
    return VmPlan(plan.name, plan.address, **{key: str(value) for key, value in said.items() if value})


def _hypervisors(vms: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[HypervisorPlan]:
    """One for each address, called as the controller does: after the first of its build VMs."""
    found: dict[str, list[GuestPlan]] = {}
    for name, spec in sorted(vms, key=lambda one: one[0]):
        if "vm" not in spec:
            continue
        vm = spec["vm"]
        qemu, domain = vm.get("qemu") or {}, (vm.get("libvirt") or {}).get("domain", name)
        guest = GuestPlan(name, str(domain), str(qemu.get("disk", "")), str(qemu.get("bridge", "")))
        found.setdefault(str(vm["hypervisor"]["ssh"]["address"]), []).append(guest)
    for address, guests in found.items():
        yield HypervisorPlan(f"{guests[0].vm}:hypervisor", address, tuple(guests))


def _san(name: str, spec: Mapping[str, Any]) -> SanPlan:
    address = str(spec["nfs"].get("address") or spec["ssh"]["address"])
    return SanPlan(name, address, str(spec["nfs"]["root"]), str(spec["iscsi"]["volumes"]))


def _boot_server(name: str, spec: Mapping[str, Any], gateway: str) -> BootPlan:
    dhcp, tftp = spec["dhcp"], spec.get("tftp") or {}
    plan = BootPlan(name, str(spec["ssh"]["address"]), str(dhcp["subnet"]), gateway)
    said = {"include_file": dhcp.get("includeFile"), "tftp_root": tftp.get("root")}
    given = {key: str(value) for key, value in said.items() if value}
    return BootPlan(plan.name, plan.address, plan.subnet, plan.gateway, **given)


def _node(name: str, spec: Mapping[str, Any]) -> NodePlan:
    return NodePlan(name, str(spec["mac"]).lower(), str(spec["interface"]), str(spec["san"]), str(spec["bootServer"]))
