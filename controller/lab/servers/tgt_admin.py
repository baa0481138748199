"""``tgt-admin`` of tgt 1.0.85: brings the running tgtd to what targets.conf says, and shows it.

``--update`` leaves a target that is in use alone and says nothing, unless forced; ``--update ALL`` deletes targets that
the file does not name. `--pretend` prints the tgtadm calls.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys

from controller.lab.servers import tgt
from controller.lab.servers.kit import Box, take, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Wanted:
    """One <target> block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stores: list[tuple[str, dict[str, str]]] = []
        self.addresses: list[str] = []
        self.initiators: list[str] = []
        self.users: list[tuple[str, str]] = []


def main(argv: Sequence[str], box: Box) -> int:
    args, flags, update, path = list(argv[1:]), set(), "", tgt.CONF
    while args:
        word = args.pop(0)
        if word in ("--update", "--delete"):
            update = take(args, word)
            flags.add(word)
        elif word in ("-c", "--conf"):
            path = take(args, word)
        elif word in ("-e", "--execute", "--force", "-f", "--pretend", "-p", "--verbose", "-v", "--show", "-s"):
            flags.add(word)
        else:
            uncovered(word)
    if flags & {"--show", "-s"}:
        return tgt.main(["tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"], box)
    if "--delete" in flags:
        return perform(box, list(removal(box, update)), bool(flags & {"--pretend", "-p"}))
    if not flags & {"-e", "--execute", "--update"}:
        uncovered("tgt-admin form")
    calls = list(updates(box, list(configured(box, path)), update or "new", bool(flags & {"--force", "-f"})))
    return perform(box, calls, bool(flags & {"--pretend", "-p"}))


def perform(box: Box, calls: list[list[str]], pretend: bool) -> int:
    status = 0
    for call in calls:
        words = ["tgtadm", "--lld", "iscsi", *call]
        if pretend:
            print(" ".join(words))
        else:
            status = tgt.main(words, box) or status
    return status


def updates(box: Box, wanted: list[Wanted], which: str, force: bool) -> Iterator[list[str]]:
    targets = box.load("tgt", tgt.NOTHING)["targets"]
    tids = {one["name"]: tid for tid, one in targets.items()}
    if which == "ALL":
        for name in tids.keys() - {one.name for one in wanted}:
            yield from removal(box, name)
    fresh = max([0, *map(int, tids.values())]) + 1
    used = {disk["path"] for one in targets.values() for disk in one["luns"].values()}
    for one in wanted:
        if which not in ("ALL", "new", one.name) or (which == "new" and one.name in tids):
            continue
        if one.name in tids:
            if tgt.nexus(box, one.name) and not force:
                continue
            used -= {disk["path"] for disk in targets[tids[one.name]]["luns"].values()}
            yield from removal(box, one.name)
        yield from creation(box, one, str(fresh), used)
        fresh += 1


def removal(box: Box, name: str) -> Iterator[list[str]]:
    for tid, one in box.load("tgt", tgt.NOTHING)["targets"].items():
        if one["name"] == name:
            yield ["--op", "delete", "--mode", "target", "--tid", tid, "--force"]


def creation(box: Box, one: Wanted, tid: str, used: set[str]) -> Iterator[list[str]]:
    yield ["--op", "new", "--mode", "target", "--tid", tid, "--targetname", one.name]
    for number, (store, said) in enumerate(one.stores, 1):
        if store in used:
            print(f"Device {store} is in use", file=sys.stderr)
            continue
        yield ["--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", str(number), "-b", store]
        if said:
            pairs = ",".join(f"{name}={value}" for name, value in said.items())
            yield ["--op", "update", "--mode", "logicalunit", "--tid", tid, "--lun", str(number), "--params", pairs]
    known = set(box.load("tgt", tgt.NOTHING)["accounts"])
    for user, password in one.users:
        if user not in known:
            yield ["--op", "new", "--mode", "account", "--user", user, "--password", password]
        yield ["--op", "bind", "--mode", "account", "--tid", tid, "--user", user]
    for address in one.addresses or ["ALL"]:
        yield ["--op", "bind", "--mode", "target", "--tid", tid, "--initiator-address", address]
    for initiator in one.initiators:
        yield ["--op", "bind", "--mode", "target", "--tid", tid, "--initiator-name", initiator]


def configured(box: Box, path: str) -> Iterator[Wanted]:
    """The targets of a configuration file and of what it includes (globs in the file name)."""
    block: Wanted | None = None
    said: dict[str, str] | None = None
    for raw in box.text(path).splitlines():
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', raw.partition("#")[0])]
        if not words:
            continue
        head = words[0]
        if head == "include":
            folder, _, pattern = words[1].rpartition("/")
            there = os.listdir(box.path(folder)) if os.path.isdir(box.path(folder)) else []
            for name in sorted(fnmatch.filter(there, pattern)):
                yield from configured(box, os.path.join(folder, name))
        elif head == "<target":
            block = Wanted(words[1].rstrip(">"))
        elif head == "</target>" and block:
            yield block
            block = None
        elif head in ("<backing-store", "<direct-store") and block:
            said = {}
            block.stores.append((words[1].rstrip(">"), said))
        elif head in ("</backing-store>", "</direct-store>"):
            said = None
        elif block:
            said = statement(block, said, words)


def statement(block: Wanted, said: dict[str, str] | None, words: list[str]) -> dict[str, str] | None:
    head = words[0]
    if head == "backing-store":
        block.stores.append((words[1], {}))
    elif head == "initiator-address":
        block.addresses.append(words[1])
    elif head == "initiator-name":
        block.initiators.append(words[1])
    elif head == "incominguser":
        block.users.append((words[1], words[2]))
    elif head in ("scsi_id", "scsi_sn", "vendor_id", "product_id", "product_rev"):
        (said if said is not None else block.stores[-1][1])[head] = words[1]
    elif head not in ("default-driver", "driver", "lun", "write-cache", "allow-in-use", "bs-type"):
        uncovered(f"targets.conf {head}")
    return said
