"""The machines behind the nodes: where roots are built, where disks and shares live, who boots the nodes. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import model_validator

from controller.manifests.base import Document, Metadata, Model, Ssh, Unique, doc, fill, fits
from controller.manifests.network import IPv4, Mac, PortalText, Subnet
from controller.manifests.scalar import whole, wrong
from controller.manifests.words import (
    DataDir,
    Duration,
    Iqn,
    LinuxInterface,
    Path,
    ServedDir,
    Service,
    VirtUri,
    VolumeDir,
    Word,
    size,
)

Jobs: TypeAlias = Annotated[int, whole(1, 256, 4)]
Processors: TypeAlias = Annotated[int, whole(1, 256, 4)]
Memory: TypeAlias = Annotated[int, size(64 * 2**20, "64MiB", "2GiB")]
Display: TypeAlias = Annotated[int, whole(0, 99, 1, expected="a VNC display's number from 0 to 99")]


class Hypervisor(Model):
    """The Linux machine on which the build VM runs. It may be the San or the boot server as well."""

    ssh: Ssh = doc("How to reach it.")


class Qemu(Model):
    """A virtual machine that jailops starts itself: QEMU as a transient unit of systemd."""

    memory: Memory = doc("Its memory.")
    cpus: Processors = doc("How many processors it has.", default=4)
    disk: Path = doc("Its disk image on the hypervisor.", "/var/lib/jailops/build-vm.qcow2")
    disk_format: Literal["qcow2", "raw"] = doc("What kind of image that is.", "qcow2", default="qcow2")
    disk_bus: Literal["ide", "virtio"] = doc(
        "How the disk is attached: FreeBSD calls it ada0 (ide) or vtbd0 (virtio).", "ide", default="ide"
    )
    tap: LinuxInterface = doc("The hypervisor's end of its network cable. It is made if it is not there.", "tap1")
    bridge: LinuxInterface = doc("The bridge of the hypervisor that the cable is plugged into.", "br0")
    mac: Mac = doc("The MAC address of its network card.")
    card: Literal["e1000", "virtio-net-pci"] = doc(
        "Its network card: FreeBSD calls it em0 (e1000) or vtnet0.", "e1000", default="e1000"
    )
    vnc: Display | None = doc(
        "The VNC display of its screen, on the hypervisor's 127.0.0.1. Absent: no screen.", default=None
    )
    machine: Literal["pc", "q35"] = doc("The kind of computer that it is.", "pc", default="pc")
    accelerator: Literal["kvm", "tcg"] = doc(
        "kvm, or tcg where the processor cannot: many times slower.", "kvm", default="kvm"
    )


class Libvirt(Model):
    """A virtual machine that libvirt knows already."""

    domain: Word = doc("Its name there.", "build-vm")
    uri: VirtUri = doc("Which libvirt, as seen on the hypervisor.", "qemu:///system", default="qemu:///system")


class VirtualMachine(Model):
    """How the build VM is switched on and off."""

    hypervisor: Hypervisor = doc("Where it runs.")
    kind: Literal["qemu", "libvirt"] = doc("Who runs it: QEMU, started by jailops itself, or libvirt.", "qemu")
    qemu: Qemu | None = doc("kind qemu: the virtual machine.", default=None)
    libvirt: Libvirt | None = doc("kind libvirt: which virtual machine.", default=None)
    idle: Duration = doc(
        "It is shut down when for so long nothing was built there and nobody was logged in.",
        "30m",
        default=1800,
        written="30m",
    )
    boot_timeout: Duration = doc(
        "How long it may take until its sshd answers, and to shut down.", "5m", default=300, written="5m"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> VirtualMachine:
        for name in ("qemu", "libvirt"):
            there, wanted = getattr(self, name) is not None, name == self.kind
            if there != wanted:
                raise wrong(f"{'a block' if wanted else 'no such block'}: kind is {self.kind}", at=(name,))
        return self


class Timeouts(Model):
    """How long a stage of a build may take. Then it is ended, and has failed."""

    source: Duration = doc("Fetching source or sets.", default=7200, written="2h")
    buildworld: Duration = doc("Compiling world.", default=43200, written="12h")
    buildkernel: Duration = doc("Compiling the kernel.", default=14400, written="4h")
    install: Duration = doc("Each of installworld, distribution and installkernel.", default=7200, written="2h")
    packages: Duration = doc("Installing packages.", default=7200, written="2h")
    clone: Duration = doc("Cloning a layer by hard links, for the one on top of it.", default=3600, written="1h")
    other: Duration = doc(
        "Each other stage: prepare, unpack, base.txz, check, hashes, copy, configuration, archives, files, manifest, publish.",
        default=7200,
        written="2h",
    )

    @property
    def build(self) -> int:
        """Seconds that no build takes longer within these limits; none has more than seven of the other stages."""
        once = (self.source, self.buildworld, self.buildkernel, self.packages, self.clone)
        return sum(once) + 3 * self.install + 7 * self.other


class BuildVMSpec(Model):
    """The FreeBSD machine on which world and kernel are compiled and roots are assembled."""

    ssh: Ssh = doc("How to reach it.")
    share: DataDir = doc("Where it sees the San's nfs.root mounted.", "/mnt/jailops")
    source_dir: Path = doc("Where the FreeBSD source is checked out.", "/usr/src", default="/usr/src")
    object_dir: Path = doc("Where make(1) puts what it compiles.", "/usr/obj", default="/usr/obj")
    jobs: Jobs = doc("How many compilers run at once.", default=4)
    timeouts: Timeouts = doc("How long each stage of a build may take.", default=Timeouts())
    work_dir: DataDir = doc("Where builds keep their logs and state.", "/var/db/jailops", default="/var/db/jailops")
    vm: VirtualMachine | None = doc(
        "How it is switched on when a build needs it, and off again. Absent: its power is yours.", default=None
    )

    @model_validator(mode="after")
    def _elsewhere(self) -> BuildVMSpec:
        if self.vm is not None:
            below = self.vm.hypervisor.ssh
            if (below.address, below.port) == (self.ssh.address, self.ssh.port):
                raise wrong(
                    "another machine than the build VM itself: it cannot start itself",
                    at=("vm", "hypervisor", "ssh", "address"),
                )
        return self


class BuildVM(Document):
    """Where world and kernel are compiled."""

    kind: Literal["BuildVM"] = doc("The kind of object.", "BuildVM")
    metadata: Metadata = doc("Name and notes.")
    spec: BuildVMSpec = doc("What it is like.")


NfsBackend: TypeAlias = Literal["linux", "ganesha", "freebsd"]
EXPORT_FILES: Final[dict[str, str]] = {
    "linux": "/etc/exports.d/jailops.exports",
    "ganesha": "/etc/ganesha/jailops.conf",
    "freebsd": "/etc/exports.jailops",
}


class Nfs(Model):
    """The share with the roots of all nodes."""

    backend: NfsBackend = doc("The NFS server: the Linux kernel's, nfs-ganesha, or FreeBSD's.", "ganesha")
    address: IPv4 = doc("The address from which nodes mount.")
    root: ServedDir = doc("The directory that holds images/ and hosts/.", "/export/jailops")
    config_file: Path = doc(
        "The file with our exports. Default: /etc/exports.d/jailops.exports (linux), /etc/ganesha/jailops.conf "
        "(ganesha), /etc/exports.jailops (freebsd).",
        "/etc/ganesha/jailops.conf",
        make=lambda data: EXPORT_FILES[data["backend"]],
    )
    clients: Annotated[tuple[IPv4, ...], Unique(str, "address")] = doc(
        "Machines that get the whole root read-write: the build VM.", ["198.51.100.20"], default=()
    )


IscsiBackend: TypeAlias = Literal["tgt", "ctld"]


class Iscsi(Model):
    """One disk per node for its jails."""

    backend: IscsiBackend = doc("The target software: tgt (Linux) or ctld (FreeBSD).", "tgt")
    portal: PortalText = doc("Where targets listen; without a port it is 3260.")
    volumes: VolumeDir = doc(
        "The directory in which the volume files live, one per host; or where devices with the hosts' names lie, such as "
        "/dev/vg0 or /dev/zvol/tank: those are made and grown by hand.",
        "/srv/iscsi/jailops",
    )
    iqn_prefix: Iqn = doc("Every target's name begins with it and ends with the host's name.")
    config_dir: Path = doc(
        "tgt: where target files are kept for its next start.", "/etc/tgt/conf.d", default="/etc/tgt/conf.d"
    )
    config_file: Path = doc("ctld: its configuration.", "/etc/ctl.conf", default="/etc/ctl.conf")


class SanSpec(Model):
    """The machine that serves NFS shares and iSCSI disks."""

    ssh: Ssh = doc("How to reach it.")
    nfs: Nfs = doc("The share with the root file systems.")
    iscsi: Iscsi = doc("The disks for the jails.")

    @model_validator(mode="after")
    def _apart(self) -> SanSpec:
        root, volumes = f"{self.nfs.root}/", f"{self.iscsi.volumes}/"
        if root.startswith(volumes) or volumes.startswith(root):
            raise wrong(
                f"a directory apart from nfs.root ({self.nfs.root}), or nodes could reach each other's disks over NFS",
                at=("iscsi", "volumes"),
            )
        return self


class San(Document):
    """Serves NFS shares and iSCSI disks."""

    kind: Literal["San"] = doc("The kind of object.", "San")
    metadata: Metadata = doc("Name and notes.")
    spec: SanSpec = doc("What it is like.")


DhcpBackend: TypeAlias = Literal["isc", "kea"]
DHCP_FILES: Final[dict[str, str]] = {"isc": "/etc/dhcp/dhcpd.conf", "kea": "/etc/kea/kea-dhcp4.conf"}


class Dhcp(Model):
    """Tells each node its address, its boot file and its root."""

    backend: DhcpBackend = doc("The DHCP server: ISC dhcpd or Kea.", "isc")
    include_file: Path = doc(
        "isc: the file with our host entries; the main file must include it.",
        "/etc/dhcp/jailops.conf",
        default="/etc/dhcp/jailops.conf",
    )
    config_file: Path = doc(
        "The server's main file. Default: /etc/dhcp/dhcpd.conf (isc), /etc/kea/kea-dhcp4.conf (kea).",
        "/etc/dhcp/dhcpd.conf",
        make=lambda data: DHCP_FILES[data["backend"]],
    )
    control_socket: Path = doc(
        "kea: the socket it takes commands on.", "/run/kea/kea4-ctrl-socket", default="/run/kea/kea4-ctrl-socket"
    )
    service: Service = doc("isc: the service to restart.", default="isc-dhcp-server")
    subnet: Subnet = doc("The network that every host booted from here lies in.")


class Tftp(Model):
    """Serves the boot files."""

    root: DataDir = doc("The directory that tftpd serves.", "/srv/tftp", default="/srv/tftp")
    address: IPv4 = doc("What nodes are told as next-server. Default: the address of ssh.", filled=True)


class BootServerSpec(Model):
    """The machine that answers when a node is switched on."""

    ssh: Ssh = doc("How to reach it.")
    dhcp: Dhcp = doc("Addresses and boot parameters.")
    tftp: Tftp = doc("The boot files.", filled=True)

    @model_validator(mode="before")
    @classmethod
    def _next_server(cls, data: Any) -> Any:
        ssh = data.get("ssh") if isinstance(data, dict) else None
        address = ssh.get("address") if isinstance(ssh, dict) else None
        if not fits(IPv4, address):
            return data
        return fill(fill(data, "", "tftp", {}), "tftp", "address", address)


class BootServer(Document):
    """DHCP and TFTP."""

    kind: Literal["BootServer"] = doc("The kind of object.", "BootServer")
    metadata: Metadata = doc("Name and notes.")
    spec: BootServerSpec = doc("What it is like.")
