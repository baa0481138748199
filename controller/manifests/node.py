"""Host, a diskless node, and Jail, what it is there for. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import model_validator

from controller.manifests.base import (
    Document,
    HostSsh,
    JailMetadata,
    Metadata,
    Model,
    SecretRef,
    Unique,
    doc,
    fill,
    fits,
)
from controller.manifests.image import RcConf
from controller.manifests.network import Cidr, IPv4, Mac
from controller.manifests.parameters import Parameters
from controller.manifests.power import Power
from controller.manifests.scalar import whole, wrong, yes_or_no
from controller.manifests.window import Window
from controller.manifests.words import (
    ChapUser,
    DataDir,
    Domain,
    Duration,
    Hostname,
    Interface,
    Iqn,
    JailHostname,
    JailName,
    Name,
    Path,
    RelativePath,
    SetsUrl,
    VolumeLabel,
    Word,
    size,
)

DiskSize: TypeAlias = Annotated[int, size(64 * 2**20, "64MiB", "3GiB")]
Ruleset: TypeAlias = Annotated[int, whole(0, 65535, 4, expected="a devfs ruleset's number from 0 to 65535")]
Protect: TypeAlias = Annotated[bool, yes_or_no()]
INITIATOR_PREFIX: Final = "iqn.1994-09.org.freebsd:"
"""What iscsictl(8) puts before the host name when iscsi.conf names no initiator."""


class Chap(Model):
    """Who the node says it is when it attaches its disk."""

    user: ChapUser = doc("The CHAP user.", "node1")
    secret: SecretRef = doc("A file that holds the CHAP secret: 12 to 16 characters.")


class JailDisk(Model):
    """The node's iSCSI disk, on which its jails live. It may grow and never shrinks."""

    size: DiskSize = doc("The disk's size.")
    mount: DataDir = doc("Where the node mounts it.", "/iscsi", default="/iscsi")
    label: VolumeLabel = doc("The file system's label, by which it is mounted.", default="jails")
    chap: Chap | None = doc(
        "CHAP on top of the initiator's name. Absent: the name and the address alone.", default=None
    )


class Base(Model):
    """The FreeBSD that the jails share."""

    sets: SetsUrl = doc("Where base.txz of the release is fetched from.", "file:///dist", default="file:///dist")


class Jails(Model):
    """How jails are kept on this host."""

    manager: Literal["ezjail", "jail.conf"] = doc(
        "What creates and starts them: ezjail, or jail(8) with jail.conf(5).", "ezjail"
    )
    directory: Path = doc(
        "Where they live, on the jail disk. Default: jails in the disk's mount.", "/iscsi/jails", filled=True
    )
    base: Base = doc("The FreeBSD that they share.", default=Base())
    devfs_ruleset: Ruleset | None = doc(
        "The devfs ruleset of jails that name none. Absent: the system's own.", default=None
    )


class Reboot(Model):
    """When a node may be rebooted into a new generation."""

    policy: Literal["never", "manual", "window", "immediate"] = doc(
        "never: jailops never reboots it, not even to lead it back, and no alert reminds of it. manual: a person reboots it, and "
        "is reminded when that takes more than a week. window: it is rebooted while its window is open. immediate: as soon as "
        "its image's rollout lets it.",
        "window",
        default="manual",
    )
    window: Window | None = doc("When it may be rebooted, for policy window.", default=None)
    deadline: Duration = doc(
        "How long a reboot may take until the node has proved itself: the right generation, read-only root, disk and jails. "
        "After that it goes back to the last generation that did.",
        default=600,
        written="10m",
    )

    @model_validator(mode="after")
    def _windowed(self) -> Reboot:
        if (self.window is not None) != (self.policy == "window"):
            what = (
                "a window, because policy is window"
                if self.window is None
                else "policy window, because window is given"
            )
            raise wrong(what, at=("window",) if self.window is None else ("policy",))
        return self


class HostSpec(Model):
    """A machine without a disk: everything it is comes from here."""

    mac: Mac = doc("The MAC address of the card it boots from.")
    address: Cidr = doc("Its address with the prefix length of its network.")
    gateway: IPv4 = doc("The default router.", "198.51.100.1")
    nameservers: Annotated[tuple[IPv4, ...], Unique(str, "address")] = doc(
        "Its DNS servers.", ["198.51.100.1"], default=()
    )
    domain: Domain | None = doc("Its DNS domain.", "example.org", default=None)
    interface: Interface = doc("The interface that has the addresses, as FreeBSD calls it.")
    hostname: Hostname = doc("Its host name. Default: metadata.name.", filled=True)
    image: Name = doc("The Image it boots.", "freebsd13")
    boot_server: Name = doc("The BootServer that answers it.", "bootserver")
    san: Name = doc("The San that serves its root and its disk.", "san")
    ssh: HostSsh = doc("How to reach it.")
    host_key_secret: SecretRef = doc(
        "A file that holds the private half of ssh.hostKey, shipped to the node so that it stays itself across boots."
    )
    jail_disk: JailDisk = doc("The disk for its jails.")
    jails: Jails = doc("How its jails are kept.")
    initiator: Iqn = doc(
        "Its iSCSI name. Default: iqn.1994-09.org.freebsd: and previous, else metadata.name.",
        "iqn.1994-09.org.freebsd:node1",
        filled=True,
    )
    rc_conf: RcConf = doc(
        "Variables of rc.conf(5) for this host alone, over those of the image.", {"sshd_flags": "-4"}, default={}
    )
    reboot: Reboot = doc("When it may be rebooted.", default=Reboot())
    power: Power | None = doc(
        "How it is switched on and off when its own sshd does not answer. Absent: by a person.", default=None
    )
    previous: Name | None = doc(
        "The first name of a host that was renamed. Its disk, its share and all else on the servers are kept under it, so it "
        "stays here for as long as there is the host.",
        "oldnode",
        default=None,
    )
    protect: Protect = doc("A push that removes it is refused, until one before it has taken this away.", default=False)

    @model_validator(mode="before")
    @classmethod
    def _directory(cls, data: Any) -> Any:
        disk = data.get("jailDisk") if isinstance(data, dict) else None
        mount = disk.get("mount", "/iscsi") if isinstance(disk, dict) else None
        return fill(data, "jails", "directory", f"{mount}/jails") if fits(Path, mount) else data

    @model_validator(mode="after")
    def _on_disk(self) -> HostSpec:
        if self.jails.manager == "jail.conf" and not self.jails.base.sets.startswith("file://"):
            raise wrong("jails.base.sets as a file:// URL: with jail.conf the sets are read from the node's own root")
        if not self.jails.directory.startswith(f"{self.jail_disk.mount}/"):
            raise wrong(
                f"a directory below jailDisk.mount ({self.jail_disk.mount}); elsewhere jails would live in memory and be "
                "lost at a reboot",
                at=("jails", "directory"),
            )
        return self


def own_initiator(data: Any) -> str:
    """Of a host's raw input. Not after the host name, nor after a new name: a node that got another initiator would lose its
    disk until it is rebooted."""
    spec = data.get("spec") if isinstance(data, dict) else None
    first = spec.get("previous") if isinstance(spec, dict) else None
    return f"{INITIATOR_PREFIX}{first or _own_name(data)}".lower()


def _named_after_itself(data: Any, name_type: Any) -> Any:
    """Raw input whose spec.hostname is metadata.name unless it is given."""
    name = _own_name(data)
    return fill(data, "spec", "hostname", name) if fits(name_type, name) else data


def _own_name(data: Any) -> object:
    metadata = data.get("metadata") if isinstance(data, dict) else None
    return metadata.get("name") if isinstance(metadata, dict) else None


class Host(Document):
    """One diskless node."""

    kind: Literal["Host"] = doc("The kind of object.", "Host")
    metadata: Metadata = doc("Name and notes.")
    spec: HostSpec = doc("What it is like.")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        named = _named_after_itself(data, Hostname)
        initiator = own_initiator(data)
        return fill(named, "spec", "initiator", initiator) if fits(Iqn, initiator) else named


class Mount(Model):
    """A directory of the host that the jail sees."""

    source: Path = doc("The directory on the host.", "/iscsi/data/www")
    target: RelativePath = doc("Where the jail sees it, relative to its root.")
    type: Literal["nullfs"] = doc("The kind of mount.", "nullfs", default="nullfs")
    options: Literal["ro", "rw"] = doc("Read-only, or read-write.", "ro", default="rw")


class JailSpec(Model):
    """One jail and how it runs."""

    host: Name = doc("The Host it lives on.", "node1")
    hostname: JailHostname = doc("Its host name. Default: metadata.name.", filled=True)
    addresses: Annotated[tuple[IPv4, ...], Unique(str, "address")] = doc(
        "Its addresses, at least one, inside the host's network. They become aliases of the host's interface.",
        ["198.51.100.61"],
        min_length=1,
    )
    flavour: Word | None = doc(
        "The ezjail flavour it is created with. It runs once, at creation.", "example", default=None
    )
    state: Literal["running", "stopped"] = doc("Whether it runs.", "running", default="running")
    parameters: Parameters = doc("Parameters of jail(8).", {"allow.raw_sockets": "1"}, default={})
    mounts: Annotated[tuple[Mount, ...], Unique(lambda mount: mount.target, "target")] = doc(
        "Directories of the host that it sees.", default=()
    )
    after: Annotated[tuple[JailName, ...], Unique(str, "jail")] = doc(
        "Jails of the same host that start before it.", ["db"], default=()
    )
    on_remove: Literal["retire"] = doc(
        "What happens when it leaves Git. retire: it is stopped and no longer started; its data stays.",
        "retire",
        default="retire",
    )
    protect: Protect = doc("A push that removes it is refused, until one before it has taken this away.", default=False)


class Jail(Document):
    """One jail."""

    kind: Literal["Jail"] = doc("The kind of object.", "Jail")
    metadata: JailMetadata = doc("Name and notes.")
    spec: JailSpec = doc("What it is like.")

    @model_validator(mode="before")
    @classmethod
    def _hostname(cls, data: Any) -> Any:
        return _named_after_itself(data, JailHostname)
