"""jail(8), jls(8) and jexec(8): the kernel's prisons, without running any program inside one.

`start` and `stop` are shared with rc.d/jail. What /etc/rc of a jail prints is told as seen on 13.2; whether it can run at
all is looked up in the real files, so a jail without its basejail dies as the real one does.
"""

from __future__ import annotations

import os
import time

from controller.lab.standins import disk, jailconf, vfs
from controller.lab.standins.net import add_alias, remove_alias
from controller.lab.standins.node import Failed, Kernel, assignments, err, options, out, uncovered, yes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from controller.lab.standins.jailconf import Params

CONF = "/etc/jail.conf"
DEFAULTS: dict[str, str] = {
    "allow.chflags": "false",
    "allow.mlock": "false",
    "allow.mount": "false",
    "allow.mount.devfs": "false",
    "allow.mount.fdescfs": "false",
    "allow.mount.nullfs": "false",
    "allow.mount.procfs": "false",
    "allow.mount.tmpfs": "false",
    "allow.quotas": "false",
    "allow.raw_sockets": "false",
    "allow.read_msgbuf": "false",
    "allow.reserved_ports": "true",
    "allow.set_hostname": "true",
    "allow.socket_af": "false",
    "allow.suser": "true",
    "allow.sysvipc": "false",
    "allow.unprivileged_proc_debug": "true",
    "children.max": "0",
    "devfs_ruleset": "0",
    "enforce_statfs": "2",
    "host.domainname": "",
    "host.hostid": "0",
    "host.hostuuid": "00000000-0000-0000-0000-000000000000",
    "persist": "false",
    "securelevel": "-1",
    "sysvmsg": "disable",
    "sysvsem": "disable",
    "sysvshm": "disable",
}
"""What a manifest may set; every other kernel parameter has one value that was ever seen."""
PSEUDO = [
    "name",
    "path",
    "ip4.addr",
    "host.hostname",
    "exec.clean",
    "exec.start",
    "exec.stop",
    "exec.system_user",
    "exec.jail_user",
    "exec.consolelog",
    "exec.fib",
    "mount.fstab",
    "mount.devfs",
    "mount.fdescfs",
    "mount.procfs",
    "interface",
]


def jail(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "crmRiq", "fpnu")
    quiet, only_id = "q" in found, "i" in found
    if "m" in found:
        return _modify(rest)
    if "R" in found:
        return _each(rest, lambda name: remove(name))
    if not rest and "c" not in found and "r" not in found:
        uncovered("no command")
    file = found.get("f", CONF)
    if any("=" in word for word in rest):
        uncovered("parameters on the command line")
    if "r" in found:
        status = _each(rest, lambda name: _stop(name, file, "" if quiet or "c" in found else f"{name}: removed\n"))
        if "c" not in found or status:
            return status
    return _each(rest, lambda name: _create(name, file, quiet, only_id))


def _each(names: list[str], act: Any) -> int:
    if not names or any("*" in name for name in names):
        uncovered("all jails at once")
    status = 0
    for name in names:
        try:
            act(name)
        except Failed as failed:
            err(f"{failed}\n")
            status = 1
    return status


def read_conf(file: str) -> dict[str, Params]:
    try:
        with open(file) as stream:
            return jailconf.parse(stream.read(), file)
    except FileNotFoundError:
        raise Failed(f"jail: {file}: No such file or directory") from None


def find(state: dict[str, Any], name: str) -> dict[str, Any] | None:
    for one in state["jails"]:
        if name in (one["name"], str(one["jid"])):
            found: dict[str, Any] = one
            return found
    return None


def _create(name: str, file: str, quiet: bool, only_id: bool) -> None:
    params = read_conf(file)
    if name not in params:
        raise Failed(f'jail: "{name}" not found')
    disk.ready_if_mounted()
    with Kernel() as state:
        said: list[str] = []
        try:
            start(state, name, params[name], said, "" if quiet else "{jid}\n" if only_id else "{name}: created\n")
        finally:
            out("".join(said))


def _stop(name: str, file: str, note: str) -> None:
    if find(Kernel.read(), name):
        disk.ready_if_mounted()
    with Kernel() as state:
        if find(state, name) is None:
            raise Failed(f'jail: "{name}" not found')
        params = read_conf(file) if os.path.exists(file) else {}
        stop(state, name, params.get(name, {}))
    out(note)


def _value(params: Params, key: str) -> str:
    values = params.get(key)
    return values[-1] if values else ""


def start(state: dict[str, Any], name: str, params: Params, said: list[str], note: str) -> None:
    """Create one jail and run its exec.start; undoes everything when that fails. `said` collects standard output."""
    if find(state, name):
        raise Failed(f'jail: "{name}" already exists')
    for key in params:
        if key not in PSEUDO and _plain(key) not in DEFAULTS:
            raise Failed(f"jail: {name}: unknown parameter: {key}")
    before = len(state["mounts"])
    added: list[str] = []
    try:
        _mounts(state, name, params)
        added = _addresses(state, params)
        one = _prison(state, name, params)
        said.append(note.format(jid=one["jid"], name=name))
        _run_start(state, one, params, said)
    except Failed:
        state["jails"] = [one for one in state["jails"] if one["name"] != name]
        for entry in reversed(state["mounts"][before:]):
            vfs.detach(state, entry["node"])
        for address in added:
            remove_alias(state, address)
        raise


def _plain(key: str) -> str:
    """allow.nomount and nopersist name the same parameter as allow.mount and persist."""
    head, dot, tail = key.rpartition(".")
    return head + dot + tail.removeprefix("no") if head + dot + tail.removeprefix("no") in DEFAULTS else key


def _mounts(state: dict[str, Any], name: str, params: Params) -> None:
    path = _value(params, "path")
    if "mount.fstab" in params:
        for special, node, kind, opts, *_ in vfs.fstab(_value(params, "mount.fstab")):
            try:
                vfs.attach(state, special, node, kind, opts.split(","))
            except Failed as failed:
                said = f"jail: {name}: /sbin/mount -t {kind} -o {opts} {special} {node}: failed"
                raise Failed(f"{failed}\n{said}") from None
    for key, kind, below in (
        ("mount.devfs", "devfs", "dev"),
        ("mount.fdescfs", "fdescfs", "dev/fd"),
        ("mount.procfs", "procfs", "proc"),
    ):
        if key in params:
            node = f"{path}/{below}"
            if below != "dev/fd" and not os.path.isdir(node):
                raise Failed(f"jail: {name}: {key}: {node}: No such file or directory")
            state["mounts"].append(
                {"special": kind, "node": node, "fstype": kind, "flags": ["local"] if kind == "procfs" else []}
            )
            if kind not in state["modules"]:
                state["modules"].append(kind)
    if not os.path.isdir(path):
        raise Failed(f"jail: {name}: path {path}: No such file or directory")


def _addresses(state: dict[str, Any], params: Params) -> list[str]:
    """Addresses that name an interface become aliases; others are taken as they are, present or not."""
    added = []
    for word in params.get("ip4.addr") or []:
        interface, bar, rest = word.rpartition("|")
        if bar or "interface" in params:
            address = rest.partition("/")[0]
            if interface not in ("", state["node"]["interface"]):
                raise Failed(f"ifconfig: interface {interface} does not exist")
            add_alias(state, address, 32)
            added.append(address)
    return added


def _prison(state: dict[str, Any], name: str, params: Params) -> dict[str, Any]:
    if name.isdigit():
        jid = int(name)
    else:
        state["jid"] += 1
        while any(one["jid"] == state["jid"] for one in state["jails"]):
            state["jid"] += 1
        jid = state["jid"]
    state["cpuset"] += 2
    one = {
        "jid": jid,
        "name": name,
        "path": _value(params, "path"),
        "hostname": _value(params, "host.hostname") or name,
        "ip4": [word.rpartition("|")[2].partition("/")[0] for word in params.get("ip4.addr") or []],
        "cpuset": state["cpuset"],
        "params": {_plain(key): _setting(key, values) for key, values in params.items() if _plain(key) in DEFAULTS},
        "conf": params,
    }
    state["jails"].append(one)
    state["jails"].sort(key=lambda two: two["jid"])
    return one


def _setting(key: str, values: list[str] | None) -> str:
    plain = _plain(key)
    if values is None:
        return "false" if plain != key else "true"
    if DEFAULTS[plain] in ("true", "false"):
        return "true" if values[-1] in ("1", "true") else "false"
    return values[-1]


def _run_start(state: dict[str, Any], one: dict[str, Any], params: Params, said: list[str]) -> None:
    for command in params.get("exec.start") or []:
        log = _value(params, "exec.consolelog")
        shell = inside(one["path"], "/bin/sh")
        if not shell or not os.path.exists(shell):
            text = f"jail: {one['name']}: exec /bin/sh: No such file or directory\n"
            _console(log, text) if log else err(text)
            raise Failed(f"jail: {one['name']}: {command}: failed")
        if command == "/bin/sh /etc/rc":
            text = _rc(state, one)
            _console(log, text) if log else said.append(text)
        elif command not in ("/bin/true", "/usr/bin/true", "true"):
            uncovered(f"exec.start {command}")


def inside(root: str, path: str, depth: int = 0) -> str:
    """The real place of a path as a process inside `root` sees it, links included; "" when it leads nowhere."""
    at = root
    for part in path.strip("/").split("/"):
        at = f"{at}/{part}"
        if os.path.islink(at) and depth < 8:
            link = os.readlink(at)
            base = "" if link.startswith("/") else os.path.dirname(at).removeprefix(root)
            at = inside(root, f"{base}/{link}", depth + 1)
        if not at:
            return ""
    return at


def _console(log: str, text: str) -> None:
    with open(log, "a") as file:
        file.write(text)


def _rc(state: dict[str, Any], one: dict[str, Any]) -> str:
    """What /etc/rc of a jail prints on a diskless node: it runs rc.initdiskless too, and takes the host's DHCP name."""
    conf = assignments(f"{one['path']}/etc/rc.conf")
    address = one["ip4"][0] if one["ip4"] else ""
    text = f"Interface {state['node']['interface']} IP-Address {address} Broadcast {address} \n" if address else ""
    text += "ELF ldconfig path: /lib /usr/lib /usr/lib/compat\n32-bit compatibility ldconfig path:\n"
    if one["params"].get("allow.set_hostname", "true") == "true":
        one["hostname"] = conf.get("hostname") or state["node"]["hostname"]
        text += f"Setting hostname: {one['hostname']}.\n"
    text += "Creating and/or trimming log files.\nUpdating motd:.\nUpdating /var/run/os-release done.\n"
    text += "Clearing /tmp (X related).\nStarting syslogd.\n"
    if yes(conf.get("sshd_enable", "NO")):
        text += _host_keys(one) + "Performing sanity check on sshd configuration.\nStarting sshd.\n"
    return text + time.strftime("\n%a %b %e %H:%M:%S UTC %Y\n", time.gmtime())


def _host_keys(one: dict[str, Any]) -> str:
    text, folder = "", f"{one['path']}/etc/ssh"
    for kind, bits in (("RSA", 3072), ("ECDSA", 256), ("ED25519", 256)):
        key = f"{folder}/ssh_host_{kind.lower()}_key"
        if not os.path.exists(key):
            os.makedirs(folder, exist_ok=True)
            open(key, "w").close()
            print_ = os.urandom(32).hex()[:43]
            text += f"Generating {kind} host key.\n{bits} SHA256:{print_} root@{one['hostname']} ({kind})\n"
    return text


def stop(state: dict[str, Any], name: str, params: Params) -> None:
    """exec.stop, removal, then the aliases and mounts that the configuration of *now* names."""
    one = find(state, name)
    assert one is not None
    if _value(params, "exec.stop") == "/bin/sh /etc/rc.shutdown jail":
        if yes(assignments(f"{one['path']}/etc/rc.conf").get("sshd_enable", "NO")):
            out("Stopping sshd.\n")
        out(".\n")
        err("Terminated\n")
    elif _value(params, "exec.stop"):
        uncovered(f"exec.stop {_value(params, 'exec.stop')}")
    state["jails"].remove(one)
    for word in params.get("ip4.addr") or []:
        if "|" in word or "interface" in params:
            remove_alias(state, word.rpartition("|")[2].partition("/")[0])
    for key, below in (("mount.procfs", "proc"), ("mount.fdescfs", "dev/fd"), ("mount.devfs", "dev")):
        if key in params:
            _quietly(state, f"{one['path']}/{below}")
    if "mount.fstab" in params:
        for row in reversed(vfs.fstab(_value(params, "mount.fstab"))):
            _quietly(state, row[1])


def _quietly(state: dict[str, Any], node: str) -> None:
    if any(one["node"] == node for one in state["mounts"]):
        vfs.detach(state, node)


def remove(name: str) -> None:
    """`jail -R`: the prison is gone, its mounts and aliases stay."""
    with Kernel() as state:
        one = find(state, name)
        if one is None:
            raise Failed(f'jail: "{name}" not found')
        state["jails"].remove(one)


def _modify(words: list[str]) -> int:
    names = [word for word in words if word.startswith("name=")]
    for word in words:
        key = word.partition("=")[0]
        if _plain(key) not in DEFAULTS and key not in ("name", "host.hostname", "ip4.addr"):
            raise Failed(f"jail: unknown parameter: {key}")
    if len(names) != 1:
        uncovered("modify without name=")
    with Kernel() as state:
        one = find(state, names[0].partition("=")[2])
        if one is None:
            uncovered("modify of a jail that is not there")
        for word in words:
            key, equals, value = word.partition("=")
            if key == "host.hostname":
                one["hostname"] = value
            elif key == "ip4.addr":
                one["ip4"] = [part for part in value.split(",") if part]
            elif key != "name":
                one["params"][_plain(key)] = _setting(key, [value] if equals else None)
    return 0


def jexec(argv: Sequence[str]) -> int:
    """Only commands whose answer does not depend on files inside the jail."""
    args = list(argv[1:])
    while args and args[0].startswith("-"):
        args = args[1:] if args[0] == "-l" else uncovered(f"option {args[0]}")
    one = find(Kernel.read(), args[0])
    if one is None:
        raise Failed(f'jexec: jail "{args[0]}" not found')
    disk.ready_if_mounted()
    return execute(one, args[1:])


def execute(one: dict[str, Any], command: list[str]) -> int:
    if command == ["true"] or command == ["/usr/bin/true"]:
        return 0
    if command == ["hostname"]:
        out(f"{one['hostname']}\n")
        return 0
    if command == ["uname", "-r"]:
        out(f"{Kernel.read()['node']['release']}\n")
        return 0
    if command[:2] == ["sh", "-c"] and command[2].startswith("exit ") and command[2][5:].isdigit():
        return int(command[2][5:])
    return uncovered(f"running {' '.join(command)} in a jail")
