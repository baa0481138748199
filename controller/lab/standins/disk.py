"""The jail disk as the node meets it: who serves it, what is on it, and what happens while nobody answers.

/lab/disk.json says how to reach the SAN: {"mode": "directory", "san": "/lab/san"} reads the simulated SAN's own state,
{"mode": "command", "probe": [...]} asks a program (real lab). Answers: a disk, a refusal with iscsictl's words, or silence.
The files of a UFS are a directory beside the volume file; the volume itself carries a superblock where UFS2 has it, so
that blank and formatted differ in bytes. While the SAN is silent, `ready` waits for ever and no signal but KILL ends it.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib

from controller.lab import quickjson as json
from controller.lab.standins.node import HOST, Kernel, program, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PING = 1.0
"""Seconds between two real logins of one session."""
SUPERBLOCK = 65536
MAGIC = bytes.fromhex("19015419")
NOTE = SUPERBLOCK + 4096


def ask(session: dict[str, Any], address: str) -> dict[str, Any]:
    """{"disk": …}, {"reason": text} or {} for silence."""
    config = _config()
    if config.get("mode") == "directory":
        return _look(config["san"], session, address)
    if config.get("mode") == "command":
        return _probe(config["probe"], session)
    return {"reason": "No route to host"}


def _config() -> dict[str, Any]:
    try:
        with open("/lab/disk.json") as file:
            config: dict[str, Any] = json.load(file)
            return config
    except FileNotFoundError:
        return {}


def _probe(argv: list[str], session: dict[str, Any]) -> dict[str, Any]:
    """A real login. What it said holds for a moment: a kernel pings its target every few seconds, and not for each command."""
    names = {"TARGET": "target", "PORTAL": "portal", "INITIATOR": "initiator", "USER_": "user", "SECRET": "secret"}
    asked = {name: session[key] for name, key in names.items()}
    digest = zlib.crc32(json.dumps(asked, sort_keys=True).encode())
    file = f"/lab/state/probed-{digest}"
    try:
        if 0 <= time.time() - os.stat(file).st_mtime < PING:
            with open(file) as kept:
                known: dict[str, Any] = json.load(kept)
                return known
    except FileNotFoundError:
        pass
    answer = _logged_in(argv, asked)
    with open(f"{file}.{os.getpid()}", "w") as kept:
        json.dump(answer, kept)
    os.replace(f"{file}.{os.getpid()}", file)
    return answer


def _logged_in(argv: list[str], asked: dict[str, str]) -> dict[str, Any]:
    read, write = os.pipe()
    os.environ.update(asked)
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read().strip()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return {"disk": json.loads(said)}
    return {"reason": said or "Not found"} if status == 1 else {}


def _look(san: str, session: dict[str, Any], address: str) -> dict[str, Any]:
    if any(os.path.exists(f"{san}/lab/{mark}") for mark in ("off", "tgt-stopped")):
        return {}
    if _state(san, "service", {}).get("units", {}).get("tgt") == "inactive":
        return {"reason": "Connection refused"}
    state = _state(san, "tgt", {"targets": {}, "accounts": {}})
    for tid, target in state["targets"].items():
        if target["name"] == session["target"]:
            return _login(san, tid, target, state["accounts"], session, address)
    return {"reason": "Not found"}


def _state(san: str, name: str, default: dict[str, Any]) -> dict[str, Any]:
    try:
        with open(f"{san}/lab/{name}.json") as file:
            state: dict[str, Any] = json.load(file)
            return state
    except FileNotFoundError:
        return default


def _login(
    san: str, tid: str, target: dict[str, Any], accounts: dict[str, str], session: dict[str, Any], address: str
) -> dict[str, Any]:
    # Either rule lets in, and no rule nobody (measured with tgt 1.0.85).
    welcome = session["initiator"] in target["initiators"] or any(_within(address, one) for one in target["addresses"])
    if not welcome or target["state"] != "ready":
        return {"reason": "Authorization failure"}
    users = {user: accounts[user] for user in target["accounts"]}
    if users and users.get(session["user"]) != session["secret"]:
        return {"reason": "Authentication failure"}
    if not target["luns"]:
        return {"disk": {}}
    number = min(target["luns"], key=int)
    lun = target["luns"][number]
    said = lun["params"]
    return {
        "disk": {
            "volume": f"{san}/root{lun['path']}",
            "lun": int(number),
            "tag": f"{int(tid):04x}{int(number):04x}",
            "vendor": said.get("vendor_id", "IET"),
            "product": said.get("product_id", "VIRTUAL-DISK"),
            "revision": said.get("product_rev", "0001"),
            "serial": said.get("scsi_sn", f"beaf{int(tid):x}{int(number):x}"),
            "bytes": lun["bytes"],
        }
    }


def _within(address: str, rule: str) -> bool:
    if rule == "ALL" or rule == address:
        return True
    network, slash, bits = rule.partition("/")
    return bool(slash) and _number(address) >> (32 - int(bits)) == _number(network) >> (32 - int(bits))


def _number(address: str) -> int:
    return int.from_bytes(bytes(int(part) for part in address.split(".")), "big")


def enlist(state: dict[str, Any], session: dict[str, Any], present: bool) -> None:
    """Tell the simulated SAN who is logged in."""
    config = _config()
    if config.get("mode") != "directory":
        return
    link = {"target": session["target"], "initiator": session["initiator"], "address": state["node"]["address"]}
    with open(f"{config['san']}/lab/.sessions.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        links: Any = _state(config["san"], "sessions", [])  # type: ignore[arg-type]
        links = [one for one in links if one != link] + ([link] if present else [])
        with open(f"{config['san']}/lab/sessions.json.{os.getpid()}", "w") as file:
            json.dump(links, file)
        os.replace(f"{config['san']}/lab/sessions.json.{os.getpid()}", f"{config['san']}/lab/sessions.json")


def refresh(state: dict[str, Any]) -> None:
    """Let every session notice what became of its target, as iscsid(8) and the ping would have by now."""
    for session in state["sessions"]:
        if not state["services"].get("iscsid"):
            session["reason"] = session["reason"] or ("" if session["connected"] else "Waiting for iscsid(8)")
            continue
        answer = ask(session, state["node"]["address"])
        where = f"{session['portal']} ({session['target']})"
        if "disk" in answer:
            _attach(state, session, answer["disk"])
        elif "reason" in answer:
            session.update(connected=False, reason=answer["reason"])
        else:
            _silence(state, session, where)
    devices(state)


def _attach(state: dict[str, Any], session: dict[str, Any], disk: dict[str, Any]) -> None:
    came_back = session["silent"] and not session["connected"]
    first = not session["connected"] and not session["silent"]
    session.update(connected=True, reason="", silent=0.0, told=0)
    if came_back:
        bus = f"(da{session['da']}:iscsi{session['id']}:0:0:{session['disk'].get('lun', 0)}):"
        sense = "SCSI sense: UNIT ATTENTION asc:29,0 (Power on, reset, or bus device reset occurred)"
        said = (
            "CAM status: SCSI Status Error",
            "SCSI status: Check Condition",
            sense,
            "Retrying command (per sense data)",
        )
        state["dmesg"] += [f"{bus} {text}" for text in said]
    if first:
        enlist(state, session, True)
    if disk and not session["disk"]:
        disk.setdefault("bytes", os.stat(disk["volume"]).st_size)
        disk.setdefault("tag", f"0001{int(disk['lun']):04x}")
        session["disk"] = disk
        size = disk["bytes"]
        state["dmesg"].append(f"da{session['da']}: {size >> 20}MB ({size // 512} 512 byte sectors)")


def _silence(state: dict[str, Any], session: dict[str, Any], where: str) -> None:
    session["silent"] = _since() or session["silent"] or time.time()
    gone = time.time() - session["silent"]
    if session["connected"] and gone >= 5:
        session["connected"] = False
        state["dmesg"].append(f"WARNING: {where}: no ping reply (NOP-In) after 5 seconds; reconnecting")
    if gone >= 66 and not session["told"]:
        session["told"] = 1
        state["dmesg"].append(f"WARNING: {where}: login timed out after 61 seconds; reconnecting")


def _since() -> float:
    """When the silence began, which only a simulated SAN tells; else 0."""
    config = _config()
    for mark in ("off", "tgt-stopped"):
        path = f"{config.get('san', '')}/lab/{mark}"
        if os.path.exists(path):
            return os.stat(path).st_mtime
    return 0.0


def ready() -> None:
    """Return once every attached disk answers. Until then nothing but SIGKILL ends the command, and it uses no CPU.

    Never called with the kernel state locked: everything else on the node must go on answering.
    """
    if answering():
        return
    import signal  # costs more than the rest of most commands, which never wait

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while not answering():
        time.sleep(0.25)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


def ready_if_mounted() -> None:
    """For commands that read the mounted file system, wherever it is."""
    if any("disk" in one for one in Kernel.read()["mounts"]):
        ready()


def answering() -> bool:
    state = Kernel.read()
    attached = [one for one in state["sessions"] if one["disk"]]
    return all("disk" in ask(one, state["node"]["address"]) for one in attached)


def find(state: dict[str, Any], device: str) -> dict[str, Any] | None:
    """The session behind "da0", "/dev/da0", "/dev/ufs/LABEL", "/dev/ufsid/ID" or "/dev/diskid/DISK-SERIAL"."""
    name = device.removeprefix("/dev/")
    for session in state["sessions"]:
        if session["disk"] and name in names(session):
            found: dict[str, Any] = session
            return found
    return None


def names(session: dict[str, Any]) -> list[str]:
    if not session["disk"]:
        return []
    note = read(session["disk"]["volume"])
    labels = [f"ufsid/{note['id']}", *([f"ufs/{note['label']}"] if note["label"] else [])] if note else []
    return [f"da{session['da']}", *labels, f"diskid/DISK-{session['disk']['serial']}"]


def devices(state: dict[str, Any]) -> None:
    """Keep /dev in step: an empty file per device; labels hide while the disk is mounted by its plain name."""
    wanted: set[str] = set()
    for session in state["sessions"]:
        known = names(session)
        plain = any(mount["special"] == f"/dev/da{session['da']}" for mount in state["mounts"])
        wanted |= set(known[:1] if plain else known)
    present = {name for name in os.listdir("/dev") if name.startswith("da")}
    for family in ("ufs", "ufsid", "diskid"):
        if os.path.isdir(f"/dev/{family}"):
            present |= {f"{family}/{name}" for name in os.listdir(f"/dev/{family}")}
    for name in present - wanted:
        os.unlink(f"/dev/{name}")
    for name in wanted - present:
        os.makedirs(os.path.dirname(f"/dev/{name}"), exist_ok=True)
        open(f"/dev/{name}", "a").close()
    for family in ("ufs", "ufsid", "diskid"):
        if os.path.isdir(f"/dev/{family}") and not os.listdir(f"/dev/{family}"):
            os.rmdir(f"/dev/{family}")


def content(volume: str) -> str:
    """Where the files of the UFS on this volume are."""
    return f"{volume}.ufs"


def read(volume: str) -> dict[str, Any] | None:
    """What the superblock says; None when there is none."""
    try:
        with open(volume, "rb") as file:
            file.seek(SUPERBLOCK + 1372)
            if file.read(4) != MAGIC:
                return None
            file.seek(NOTE)
            text = file.read(4096).rstrip(b"\0")
    except FileNotFoundError:
        return None
    if not text.startswith(b"{"):
        uncovered("a UFS that no stand-in made")
    note: dict[str, Any] = json.loads(text)
    return note


def write(volume: str, note: dict[str, Any]) -> None:
    with open(volume, "r+b") as file:
        file.seek(SUPERBLOCK + 144)
        file.write(bytes.fromhex(note["id"]))
        file.seek(SUPERBLOCK + 680)
        file.write(note["label"].encode().ljust(32, b"\0"))
        file.seek(SUPERBLOCK + 1372)
        file.write(MAGIC)
        file.seek(NOTE)
        file.write(json.dumps(note).encode().ljust(4096, b"\0"))


def format_(volume: str, note: dict[str, Any]) -> None:
    write(volume, note)
    program(f"{HOST}/bin/rm", "-rf", content(volume))
    os.makedirs(content(volume) + "/.snap")


def fragments(volume: str, size: int) -> tuple[int, int]:
    """Data fragments of 4096 bytes, all and used, in the proportion seen on a 3 GiB disk."""
    total = size // 4096 * 761287 // 786432
    used = 0
    for top, folders, files in os.walk(content(volume)):
        used += len(folders) + (top == content(volume))
        used += sum(-(-os.lstat(os.path.join(top, name)).st_size // 4096) for name in files)
    return total, used
