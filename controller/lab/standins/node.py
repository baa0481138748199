"""What every stand-in of a node shares: the node's facts, the kernel-like state, and the ways to end a command.

Facts come from /lab/node.json over `DEFAULTS` (what the boot loader and the kernel know). State is /lab/state/kernel.json,
made afresh at the first look after power on, changed under a lock and replaced whole.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time

from controller.lab import quickjson as json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, NoReturn

UNCOVERED = 70
STATE = "/lab/state/kernel.json"
HOST = "/.machine/usr"

DEFAULTS: dict[str, Any] = {
    "release": "13.2-RELEASE",
    "osreldate": 1302001,
    "version": "FreeBSD 13.2-RELEASE #1 n1-314a92d5a-dirty: Sun Nov 22 21:14:14 UTC 2026"
    "     root@build:/usr/obj/usr/src/amd64.amd64/sys/DISKLESS",
    "machine": "amd64",
    "bootfile": "/boot/kernel/kernel",
    "hostid": 1844816131,
    "interface": "em0",
    "address": "198.51.100.50",
    "netmask": "255.255.255.0",
    "gateway": "198.51.100.1",
    "mac": "12:34:56:78:90:ab",
    "server": "198.51.100.10",
    "path": "/export/freebsd",
    "hostname": "disklessfreebsdbox",
    "cfiscsi": False,
    "dhcp": {},
    "memory": ["/etc", "/var", "/tmp"],
    "dmesg": [],
    "pids": {"iscsid": 411, "syslogd": 517, "sshd": 618},
    "df": [264212084, 30844696, 75546216],
}
"""`dhcp` adds variables to kenv, such as "dhcp.domain-name": "example.org"; `cfiscsi`: a kernel that can be a SAN."""


class Failed(Exception):
    """The command fails as the real one does: a line for stderr and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Uncovered(Exception):
    """The reference does not say what the real command would do."""


def out(text: str) -> None:
    sys.stdout.write(text)


def err(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text)
    sys.stderr.flush()


def uncovered(why: str) -> NoReturn:
    raise Uncovered(why)


def refuse(argv: Sequence[str], why: str) -> int:
    """Say and note that this question has no answer in the reference."""
    err(f"stand-in: not covered by the reference: {' '.join(argv)} ({why})\n")
    with open("/lab/uncovered", "a") as notes:
        notes.write(" ".join([os.path.basename(argv[0]), *argv[1:]]).replace("\n", "\\n") + f" ({why})\n")
    return UNCOVERED


def facts() -> dict[str, Any]:
    try:
        with open("/lab/node.json") as file:
            return {**DEFAULTS, **json.load(file)}
    except FileNotFoundError:
        return dict(DEFAULTS)


class Kernel:
    """`with Kernel() as k:` changes the state alone; `Kernel.read()` only looks."""

    def __enter__(self) -> dict[str, Any]:
        self._lock = open(STATE + ".lock", "a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._before = _load()
        self._state: dict[str, Any] = json.loads(self._before) if self._before else fresh(facts())
        return self._state

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        text = json.dumps(self._state)
        if text != self._before:
            with open(STATE + ".new", "w") as file:
                file.write(text)
            os.replace(STATE + ".new", STATE)
        self._lock.close()

    @staticmethod
    def read() -> dict[str, Any]:
        text = _load()
        if text:
            state: dict[str, Any] = json.loads(text)
            return state
        with Kernel() as state:
            return state


def _load() -> str:
    try:
        with open(STATE) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def fresh(node: dict[str, Any]) -> dict[str, Any]:
    """The state of a kernel that has just mounted its root and its memory file systems."""
    root = {"special": f"{node['server']}:{node['path']}", "node": "/", "fstype": "nfs", "flags": ["read-only"]}
    memory = [{"special": "tmpfs", "node": at, "fstype": "tmpfs", "flags": ["local"]} for at in node["memory"]]
    return {
        "node": node,
        "boottime": node.get("boottime") or time.time(),
        "mounts": [root, {"special": "devfs", "node": "/dev", "fstype": "devfs", "flags": []}, *memory],
        "jails": [],
        "jid": 0,
        "cpuset": 1,
        "sessions": [],
        "session": 0,
        "aliases": [],
        "services": {},
        "pid": 700,
        "modules": [],
        "ctl": {"luns": [], "ports": []},
        "exports": {},
        "dmesg": list(node["dmesg"]),
        "hostname": "",
    }


def syslog(state: dict[str, Any], program_: str, pid: int, message: str) -> None:
    """A line in /var/log/messages, if syslogd(8) runs."""
    if "syslogd" in state["services"]:
        stamp = time.strftime("%b %e %H:%M:%S", time.gmtime())
        with open("/var/log/messages", "a") as log:
            log.write(f"{stamp} {hostname(state)} {program_}[{pid}]: {message}\n")


def hostname(state: dict[str, Any]) -> str:
    return str(state["hostname"] or rcvar("hostname", "") or state["node"]["hostname"])


def kenv(node: dict[str, Any]) -> dict[str, str]:
    """The variables a boot over NFS leaves, in the order kenv(1) prints them."""
    return {
        "boot.netif.gateway": node["gateway"],
        "boot.netif.hwaddr": node["mac"],
        "boot.netif.ip": node["address"],
        "boot.netif.netmask": node["netmask"],
        "boot.netif.server": node["server"],
        "boot.nfsroot.nfshandle": "X430000011244bae6db4c196363ff0102601b0020b552b000X",
        "boot.nfsroot.nfshandlelen": "24",
        "boot.nfsroot.options": "nolockd",
        "boot.nfsroot.path": node["path"],
        "boot.nfsroot.server": node["server"],
        "dhcp.dhcp-lease-time": "43200",
        "dhcp.dhcp-message-type": "2",
        "dhcp.dhcp-server-identifier": node.get("dhcpserver", "198.51.100.2"),
        "dhcp.host-name": node["hostname"],
        "dhcp.root-path": f"{node['server']}:{node['path']}",
        "dhcp.routers": node["gateway"],
        "dhcp.subnet-mask": node["netmask"],
        "dhcp.tags": "53,54,51,17,12,1,3",
        **node["dhcp"],
        "boot.netif.name": node["interface"],
    }


def assignments(path: str) -> dict[str, str]:
    """The NAME="value" lines of an rc.conf-like file; a missing file has none."""
    found: dict[str, str] = {}
    try:
        with open(path) as file:
            lines = file.read().split("\n")
    except OSError:
        return found
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.replace("_", "a").isalnum():
            found[name] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    if value[:1] in ('"', "'"):
        return value[1:].partition(value[0])[0]
    return value.partition(" ")[0].partition("#")[0]


def rcvar(name: str, default: str) -> str:
    """As rc.subr's load_rc_config reads it: rc_conf_files is "/etc/rc.conf /etc/rc.conf.local", the later one wins."""
    known = {**assignments("/etc/rc.conf"), **assignments("/etc/rc.conf.local")}
    return known.get(name, default)


def yes(value: str) -> bool:
    return value.lower() in ("yes", "true", "on", "1")


def program(*argv: str) -> int:
    """Run a program of this computer, as the system call a real command would make; its exit status."""
    sys.stdout.flush()
    return os.spawnv(os.P_WAIT, argv[0], list(argv))


def options(args: Sequence[str], flags: str, valued: str = "") -> tuple[dict[str, str], list[str]]:
    """getopt(3): letters found with their last value, and the operands. Any other letter is not covered."""
    found: dict[str, str] = {}
    rest = list(args)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in valued:
                if not letters and not rest:
                    uncovered(f"-{letter} without a value")
                found[letter] = letters or rest.pop(0)
                letters = ""
            elif letter in flags:
                found[letter] = ""
            else:
                uncovered(f"option -{letter}")
    return found, rest


def libxo(args: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether JSON is asked; `--libxo` must come first, as the real tools want it."""
    if args[:1] == ["--libxo"]:
        if args[1:2] != ["json"]:
            uncovered("libxo encoding")
        return True, list(args[2:])
    if args and args[0].startswith("--libxo"):
        if args[0] != "--libxo=json":
            uncovered("libxo encoding")
        return True, list(args[1:])
    return False, list(args)


def xo(value: Any) -> str:
    """JSON as libxo(3) spaces it: containers and lists get a blank, plain fields none."""
    if isinstance(value, dict):
        return "{" + _fields(value) + "}"
    if isinstance(value, list):
        return (
            "["
            + ", ".join(xo(one) if isinstance(one, dict) else "\0" + xo(one) for one in value)
            .replace(", \0", ",")
            .replace("\0", "")
            + "]"
        )
    return json.dumps(value, ensure_ascii=False)


def _fields(fields: dict[str, Any]) -> str:
    text = ""
    for name, value in fields.items():
        nested = isinstance(value, (dict, list)) or name == "__version"
        text += ("" if not text else ", " if nested else ",") + f'"{name}":' + (" " if nested else "") + xo(value)
    return text
