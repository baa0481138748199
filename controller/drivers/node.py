"""The live node below its jails: what it booted, its iSCSI session, the file system, the addresses.

Order of looking follows jails.md: the session before anything that the disk could block. Nothing is formatted that was
not read and found blank in the very step before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, last_words, parsed
from controller.drivers.effects import needs_reboot, told
from controller.drivers.generations import bootable_by
from controller.drivers.hostshare import iscsi_conf, jail_addresses
from controller.drivers.places import Disk, disk_of
from controller.encode import ifconfig, iscsi, jls, kernel, mounts
from controller.encode.names import safename
from controller.encode.sh import put_file, raw, sh
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen


@dataclass(frozen=True)
class Booted:
    """What a node was booted from, and when by its own clock."""

    server: str
    path: str
    began: float

    @property
    def generation(self) -> str:
        return self.path.rpartition("/")[2]


def read_booted(host: str, answer: Answer) -> Booted:
    """The answer to `looks.booted`. Raises Stall for a node that was not booted over the network."""
    said = answer.out.splitlines()
    if len(said) < 4:
        raise Stall(
            f"cannot tell what {host} was booted from: kenv and sysctl say {' / '.join(said) or 'nothing'}",
            hint="this node was not booted over the network by pxeboot; boot it from its DHCP entry",
        )
    return Booted(said[0], said[1], parsed("kern.boottime", host, kernel.boottime, said[2]))


@dataclass(frozen=True)
class NodeSpec:
    image: str
    jails: frozenset[str]
    """The names that declared jails have for the kernel; every other running jail is somebody else's."""


class Nodes(Base):
    """Which generation a node runs. Nothing is done about it here: see `boot`."""

    kind: ClassVar[str] = "node"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            jails = frozenset(safename(jail.name) for jail in desired.jails_of(name))
            spec = NodeSpec(host.spec.image, jails)
            yield Resource(Ref(self.kind, name), name, spec, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (Probe(resource.host, looks.booted()), Probe(resource.host, looks.jails()))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer, running = answered(answers)
        booted = read_booted(resource.host, answer)
        jails = parsed("the list of jails", resource.host, jls.parse, checked(running, "list jails").out)
        others = [f"jail {one.name} on {resource.host}" for one in jails if one.name not in resource.spec.jails]
        detail = {"rootPath": f"{booted.server}:{booted.path}", "booted": booted.began, "unmanaged": others}
        return Seen({"generation": booted.generation}, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        published = world.generations.get(resource.host)
        if published is None:
            raise Wait(f"no generation of {resource.spec.image} is complete yet", on=f"image/{resource.spec.image}")
        seen = world.seen(resource.ref)
        running = (seen.facts or {}).get("generation", "") if seen else ""
        changed = needs_reboot(
            bootable_by(world.desired, world.observed, resource.host),
            world.desired.kept_as(resource.host),
            running,
            published,
        )
        if not changed:
            return {"generation": running}
        raise Wait(
            f"RebootPending: runs generation {running}, {published} is published; a reboot would change: {told(changed)}",
            on=f"node/{resource.host}",
        )

    def explain(self, change: Change) -> Explanation:
        return Explanation(f"nothing is done to {change.ref}", "boot reboots it", "disruptive")

    def steps(self, change: Change, world: World) -> Steps:
        del change, world
        yield from ()


REFUSED = ("Authentication failure", "Authorization failure", "Not found", "Target removed")
"""Answers of a SAN that is there (freebsd.md 4.2); every other state but Connected is its silence, or a login under way."""


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
        sessions = parsed("the iSCSI sessions", resource.host, iscsi.parse_list, checked(listing, "list sessions").out)
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
        if state not in ("Connected", "absent", *REFUSED):
            raise Wait(
                f"the SAN does not answer: the iSCSI session of {resource.host} is {state!r}; its disk is left alone",
                on=f"lun/{resource.host}",
            )
        return {"state": "Connected", "file": world.digest(iscsi_conf(world.desired, resource.host))}

    def explain(self, change: Change) -> Explanation:
        have = change.have or {}
        if have.get("state") in REFUSED:
            reason = f"the SAN refuses the login: {have['state']}"
            return Explanation(f"log {change.resource.host} in anew", reason, "restart")
        if have.get("state") == "absent":
            return Explanation(f"attach the jail disk of {change.resource.host}", "there is no iSCSI session")
        return Explanation(f"write /etc/iscsi.conf on {change.resource.host}", "it is not what the generation brings")

    def steps(self, change: Change, world: World) -> Steps:
        host = change.resource.host
        want, have = change.want or {}, change.have or {}
        if have.get("file") != want["file"]:
            put = put_file("/etc/iscsi.conf", iscsi_conf(world.desired, host), 0o600)
            checked((yield Run("write /etc/iscsi.conf", put)), f"write /etc/iscsi.conf on {host}")
        if have.get("state") in REFUSED:
            yield from _log_out(change.resource)
        if have.get("state") in ("absent", *REFUSED):
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


def _log_out(resource: Resource) -> Steps:
    """End a session that the SAN refuses: the kernel keeps the name and secret with which it was made (iscsictl(8)).

    That kills the disk under a mounted file system, so nothing may be mounted there, by whatever name of the device.
    """
    disk: Disk = resource.spec
    script = sh(
        """table=$(mount -p) && test -n "$table" || exit 8
printf '%s\\n' "$table" | while read -r d m rest; do
  test "$m" = {mount} && exit 10
  case $d in {device}|/dev/da*) exit 10;; esac
done
test $? != 10 || exit 9
iscsictl -R -t {target}""",
        device=disk.device,
        mount=disk.mount,
        target=disk.target,
    )
    answer = yield Run("end the session that is refused", script, timeout=60)
    if answer.exit == 9:
        raise Stall(
            f"cannot log {resource.host} in anew: its jail disk is mounted, and everything that uses it waits",
            hint=f"make the SAN admit it as before (lun/{resource.host}), or reboot {resource.host}",
        )
    checked(answer, f"end the iSCSI session of {resource.host}")


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
            Probe(resource.host, looks.ident(resource.spec.target)),
            Probe(resource.host, looks.components()),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        disk: Disk = resource.spec
        labels, table, ident, parts = answered(answers)
        mounted = parsed("mount -p", resource.host, mounts.parse_p, checked(table, "list mounts").out)
        entry = next((one for one in mounted if one.mountpoint == disk.mount), None)
        on = entry.device if entry else None
        device, serial = _ident(resource.host, ident)
        labelled = on == disk.device or disk.label in checked(labels, "list /dev/ufs").out.split()
        read_only = entry is not None and entry.read_only
        detail = {"device": device, "serial": serial, "labelOn": _part(disk, parts), "readOnly": read_only}
        return Seen({"label": labelled, "mounted": on}, detail=detail)

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
        if seen and seen.detail["device"] is not None:
            _is_ours(resource.host, disk, seen.detail)
        if seen and seen.detail.get("readOnly"):
            raise Stall(
                f"cannot use {disk.mount} of {resource.host}: {disk.device} is mounted read-only",
                hint=f"somebody did that, or its file system was damaged: look at dmesg, then umount {disk.mount}; "
                "jailops checks it and mounts it again",
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
        if device is None:
            raise Retry(f"cannot use the jail disk of {host}: the session shows no disk yet")
        if not (change.have or {}).get("label"):
            look = yield Run(f"read {device}: is it blank?", blank(device), lane="disk", writes=False, timeout=60)
            if look.exit != 0:
                raise Stall(
                    f"cannot make file system {disk.label} on {host}: /dev/{device} is not blank "
                    f"({look.out.strip() or last_words(look)})",
                    hint=f"if it is the right disk, label it by hand: tunefs -L {disk.label} /dev/{device}; "
                    "jailops formats nothing that holds data",
                )
            make = sh(
                "{ours}\nnewfs -U -L {label} {device}",
                ours=raw(_still_ours(disk, device)),
                label=disk.label,
                device=f"/dev/{device}",
            )
            answer = yield Run(f"newfs -L {disk.label}", make, lane="disk", timeout=600)
            if answer.exit == _ANOTHER:
                raise _another(host, disk, device)
            checked(answer, "make a file system")
        script = sh(
            """{ours}
fsck -t ufs -p {device} || exit 1
test -d {mount} || exit 2
mount {device} {mount}
mount -p | while read -r d m rest; do test "$m" = {mount} && test "$d" = {device} && exit 10; done
test $? = 10""",
            ours=raw(_still_ours(disk, device)),
            device=disk.device,
            mount=disk.mount,
        )
        # Its host ends it then, and the next one begins anew: a large disk must get to the end of its check.
        answer = yield Run(f"check and mount {disk.device}", script, lane="disk", timeout=3600)
        if answer.exit == _ANOTHER:
            raise _another(host, disk, device)
        if answer.exit == 2:
            raise Stall(f"cannot mount the jail disk of {host}: its root has no directory {disk.mount}")
        checked(answer, f"mount {disk.device} on {host}")


_ANOTHER = 9


def _ident(host: str, answer: Answer) -> tuple[str | None, str]:
    """Device and serial number of the disk that the session has; None when it has none."""
    if answer.exit == looks.ABSENT:
        return None, ""
    device, _, serial = answer.out.strip().partition(" ")
    if answer.exit != 0 or not serial:
        raise Retry(f"cannot see the serial number of the disk that {host} got: {last_words(answer)}")
    return device, serial.strip()


def _part(disk: Disk, answer: Answer) -> str:
    """The disk, or the part of one, that has the label; empty when none is listed with it."""
    rows = (line.split() for line in checked(answer, "list labels").out.splitlines())
    return next((row[2] for row in rows if len(row) == 3 and row[0] == f"ufs/{disk.label}"), "")


def _is_ours(host: str, disk: Disk, detail: Facts) -> None:
    """Raises Stall when what stands behind the right target, or behind the right label, is another disk."""
    device, serial, part = detail["device"], detail["serial"], detail["labelOn"]
    if serial != disk.serial:
        raise Stall(
            f"cannot use the disk that {host} got from {disk.target}: {device} has the serial number {serial}, and its own one "
            f"has {disk.serial}; jailops leaves it alone",
            hint=f"look on the SAN what stands behind that target (lun/{host}), and whether somebody else answers at "
            f"{disk.portal}",
        )
    if part and part != device and not part.startswith(f"{device}p"):
        raise Stall(
            f"cannot use {disk.device} of {host}: that label is on {part}, and its own disk is {device} ({disk.serial})",
            hint=f"two disks have the label {disk.label}: end the session of the other one (iscsictl -R -t), or relabel it "
            "(tunefs -L); what is mounted now stays as it is",
        )


def _still_ours(disk: Disk, device: str) -> Script:
    """Right before something is written: exit 9 unless the disk and the label are still our own."""
    return sh(
        """test "$(geom disk list {device} | sed -n 's/^ *ident: *//p')" = {serial} || exit {another}
glabel status -s | while read -r name status part; do
  test "$name" = {label} && case $part in {device}|{device}p*) ;; *) exit {another};; esac
done
test $? = {another} && exit {another}""",
        device=device,
        serial=disk.serial,
        label=f"ufs/{disk.label}",
        another=_ANOTHER,
    )


def _another(host: str, disk: Disk, device: str) -> Stall:
    return Stall(
        f"cannot use the disk of {host}: since the look, {device} or the label {disk.label} has become another disk than the one "
        f"with the serial number {disk.serial}; nothing was written",
        hint=f"look at lun/{host} on the SAN and at iscsictl -L and glabel status on {host}",
    )


def blank(device: str) -> Script:
    """Exit 0 only if nothing at all is on the disk: zeros at both ends, no UFS, no partition table.

    ``fstyp`` and ``gpart`` alone prove nothing: they say the same of a formatted disk (seen on 13.2). The very last sector
    counts: GEOM keeps its labels there. Sizes as diskinfo(8) says them: sector, bytes, sectors.
    """
    return sh(
        """set -- $(diskinfo {name})
test $# -ge 4 && test "$2" -gt 0 && test "$4" -gt 0 && test "$3" -eq "$(($2 * $4))" ||
  {{ echo 'its size cannot be read'; exit 2; }}
sector=$2 sectors=$4 most=$((1048576 / $2))
test "$sectors" -ge "$most" || most=$sectors
dumpfs -l {device} >/dev/null 2>&1 && {{ echo 'it holds a UFS file system'; exit 3; }}
gpart show {name} >/dev/null 2>&1 && {{ echo 'it holds a partition table'; exit 4; }}
bytes() {{ dd if={device} bs="$sector" count="$most" skip="$1" 2>/dev/null; }}
zeros() {{
  test "$(($(bytes "$1" | wc -c)))" -eq "$((sector * most))" || {{ echo "its $2 megabyte cannot be read"; exit 7; }}
  test "$(($(bytes "$1" | tr -d '\\000' | wc -c)))" -eq 0
}}
zeros 0 first || {{ echo 'its first megabyte holds data'; exit 5; }}
zeros "$((sectors - most))" last || {{ echo 'its last megabyte holds data'; exit 6; }}""",
        name=device,
        device=f"/dev/{device}",
    )


@dataclass(frozen=True)
class Aliases:
    interface: str
    own: str
    """The host's own address, which is no alias."""
    addresses: tuple[str, ...]


class Addresses(Base):
    """The jails' addresses on the node's interface. Only what a manifest gave is ever taken away, and from no running jail."""

    kind: ClassVar[str] = "addresses"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            own = desired.host_address(name)
            spec = Aliases(host.spec.interface, own, tuple(jail_addresses(desired, name)))
            yield Resource(Ref(self.kind, name), name, spec, (), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (Probe(resource.host, looks.inet(resource.spec.interface)), Probe(resource.host, looks.jails()))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        """Ours are the addresses that manifests give now or gave before; anybody else's are not even compared."""
        spec: Aliases = resource.spec
        shown, running = answered(answers)
        text = checked(shown, f"look at {spec.interface} of {resource.host}").out
        found = {one.address for one in parsed("ifconfig", resource.host, ifconfig.parse, text).addresses}
        jails = parsed("the list of jails", resource.host, jls.parse, checked(running, "list jails").out)
        ours = set(spec.addresses) | _aliases(applied)
        others = [f"address {one} on {resource.host}" for one in sorted(found - ours - {spec.own})]
        used = sorted({address for one in jails if not one.dying for address in one.addresses})
        return Seen({"aliases": sorted(found & ours)}, detail={"unmanaged": others, "used": used})

    def want(self, resource: Resource, world: World) -> Facts | None:
        """What a running jail has stays until the jail is stopped: a later round of the same pass takes it away."""
        seen = world.seen(resource.ref)
        stays = _aliases(seen.facts) & set(seen.detail["used"]) if seen else set()
        return {"aliases": sorted({*resource.spec.addresses, *stays})}

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
