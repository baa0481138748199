"""One host's own files, in a share that is exported to that host alone.

rc.initdiskless brings them over the memory /etc at boot (seen on 13.2): identity, iSCSI login, addresses, the line that
mounts the jail disk. They are what makes a node need nobody after a reboot, and no other node can read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import NAMESPACE_DNS, uuid5

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, last_words
from controller.drivers.plainjail import block_of
from controller.encode import fstab, iscsi, jailconf, rcconf
from controller.encode.names import safename
from controller.encode.sh import lines, put_file, raw, secret, sh
from controller.errors import Retry
from controller.graph import Desired, host_share, target_iqn
from controller.manifests import HostSpec
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Seen, Steps, Unseen


@dataclass(frozen=True)
class File:
    """`text` may hold secret holes; facts hold only the digest of the filled text."""

    text: str
    mode: int


@dataclass(frozen=True)
class OwnFiles:
    host: str
    directory: str


def own_files(desired: Desired, host: str) -> dict[str, File]:
    """Path below /etc -> file, for one host."""
    spec = desired.hosts[host].spec
    files = {
        "rc.conf.local": File(rcconf.render(own_rc_conf(desired, host)), 0o644),
        "fstab": File(fstab.render([disk_line(spec)]), 0o644),
        "iscsi.conf": File(iscsi_conf(desired, host), 0o600),
        "hostid": File(f"{uuid5(NAMESPACE_DNS, f'{spec.mac}.jailops')}\n", 0o644),
        "resolv.conf": File(_resolv_conf(spec), 0o644),
        **_host_key(spec),
    }
    if spec.jails.manager == "jail.conf":
        for jail in desired.jails_of(host):
            name = safename(jail.name)
            files[f"jail.{name}.conf"] = File(jailconf.render([block_of(desired, host, jail.name)]), 0o644)
    return files


def own_rc_conf(desired: Desired, host: str) -> dict[str, str]:
    """What /etc/rc.conf.local says on this host; /etc/rc.conf is the image's."""
    spec = desired.hosts[host].spec
    settings = {
        "hostname": spec.hostname or host,
        "jailops_disk_label": spec.jail_disk.label,
    }
    # rc.d/sshd would make keys of every other kind at each boot: minutes on a small processor, and identities nobody knows.
    settings |= {f"sshd_{kind}_enable": "NO" for kind in _KEY_KINDS if kind != _key_kind(spec)}
    for index, address in enumerate(jail_addresses(desired, host)):
        settings[f"ifconfig_{spec.interface}_alias{index}"] = f"inet {address}/32"
    if spec.jails.manager == "ezjail":
        settings["ezjail_enable"] = "YES"
    else:
        running = [jail.name for jail in desired.jails_of(host) if jail.spec.state == "running"]
        settings["jail_enable"] = "YES" if running else "NO"
        settings["jail_list"] = " ".join(safename(name) for name in running)
    return {**settings, **spec.rc_conf}


def jail_addresses(desired: Desired, host: str) -> list[str]:
    """The addresses that the host's interface carries for its jails, in a stable order."""
    return sorted({str(address) for jail in desired.jails_of(host) for address in jail.spec.addresses})


def disk_line(spec: HostSpec) -> fstab.Entry:
    """``late`` because iSCSI comes after the local file systems, pass 0 because fsck comes before it (fstab(5))."""
    return fstab.Entry(f"/dev/ufs/{spec.jail_disk.label}", spec.jail_disk.mount, "ufs", ("rw", "late", "failok"), 0, 0)


def iscsi_conf(desired: Desired, host: str) -> str:
    """/etc/iscsi.conf; the CHAP secret is a hole."""
    spec = desired.hosts[host].spec
    san = desired.sans[spec.san].spec
    chap = spec.jail_disk.chap
    return iscsi.render(
        [
            iscsi.Target(
                nickname="jails",
                address=str(san.iscsi.portal),
                name=target_iqn(desired, host),
                initiator=initiator(spec, host),
                chap=iscsi.Chap(chap.user, secret(chap.secret.hole)) if chap else None,
            )
        ]
    )


def initiator(spec: HostSpec, host: str) -> str:
    """The node's initiator name, said explicitly: the default follows the host name that DHCP gives (iscsi.conf(5))."""
    return spec.initiator or f"iqn.1994-09.org.freebsd:{spec.hostname or host}"


def _host_key(spec: HostSpec) -> dict[str, File]:
    """The node's identity, so that a reboot does not change it: the pinned key and its private half."""
    kind = _key_kind(spec)
    return {
        f"ssh/ssh_host_{kind}_key": File(secret(spec.host_key_secret.hole) + "\n", 0o600),
        f"ssh/ssh_host_{kind}_key.pub": File(f"{spec.ssh.host_key}\n", 0o644),
    }


_KEY_KINDS = ("ed25519", "ecdsa", "rsa", "dsa", "rsa1")
"""What rc.d/sshd can make, each with a variable of its own; rsa1 only on 10."""


def _key_kind(spec: HostSpec) -> str:
    algorithm = spec.ssh.host_key.split(" ", 1)[0]
    return {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(algorithm, "ecdsa")


def _resolv_conf(spec: HostSpec) -> str:
    """The loader does not ask for name servers (seen on 13.2), so the node must bring the file."""
    search = [f"search {spec.domain}"] if spec.domain else []
    return "".join(f"{line}\n" for line in [*search, *(f"nameserver {address}" for address in spec.nameservers)])


class HostShares(Base):
    kind: ClassVar[str] = "hostshare"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            spec = OwnFiles(name, f"{host_share(desired, name)}/etc")
            yield Resource(Ref(self.kind, name), host.spec.san, spec, (Ref("exports", host.spec.san),), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        """One line ``mode digest path`` per file. The contents stay where they are: some are secret."""
        script = lines(
            sh("cd {directory} 2>/dev/null || exit 44", directory=resource.spec.directory),
            looks.SHA256,
            sh(
                """for f in * ssh/*; do
  test -f "$f" || continue
  m=$(ls -ld "$f" | cut -c 1-10)
  echo "$m $(jo_sha "$f") $f"
done
:"""
            ),
        )
        return (Probe(resource.host, script),)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer = answered(answers)[0]
        if answer.exit == looks.ABSENT:
            return Seen(None)
        if answer.exit != 0:
            raise Retry(f"cannot look into {resource.spec.directory}: {last_words(answer)}")
        found: dict[str, str] = {}
        for line in answer.out.splitlines():
            one = re.fullmatch(r"(-[-a-zA-Z]{9}) ([0-9a-f]{64}) (.+)", line)
            if one is None:
                raise Retry(f"cannot read the list of files in {resource.spec.directory}: {line!r}")
            found[one[3]] = f"{one[1]} {one[2]}"
        return Seen(found)

    def want(self, resource: Resource, world: World) -> Facts | None:
        return {
            path: f"{ls_mode(file.mode)} {world.digest(file.text)}"
            for path, file in own_files(world.desired, resource.spec.host).items()
        }

    def explain(self, change: Change) -> Explanation:
        want: Mapping[str, Any] = change.want or {}
        changed = [path for path, value in want.items() if (change.have or {}).get(path) != value]
        return Explanation(
            f"write {change.resource.spec.host}'s own files on {change.resource.host}",
            ", ".join(f"{path} [{_taken(path)}]" for path in sorted(changed)),
        )

    def steps(self, change: Change, world: World) -> Steps:
        spec: OwnFiles = change.resource.spec
        files = own_files(world.desired, spec.host)
        changed = [path for path, value in (change.want or {}).items() if (change.have or {}).get(path) != value]
        puts = [put_file(f"{spec.directory}/{path}", files[path].text, files[path].mode) for path in sorted(changed)]
        script = sh(
            "mkdir -p {ssh} && chmod 755 {directory} && {puts}",
            ssh=f"{spec.directory}/ssh",
            directory=spec.directory,
            puts=raw(" && ".join(puts)),  # type: ignore[arg-type]
        )
        checked((yield Run(f"write {', '.join(sorted(changed))}", script)), f"write the files of {spec.host}")


def _taken(path: str) -> str:
    """When the running host takes a new file; other drivers bring it what is live."""
    if re.fullmatch(r"jail\.\w+\.conf", path):
        return "restart of the jail"
    return {
        "rc.conf.local": "live for services and addresses, else reboot",
        "iscsi.conf": "live, for the next login",
    }.get(path, "reboot")


def ls_mode(mode: int) -> str:
    """A mode as ls(1) prints it, which is the same on every system."""
    bits = "".join(letter if mode & (1 << (8 - index)) else "-" for index, letter in enumerate("rwxrwxrwx"))
    return f"-{bits}"
