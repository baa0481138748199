"""What the node does between its kernel and its login prompt: rc.initdiskless, then rc(8), inside the machine.

In: one JSON object on standard input (see `controller.lab.boot.Orders`). Out: the console, on standard output; a line that
begins with NUL is an event for whoever keeps the machine: ``sshd`` (now logins can be accepted), ``hung REASON`` (a shell
waits on the console), ``up``. Start scripts that a generation brings are really run by /bin/sh; those of the base system,
which hold a mark, are acted out here with the node's own commands.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from controller.lab.servers import archive, rcorder

MARK: Final = "the simulated node acts it out itself"
ROOT: Final = Path("/")
VAR: Final = "account at audit backups cache crash cron db empty games log mail msgs preserve run spool tmp yp"


class Hung(Exception):
    """The boot stops at a shell on the console and waits for a person."""


def main(_argv: Sequence[str]) -> int:
    orders = json.load(sys.stdin)
    try:
        initdiskless(orders)
        rc(orders["interface"])
        event("up")
    except Hung as hung:
        say(str(hung))
        event(f"hung {hung}")
    return 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def event(text: str) -> None:
    say(f"\0{text}")


def act(*argv: str) -> int:
    """Run a command with its output on the console; its exit status."""
    sys.stdout.flush()
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=False).returncode


def initdiskless(orders: Mapping[str, Any]) -> None:
    say(f"Interface {orders['interface']} IP-Address {orders['address']} Broadcast {orders['broadcast']} ")
    for kind, source, target in orders["fill"]:
        FILLS[kind](source, target)


def copy(source: str, target: str) -> None:
    """cp -Rp: owners where they are known, modes exactly; a full file system only makes it complain."""
    act("/bin/cp", "-Rp", f"{source}/.", target)


def unpack(source: str, target: str) -> None:
    say(f"Loading {target} from cpio archive {source}")
    try:
        for one in archive.entries(Path(source).read_bytes()):
            store(one)
    except ValueError as error:
        say(f"tar: Error opening archive: {error}")
    say("tar: Failed to set default locale")


def store(one: archive.Entry) -> None:
    try:
        archive.unpack(one, ROOT, exact=True)
    except OSError as error:
        say(f"tar: {one.name}: {error.strerror}")


def remount(source: str, _target: str) -> None:
    say(f"mount_nfs: can't update /var/db/mounttab for {source}")


def hang(reason: str, _target: str) -> None:
    raise Hung(f"{reason} failed: dropping into /bin/sh")


def skeleton(_source: str, target: str) -> None:
    for name in VAR.split():
        Path(target, name).mkdir(exist_ok=True)


def discard(source: str, target: str) -> None:
    for name in Path(source).read_text().split():
        act("/bin/rm", "-rf", f"{target}/{name}")


FILLS: Final[Mapping[str, Callable[[str, str], None]]] = {
    "copy": copy, "unpack": unpack, "remount": remount, "hang": hang, "skeleton": skeleton, "discard": discard,
}  # fmt: skip


def rc(interface: str) -> None:
    settings = rcconf()
    if not Path("/etc/fstab").exists():
        say("Warning! No /etc/fstab: skipping disk checks.")
    folders = ["/etc/rc.d", *settings.get("local_startup", "/usr/local/etc/rc.d").split()]
    paths = [path for folder in folders if Path(folder).is_dir() for path in sorted(Path(folder).iterdir())]
    texts = {str(path): path.read_text() for path in paths if path.is_file()}
    for path in rcorder.ordered([rcorder.header(path, text) for path, text in texts.items()]):
        if MARK in texts[path]:
            action = ACTIONS.get(path.rpartition("/")[2])
            if action:
                action(settings, interface)
        else:
            act("/bin/sh", path, "faststart")
    say(f"\nFreeBSD/amd64 ({settings.get('hostname') or 'Amnesiac'}) (ttyu0)\n\nlogin: ")


def rcconf() -> dict[str, str]:
    """The NAME="value" lines of the files that rc reads, later ones winning."""
    found: dict[str, str] = {}
    for name in ("/etc/defaults/rc.conf", "/etc/rc.conf", "/etc/rc.conf.local"):
        text = Path(name).read_text() if Path(name).exists() else ""
        for line in re.finditer(r"^\s*(?:export\s+)?(\w+)=(?:\"([^\"]*)\"|'([^']*)'|(\S*))", text, re.M):
            found[line[1]] = next(value for value in (*line.groups()[1:], "") if value is not None)
    return found


def yes(settings: Mapping[str, str], name: str) -> bool:
    return settings.get(name, "NO").lower() in ("yes", "true", "on", "1")


def hostid(_settings: Mapping[str, str], _interface: str) -> None:
    if not Path("/etc/hostid").exists():
        say("/etc/rc: WARNING: hostid: unable to figure out a UUID from DMI data, generating a new one")


def root(settings: Mapping[str, str], _interface: str) -> None:
    """The kernel mounts the root read-only; by default rc makes it writable, which only the server's export still forbids."""
    if yes(settings, "root_rw_mount"):
        act("/sbin/mount", "-uw", "/")


def critical(_settings: Mapping[str, str], _interface: str) -> None:
    failed = act("/sbin/mount", "-a") if Path("/etc/fstab").exists() else 0
    say("Mounting local filesystems:.")
    if failed:
        raise Hung("Mounting /etc/fstab filesystems failed, startup aborted")


def hostname(settings: Mapping[str, str], _interface: str) -> None:
    if settings.get("hostname"):
        act("/bin/hostname", settings["hostname"])
        say(f"Setting hostname: {settings['hostname']}.")


def netif(settings: Mapping[str, str], interface: str) -> None:
    numbered = re.compile(rf"ifconfig_{re.escape(interface)}_alias(\d+)")
    found = {int(match[1]): value for name, value in settings.items() if (match := numbered.fullmatch(name))}
    aliases: list[str] = []
    for number in sorted(found):
        if not found[number]:
            break
        aliases.append(found[number])
    words = settings.get(f"ifconfig_{interface}_aliases", "").split()
    aliases += [f"inet {address}" for kind, address in zip(words[::2], words[1::2], strict=False) if kind == "inet"]
    for alias in aliases:
        for address in expanded(alias):
            act("/sbin/ifconfig", interface, "inet", address, "alias")
    say(f"Starting Network: lo0 {interface}.")


def expanded(alias: str) -> list[str]:
    """``inet A.B.C.D-E/M``: the mask is the first one's, /32 the rest's."""
    words = alias.split()
    if words[:1] != ["inet"]:
        say(f"/etc/rc: WARNING: alias {alias!r}: keyword inet is missing")
        return []
    span = re.fullmatch(r"(\d+\.\d+\.\d+\.)(\d+)-(\d+)(/\d+)?", words[1])
    if not span:
        return [words[1]]
    lowest, highest = int(span[2]), int(span[3])
    return [f"{span[1]}{last}{span[4] or '' if last == lowest else '/32'}" for last in range(lowest, highest + 1)]


def iscsid(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "iscsid_enable"):
        act("/usr/sbin/service", "iscsid", "onestart")


def iscsictl(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "iscsictl_enable"):
        say("Starting iscsictl.")
        act("/usr/sbin/iscsictl", *settings.get("iscsictl_flags", "-Aa").split())


def late(_settings: Mapping[str, str], _interface: str) -> None:
    fstab = Path("/etc/fstab").read_text() if Path("/etc/fstab").exists() else ""
    if not re.search(r"^\s*[^#\s]\S*\s+\S+\s+\S+\s+\S*\blate\b", fstab, re.M):
        return
    failed = act("/sbin/mount", "-al")
    say("Mounting late filesystems:.")
    if failed:
        raise Hung("Mounting /etc/fstab filesystems failed, startup aborted")


def sshd(settings: Mapping[str, str], _interface: str) -> None:
    if not yes(settings, "sshd_enable"):
        return
    for kind in ("rsa", "ecdsa", "ed25519"):
        if not Path(f"/etc/ssh/ssh_host_{kind}_key").exists():
            say(f"Generating {kind.upper()} host key.")
    act("/usr/sbin/service", "sshd", "onestart")
    event("sshd")


def syslogd(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "syslogd_enable"):
        act("/usr/sbin/service", "syslogd", "onestart")


def cron(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "cron_enable"):
        act("/usr/sbin/service", "cron", "onestart")


def jail(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "jail_enable"):
        act("/usr/sbin/service", "jail", "start", *settings.get("jail_list", "").split())


def ezjail(settings: Mapping[str, str], _interface: str) -> None:
    if yes(settings, "ezjail_enable"):
        act("/usr/sbin/service", "ezjail", "start")


ACTIONS: Final[Mapping[str, Callable[[Mapping[str, str], str], None]]] = {
    "hostid": hostid, "root": root, "mountcritlocal": critical, "hostname": hostname, "netif": netif, "iscsid": iscsid,
    "iscsictl": iscsictl, "mountlate": late, "sshd": sshd, "syslogd": syslogd, "cron": cron, "jail": jail,
    "ezjail": ezjail,
}  # fmt: skip
