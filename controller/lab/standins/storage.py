"""The tools that look at or write the raw jail disk: camcontrol, diskinfo, dd, newfs, dumpfs, fsck, tunefs, fstyp, gpart,
glabel and geom, as seen on a root built WITHOUT_LOCALES.
"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.standins import disk
from controller.lab.standins.node import HOST, Failed, Kernel, err, options, out, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

BLOCKS_PER_GROUP = 20007


def _session(device: str, missing: str) -> dict[str, Any]:
    with Kernel() as state:
        disk.refresh(state)
        found = disk.find(state, device)
    if found is None:
        raise Failed(missing)
    return found


def camcontrol(argv: Sequence[str]) -> int:
    if list(argv[1:]) != ["devlist"]:
        uncovered("camcontrol other than devlist")
    with Kernel() as state:
        disk.refresh(state)
    for one in state["sessions"]:
        if one["disk"]:
            bus, lun, first = one["scbus"], one["disk"]["lun"], 2 * one["da"]
            kind = f"{one['disk']['vendor']} {one['disk']['product']} {one['disk']['revision']}"
            out(f"{'<IET Controller 0001>':<33}  at scbus{bus} target 0 lun 0 (pass{first})\n")
            out(f"{f'<{kind}>':<33}  at scbus{bus} target 0 lun {lun} (da{one['da']},pass{first + 1})\n")
    return 0


def diskinfo(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "sv")
    if len(rest) != 1:
        uncovered("number of disks")
    one = _session(rest[0], f"diskinfo: {rest[0]}: No such file or directory")
    size, name = one["disk"]["bytes"], f"da{one['da']}"
    sectors, cylinders = size // 512, size // 512 // (255 * 63)
    if "s" in found:
        out(f"{one['disk']['serial']}\n")
    elif "v" in found:
        rows = (
            (512, "sectorsize"),
            (size, f"mediasize in bytes ({_human(size)})"),
            (sectors, "mediasize in sectors"),
            (4096, "stripesize"),
            (0, "stripeoffset"),
            (cylinders, "Cylinders according to firmware."),
            (255, "Heads according to firmware."),
            (63, "Sectors according to firmware."),
            (f"{one['disk']['vendor']} {one['disk']['product']}", "Disk descr."),
            (one["disk"]["serial"], "Disk ident."),
            (f"iscsi{one['id']}", "Attachment"),
            ("No", "TRIM/UNMAP support"),
            ("Unknown", "Rotation rate in RPM"),
            ("Not_Zoned", "Zone Mode"),
        )
        out(f"{name}\n" + "".join(f"\t{value!s:<12}\t# {text}\n" for value, text in rows) + "\n")
    else:
        out(f"{name}\t512\t{size}\t{sectors}\t4096\t0\t{cylinders}\t255\t63\n")
    return 0


def _human(size: int) -> str:
    """humanize_number(3) with one decimal below ten."""
    units, value = "BKMGTP", float(size)
    while value >= 1000:
        units, value = units[1:], value / 1024
    return f"{value:.1f}{units[0]}" if value < 9.95 else f"{value:.0f}{units[0]}"


def dd(argv: Sequence[str]) -> int:
    """dd(1) of any file or device; numbers on stderr as FreeBSD prints them."""
    words = dict(word.split("=", 1) for word in argv[1:])
    if set(words) - {"if", "of", "bs", "count", "skip", "seek", "conv", "iseek", "oseek", "status"}:
        uncovered("operand")
    size = _size(words.get("bs", "512"))
    source, target = _place(words.get("if", "")), _place(words.get("of", ""))
    begun = time.monotonic()
    try:
        reading = os.open(source, os.O_RDONLY) if source else 0
        keep = "notrunc" in words.get("conv", "") or words.get("of", "").startswith("/dev/")
        flags = os.O_WRONLY | os.O_CREAT | (0 if keep else os.O_TRUNC)
        writing = os.open(target, flags, 0o644) if target else 1
    except OSError as error:
        raise Failed(
            f"dd: {words.get('if') if error.filename == source else words.get('of')}: {error.strerror}"
        ) from None
    if "skip" in words:
        _skip(reading, int(words["skip"]) * size, size)
    if "seek" in words:
        os.lseek(writing, int(words["seek"]) * size, os.SEEK_SET)
    limit = os.path.getsize(target) if words.get("of", "").startswith("/dev/da") else -1
    full, part, total = _copy(reading, writing, size, int(words.get("count", "-1")), limit)
    spent = max(time.monotonic() - begun, 0.000001)
    if words.get("status") != "none":
        err(f"{full}+{part} records in\n{full}+{part} records out\n")
        err(f"{total} bytes transferred in {spent:.6f} secs ({int(total / spent)} bytes/sec)\n")
    return 0


def _place(path: str) -> str:
    """The file behind a name: the volume for a disk, after waiting for the SAN."""
    if path.startswith(("/dev/da", "/dev/ufs", "/dev/diskid")):
        if not os.path.exists(path):
            with Kernel() as state:
                disk.refresh(state)
        if not os.path.exists(path):
            return path
        disk.ready()
        return str(_session(path, f"dd: {path}: No such file or directory")["disk"]["volume"])
    if _on_disk(path):
        disk.ready()
    return path


def _on_disk(path: str) -> bool:
    real = os.path.realpath(path) if path else ""
    return any(one["fstype"] == "ufs" and (real + "/").startswith(one["node"] + "/") for one in Kernel.read()["mounts"])


def _size(text: str) -> int:
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "b": 512}.get(text[-1].lower(), 0)
    return int(text[:-1]) * factor if factor else int(text)


def _skip(reading: int, count: int, size: int) -> None:
    try:
        os.lseek(reading, count, os.SEEK_SET)
    except OSError:
        while count > 0 and (data := os.read(reading, min(size, count))):
            count -= len(data)


def _copy(reading: int, writing: int, size: int, count: int, limit: int) -> tuple[int, int, int]:
    full = part = total = 0
    while count < 0 or full + part < count:
        data = os.read(reading, size)
        if not data:
            break
        if limit >= 0:
            data = data[: max(0, limit - os.lseek(writing, 0, os.SEEK_CUR))]
            if not data:
                err("dd: /dev/da0: end of device\n")
                break
        os.write(writing, data)
        full, part, total = full + (len(data) == size), part + (len(data) != size), total + len(data)
    return full, part, total


def newfs(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "UNj", "L")
    if len(rest) != 1 or "j" in found:
        uncovered("this form")
    device = rest[0] if rest[0].startswith("/dev/") else f"/dev/{rest[0]}"
    one = _session(device, f"newfs: {device}: could not find special device")
    label = found.get("L", "")
    if len(label) > 31 or not all(char.isalnum() or char in "-_" for char in label):
        uncovered("a bad label")
    disk.ready()
    if "N" not in found and any(two.get("disk") == one["id"] for two in Kernel.read()["mounts"]):
        uncovered("newfs of a mounted disk")
    size = one["disk"]["bytes"]
    out(_geometry(device, size, soft="U" in found))
    if "N" not in found:
        note = {
            "label": label,
            "id": os.urandom(8).hex(),
            "softupdates": "U" in found,
            "made": time.time(),
            "size": size,
        }
        disk.format_(one["disk"]["volume"], note)
        with Kernel() as state:
            disk.refresh(state)
    return 0


def _geometry(device: str, size: int, *, soft: bool) -> str:
    blocks = size // 32768
    groups = max(4, -(-blocks // BLOCKS_PER_GROUP))
    each = BLOCKS_PER_GROUP if blocks > 4 * BLOCKS_PER_GROUP else -(-blocks // groups) + 1
    inodes = 80128 if each == BLOCKS_PER_GROUP else -(-each * 4 // 128) * 128
    text = f"{device}: {size / 1048576:.1f}MB ({size // 512} sectors) block size 32768, fragment size 4096\n"
    text += f"\tusing {groups} cylinder groups of {each * 32768 / 1048576:.2f}MB, {each} blks, {inodes} inodes.\n"
    text += "\twith soft updates\n" if soft else ""
    backups = ", ".join(str(192 + number * each * 64) for number in range(groups))
    return text + f"super-block backups (for fsck_ffs -b #) at:\n {backups}\n"


def _note(device: str, missing: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    one = _session(device, missing)
    disk.ready()
    return one, disk.read(one["disk"]["volume"])


def dumpfs(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "l")
    device = rest[0] if len(rest) == 1 else uncovered("operands")
    _, note = _note(device, f"dumpfs: {device}: could not find special device")
    if note is None:
        raise Failed(f"dumpfs: {device}: could not read superblock to fill out disk")
    if "l" in found:
        out(f"/dev/ufsid/{note['id']}\n")
        return 0
    made = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(note["made"]))
    out("magic\t19540119 (UFS2)\nlast mounted time\tThu Jan  1 00:00:00 1970\n")
    out(f"last modified time\t{made}\n")
    out(f"superblock location\t65536\tid\t[ {note['id'][:8]} {note['id'][8:]} ]\n")
    out(f"volname\t{note['label']}\tswuid\t0\tproviderize\t{note['size']}\n")
    return 0


def fsck(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "py", "t")
    if found.get("t", "ufs") != "ufs" or "p" not in found or len(rest) != 1:
        uncovered("this form")
    device = rest[0]
    one, note = _note(device, f"Can't stat {device}: No such file or directory")
    if note is None:
        uncovered("fsck of a disk without a file system")
    total, used = disk.fragments(one["disk"]["volume"], one["disk"]["bytes"])
    free = total - used
    frags = 26 + (free - 26) % 8
    share = frags * 100 / total
    out(f"{device}: FILE SYSTEM CLEAN; SKIPPING CHECKS\n")
    out(f"{device}: clean, {free} free ({frags} frags, {(free - frags) // 8} blocks, {share:.1f}% fragmentation)\n")
    return 0


def tunefs(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "p", "L")
    if len(rest) != 1 or not found:
        uncovered("this form")
    one, note = _note(rest[0], f"tunefs: {rest[0]}: could not find special device")
    if note is None:
        raise Failed(f"tunefs: {rest[0]}: could not read superblock to fill out disk")
    if "L" in found:
        if any(two.get("disk") == one["id"] for two in Kernel.read()["mounts"]):
            uncovered("tunefs of a mounted file system")
        note["label"] = found["L"]
        disk.write(one["disk"]["volume"], note)
        with Kernel() as state:
            disk.devices(state)
        return 0
    soft = "enabled" if note["softupdates"] else "disabled"
    rows = (
        ("POSIX.1e ACLs: (-a)", "disabled"),
        ("NFSv4 ACLs: (-N)", "disabled"),
        ("MAC multilabel: (-l)", "disabled"),
        ("soft updates: (-n)", soft),
        ("soft update journaling: (-j)", "disabled"),
        ("gjournal: (-J)", "disabled"),
        ("trim: (-t)", "disabled"),
        ("maximum blocks per file in a cylinder group: (-e)", "4096"),
        ("average file size: (-f)", "16384"),
        ("average number of files in a directory: (-s)", "64"),
        ("minimum percentage of free space: (-m)", "8%"),
        ("space to hold for metadata blocks: (-k)", "6400"),
        ("optimization preference: (-o)", "time"),
        ("volume label: (-L)", note["label"]),
    )
    err("".join(f"tunefs: {name:<50} {value}\n" for name, value in rows))
    return 0


def fstyp(argv: Sequence[str]) -> int:
    """Useless on such a root: a blank disk and a UFS get the same answer."""
    options(argv[1:], "l")
    raise Failed("fstyp: setlocale: Invalid argument")


def gpart(argv: Sequence[str]) -> int:
    if len(argv) != 3 or argv[1] != "show":
        uncovered("gpart other than show NAME")
    raise Failed(f"gpart: No such geom: {argv[2]}.")


def glabel(argv: Sequence[str]) -> int:
    if list(argv[1:]) not in (["status"], ["status", "-s"]):
        uncovered("glabel other than status")
    with Kernel() as state:
        disk.refresh(state)
    rows = [(name, f"da{one['da']}") for one in state["sessions"] for name in disk.names(one)[1:]]
    if not rows:
        return 0
    wide = max(len(name) for name, _ in rows)
    if argv[2:] == ["-s"]:
        out("".join(f"{name:>{wide}}  N/A  {part}\n" for name, part in rows))
    else:
        out(f"{'Name':>{wide}}  Status  Components\n")
        out("".join(f"{name:>{wide}}     N/A  {part}\n" for name, part in rows))
    return 0


def geom(argv: Sequence[str]) -> int:
    if list(argv[1:3]) != ["disk", "list"] or len(argv) != 4:
        uncovered("geom other than disk list NAME")
    one = _session(argv[3], f"geom: Class 'DISK' does not have an instance named '{argv[3]}'.")
    size, facts = one["disk"]["bytes"], one["disk"]
    busy = any(two.get("disk") == one["id"] for two in Kernel.read()["mounts"])
    out(
        f"Geom name: da{one['da']}\nProviders:\n1. Name: da{one['da']}\n   Mediasize: {size} ({_human(size)})\n"
        f"   Sectorsize: 512\n   Stripesize: 4096\n   Stripeoffset: 0\n   Mode: {'r1w1e1' if busy else 'r0w0e0'}\n"
        f"   descr: {facts['vendor']} {facts['product']}\n   lunname: {facts['vendor']:<8}{facts['tag']}\n"
        f"   lunid: 3{int(facts['tag'][:4], 16):07x}{facts['lun']:08x}\n   ident: {facts['serial']}\n   rotationrate: unknown\n"
        "   fwsectors: 63\n   fwheads: 255\n\n"
    )
    return 0


def gate(argv: Sequence[str]) -> int:
    """`gate PROGRAM ARG…`: run an ordinary program of this computer, once the disk that it may read answers."""
    if any(word.removeprefix("if=").removeprefix("of=").startswith(("/dev/da", "/dev/ufs")) for word in argv[2:]):
        uncovered("a raw disk read by this program")
    disk.ready()
    sys.stdout.flush()
    os.execv(f"{HOST}/bin/{argv[1]}", list(argv[1:]))
