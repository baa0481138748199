"""iscsictl(8): sessions of the simulated initiator, kept in the kernel-like state and asked of the real disk plug."""

from __future__ import annotations

import time

from controller.lab.standins import disk
from controller.lab.standins.node import Failed, Kernel, err, hostname, libxo, options, out, uncovered, xo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

CONF = "/etc/iscsi.conf"
BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_/:[]")
KEYS = """
    HeaderDigest DataDigest TargetName TargetAddress InitiatorName InitiatorAddress InitiatorAlias chapIName chapSecret
    tgtChapName tgtChapSecret AuthMethod SessionType Protocol Enable Offload dscp pcp
""".lower().split()


def main(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    found, rest = options(args, "ALRMav", "ntpwcid")
    if rest or "M" in found or "d" in found or "p" in found:
        uncovered("this form")
    wait = float(found.get("w", "-1"))
    if "L" in found:
        return _list(json, "v" in found, wait)
    if "A" in found:
        return _add(found, wait)
    if "R" in found:
        return _remove(found)
    return uncovered("no command")


def conf(path: str = CONF) -> dict[str, dict[str, str]]:
    """Nickname -> lower-case key -> value. Raises `Failed` as iscsictl does for the whole file."""
    try:
        with open(path) as file:
            text = file.read()
    except FileNotFoundError:
        raise Failed(f"iscsictl: unable to open configuration file {path}: No such file or directory") from None
    words = list(_words(text))
    entries: dict[str, dict[str, str]] = {}
    while words:
        line, nick, quoted = words.pop(0)
        if quoted or nick in ("{", "}", "=", ";") or nick.lower() in KEYS:
            raise _syntax(line, nick)
        _expect(words, "{")
        entries[nick] = _entry(words)
    return entries


def _entry(words: list[tuple[int, str, bool]]) -> dict[str, str]:
    entry: dict[str, str] = {}
    while True:
        line, key, _ = words.pop(0) if words else (0, "", False)
        if key == "}":
            return entry
        if key == ";":
            continue
        if key.lower() not in KEYS:
            raise _syntax(line, key)
        _expect(words, "=")
        line, value, quoted = words.pop(0) if words else (line, "", False)
        if not quoted and value in ("{", "}", "=", ";", ""):
            raise _syntax(line, value)
        entry[key.lower()] = value


def _expect(words: list[tuple[int, str, bool]], token: str) -> None:
    line, word, quoted = words.pop(0) if words else (0, "", False)
    if word != token or quoted:
        raise _syntax(line, word)


def _syntax(line: int, near: str) -> Failed:
    return Failed(f"iscsictl: error in configuration file at line {line} near '{near}': syntax error")


def _words(text: str) -> list[tuple[int, str, bool]]:
    words: list[tuple[int, str, bool]] = []
    for line, content in enumerate(text.split("\n"), 1):
        at = 0
        while at < len(content):
            char = content[at]
            if char == "#":
                break
            if char.isspace():
                at += 1
            elif char == '"':
                end = content.find('"', at + 1)
                if end <= at + 1:
                    raise _syntax(line, char)
                words.append((line, content[at + 1 : end], True))
                at = end + 1
            elif char in BARE:
                end = at
                while end < len(content) and content[end] in BARE:
                    end += 1
                words.append((line, content[at:end], False))
                at = end
            else:
                words.append((line, char, False))
                at += 1
    return words


def _add(found: dict[str, str], wait: float) -> int:
    entries = conf(found.get("c", CONF))
    nicks = list(entries) if "a" in found else [found.get("n") or uncovered("add without a nickname")]
    status = 0
    with Kernel() as state:
        for nick in nicks:
            if nick not in entries:
                raise Failed(f"iscsictl: target {nick} not found in {found.get('c', CONF)}")
            if not _new(state, nick, entries[nick]):
                err("iscsictl: ISCSISADD: Device busy\n")
                status = 1
    return status or _await(wait)


def _new(state: dict[str, Any], nick: str, entry: dict[str, str]) -> bool:
    target, portal = entry.get("targetname", ""), entry.get("targetaddress", "")
    if not target or not portal:
        uncovered("an entry without target or address")
    if any((one["target"], one["portal"]) == (target, portal) for one in state["sessions"]):
        return False
    state["session"] += 1
    used = {one["da"] for one in state["sessions"]}
    session = {
        "id": state["session"],
        "nick": nick,
        "target": target,
        "portal": portal,
        "initiator": entry.get("initiatorname", f"iqn.1994-09.org.freebsd:{hostname(state)}"),
        "user": entry.get("chapiname", ""),
        "secret": entry.get("chapsecret", ""),
        "connected": False,
        "reason": "",
        "silent": 0.0,
        "told": 0,
        "disk": {},
        "da": next(number for number in range(99) if number not in used),
        "scbus": 1 + state["session"],
    }
    state["sessions"].append(session)
    return True


def _await(wait: float) -> int:
    """-w: until every session is connected, at most so many seconds; without it the login goes on alone."""
    end = time.monotonic() + wait
    while True:
        with Kernel() as state:
            disk.refresh(state)
            if wait < 0 or all(one["connected"] for one in state["sessions"]):
                return 0
        if wait and time.monotonic() >= end:
            return 1
        time.sleep(0.2)


def _remove(found: dict[str, str]) -> int:
    with Kernel() as state:
        disk.refresh(state)
        gone = _chosen(state, found)
        for session in gone:
            if any(one.get("disk") == session["id"] for one in state["mounts"]):
                uncovered("removing the session under a mounted file system")
            state["sessions"].remove(session)
            disk.enlist(state, session, False)
        disk.devices(state)
    return 0


def _chosen(state: dict[str, Any], found: dict[str, str]) -> list[dict[str, Any]]:
    sessions: list[dict[str, Any]] = state["sessions"]
    if "a" in found:
        return list(sessions)
    if "t" in found:
        chosen = [one for one in sessions if one["target"] == found["t"]]
        return chosen or uncovered("removing an unknown target")
    entries, nick = conf(), found.get("n", "")
    if nick not in entries:
        raise Failed(f"iscsictl: target {nick} not found in {CONF}")
    target = entries[nick].get("targetname")
    return [one for one in sessions if one["target"] == target] or uncovered("removing a session that is not there")


def _list(json: bool, verbose: bool, wait: float) -> int:
    status = _await(wait) if wait >= 0 else 0
    with Kernel() as state:
        disk.refresh(state)
        sessions = state["sessions"]
    if json:
        rows = [_json_long(one) if verbose else _json_short(one) for one in sessions]
        out(xo({"iscsictl": {"session": rows} if rows else {}}) + "\n")
    elif verbose:
        out("".join(_long(one) + "\n\n" for one in sessions))
    else:
        out("Target name                          Target portal    State\n")
        for one in sessions:
            out(f"{one['target']:<36} {one['portal']:<16} {_state(one)}\n")
    return status


def _state(one: dict[str, Any]) -> str:
    if one["reason"]:
        return str(one["reason"])
    if not one["connected"]:
        return "Disconnected"
    return "Connected: " + (f"da{one['da']} " if one["disk"] else "")


def _where(one: dict[str, Any]) -> dict[str, Any]:
    if not (one["connected"] and one["disk"]):
        return {}
    lun = {"lun": one["disk"]["lun"], "device": f"da{one['da']}"}
    return {"devices": {"lun": [lun], "scbus": one["scbus"], "bus": 0, "target": 0}}


def _word(one: dict[str, Any]) -> str:
    return str(one["reason"]) or ("Connected" if one["connected"] else "Disconnected")


def _json_short(one: dict[str, Any]) -> dict[str, Any]:
    return {"name": one["target"], "portal": one["portal"], "state": _word(one), **_where(one)}


def _json_long(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "sessionId": one["id"],
        "initiator": {"name": one["initiator"], "portal": "", "alias": ""},
        "target": {"name": one["target"], "portal": one["portal"], "alias": ""},
        "auth": {"user": one["user"], "secret": one["secret"], "mutualUser": "", "mutualSecret": ""},
        "type": "Normal",
        "enable": "Yes",
        "state": _word(one),
        "failureReason": one["reason"],
        "headerDigest": "None",
        "dataDigest": "None",
        "recvDataSegmentLen": 262144,
        "sendDataSegmentLen": 8192,
        "maxBurstLen": 262144,
        "firstBurstLen": 65536,
        "immediateData": "Yes",
        "iSER": "No",
        "offloadDriver": "None",
        **_where(one),
    }


def _long(one: dict[str, Any]) -> str:
    rows = {
        "Session ID": one["id"],
        "Initiator name": one["initiator"],
        "Initiator portal": "",
        "Initiator alias": "",
        "Target name": one["target"],
        "Target portal": one["portal"],
        "Target alias": "",
        "User": one["user"],
        "Secret": one["secret"],
        "Mutual user": "",
        "Mutual secret": "",
        "Session type": "Normal",
        "Enable": "Yes",
        "Session state": _word(one),
        "Failure reason": one["reason"],
        "Header digest": "None",
        "Data digest": "None",
        "MaxRecvDataSegmentLength": 262144,
        "MaxSendDataSegmentLength": 8192,
        "MaxBurstLen": 262144,
        "FirstBurstLen": 65536,
        "ImmediateData": "Yes",
        "iSER (RDMA)": "No",
        "Offload driver": "None",
        "Device nodes": f"da{one['da']} " if one["connected"] and one["disk"] else "",
    }
    return "\n".join(f"{name + ':':<26}{value}" for name, value in rows.items())
