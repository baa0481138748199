"""An Image: all that goes into one immutable root file system for diskless nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, model_validator

from controller.manifests.base import Document, Metadata, Model, SecretRef, Unique, Without, doc
from controller.manifests.network import AuthorizedKey
from controller.manifests.scalar import Refused, Scalar, parsed, whole, wrong
from controller.manifests.words import (
    Branch,
    Commit,
    Content,
    GitUrl,
    KernelName,
    Knob,
    LoaderName,
    Login,
    MakeName,
    MakeValue,
    Mode,
    Name,
    PackageName,
    PackageUrl,
    Path,
    RcName,
    Release,
    ShellValue,
    SvnUrl,
    size,
)

RcConf: TypeAlias = Annotated[
    Mapping[RcName, ShellValue], Without({"hostname": "Host.spec.hostname says it for each host"})
]
"""Variables of rc.conf(5)."""

Uid: TypeAlias = Annotated[
    int, whole(1000, 65533, 1001, expected="a user id from 1000 to 65533 (lower ones are the system's)")
]
SvnRevision: TypeAlias = Annotated[int, whole(1, 2**31 - 1, 324094, expected="a revision's number")]
Keep: TypeAlias = Annotated[int, whole(2, 1000, 3, expected="2 or more: the booted generation and the one before it")]
MemorySize: TypeAlias = Annotated[int, size(4 * 2**20, "4MiB", "32MiB")]
AuthorizedKeys: TypeAlias = Annotated[tuple[AuthorizedKey, ...], Unique(str, "key")]
_KEYS_EXAMPLE: Final = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC9ipcgJX/IxDT0M9AAAE+UA9FLmTCl9hlt6vf2JgNza alice@desk"]


class Git(Model):
    """A commit of a git repository."""

    url: GitUrl = doc("The repository.")
    commit: Commit = doc("The commit that is built, in full.")
    branch: Branch | None = doc(
        "The branch to fetch when the server gives no single commits.", "releng/13.2", default=None
    )


class Svn(Model):
    """A revision of a Subversion repository, for releases older than the move to git."""

    url: SvnUrl = doc("The repository with the path inside it.")
    revision: SvnRevision = doc("The revision that is built.")


class Source(Model):
    """The FreeBSD source: exactly one of git and svn."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    git: Git | None = doc("From git.", default=None)
    svn: Svn | None = doc("From Subversion.", default=None)

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.git is None) == (self.svn is None):
            raise wrong("exactly one of git and svn", found="neither" if self.git is None else "both")
        return self


_CLIENT: Final = ("NFSCL", "NFS_ROOT")


def _statements(config: str) -> list[list[str]]:
    lines = (line.partition("#")[0].split() for line in config.splitlines())
    return [line for line in lines if line]


def _boots_diskless(config: str) -> bool:
    """Whether a kernel configuration has the NFS client and can use it as root (diskless(8), sys/conf/NOTES)."""
    has: set[str] = set()
    for keyword, *rest in _statements(config):
        options = {word.partition("=")[0] for word in " ".join(rest).replace(",", " ").split()}
        if keyword == "include" and "GENERIC" in options:
            has.update(_CLIENT)
        elif keyword == "options":
            has |= options
        elif keyword == "nooptions":
            has -= options
    return has.issuperset(_CLIENT)


class Kernel(Model):
    """The kernel that the nodes run."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["config"]},
            "then": {"required": ["name"], "properties": {"name": {"not": {"const": "GENERIC"}}}},
        }
    )

    name: KernelName = doc("The configuration's name, given to make(1) as KERNCONF.", default="GENERIC")
    config: Content | None = doc(
        "The configuration file's text. Absent: a configuration of that name in the source tree.",
        "include GENERIC\nident MYKERNEL\n",
        default=None,
    )

    @model_validator(mode="after")
    def _bootable(self) -> Kernel:
        if self.config is None:
            return self
        if self.name == "GENERIC":
            raise wrong("a name other than GENERIC for a configuration of your own", at=("name",))
        if not _boots_diskless(self.config):
            raise wrong(
                "'include GENERIC', or 'options NFSCL' and 'options NFS_ROOT'",
                at=("config",),
                found="a kernel that cannot have its root on NFS",
            )
        return self


class PackageRepository(Model):
    """Where packages come from."""

    url: PackageUrl = doc("The repository's URL; ${ABI} stands for the image's release and architecture.")


class User(Model):
    """A user of the nodes."""

    name: Login = doc("The login name.")
    uid: Uid = doc("The user id.")
    groups: Annotated[tuple[Login, ...], Unique(str, "group")] = doc("Further groups.", ["wheel"], default=())
    shell: Path = doc("The login shell.", "/bin/sh", default="/bin/sh")
    home: Path = doc(
        "The home directory. Default: /home/ and the name.", "/home/admin", make=lambda data: f"/home/{data['name']}"
    )
    authorized_keys: AuthorizedKeys = doc("Public keys that may log in.", _KEYS_EXAMPLE, default=())
    password_hash: SecretRef | None = doc(
        "A file that holds the hash for master.passwd(5). Absent: no password.", default=None
    )

    @model_validator(mode="after")
    def _not_root(self) -> User:
        if self.name in ("root", "toor"):
            raise wrong("another user: rootAuthorizedKeys holds root's keys", at=("name",))
        return self


_OWNED_FILES: Final = {
    "/etc/fstab": "jailops writes it, for the root and the jail disk",
    "/etc/rc.conf": "rcConf says what stands in it",
    "/etc/resolv.conf": "Host.spec.nameservers and domain say what stands in it",
    "/etc/iscsi.conf": "Host.spec.jailDisk says what stands in it",
    "/boot/loader.conf": "loaderConf says what stands in it",
    "/etc/passwd": "users says what stands in it",
    "/etc/master.passwd": "users says what stands in it",
    "/etc/group": "users says what stands in it",
    "/root/.ssh/authorized_keys": "rootAuthorizedKeys says what stands in it",
}
_OWNED_TREES: Final = {
    "/conf": "jailops makes it from all the rest",
    "/.jailops": "jailops keeps its marks there",
    "/etc/ssh/ssh_host_": "Host.spec.hostKeySecret says which key a host has",
}


def _free(path: str) -> str:
    reason = _OWNED_FILES.get(path) or next(
        (
            why
            for tree, why in _OWNED_TREES.items()
            if path == tree or path.startswith(tree if tree.endswith("_") else f"{tree}/")
        ),
        "",
    )
    if reason:
        raise Refused(f"another path ({reason})")
    return path


def _file_path() -> Scalar:
    path = Path.__metadata__[0]  # type: ignore[attr-defined]
    return parsed(path, _free, "an absolute path of the root file system")


FilePath: TypeAlias = Annotated[str, _file_path()]


class File(Model):
    """One more file of the root file system, owned by root."""

    path: FilePath = doc("Where it goes.", "/etc/motd.template")
    content: Content = doc("Its text.", "Welcome to a diskless node.\n")
    mode: Mode = doc("Its permissions.", default=0o644, written="0644")


class Memory(Model):
    """How large the memory disks of a node are; its RAM pays for them."""

    etc: MemorySize = doc("The size of /etc.", default=32 * 2**20, written="32MiB")
    var: MemorySize = doc("The size of /var.", default=64 * 2**20, written="64MiB")


class ImageSpec(Model):
    """What goes into the root. A changed field makes a new generation; nodes take it at their next reboot."""

    build_vm: Name = doc("The BuildVM that makes it.", "buildvm", alias="buildVM")
    san: Name = doc("The San that serves it.", "san")
    release: Release = doc("The FreeBSD release that the source is.")
    architecture: Literal["amd64", "i386", "arm64"] = doc("The processor of the nodes.", "amd64", default="amd64")
    source: Source = doc("Where the source comes from, to the exact revision.")
    src_conf: Annotated[tuple[Knob, ...], Unique(str, "knob")] = doc(
        "Knobs of src.conf(5): what to leave out of world, and what to add.", ["WITHOUT_ZFS"], default=()
    )
    make_options: Mapping[MakeName, MakeValue] = doc(
        "Variables of a make.conf(5) that only this build reads.", {"CPUTYPE": "i586"}, default={}
    )
    kernel: Kernel = doc("The kernel. Default: GENERIC.", default=Kernel())
    packages: Annotated[tuple[PackageName, ...], Unique(str, "package")] = doc(
        "Packages of the root. ezjail comes by itself when a host of this image uses it.", ["tmux"], default=()
    )
    package_repository: PackageRepository | None = doc(
        "Where packages come from. Absent: FreeBSD's own repository.", default=None
    )
    rc_conf: RcConf = doc("Variables of rc.conf(5) for all nodes of this image.", {"sshd_enable": "YES"}, default={})
    loader_conf: Mapping[LoaderName, ShellValue] = doc(
        "Variables of loader.conf(5).", {"kern.racct.enable": "1"}, default={}
    )
    users: Annotated[
        tuple[User, ...], Unique(lambda user: user.name, "user"), Unique(lambda user: user.uid, "user id")
    ] = doc("Users of the nodes, besides root.", default=())
    root_authorized_keys: AuthorizedKeys = doc(
        "Public keys that may log in as root. The controller's own belongs here.", _KEYS_EXAMPLE, default=()
    )
    files: Annotated[tuple[File, ...], Unique(lambda file: file.path, "path")] = doc(
        "Further files of the root.", default=()
    )
    memory: Memory = doc("The size of the nodes' memory disks.", default=Memory())
    keep: Keep = doc("How many generations are kept; one that is booted or published stays anyway.", default=3)


class Image(Document):
    """One root file system for diskless nodes."""

    kind: Literal["Image"] = doc("The kind of object.", "Image")
    metadata: Metadata = doc("Name and notes.")
    spec: ImageSpec = doc("What goes into it.")
