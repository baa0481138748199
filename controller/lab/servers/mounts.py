"""``mount``, ``umount`` and ``chroot`` on the build VM: devfs below a new root, and the SAN's share over NFS.

The share is really there once mounted: the export, if it is granted to this machine's address, is bound from the SAN's
tree. State: ``/lab/state/vm-mounts.json``, in the order of mounting.
"""

from __future__ import annotations

import os
import sys

from controller.lab import quickjson as json
from controller.lab.servers.kit import Box, Failed, bundle, program, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

Row = dict[str, str]
STATE = "state/vm-mounts"
NET = "/.machine/net"


def table(box: Box) -> list[Row]:
    return list(box.load(STATE, []))


def mounted(box: Box, where: str) -> bool:
    return any(row["at"] == where for row in table(box))


def mount(argv: Sequence[str], box: Box) -> int:
    kind, names, flags, options = "", [], set(), "rw"
    for letter, value in bundle(argv[1:], "to"):
        if letter == "t":
            kind = value
        elif letter == "o":
            options = value
        elif letter:
            flags.add(letter)
        else:
            names.append(value)
    if not names and flags <= {"p"}:
        show(box, "p" in flags)
        return 0
    if len(names) != 2 or flags:
        uncovered("mount form")
    source, where = names[0], str(names[1]).rstrip("/") or "/"
    kind = kind or ("nfs" if ":" in source else "ufs")
    if not os.path.isdir(box.path(where)):
        raise Failed(f"mount: {where}: No such file or directory", 1)
    if kind == "nfs":
        attach(box, source, where)
    elif kind != "devfs":
        uncovered(f"mount -t {kind}")
    with box.edit(STATE, []) as rows:
        rows.append({"from": source, "at": where, "kind": kind, "options": options})
    return 0


def attach(box: Box, source: str, where: str) -> None:
    """Bind what the server exports to this machine; a server that is away is tried for ever by mount_nfs(8)."""
    server, _, path = source.partition(":")
    place = granted(box, server, path)
    if place is None:
        raise Failed(f"[tcp] {source}: Permission denied", 1)
    program("/.machine/usr/bin/mount", "--bind", place, box.path(where))


def granted(box: Box, server: str, path: str) -> str | None:
    """Where an export of a server is seen from here, if it is exported to this machine's address."""
    exports: list[dict[str, Any]] = json.loads(box.text(f"{NET}/{server}/lab/exports.json") or "[]")
    own = str(box.load("machine", {}).get("address", "")).partition("/")[0]
    for one in exports:
        inside = path == one["path"] or path.startswith(one["path"].rstrip("/") + "/")
        if inside and one["client"] in (own, "*", "<world>"):
            return box.path(f"{NET}/{server}/root{path}")
    return None


def show(box: Box, fstab: bool) -> None:
    own = [{"from": "/dev/vtbd0p2", "at": "/", "kind": "ufs", "options": "rw"},
           {"from": "devfs", "at": "/dev", "kind": "devfs", "options": "rw"}]  # fmt: skip
    for row in [*own, *table(box)]:
        if fstab:
            print(f"{pad(row['from'])}{pad(row['at'])}{row['kind']}\t{row['options']}\t\t0 0")
        else:
            extra = {"nfs": "nfs", "ufs": "ufs, local, soft-updates, journaled soft-updates"}.get(
                row["kind"], row["kind"]
            )
            print(f"{row['from']} on {row['at']} ({extra})")


def pad(word: str) -> str:
    """mount -p: tabs up to column 24, one blank behind longer words."""
    return word + ("\t" * max(1, 3 - len(word) // 8) if len(word) < 24 else " ")


def umount(argv: Sequence[str], box: Box) -> int:
    names = [value for letter, value in bundle(argv[1:], "") if not letter]
    if len(names) != 1 or len(argv) > 3:
        uncovered("umount form")
    where = names[0].rstrip("/")
    with box.edit(STATE, []) as rows:
        found = [row for row in rows if where in (row["at"], row["from"])]
        if not found:
            raise Failed(f"umount: {where}: not a file system root directory", 1)
        rows.remove(found[-1])
    if found[-1]["kind"] == "nfs":
        program("/.machine/usr/bin/umount", box.path(found[-1]["at"]))
    return 0


def chroot(argv: Sequence[str], box: Box) -> int:
    """Only what changes files of the new root through a stand-in: pw, pwd_mkdb, tar."""
    from controller.lab.servers.run import run

    if len(argv) < 3 or argv[2] not in ("pw", "pwd_mkdb", "tar"):
        uncovered("chroot command")
    if not os.path.isdir(box.path(argv[1])):
        print(f"chroot: {argv[1]}: No such file or directory", file=sys.stderr)
        return 1
    return run(list(argv[2:]), Box(box.path(argv[1]), "/", box.env))
