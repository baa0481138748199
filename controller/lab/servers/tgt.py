"""``tgtadm`` and ``tgt-admin`` of tgt 1.0.85 on the SAN of the simulated site.

State is what tgtd would hold in memory: ``/lab/tgt.json`` {targets: {tid: …}, accounts: {user: password}}. Bytes, exit
statuses and quirks are those of a real tgtd: one backing file may back two targets, LUN 0 is a controller, sizes are
decimal megabytes, a missing backing file is an "invalid request", a target with LUNs is deleted without a word.
``/lab/tgt-stopped`` makes tgtd stand still (SIGSTOP): every command then waits until the file is gone.
"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.servers.kit import Box, Failed, bundle, take, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

NOTHING: dict[str, Any] = {"targets": {}, "accounts": {}}
CONF = "/etc/tgt/targets.conf"
EXISTS, NO_TARGET = "this target already exists", "can't find the target"
LONG = {
    "--lld": "L", "--op": "o", "--mode": "m", "--tid": "t", "--targetname": "T", "--lun": "l", "--backing-store": "b",
    "--initiator-address": "I", "--initiator-name": "Q", "--user": "u", "--password": "p", "--params": "P",
    "--name": "n", "--value": "v", "--device-type": "Y", "--bstype": "E", "--bsoflags": "f", "--blocksize": "y",
    "--sid": "s", "--cid": "c", "--control-port": "C", "--outgoing": "!", "--force": "!",
}  # fmt: skip


def main(argv: Sequence[str], box: Box) -> int:
    ask = options(argv[1:])
    while os.path.exists(box.path("/lab/tgt-stopped")):
        time.sleep(0.1)
    if box.load("service", {}).get("units", {}).get("tgt") == "inactive":
        print("tgtadm: failed to send request hdr to tgt daemon, Transport endpoint is not connected", file=sys.stderr)
        return 107
    verb = f"{ask.get('m', '')}_{ask.get('o', '')}"
    if ask.get("L", "iscsi") != "iscsi" or verb not in VERBS:
        uncovered(f"tgtadm {verb}")
    try:
        if ask["o"] == "show":
            sys.stdout.write(VERBS[verb](box, box.load("tgt", NOTHING), ask))
        else:
            with box.edit("tgt", NOTHING) as state:
                VERBS[verb](box, state, ask)
    except Failed as failed:
        print(f"tgtadm: {failed}", file=sys.stderr)
        return failed.status
    return 0


def options(words: Sequence[str]) -> dict[str, str]:
    """Letter to value; long names are shortened as getopt_long(3) does."""
    args, found = [], {}
    rest = list(words)
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if word.startswith("--"):
            if word not in LONG:
                uncovered(word)
            letter = LONG[word]
            found[letter] = "" if letter == "!" else value or take(rest, word)
        else:
            args += [word + ("=" + value if value else "")]
            if len(word) == 2 and word[0] == "-" and word[1].isascii() and word[1].isalpha():
                args.append(take(rest, word))
    found.update({letter or "": value for letter, value in bundle(args, "LomtTlbIQupPnvYEfyscC")})
    if "" in found:
        uncovered(found[""])
    return found


def target(state: dict[str, Any], ask: dict[str, str]) -> dict[str, Any]:
    if "t" not in ask:
        raise Failed("'tid' option is necessary", 22)
    if ask["t"] not in state["targets"]:
        raise Failed(NO_TARGET, 22)
    found: dict[str, Any] = state["targets"][ask["t"]]
    return found


def target_new(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    if "t" not in ask:
        raise Failed("'tid' option is necessary", 22)
    if ask["t"] in state["targets"] or any(one["name"] == ask["T"] for one in state["targets"].values()):
        raise Failed(EXISTS, 22)
    fresh = {"name": ask["T"], "state": "ready", "luns": {}, "addresses": [], "initiators": [], "accounts": []}
    state["targets"][ask["t"]] = fresh


def target_delete(box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    if nexus(box, one["name"]) and "!" not in ask:
        raise Failed("this target is still active", 22)
    del state["targets"][ask["t"]]


def target_update(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    if ask.get("n") != "state" or ask.get("v") not in ("ready", "offline"):
        uncovered("update of a target parameter")
    one["state"] = ask["v"]


def target_bind(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    for letter, key in (("I", "addresses"), ("Q", "initiators")):
        if letter in ask:
            if ask[letter] in one[key]:
                raise Failed("this access control rule already exists", 22)
            one[key].append(ask[letter])


def target_unbind(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    for letter, key in (("I", "addresses"), ("Q", "initiators")):
        if letter in ask:
            if ask[letter] not in one[key]:
                raise Failed("this access control rule does not exist", 22)
            one[key].remove(ask[letter])


def lun_new(box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    if ask["l"] in one["luns"] or ask["l"] == "0":
        raise Failed("this logical unit number already exists", 22)
    if "b" not in ask or not os.path.exists(box.path(ask["b"])):
        raise Failed("invalid request", 22)
    one["luns"][ask["l"]] = {"path": ask["b"], "params": {}, "bytes": os.path.getsize(box.path(ask["b"]))}


def lun(state: dict[str, Any], ask: dict[str, str]) -> dict[str, Any]:
    luns = target(state, ask)["luns"]
    if ask.get("l") not in luns:
        raise Failed("can't find the logical unit", 22)
    found: dict[str, Any] = luns[ask["l"]]
    return found


def lun_update(box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = lun(state, ask)
    for pair in ask.get("P", "").split(","):
        name, _, value = pair.partition("=")
        if name == "path":
            one.update(path=value, bytes=os.path.getsize(box.path(value)))
        else:
            one["params"][name] = value


def lun_delete(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    lun(state, ask)
    del target(state, ask)["luns"][ask["l"]]


def account_new(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    if ask["u"] in state["accounts"]:
        raise Failed("this account already exists", 22)
    state["accounts"][ask["u"]] = ask["p"]


def account_delete(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    if ask["u"] not in state["accounts"]:
        raise Failed("can't find the account", 22)
    del state["accounts"][ask["u"]]
    for one in state["targets"].values():
        one["accounts"] = [user for user in one["accounts"] if user != ask["u"]]


def account_bind(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    if ask["u"] not in state["accounts"]:
        raise Failed("can't find the account", 22)
    if ask["u"] in one["accounts"]:
        raise Failed("this account already exists", 22)
    one["accounts"].append(ask["u"])


def account_unbind(_box: Box, state: dict[str, Any], ask: dict[str, str]) -> None:
    one = target(state, ask)
    if ask["u"] not in one["accounts"]:
        raise Failed("can't find the account", 22)
    one["accounts"].remove(ask["u"])


def account_show(_box: Box, state: dict[str, Any], _ask: dict[str, str]) -> str:
    return "Account list:\n" + "".join(f"    {user}\n" for user in state["accounts"])


def admits(one: Mapping[str, Any], address: str, initiator: str) -> bool:
    """Who may log in (measured on 1.0.85): the address or the name is enough, and without any rule nobody may."""
    return address in one["addresses"] or "ALL" in one["addresses"] or initiator in one["initiators"]


def nexus(box: Box, name: str) -> list[dict[str, str]]:
    """Who is logged in to a target: told by the nodes' initiators in ``/lab/sessions.json``."""
    return [one for one in box.load("sessions", []) if one["target"] == name]


def portal_show(_box: Box, _state: dict[str, Any], _ask: dict[str, str]) -> str:
    address = str(_box.load("machine", {}).get("address", "")).partition("/")[0]
    return f"Portal: {address or '0.0.0.0'}:3260,1\n"


def target_show(box: Box, state: dict[str, Any], ask: dict[str, str]) -> str:
    if "t" in ask:
        target(state, ask)
        uncovered("show of one target prints parameters only")
    return "".join(shown(box, tid, state["targets"][tid]) for tid in sorted(state["targets"], key=int))


def shown(box: Box, tid: str, one: dict[str, Any]) -> str:
    text = f"Target {tid}: {one['name']}\n    System information:\n        Driver: iscsi\n"
    text += f"        State: {one['state']}\n    I_T nexus information:\n"
    for number, link in enumerate(nexus(box, one["name"]), 1):
        text += f"        I_T nexus: {number}\n            Initiator: {link['initiator']} alias: none\n"
        text += f"            Connection: 0\n                IP Address: {link['address']}\n"
    text += "    LUN information:\n" + unit(tid, "0", "controller", "null", "None", 0, 1, {})
    for number in sorted(one["luns"], key=int):
        disk = one["luns"][number]
        text += unit(tid, number, "disk", "rdwr", disk["path"], disk["bytes"], 512, disk["params"])
    text += "    Account information:\n" + "".join(f"        {user}\n" for user in one["accounts"])
    rules = [*one["addresses"], *one["initiators"]]
    return text + "    ACL information:\n" + "".join(f"        {rule}\n" for rule in rules)


def unit(tid: str, number: str, kind: str, store: str, path: str, size: int, block: int, said: dict[str, str]) -> str:
    tag = f"{int(tid):04x}{int(number):04x}"
    return (
        f"        LUN: {number}\n            Type: {kind}\n"
        f"            SCSI ID: {said.get('scsi_id', f'IET     {tag}')}\n"
        f"            SCSI SN: {said.get('scsi_sn', f'beaf{int(tid):x}{int(number):x}')}\n"
        f"            Size: {round(size / 1e6)} MB, Block size: {block}\n"
        f"            Online: {'No' if said.get('online') == '0' else 'Yes'}\n"
        "            Removable media: No\n            Prevent removal: No\n"
        f"            Readonly: {'Yes' if said.get('readonly') == '1' else 'No'}\n"
        "            SWP: No\n            Thin-provisioning: No\n"
        f"            Backing store type: {store}\n            Backing store path: {path}\n"
        "            Backing store flags: \n"
    )


VERBS: dict[str, Any] = {
    "target_new": target_new, "target_delete": target_delete, "target_update": target_update,
    "target_bind": target_bind, "target_unbind": target_unbind, "target_show": target_show,
    "logicalunit_new": lun_new, "logicalunit_update": lun_update, "logicalunit_delete": lun_delete,
    "account_new": account_new, "account_delete": account_delete, "account_show": account_show,
    "portal_show": portal_show,
    "account_bind": account_bind, "account_unbind": account_unbind,
}  # fmt: skip
