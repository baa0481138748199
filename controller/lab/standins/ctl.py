"""ctld(8), its rc script, and ctladm(8): LUNs and ports of the kernel's target layer, kept in the kernel-like state.

Exit status lies as the real one's: a reload of a broken file is 0 and keeps what is served, a smaller size shrinks the
LUN without a word. node.json's "cfiscsi" says whether the kernel has the iSCSI frontend; /lab/logins.json is the list of
{"initiator", "address", "target"} that are logged in.
"""

from __future__ import annotations

import os

from controller.lab import quickjson as json
from controller.lab.standins.node import Failed, Kernel, err, options, out, syslog, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

CONF = "/etc/ctl.conf"
LOGINS = "/lab/logins.json"
MISSING = "couldn't load cfiscsi: No such file or directory"
FIXED = (
    {"type": "ioctl", "kind": 4, "online": "YES", "pp": 0, "vp": 0},
    {"type": "tpc", "kind": 8, "online": "YES", "pp": 0, "vp": 0},
    {
        "type": "camsim",
        "kind": 8,
        "online": "NO",
        "pp": 0,
        "vp": 0,
        "target": "naa.5000000904589f00",
        "port": "naa.5000000904589f03",
    },
)
"""Ports 0, 1 and 2 of every kernel with ctl."""


class Log:
    """Every line of ctld goes to syslog, and to stderr too until it has become a daemon."""

    def __init__(self, state: dict[str, Any], pid: int, *, daemon: bool = False) -> None:
        self._state, self._pid, self._daemon = state, pid, daemon

    def __call__(self, line: str) -> None:
        syslog(self._state, "ctld", self._pid, line)
        if not self._daemon:
            err(f"ctld: {line}\n")


def ctld(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "t", "f")
    if rest or "t" not in found:
        uncovered("ctld without -t")
    with Kernel() as state:
        log = Log(state, os.getpid())
        if _load(state, log, found.get("f", CONF)) is not None:
            return 0
        log("configuration error; exiting")
    return 1


def _load(state: dict[str, Any], log: Log, path: str, *, first: bool = True) -> dict[str, Any] | None:
    """A file's content, None for one that is refused."""
    from controller.lab.standins import ctlconf  # slow, and `service` of every other daemon needs none

    if first and not state["node"]["cfiscsi"]:
        log(MISSING)
    try:
        with open(path) as file:
            readable, text = os.fstat(file.fileno()).st_mode & 0o004, file.read()
        content = ctlconf.parse(text)
    except FileNotFoundError:
        log(f"unable to open configuration file {path}: No such file or directory")
        return None
    except ctlconf.Syntax as error:
        log(str(error))
        return None
    if readable:
        log(f"{path} is world-readable")
    return content


def start(state: dict[str, Any], pid: int) -> bool:
    """Whether the daemon stays. One LUN that cannot be made ends it, and leaves the others behind in the kernel.

    That is not seen but read in ctld.c: conf_apply's errors are fatal before the daemon has started, never after.
    """
    log = Log(state, pid)
    content = _load(state, log, CONF)
    if content is None:
        log("configuration error; exiting")
        return False
    whole = _apply(state, content, log)
    if not whole:
        log("failed to apply configuration; exiting")
    return whole


def reload(state: dict[str, Any], pid: int) -> None:
    log = Log(state, pid, daemon=True)
    content = _load(state, log, CONF, first=False)
    if content is None:
        log("configuration error, continuing with old configuration")
    elif not _apply(state, content, log):
        log("failed to apply configuration")


def stop(state: dict[str, Any], pid: int) -> None:
    state["ctl"] = {"luns": [], "ports": []}
    syslog(state, "ctld", pid, "exiting on signal")


def _apply(state: dict[str, Any], content: dict[str, Any], log: Log) -> bool:
    """LUNs that are the same stay, and take a new size as they are. Whether every LUN could be made."""
    wanted = {
        f"{target},lun,{number}": lun
        for target, one in content["targets"].items()
        for number, lun in one["luns"].items()
    }
    luns = [one for one in state["ctl"]["luns"] if _same(one, wanted.get(one["name"]))]
    for name, lun in wanted.items():
        at = next((one for one in luns if one["name"] == name), None)
        if at is None and not os.path.exists(lun["path"]):
            log(f"error returned from LUN creation request: error opening {lun['path']}")
            log(f'failed to add lun "{name}"')
            continue
        if at is None:
            at = {"id": _free(one["id"] for one in luns), "name": name, **lun}
            luns.append(at)
        # What the file says counts, whatever the volume's own length.
        at["bytes"] = lun["bytes"] or os.path.getsize(lun["path"])
    state["ctl"]["luns"] = luns
    state["ctl"]["ports"] = _ports(state, content, log)
    return len(luns) == len(wanted)


def _same(one: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    return wanted is not None and {**wanted, "bytes": one["bytes"]}.items() <= one.items()


def _free(used: Any) -> int:
    taken = set(used)
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _ports(state: dict[str, Any], content: dict[str, Any], log: Log) -> list[dict[str, Any]]:
    """One port of frontend "iscsi" for every target in every portal group; those that were there stay."""
    old = {one["port"]: one for one in state["ctl"]["ports"]}
    ports: list[dict[str, Any]] = []
    for target, one in content["targets"].items():
        for group in one["portals"]:
            if not state["node"]["cfiscsi"]:
                log('error returned from port creation request: Frontend "iscsi" not found.')
                log(f"failed to add port {group}-{target}")
                continue
            tag = 257 + content["portals"].index(group)
            port = {"type": "iscsi", "kind": 16, "online": "YES", "pp": tag, "target": target}
            port["port"] = f"{target},t,0x{tag:04x}"
            ports.append(old.get(str(port["port"]), port))
    for port in ports:
        port.setdefault("id", 3 + _free(one["id"] - 3 for one in [*ports, *old.values()] if "id" in one))
        port.setdefault("vp", 1 + _free(one["vp"] - 1 for one in [*ports, *old.values()] if "vp" in one))
    return ports


def ctladm(argv: Sequence[str]) -> int:
    asked: dict[str, Callable[[dict[str, Any], dict[str, str]], int]] = {
        "devlist": _devlist,
        "portlist": _portlist,
        "islist": _islist,
        "lunlist": _lunlist,
    }
    found, rest = options(argv[2:], "xv")
    if rest or argv[1:2] == [] or argv[1] not in asked:
        uncovered("this form")
    state = Kernel.read()
    if not state["node"]["cfiscsi"]:
        err(f"ctladm: {MISSING}\n")
    return asked[argv[1]](state, found)


def _devlist(state: dict[str, Any], found: dict[str, str]) -> int:
    luns = state["ctl"]["luns"]
    if "x" in found:
        return _xml("ctllunlist", [_element("lun", one["id"], _lun_fields(one)) for one in luns])
    out("LUN Backend       Size (Blocks)   BS Serial Number    Device ID       \n")
    for one in luns:
        blocks = one["bytes"] // one["blocksize"]
        out(f"{one['id']:>3} block    {blocks:>18} {one['blocksize']:>4} {one['serial']:<16} {one['device']:<16}\n")
        if "v" in found:
            shown = {name: value for name, value in _lun_fields(one).items() if name in VERBOSE}
            out("".join(f"      {name}={value}\n" for name, value in shown.items()))
    return 0


VERBOSE = ("lun_type", "num_threads", "file", "ctld_name", "scsiname")


def _lun_fields(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "backend_type": "block",
        "lun_type": 0,
        "size": one["bytes"] // one["blocksize"],
        "blocksize": one["blocksize"],
        "serial_number": one["serial"],
        "device_id": one["device"],
        "num_threads": 32,
        "file": one["path"],
        "ctld_name": one["name"],
        "scsiname": one["name"],
    }


def _portlist(state: dict[str, Any], found: dict[str, str]) -> int:
    ports = [*({"id": number, **one} for number, one in enumerate(FIXED)), *state["ctl"]["ports"]]
    if "x" in found:
        return _xml("ctlportlist", [_element("targ_port", one["id"], _port_fields(one)) for one in ports])
    if "v" in found and state["ctl"]["ports"]:
        uncovered("portlist -v with iSCSI ports")
    out("Port Online Frontend Name     pp vp\n")
    for one in ports:
        where = f"{one['type']:<8} {one['type']:<8} {one['pp']:<2} {one['vp']:<2} {one.get('port', '')}"
        out(f"{one['id']:<4} {one['online']:<6} {where}\n")
        if "v" in found:
            target = f"  Target: {one['target']}\n" if "target" in one else ""
            out(f"{target}  All LUNs mapped\n      port_type={one['kind']}\n")
    return 0


def _port_fields(one: dict[str, Any]) -> dict[str, Any]:
    fields = {"frontend_type": one["type"], "port_type": one["kind"], "online": one["online"], "port_name": one["type"]}
    fields |= {"physical_port": one["pp"], "virtual_port": one["vp"]}
    return fields | {name: one[name] for name in ("target", "port") if name in one}


def _islist(state: dict[str, Any], found: dict[str, str]) -> int:
    if not state["node"]["cfiscsi"]:
        err('ctladm: cctl_islist: error returned from CTL_ISCSI ioctl:\nFrontend "iscsi" not found.\n')
        if "x" in found:
            return 0
        raise Failed("ctladm: cctl_islist: Unable to parse XML: Error 3")
    offered = {one["target"] for one in state["ctl"]["ports"]}
    sessions = [one for one in _logins() if one["target"] in offered]
    if "x" in found:
        return _xml("ctlislist", [_connection(number, one) for number, one in enumerate(sessions, 1)])
    out(f"{'ID':>4} {'Portal':<16} {'Initiator name':<36} {'Target name':<36}\n")
    for number, one in enumerate(sessions, 1):
        out(f"{number:>4} {one['address']:<16} {one['initiator']:<36} {one['target']:<36}\n")
    return 0


def _logins() -> list[dict[str, str]]:
    try:
        with open(LOGINS) as file:
            found: list[dict[str, str]] = json.load(file)
            return found
    except FileNotFoundError:
        return []


def _connection(number: int, one: dict[str, str]) -> str:
    fields = {"initiator": one["initiator"], "initiator_addr": one["address"], "initiator_alias": ""}
    fields |= {"target": one["target"], "target_alias": "", "target_portal_group_tag": "257"}
    body = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f'<connection id="{number}">{body}</connection>\n'


def _lunlist(state: dict[str, Any], found: dict[str, str]) -> int:
    if found or [one["id"] for one in state["ctl"]["luns"]] != [0]:
        uncovered("lunlist of anything but LUN 0")
    out("(7:0:0/0): <FREEBSD CTLDISK 0001> Fixed Direct Access SPC-5 SCSI device\n")
    return 0


def _element(tag: str, number: int, fields: dict[str, Any]) -> str:
    body = "".join(f"\t<{name}>{value}</{name}>\n" for name, value in fields.items())
    return f'<{tag} id="{number}">\n{body}</{tag}>\n'


def _xml(root: str, elements: list[str]) -> int:
    out(f"<{root}>\n{''.join(elements)}</{root}>\n")
    return 0
