"""The machines behind the nodes: where roots are built, where disks and shares live, who boots the nodes. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import model_validator

from controller.manifests.base import Document, Metadata, Model, Ssh, Unique, doc, fill, fits
from controller.manifests.network import IPv4, PortalText, Subnet
from controller.manifests.scalar import whole, wrong
from controller.manifests.words import DataDir, Iqn, Path, Service, VolumeDir

Jobs: TypeAlias = Annotated[int, whole(1, 256, 4)]


class BuildVMSpec(Model):
    """The FreeBSD machine on which world and kernel are compiled and roots are assembled."""

    ssh: Ssh = doc("How to reach it.")
    share: DataDir = doc("Where it sees the San's nfs.root mounted.", "/mnt/jailops")
    source_dir: Path = doc("Where the FreeBSD source is checked out.", "/usr/src", default="/usr/src")
    object_dir: Path = doc("Where make(1) puts what it compiles.", "/usr/obj", default="/usr/obj")
    jobs: Jobs = doc("How many compilers run at once.", default=4)
    work_dir: DataDir = doc("Where builds keep their logs and state.", "/var/db/jailops", default="/var/db/jailops")


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
    root: DataDir = doc("The directory that holds images/ and hosts/.", "/export/jailops")
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
