"""What the node says about itself: uname, freebsd-version, kenv, sysctl, hostname, dmesg, ps, getent, pw, pkg, rctl …"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.standins import disk
from controller.lab.standins.node import (
    HOST,
    Failed,
    Kernel,
    hostname,
    kenv,
    libxo,
    options,
    out,
    program,
    rcvar,
    uncovered,
    xo,
    yes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

KERNEL_PROCESSES = [
    "[kernel]",
    "/sbin/init",
    "[KTLS]",
    "[crypto]",
    "[cam]",
    "[rand_harvestq]",
    "[pagedaemon]",
    "[vmdaemon]",
    "[bufdaemon]",
    "[vnlru]",
    "[audit]",
    "[idle]",
    "[intr]",
    "[geom]",
    "[sequencer]",
    "[syncer]",
]


def uname(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "asnrvmpKUi")
    if rest or not found:
        found = {"s": ""} if not rest else uncovered("operands")
    state = Kernel.read()
    node = state["node"]
    known = {"s": "FreeBSD", "n": hostname(state), "r": node["release"], "v": node["version"], "m": node["machine"]}
    known |= {"p": node["machine"], "K": str(node["osreldate"]), "U": str(node["osreldate"])}
    if "i" in found:
        uncovered("kernel identity")
    letters = "snrvm" if "a" in found else "".join(letter for letter in "snrvmpKU" if letter in found)
    out(" ".join(known[letter] for letter in letters) + "\n")
    return 0


def freebsd_version(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "kru")
    if rest:
        uncovered("operands")
    out((Kernel.read()["node"]["release"] + "\n") * max(1, len(found)))
    return 0


def kenv_(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "q")
    known = kenv(Kernel.read()["node"])
    if not rest:
        out("".join(f'{name}="{value}"\n' for name, value in known.items()))
        return 0
    if len(rest) > 1 or "=" in rest[0]:
        uncovered("setting variables")
    if rest[0] in known:
        out(f"{known[rest[0]]}\n")
        return 0
    raise Failed("" if "q" in found else f"kenv: unable to get {rest[0]}", 255)


def sysctl(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "nqi")
    if not rest:
        uncovered("all variables")
    state = Kernel.read()
    node, known = state["node"], _sysctls(state)
    for name in rest:
        if name == "kern.hostname":
            known[name] = hostname(state)
        if "=" in name:
            uncovered("setting a variable")
        if name not in known and name not in node.get("sysctl", {}):
            raise Failed(f"sysctl: unknown oid '{name}'")
        value = known.get(name, node.get("sysctl", {}).get(name))
        out(f"{value}\n" if "n" in found else f"{name}: {value}\n")
    return 0


def _sysctls(state: dict[str, Any]) -> dict[str, str]:
    node, boot = state["node"], state["boottime"]
    at = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(boot))
    return {
        "kern.boottime": f"{{ sec = {int(boot)}, usec = {int(boot % 1 * 1000000)} }} {at}",
        "kern.hostid": str(node["hostid"]),
        "kern.osreldate": str(node["osreldate"]),
        "kern.osrelease": node["release"],
        "kern.ostype": "FreeBSD",
        "kern.version": node["version"],
        "kern.bootfile": node["bootfile"],
        "kern.securelevel": "-1",
        "hw.machine": node["machine"],
        "hw.machine_arch": node["machine"],
        "vfs.nfs.diskless_valid": "3",
        "vfs.nfs.diskless_rootpath": node["path"],
        "kern.iscsi.fail_on_disconnection": "0",
        "kern.iscsi.ping_timeout": "5",
        "kern.iscsi.iscsid_timeout": "60",
        "kern.iscsi.login_timeout": "60",
        "kern.racct.enable": "0",
        "security.jail.jailed": "0",
    }


def hostname_(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "s")
    if len(rest) == 1:
        with Kernel() as state:
            state["hostname"] = rest[0]
        return 0
    name = hostname(Kernel.read())
    out((name.partition(".")[0] if "s" in found else name) + "\n")
    return 0


def dmesg(argv: Sequence[str]) -> int:
    options(argv[1:], "")
    with Kernel() as state:
        disk.refresh(state)
    node = state["node"]
    lines = [f"Trying to mount root from nfs:{node['server']}:{node['path']} [ro]..."]
    lines += [f"NFS ROOT: {node['server']}:{node['path']}", f"{node['interface']}: link state changed to UP"]
    at = len(node["dmesg"])
    out("".join(f"{line}\n" for line in [*state["dmesg"][:at], *lines, *state["dmesg"][at:]]))
    return 0


def uptime(argv: Sequence[str]) -> int:
    options(argv[1:], "")
    gone = max(0, int(time.time() - Kernel.read()["boottime"]))
    since = f"{gone // 60} mins" if gone < 3600 else f"{gone // 3600:2}:{gone // 60 % 60:02}"
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    now = time.strftime("%I:%M%p", time.gmtime()).lstrip("0")
    out(f"{now:>7}  up {since}, 0 users, load averages: {load}\n")
    return 0


def ps(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    if args == ["-ax", "-o", "pid,ppid,command"]:
        rows = [(str(n), "0", name) for n, name in enumerate(KERNEL_PROCESSES)]
        rows += [(pid, parent, command) for pid, parent, command in _processes() if pid != "1"]
    elif len(args) == 4 and args[0] == "-p" and args[2:] == ["-o", "command="] and not json:
        found = [command for pid, _, command in _processes() if pid == args[1]]
        out("".join(f"{command}\n" for command in found))
        return 0 if found else 1
    else:
        uncovered("this form of ps")
    if not json:
        out("PID PPID COMMAND\n" + "".join(f"{pid:>3} {parent:>4} {command}\n" for pid, parent, command in rows))
        return 0
    listed = [{"pid": pid, "ppid": parent, "command": command} for pid, parent, command in rows]
    out('{"process-information": {"process": ' + xo(listed) + "}}\n")
    return 0


def _processes() -> list[tuple[str, str, str]]:
    found = []
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                command = " ".join(file.read().rstrip("\0").split("\0"))
            with open(f"/proc/{pid}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
        except OSError:
            continue
        found.append((pid, parent, command))
    return found


def _users() -> dict[str, list[str]]:
    try:
        with open("/etc/master.passwd") as file:
            rows = [line.rstrip("\n").split(":") for line in file if line.count(":") == 9]
    except FileNotFoundError:
        return {}
    return {row[0]: row for row in rows}


def getent(argv: Sequence[str]) -> int:
    if len(argv) != 3 or argv[1] != "passwd":
        uncovered("getent other than passwd NAME")
    row = _users().get(argv[2])
    if row is None:
        return 2
    out(":".join([*row[:4], *row[7:]]) + "\n")
    return 0


def pw(argv: Sequence[str]) -> int:
    if argv[1:2] == ["-R"] and not os.path.exists(f"{argv[2]}/etc/group"):
        raise Failed("pw: could not lock the group file: No such file or directory")
    if list(argv[1:2]) != ["usershow"] or len(argv) != 3:
        uncovered("pw other than usershow NAME")
    row = _users().get(argv[2])
    if row is None:
        raise Failed(f"pw: no such user `{argv[2]}'", 67)
    out(":".join(row) + "\n")
    return 0


def pkg(_: Sequence[str]) -> int:
    """Only the bootstrap stub: a node gets its packages from its image."""
    if not os.environ.get("ASSUME_ALWAYS_YES"):
        raise Failed(
            "The package management tool is not yet installed on your system.\nPlease set ASSUME_ALWAYS_YES=yes"
            " environment variable to be able to bootstrap in non-interactive (stdin not being a tty)"
        )
    site = "http://pkg.FreeBSD.org/FreeBSD:13:amd64/quarterly"
    out(f"Bootstrapping pkg from pkg+{site}, please wait...\n")
    raise Failed(
        f"pkg: Error fetching {site}/Latest/pkg.txz: Host does not resolve\n"
        f"Address resolution failed for {site}.\nConsider changing PACKAGESITE."
    )


def rctl(_: Sequence[str]) -> int:
    raise Failed("rctl: RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable")


def kldstat(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "q", "m")
    if "m" in found:
        return 0 if found["m"] in _loaded() else 1
    if found or rest:
        uncovered("options")
    out("Id Refs Address                Size Name\n 1    1 0xffffffff80200000  20f4788 kernel\n")
    return 0


def kldload(argv: Sequence[str]) -> int:
    """Silent when it works. What is loaded stays until the next boot."""
    names = argv[1:]
    if len(names) != 1 or names[0] in _loaded():
        uncovered("another form, or a module that is there")
    with open("/lab/state/modules", "a") as file:
        file.write(f"{names[0]}\n")
    return 0


def _loaded() -> list[str]:
    try:
        with open("/lab/state/modules") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def shutdown(argv: Sequence[str]) -> int:
    """Returns at once; a process of its own runs rc.shutdown (reboot(8) does not), then tells the hardware by a pipe."""
    clean = not argv[0].endswith("reboot")
    if not clean:
        if argv[1:]:
            uncovered("options of reboot")
        wanted = "reboot"
    else:
        found, rest = options(argv[1:], "rp")
        if rest[:1] != ["now"] or not found:
            uncovered("this form")
        wanted = "reboot" if "r" in found else "off"
        out("Shutdown NOW!\n")
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _go_down(wanted, clean)
    sys.stderr.write(f"shutdown: [pid {pid}]\n" if clean else "")
    return 0


def _go_down(wanted: str, clean: bool) -> NoReturn:
    """As init(8) does it: scripts with KEYWORD shutdown first (freebsd.md 7.2), then everything ends at once."""
    os.setsid()
    console = os.open("/lab/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDONLY) if stream == 0 else console, stream)
    for name, which in (("ezjail", ()), ("jail", tuple(rcvar("jail_list", "").split()))):
        if clean and yes(rcvar(f"{name}_enable", "NO")):
            program("/usr/sbin/service", name, "stop", *which)
    with open("/lab/power", "w") as hardware:  # waits until the hardware listens
        hardware.write(wanted + "\n")
    os._exit(0)


def date(argv: Sequence[str]) -> int:
    """This computer's date for formats, as far off as /lab/clock says; BSD's way to give a time (-r SECONDS), never GNU's."""
    found, rest = options(argv[1:], "un", "r")
    given = ["-d", f"@{found['r']}"] if "r" in found else _off()
    if any(not word.startswith("+") for word in rest):
        uncovered("setting or parsing a date")
    os.execv(f"{HOST}/bin/date", ["date", *(["-u"] if "u" in found else []), *given, *rest])


def _off() -> list[str]:
    """A clock that is some seconds wrong."""
    try:
        with open("/lab/clock") as file:
            return ["-d", f"@{int(time.time()) + int(file.read())}"]
    except FileNotFoundError:
        return []


def unknown(_: Sequence[str]) -> int:
    return uncovered("this command is part of the base system, but no transcript shows it")
