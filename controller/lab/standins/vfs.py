"""mount(8), umount(8) and df(1): the node's own table, with real bind mounts behind UFS and nullfs."""

from __future__ import annotations

import os

from controller.lab.standins import disk
from controller.lab.standins.node import HOST, Failed, Kernel, err, libxo, options, out, program, uncovered, xo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

UFS = "/lab/state/ufs"
"""Names the mount point of the jail disk for the wrappers of ordinary programs."""
PSEUDO = ("devfs", "fdescfs", "procfs", "tmpfs")


def mount(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    if argv[0].endswith("mount_nullfs"):
        args = ["-t", "nullfs", *args]
    found, rest = options(args, "palruwvF", "to")
    if rest or "a" in found:
        if "a" in found or disk.find(Kernel.read(), rest[0]):
            disk.ready()
        with Kernel() as state:
            return _asked(state, found, rest)
    if set(found) - {"p"}:
        uncovered("listing with these flags")
    table = Kernel.read()["mounts"]
    out(_json(table, "p" in found) if json else "".join(map(_fstab if "p" in found else _line, table)))
    return 0


def _line(one: dict[str, Any]) -> str:
    return f"{one['special']} on {one['node']} ({', '.join([one['fstype'], *one['flags']])})\n"


def _fstab(one: dict[str, Any]) -> str:
    mode, (dump, turn) = _mode(one), _pass(one)
    return f"{_tabs(one['special'])}{_tabs(one['node'])}{one['fstype']}\t{mode}\t\t{dump} {turn}\n"


def _tabs(word: str) -> str:
    return word + "\t" * (3 - len(word) // 8) if len(word) < 24 else word + " "


def _mode(one: dict[str, Any]) -> str:
    return "ro" if "read-only" in one["flags"] else "rw"


def _pass(one: dict[str, Any]) -> tuple[int, int]:
    for line in fstab("/etc/fstab"):
        if line[0] == one["special"] and line[1] == one["node"]:
            return int(line[4]), int(line[5])
    return (2, 2) if one["fstype"] == "ufs" else (0, 0)


def _json(table: list[dict[str, Any]], as_fstab: bool) -> str:
    if not as_fstab:
        rows = [
            {
                "special": one["special"],
                "node": one["node"],
                "fstype": one["fstype"],
                **({"opts": one["flags"]} if one["flags"] else {}),
            }
            for one in table
        ]
        return xo({"mount": {"mounted": rows}}) + "\n"
    lines = [
        {
            "device": one["special"],
            "mntpoint": one["node"],
            "fstype": one["fstype"],
            "opts": _mode(one),
            "dump": _pass(one)[0],
            "pass": _pass(one)[1],
        }
        for one in table
    ]
    return xo({"mount": {"fstab": lines}}) + "\n"


def fstab(path: str) -> list[list[str]]:
    """The lines of an fstab split at white space, as getfsent(3) does: a blank in a path moves every later field."""
    try:
        with open(path) as file:
            text = file.read()
    except OSError:
        return []
    rows = [line.split() for line in text.split("\n") if line.strip() and not line.strip().startswith("#")]
    return [[*row, *["0", "0", "0", "0"][: max(0, 6 - len(row))]] for row in rows if len(row) >= 3]


def _asked(state: dict[str, Any], found: dict[str, str], rest: list[str]) -> int:
    opts = [word for word in found.get("o", "").split(",") if word] + (["ro"] if "r" in found else [])
    if "u" in found:
        return _update(state, rest[0] if len(rest) == 1 else uncovered("update"), "w" in found, opts)
    if "a" in found:
        return _all(state, "l" in found)
    if len(rest) == 1:
        for row in fstab("/etc/fstab"):
            if rest[0] in (row[0], row[1]):
                attach(state, row[0], row[1], row[2], row[3].split(","))
                return 0
        raise Failed(f"mount: {rest[0]}: unknown special file or file system")
    if len(rest) != 2:
        uncovered("number of operands")
    attach(state, rest[0], rest[1], found.get("t", "ufs"), opts)
    return 0


def _update(state: dict[str, Any], node: str, write: bool, opts: list[str]) -> int:
    one = next((one for one in state["mounts"] if one["node"] == node), None)
    if one is None or not (write or "rw" in opts or "ro" in opts):
        uncovered("this update")
    # Also of the NFS root, as rc.d/root asks for it: read in mount(8) and nfs_clvfsops.c, not seen (freebsd.md 2.3).
    one["flags"] = [flag for flag in one["flags"] if flag != "read-only"]
    if "ro" in opts:
        one["flags"].insert(1, "read-only")
    return 0


def _all(state: dict[str, Any], late: bool) -> int:
    """`mount -a` leaves out `late` entries, `mount -al` takes them too; failures of failok entries do not count."""
    status = 0
    for row in fstab("/etc/fstab"):
        opts = row[3].split(",")
        present = any(one["node"] == row[1] for one in state["mounts"])
        if present or "noauto" in opts or ("late" in opts and not late) or row[2] in ("swap", "nfs"):
            continue
        try:
            attach(state, row[0], row[1], row[2], opts)
        except Failed as failed:
            err(f"{failed}\n")
            status = status if "failok" in opts else 1
    return status


def attach(state: dict[str, Any], special: str, node: str, kind: str, opts: Sequence[str]) -> None:
    """Mount one thing; raises `Failed` with the words of mount(8)."""
    readonly = ["read-only"] if "ro" in opts else []
    if kind not in ("ufs", "nullfs", *PSEUDO) and os.path.isdir(node):
        uncovered(f"file system type {kind}")
    if not os.path.isdir(node):
        raise Failed(f"mount: {node}: No such file or directory")
    if kind == "ufs":
        _ufs(state, special, node, readonly)
    elif kind == "nullfs":
        _null(state, special, node, readonly)
    else:
        flags = [] if kind in ("devfs", "fdescfs") else ["local"]
        state["mounts"].append({"special": kind, "node": node, "fstype": kind, "flags": [*flags, *readonly]})
    if kind in ("nullfs", "fdescfs", "procfs") and kind not in state["modules"]:
        state["modules"].append(kind)


def _ufs(state: dict[str, Any], special: str, node: str, readonly: list[str]) -> None:
    disk.refresh(state)
    session = disk.find(state, special)
    if session is None or not special.startswith("/dev/"):
        raise Failed(f"mount: {special}: Invalid fstype: Invalid argument")
    if any(one.get("disk") == session["id"] for one in state["mounts"]):
        raise Failed(f"mount: {special}: Device busy")
    volume = session["disk"]["volume"]
    note = disk.read(volume)
    if note is None:
        raise Failed(f"mount: {special}: Invalid fstype: Invalid argument")
    if program(f"{HOST}/bin/mount", "--bind", disk.content(volume), node):
        raise Failed(f"mount: {special}: Device busy")
    flags = ["local", *readonly, *(["soft-updates"] if note["softupdates"] else [])]
    entry = {"special": special, "node": node, "fstype": "ufs", "flags": flags, "disk": session["id"]}
    state["mounts"].append(entry)
    with open(UFS, "w") as file:
        file.write(node + "\n")


def _null(state: dict[str, Any], special: str, node: str, readonly: list[str]) -> None:
    if not os.path.isdir(special):
        raise Failed(f"mount_nullfs: {special}: No such file or directory")
    if program(f"{HOST}/bin/mount", "--bind", special, node):
        raise Failed(f"mount_nullfs: {node}: Resource deadlock avoided")
    if readonly:
        program(f"{HOST}/bin/mount", "-o", "remount,bind,ro", node)
    below = [one for one in state["mounts"] if special.startswith(one["node"].rstrip("/") + "/")]
    lower = max(below, key=lambda one: len(one["node"])) if below else {"flags": []}
    soft = ["soft-updates"] if "soft-updates" in lower["flags"] else []
    flags = ["local", *readonly, *soft]
    state["mounts"].append({"special": special, "node": node, "fstype": "nullfs", "flags": flags})


def umount(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "fv")
    status = 0
    disk.ready_if_mounted()
    with Kernel() as state:
        for node in rest or [uncovered("umount without operands")]:
            try:
                detach(state, node, force="f" in found)
            except Failed as failed:
                err(f"{failed}\n")
                status = 1
    return status


def detach(state: dict[str, Any], node: str, *, force: bool = False) -> None:
    """Unmount the topmost thing at a node, or of a device; raises `Failed` with the words of umount(8)."""
    path = os.path.normpath(node)
    for one in reversed(state["mounts"]):
        if path in (one["node"], one["special"]):
            break
    else:
        raise Failed(f"umount: {node}: not a file system root directory")
    held = any(two["node"].startswith(one["node"].rstrip("/") + "/") for two in state["mounts"])
    if one["node"] == "/" or (held and not force):
        raise Failed(f"umount: unmount of {one['node']} failed: Device busy")
    if one["fstype"] in ("ufs", "nullfs") and program(f"{HOST}/bin/umount", *(["-l"] if force else []), one["node"]):
        raise Failed(f"umount: unmount of {one['node']} failed: Device busy")
    state["mounts"].remove(one)
    if one["fstype"] == "ufs":
        os.unlink(UFS)


def df(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    found, rest = options(args, "kP")
    if "k" not in found:
        uncovered("df without -k depends on BLOCKSIZE")
    state = Kernel.read()
    disk.ready_if_mounted()
    table = [_holding(state, path) for path in rest] if rest else state["mounts"]
    rows = [(one, *_blocks(state, one)) for one in table]
    out(_df_json(rows) if json else _df_text(rows))
    return 0


def _holding(state: dict[str, Any], path: str) -> dict[str, Any]:
    if not os.path.exists(path):
        raise Failed(f"df: {path}: No such file or directory")
    real = os.path.realpath(path)
    above = [one for one in state["mounts"] if (real + "/").startswith(one["node"].rstrip("/") + "/")]
    found: dict[str, Any] = max(above, key=lambda one: len(one["node"]))
    return found


def _blocks(state: dict[str, Any], one: dict[str, Any]) -> tuple[int, int, int]:
    """Kilobytes: all, used, available."""
    if one["fstype"] in ("devfs", "fdescfs"):
        return 1, 1, 0
    if one["fstype"] == "procfs":
        return 4, 4, 0
    if one["fstype"] in ("ufs", "nullfs"):
        session = next(two for two in state["sessions"] if two["disk"])
        total, used = disk.fragments(session["disk"]["volume"], session["disk"]["bytes"])
        return total * 4, used * 4, (total - used - total * 8 // 100) * 4
    if one["fstype"] == "nfs":
        total, used, free = state["node"]["df"]
        return total, used, free
    here = os.statvfs(one["node"])
    unit = here.f_frsize
    return here.f_blocks * unit >> 10, (here.f_blocks - here.f_bfree) * unit >> 10, here.f_bavail * unit >> 10


def _percent(used: int, free: int) -> int:
    return int(used * 100 / (used + free) + 0.5) if used + free else 100


def _df_text(rows: list[tuple[dict[str, Any], int, int, int]]) -> str:
    cells = [(one["special"], str(a), str(b), str(c), _percent(b, c), one["node"]) for one, a, b, c in rows]
    name = max(len("Filesystem"), *(len(cell[0]) for cell in cells))
    wide = [
        max(len(head), *(len(str(cell[n])) for cell in cells))
        for n, head in ((1, "1024-blocks"), (2, "Used"), (3, "Avail"))
    ]
    text = f"{'Filesystem':<{name}} {'1024-blocks':>{wide[0]}} {'Used':>{wide[1]}} {'Avail':>{wide[2]}} Capacity  Mounted on\n"
    for special, a, b, c, percent, node in cells:
        text += f"{special:<{name}} {a:>{wide[0]}} {b:>{wide[1]}} {c:>{wide[2]}} {percent:>5}%    {node}\n"
    return text


def _df_json(rows: list[tuple[dict[str, Any], int, int, int]]) -> str:
    listed = [
        {
            "name": one["special"],
            "total-blocks": total,
            "used-blocks": used,
            "available-blocks": free,
            "used-percent": _percent(used, free),
            "mounted-on": one["node"],
        }
        for one, total, used, free in rows
    ]
    return xo({"storage-system-information": {"filesystem": listed}}) + "\n"
