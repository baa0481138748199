"""An Image: all that goes into one immutable root file system for diskless nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, model_validator

from controller.encode.srcconf import kernel_config_problems
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
    SetPlace,
    Sha256,
    ShellValue,
    SvnUrl,
    Tag,
    size,
)
from controller.problem import quoted

RcConf: TypeAlias = Annotated[
    Mapping[RcName, ShellValue], Without({"hostname": "Host.spec.hostname says it for each host"})
]
"""Variables of rc.conf(5)."""

Uid: TypeAlias = Annotated[
    int, whole(1000, 65533, 1001, expected="a user id from 1000 to 65533 (lower ones are the system's)")
]
SvnRevision: TypeAlias = Annotated[int, whole(1, 2**31 - 1, 324094, expected="a revision's number")]
Keep: TypeAlias = Annotated[int, whole(2, 1000, 3, expected="2 or more: the booted generation and the one before it")]
Unavailable: TypeAlias = Annotated[int, whole(1, 1000, 1, expected="1 or more hosts")]
MemorySize: TypeAlias = Annotated[int, size(4 * 2**20, "4MiB", "32MiB")]
AuthorizedKeys: TypeAlias = Annotated[tuple[AuthorizedKey, ...], Unique(str, "key")]
_KEYS_EXAMPLE: Final = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC9ipcgJX/IxDT0M9AAAE+UA9FLmTCl9hlt6vf2JgNza alice@desk"]


class Git(Model):
    """A repository, and what of it is built: a commit, or wherever a branch or a tag is."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["commit"]}, {"required": ["branch"]}, {"required": ["tag"]}],
            "not": {"required": ["tag"], "anyOf": [{"required": ["commit"]}, {"required": ["branch"]}]},
        }
    )

    url: GitUrl = doc("The repository.")
    commit: Commit | None = doc(
        "The commit that is built, in full. It alone says for good what is built.", default=None
    )
    branch: Branch | None = doc(
        "With commit: the branch to fetch when the server gives no single commits. Alone: the branch whose newest commit is "
        "built; the build VM asks every ten minutes, and a branch that has moved is built anew.",
        "releng/13.2",
        default=None,
    )
    tag: Tag | None = doc("The tag that is built; it is asked for as a branch is.", "release/13.2.0", default=None)

    @property
    def ref(self) -> str:
        """What must be asked for to know the commit; empty when it is given."""
        if self.commit is not None:
            return ""
        return f"refs/tags/{self.tag}" if self.tag else f"refs/heads/{self.branch}"

    @model_validator(mode="after")
    def _one(self) -> Git:
        if self.tag is not None and (self.commit or self.branch):
            raise wrong("tag alone, without commit and branch", at=("tag",), found=quoted(self.tag))
        if not (self.commit or self.branch or self.tag):
            raise wrong("commit, branch or tag", found="none of them")
        return self


class Set(Model):
    """One archive of a release."""

    url: SetPlace = doc("Where it lies.")
    sha256: Sha256 = doc("Its SHA-256, as the release's MANIFEST says it. Nothing else is used.")


class Dist(Model):
    """The sets of a release, for who does not compile."""

    base: Set = doc("base.txz.")
    kernel: Set = doc("kernel.txz.")
    lib32: Set | None = doc("lib32.txz.", default=None)


class Svn(Model):
    """A revision of a Subversion repository, for releases older than the move to git."""

    url: SvnUrl = doc("The repository with the path inside it.")
    revision: SvnRevision = doc("The revision that is built.")


class Source(Model):
    """Where FreeBSD comes from: exactly one of git, svn and dist."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    git: Git | None = doc("From git.", default=None)
    svn: Svn | None = doc("From Subversion.", default=None)
    dist: Dist | None = doc("From the sets of a release: nothing is compiled.", default=None)

    @model_validator(mode="after")
    def _one(self) -> Source:
        given = sum(one is not None for one in (self.git, self.svn, self.dist))
        if given != 1:
            raise wrong("exactly one of git, svn and dist", found="several" if given else "none")
        return self


_MOST_PROBLEMS: Final = 8
"""Of one configuration, that a message tells."""


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
        problems = kernel_config_problems(self.name, self.config)
        if problems:
            expected = "a configuration of which config(8) makes a kernel that has its root on NFS"
            raise wrong(expected, at=("config",), found="; ".join(problems[:_MOST_PROBLEMS]))
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
            raise wrong("another user: rootAuthorizedKeys and rootPasswordHash are root's", at=("name",))
        return self


_OWNED_FILES: Final = {
    "/etc/fstab": "jailops writes it, for the root and the jail disk",
    "/etc/rc.conf": "rcConf says what stands in it",
    "/etc/resolv.conf": "Host.spec.nameservers and domain say what stands in it",
    "/etc/iscsi.conf": "Host.spec.jailDisk says what stands in it",
    "/boot/loader.conf": "loaderConf says what stands in it",
    "/etc/passwd": "users says what stands in it",
    "/etc/master.passwd": "users and rootPasswordHash say what stands in it",
    "/etc/group": "users says what stands in it",
    "/root/.ssh/authorized_keys": "rootAuthorizedKeys says what stands in it",
}
_OWNED_TREES: Final = {
    "/conf": "jailops makes it from all the rest",
    "/.jailops": "jailops keeps its marks there",
    "/etc/ssh/authorized_keys.d": "rootAuthorizedKeys and users say what stands there",
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


class Rollout(Model):
    """In which order the nodes of an image are rebooted into a new generation. It stops at the first that fails."""

    max_unavailable: Unavailable = doc("How many of them may be away or not in order at a time.", default=1)
    canary: Annotated[tuple[Name, ...], Unique(str, "host")] = doc(
        "Hosts that go first: the others wait until all of these have proved themselves.", ["node1"], default=()
    )


_META_MODE_SINCE: Final = 11
"""The first release of FreeBSD that can be built so (src.conf(5))."""


class ImageSpec(Model):
    """What goes into the root. A changed field makes a new generation; nodes take what they can at once, the rest at a reboot."""

    build_vm: Name = doc("The BuildVM that makes it.", "buildvm", alias="buildVM")
    san: Name = doc("The San that serves it.", "san")
    release: Release = doc("The FreeBSD release that the source is.")
    architecture: Literal["amd64", "i386"] = doc("The processor of the nodes.", "amd64", default="amd64")
    source: Source = doc("Where FreeBSD comes from.")
    incremental: Literal["none", "noClean", "metaMode"] = doc(
        "What may be left of an earlier build in the object tree: nothing; everything (-DNO_CLEAN), whatever came of it; or "
        "what META_MODE and filemon(4) find to be up to date, which 10 does not have.",
        "none",
        default="none",
    )
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
    root_password_hash: SecretRef | None = doc(
        "A file that holds root's hash for master.passwd(5): a password for the console and su(1); over SSH root needs a "
        "key. Absent: no password.",
        default=None,
    )
    files: Annotated[tuple[File, ...], Unique(lambda file: file.path, "path")] = doc(
        "Further files of the root.", default=()
    )
    memory: Memory = doc("The size of the nodes' memory disks.", default=Memory())
    rollout: Rollout = doc("How its nodes are rebooted, as far as their own policy lets them be.", default=Rollout())
    keep: Keep = doc(
        "How many generations are kept, the newest ones; one that is booted, published or may be needed stays anyway.",
        default=3,
    )

    @model_validator(mode="after")
    def _compiled(self) -> ImageSpec:
        major = self.release.partition(".")[0]
        if self.incremental == "metaMode" and int(major) < _META_MODE_SINCE:
            without = f"none or noClean ({major} has no META_MODE)"
            raise wrong(without, at=("incremental",), found=quoted(self.incremental))
        if self.source.dist is None:
            return self
        for name, given in (
            ("srcConf", self.src_conf),
            ("makeOptions", self.make_options),
            ("kernel", self.kernel != Kernel()),
            ("incremental", self.incremental != "none"),
        ):
            if given:
                raise wrong("nothing here: source.dist is used as it is, nothing is compiled", at=(name,), found=name)
        return self


class Image(Document):
    """One root file system for diskless nodes."""

    kind: Literal["Image"] = doc("The kind of object.", "Image")
    metadata: Metadata = doc("Name and notes.")
    spec: ImageSpec = doc("What goes into it.")
