"""The live node below its jails: what it booted, its iSCSI session, the file system, the addresses.

Order of looking follows jails.md: the session before anything that the disk could block. Nothing is formatted that was
not read and found blank in the very step before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, last_words
from controller.drivers.generations import complete_generations, same_for_host
from controller.drivers.hostshare import iscsi_conf, jail_addresses
from controller.drivers.places import Disk, disk_of
from controller.encode import ifconfig, iscsi, jls, kernel, mounts
from controller.encode.names import safename
from controller.encode.sh import put_file, sh
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen


def _parsed(what: str, host: str, parse: Any, text: str) -> Any:
    """An answer that cannot be read is unknown, never empty."""
    try:
        return parse(text)
    except (GrammarError, ValueError) as error:
        raise Retry(f"cannot read {what} of {host}: {error}") from error


@dataclass(frozen=True)
class NodeSpec:
    image: str
    policy: str
    jails: frozenset[str]
    """The names that declared jails have for the kernel; every other running jail is somebody else's."""


class Nodes(Base):
    """Which generation a node runs. Nothing is done about it here: rebooting is the operator's, until rollouts exist."""

    kind: ClassVar[str] = "node"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            jails = frozenset(safename(jail.name) for jail in desired.jails_of(name))
            spec = NodeSpec(host.spec.image, host.spec.reboot.policy, jails)
            yield Resource(Ref(self.kind, name), name, spec, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (Probe(resource.host, looks.booted()), Probe(resource.host, looks.jails()))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer, running = answered(answers)
        lines = answer.out.splitlines()
        if len(lines) < 4:
            raise Stall(
                f"cannot tell what {resource.host} was booted from: kenv and sysctl say {' / '.join(lines) or 'nothing'}",
                hint="this node was not booted over the network by pxeboot; boot it from its DHCP entry",
            )
        server, path, boottime, _ = lines[:4]
        booted = _parsed("kern.boottime", resource.host, kernel.boottime, boottime)
        generation = path.rpartition("/")[2]
        jails = _parsed("the list of jails", resource.host, jls.parse, checked(running, "list jails").out)
        others = [f"jail {one.name} on {resource.host}" for one in jails if one.name not in resource.spec.jails]
        detail = {"rootPath": f"{server}:{path}", "booted": booted, "unmanaged": others}
        return Seen({"generation": generation}, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        published = world.generations.get(resource.host)
        if published is None:
            raise Wait(f"no generation of {resource.spec.image} is complete yet", on=f"image/{resource.spec.image}")
        seen = world.seen(resource.ref)
        running = (seen.facts or {}).get("generation", "") if seen else ""
        complete = complete_generations(world.observed, resource.spec.image)
        if same_for_host(complete, resource.host, running, published):
            return {"generation": running}
        raise Wait(
            f"RebootPending: runs generation {running}, {published} is published; reboot it when it suits "
            f"(policy {resource.spec.policy})",
            on=f"node/{resource.host}",
        )

    def explain(self, change: Change) -> Explanation:
        return Explanation(f"nothing is done to {change.ref}", "a reboot is the operator's", "disruptive")

    def steps(self, change: Change, world: World) -> Steps:
        del change, world
        yield from ()


class Sessions(Base):
    """The node's iSCSI session and the file that makes it. A session that exists but is not connected is waited for."""

    kind: ClassVar[str] = "session"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            needs = (Ref("lun", name), Ref("hostshare", name))
            yield Resource(Ref(self.kind, name), name, disk_of(desired, name), needs, host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        digest = Script(
            f"{looks.SHA256}\nif test -e /etc/iscsi.conf; then jo_sha /etc/iscsi.conf; else echo absent; fi"
        )
        return (Probe(resource.host, looks.sessions()), Probe(resource.host, digest))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        listing, digest = answered(answers)
        sessions = _parsed("the iSCSI sessions", resource.host, iscsi.parse_list, checked(listing, "list sessions").out)
        mine = [one for one in sessions if one.target == resource.spec.target]
        file = looks.read_digest(digest, "/etc/iscsi.conf")
        if not mine:
            return Seen({"state": "absent", "file": file}, detail={"device": None})
        state = "Connected" if mine[0].state.startswith("Connected") else mine[0].state
        device = mine[0].devices[0] if mine[0].devices else None
        return Seen({"state": state, "file": file}, detail={"device": device})

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        state = (seen.facts or {}).get("state") if seen else None
        if state not in ("Connected", "absent"):
            raise Wait(
                f"the SAN does not answer: the iSCSI session of {resource.host} is {state!r}; its disk is left alone",
                on=f"lun/{resource.host}",
            )
        return {"state": "Connected", "file": world.digest(iscsi_conf(world.desired, resource.host))}

    def explain(self, change: Change) -> Explanation:
        have = change.have or {}
        if have.get("state") == "absent":
            return Explanation(f"attach the jail disk of {change.resource.host}", "there is no iSCSI session")
        return Explanation(f"write /etc/iscsi.conf on {change.resource.host}", "it is not what the generation brings")

    def steps(self, change: Change, world: World) -> Steps:
        host = change.resource.host
        want, have = change.want or {}, change.have or {}
        if have.get("file") != want["file"]:
            put = put_file("/etc/iscsi.conf", iscsi_conf(world.desired, host), 0o600)
            checked((yield Run("write /etc/iscsi.conf", put)), f"write /etc/iscsi.conf on {host}")
        if have.get("state") == "absent":
            script = sh(
                """service iscsid onestatus >/dev/null 2>&1 || service iscsid onestart
iscsictl -A -n jails
i=0
while test $i -lt 30; do
  iscsictl -L | while read -r t p s; do
    test "$t" = {target} && case $s in *da[0-9]*) exit 10;; esac
  done
  test $? = 10 && exit 0
  i=$((i + 1)); sleep 0.5
done
iscsictl -L >&2
exit 1""",
                target=change.resource.spec.target,
            )
            answer = yield Run("log in to the target and wait for its disk", script, timeout=60)
            if answer.exit != 0:
                raise Retry(f"cannot attach the jail disk of {host}: {last_words(answer)}")


class Filesystems(Base):
    """The file system on the jail disk, found by its label, mounted where the manifest says."""

    kind: ClassVar[str] = "filesystem"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            yield Resource(Ref(self.kind, name), name, disk_of(desired, name), (Ref("session", name),), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (
            Probe(resource.host, looks.labels()),
            Probe(resource.host, looks.mounts()),
            Probe(resource.host, looks.sessions()),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        disk: Disk = resource.spec
        labels, table, listing = answered(answers)
        mounted = _parsed("mount -p", resource.host, mounts.parse_p, checked(table, "list mounts").out)
        on = next((one.device for one in mounted if one.mountpoint == disk.mount), None)
        sessions = _parsed("the iSCSI sessions", resource.host, iscsi.parse_list, checked(listing, "list sessions").out)
        device = next((d for one in sessions if one.target == disk.target for d in one.devices), None)
        labelled = on == disk.device or disk.label in checked(labels, "list /dev/ufs").out.split()
        return Seen({"label": labelled, "mounted": on}, detail={"device": device})

    def want(self, resource: Resource, world: World) -> Facts | None:
        disk: Disk = resource.spec
        seen = world.seen(resource.ref)
        on = (seen.facts or {}).get("mounted") if seen else None
        if on not in (None, disk.device):
            raise Stall(
                f"cannot use {disk.mount} of {resource.host}: {on} is mounted there instead of {disk.device}",
                hint="a memory disk on the mount point loses everything at reboot: look for /conf/base/"
                f"{disk.mount.strip('/')} in the image, or unmount it by hand",
            )
        return {"label": True, "mounted": disk.device}

    def explain(self, change: Change) -> Explanation:
        disk: Disk = change.resource.spec
        if (change.have or {}).get("label"):
            return Explanation(
                f"check and mount {disk.device} on {disk.mount} of {change.resource.host}", "not mounted"
            )
        return Explanation(
            f"make file system {disk.label} on the jail disk of {change.resource.host}, if it is proved blank",
            "no file system with this label is there",
        )

    def steps(self, change: Change, world: World) -> Steps:
        del world
        disk: Disk = change.resource.spec
        host = change.resource.host
        device = change.detail.get("device")
        if not (change.have or {}).get("label"):
            if device is None:
                raise Retry(f"cannot make a file system for {host}: the session shows no disk yet")
            look = yield Run(f"read {device}: is it blank?", blank(device), lane="disk", writes=False, timeout=60)
            if look.exit != 0:
                raise Stall(
                    f"cannot make file system {disk.label} on {host}: /dev/{device} is not blank "
                    f"({look.out.strip() or last_words(look)})",
                    hint=f"if it is the right disk, label it by hand: tunefs -L {disk.label} /dev/{device}; "
                    "jailops formats nothing that holds data",
                )
            make = sh("newfs -U -L {label} {device}", label=disk.label, device=f"/dev/{device}")
            checked((yield Run(f"newfs -L {disk.label}", make, lane="disk", timeout=600)), "make a file system")
        script = sh(
            """fsck -t ufs -p {device} || exit 1
test -d {mount} || exit 2
mount {device} {mount}
mount -p | while read -r d m rest; do test "$m" = {mount} && test "$d" = {device} && exit 10; done
test $? = 10""",
            device=disk.device,
            mount=disk.mount,
        )
        answer = yield Run(f"check and mount {disk.device}", script, lane="disk", timeout=600)
        if answer.exit == 2:
            raise Stall(f"cannot mount the jail disk of {host}: its root has no directory {disk.mount}")
        checked(answer, f"mount {disk.device} on {host}")


def blank(device: str) -> Script:
    """Exit 0 only if nothing at all is on the disk: zeros at both ends, no UFS, no partition table.

    ``fstyp`` and ``gpart`` alone prove nothing: they say the same of a formatted disk (seen on 13.2).
    """
    return sh(
        """set -- $(diskinfo {name})
test $# -ge 3 || {{ echo 'its size cannot be read'; exit 2; }}
last=$(($3 / 65536 - 16))
dumpfs -l {device} >/dev/null 2>&1 && {{ echo 'it holds a UFS file system'; exit 3; }}
gpart show {name} >/dev/null 2>&1 && {{ echo 'it holds a partition table'; exit 4; }}
zeros() {{ dd if={device} bs=64k count=16 skip="$1" 2>/dev/null | cmp -n 1048576 - /dev/zero >/dev/null 2>&1; }}
zeros 0 || {{ echo 'its first megabyte holds data'; exit 5; }}
zeros "$last" || {{ echo 'its last megabyte holds data'; exit 6; }}""",
        name=device,
        device=f"/dev/{device}",
    )


@dataclass(frozen=True)
class Aliases:
    interface: str
    addresses: tuple[str, ...]


class Addresses(Base):
    """The jails' addresses on the node's interface. Only what a manifest gave is ever taken away."""

    kind: ClassVar[str] = "addresses"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            spec = Aliases(host.spec.interface, tuple(jail_addresses(desired, name)))
            yield Resource(Ref(self.kind, name), name, spec, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (Probe(resource.host, looks.inet(resource.spec.interface)),)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        """Ours are the addresses that manifests give now or gave before; anybody else's are not even compared."""
        spec: Aliases = resource.spec
        answer = checked(answered(answers)[0], f"look at {spec.interface} of {resource.host}")
        found = {one.address for one in _parsed("ifconfig", resource.host, ifconfig.parse, answer.out).addresses}
        return Seen({"aliases": sorted(found & (set(spec.addresses) | _aliases(applied)))})

    def want(self, resource: Resource, world: World) -> Facts | None:
        del world
        return {"aliases": list(resource.spec.addresses)}

    def explain(self, change: Change) -> Explanation:
        want, have = _aliases(change.want), _aliases(change.have)
        parts = [f"add {', '.join(sorted(want - have))}"] * bool(want - have)
        parts += [f"remove {', '.join(sorted(have - want))}"] * bool(have - want)
        summary = f"{'; '.join(parts)} on {change.resource.spec.interface} of {change.resource.host}"
        return Explanation(summary, "the jails' addresses differ", "restart" if have - want else "none")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        interface = change.resource.spec.interface
        want, have = _aliases(change.want), _aliases(change.have)
        for address in sorted(want - have):
            add = sh("ifconfig {i} inet {a} alias", i=interface, a=f"{address}/32")
            checked((yield Run(f"add {address} to {interface}", add)), f"add {address}")
        for address in sorted(have - want):
            drop = sh("ifconfig {i} inet {a} -alias", i=interface, a=address)
            checked((yield Run(f"remove {address} from {interface}", drop)), f"remove {address}")


def _aliases(facts: Facts | None) -> set[str]:
    return set((facts or {}).get("aliases", ()))
