"""service(8) and the rc.d scripts that a node runs; they say little and rarely fail."""

from __future__ import annotations

from controller.lab.standins import ctl, disk, iscsi, mountd, net, rcjail, vfs
from controller.lab.standins.node import Failed, Kernel, err, out, rcvar, uncovered, yes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ENABLED = (
    ("hostid", ""), ("hostid_save", ""), ("cleanvar", ""), ("ip6addrctl", ""), ("rctl", ""), ("kldxref", ""),
    ("mixer", ""), ("devmatch", ""), ("netif", ""), ("resolv", ""), ("devd", ""), ("iscsid", "iscsid_enable"),
    ("iscsictl", "iscsictl_enable"), ("dmesg", ""), ("newsyslog", ""), ("virecover", ""), ("motd", ""),
    ("os-release", ""), ("gptboot", ""), ("syslogd", ""), ("savecore", ""), ("sshd", "sshd_enable"),
    ("jail", "jail_enable"), ("ezjail", "ezjail_enable"), ("bgfsck", ""),
)  # fmt: skip
"""What `service -e` lists, with the variable that must say YES."""
DAEMONS = {
    "sshd": "NO", "cron": "YES", "iscsid": "NO", "syslogd": "YES", "ntpd": "NO",
    "ctld": "NO", "rpcbind": "NO", "mountd": "NO", "nfsd": "NO",
}  # fmt: skip
"""Daemons that stay, and the default of their _enable."""
RELOAD = {"ctld": ctl.reload, "mountd": mountd.read}
SCRIPTS = (*DAEMONS, "iscsictl", "jail", "ezjail", "netif", "mountlate")


def main(argv: Sequence[str]) -> int:
    args = list(argv[1:])
    if args == ["-e"]:
        for name, variable in ENABLED:
            if not variable or yes(rcvar(variable, "NO")):
                out(f"{'/usr/local/etc/rc.d' if name == 'ezjail' else '/etc/rc.d'}/{name}\n")
        return 0
    if len(args) < 2 or args[0].startswith("-"):
        uncovered("this form")
    name, command, rest = args[0], args[1], args[2:]
    if name not in SCRIPTS:
        out(
            f"{name} does not exist in /etc/rc.d or the local startup\n"
            "directories (/usr/local/etc/rc.d), or is not executable\n"
        )
        return 1
    return run(name, command, rest)


def run(name: str, command: str, rest: list[str]) -> int:
    action, forced = command, False
    for prefix in ("one", "force"):
        if command.startswith(prefix):
            action, forced = command.removeprefix(prefix), True
    if name == "ezjail" and action not in ("start", "stop", "restart"):
        err(
            f"/usr/local/etc/rc.d/ezjail: unknown directive '{action}'.\n"
            "Usage: /usr/local/etc/rc.d/ezjail [fast|force|one|quiet](start|stop|restart|rcvar|enable|disable|delete|"
            "enabled|describe|extracommands|startcrypto|stopcrypto)\n"
        )
        return 1
    if action not in ("start", "stop", "restart", "status") and not (action == "reload" and name in RELOAD):
        uncovered(f"{name} {command}")
    if not forced and name not in ("netif", "mountlate") and not yes(rcvar(f"{name}_enable", DAEMONS.get(name, "NO"))):
        out(
            f"Cannot '{action}' {name}. Set {name}_enable to YES in /etc/rc.conf"
            f" or use 'one{action}' instead of '{action}'.\n"
        )
        return 0
    if name in DAEMONS:
        return _daemon(name, action)
    if name == "iscsictl":
        return _iscsictl(action)
    if name == "ezjail":
        return rcjail.ezjail_rc(action, rest)
    if name == "jail":
        return _jail(action, rest)
    return _network() if name == "netif" and action == "start" else _late() if name == "mountlate" else uncovered(name)


def _daemon(name: str, action: str) -> int:
    with Kernel() as state:
        pid = state["services"].get(name, 0)
        if action == "status":
            out(f"{name} is running as pid {pid}.\n" if pid else f"{name} is not running.\n")
            return 0 if pid else 1
        if action == "start" and pid:
            raise Failed(f"{name} already running?  (pid={pid}).")
        if action in ("stop", "reload") and not pid:
            uncovered(f"{action} of {name} while it is not running")
        if action == "reload":
            RELOAD[name](state, pid)
        if action in ("stop", "restart") and pid:
            _stop(state, name, pid)
        if action in ("start", "restart"):
            if name == "sshd":
                out("Performing sanity check on sshd configuration.\n")
            out(f"Starting {name}.\n")
            state["pid"] += 11
            first = state["node"]["pids"].pop(name, state["pid"])
            if not _started(state, name, first):
                raise Failed(f"/etc/rc.d/{name}: WARNING: failed to start {name}")
            disk.refresh(state)
    return 0


def _started(state: dict[str, Any], name: str, pid: int) -> bool:
    if name in ("mountd", "nfsd") and "rpcbind" not in state["services"]:
        uncovered(f"starting {name} without rpcbind")
    if name == "ctld" and not ctl.start(state, pid):
        return False
    if name == "mountd":
        mountd.read(state, pid)
    state["services"][name] = pid
    return True


def _stop(state: dict[str, Any], name: str, pid: int) -> None:
    out(f"Stopping {name}.\n")
    if name == "ctld":
        ctl.stop(state, pid)
    else:
        out(f"Waiting for PIDS: {pid}.\n")
    del state["services"][name]


def _iscsictl(action: str) -> int:
    if action == "status":
        out("iscsictl is not running.\n")
        return 1
    if action != "start":
        uncovered(f"iscsictl {action}")
    out("Starting iscsictl.\n")
    return iscsi.main(["iscsictl", *rcvar("iscsictl_flags", "-Aa").split()])


def _jail(action: str, names: list[str]) -> int:
    if not names:
        uncovered("all jails of jail.conf")
    if action not in ("start", "stop", "restart"):
        uncovered(f"jail {action}")
    if action in ("stop", "restart"):
        rcjail.stop(names, ezjail=False)
    if action in ("start", "restart"):
        rcjail.start(names, ezjail=False)
    return 0


def _network() -> int:
    """Aliases of rc.conf; the boot interface itself is the kernel's."""
    with Kernel() as state:
        net.from_rc_conf(state)
    out(f"Starting Network: lo0 {Kernel.read()['node']['interface']}.\n")
    return 0


def _late() -> int:
    out("Mounting late filesystems:")
    try:
        return vfs.mount(["mount", "-al"])
    finally:
        out(".\n")
