"""Reading and writing archives as libarchive does it: cpio odc and newc, ustar and pax; gzip, bzip2, xz.

In: bytes or files. Out: `Entry` values in archive order, or bytes. Owners that the running user namespace does not know
are left as they are; everything else of an entry (mode, link, time, content) is kept exactly.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TRAILER: Final = "TRAILER!!!"
KINDS: Final = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.LNKTYPE: 0}


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `mode` has the file type; `data` is the content of a file or the target of a symbolic link."""

    name: str
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    data: bytes = b""


def entry(path: Path, name: str) -> Entry:
    """The member that a file, directory or symbolic link becomes."""
    seen = path.lstat()
    data = b""
    if stat.S_ISLNK(seen.st_mode):
        data = os.readlink(path).encode()
    elif stat.S_ISREG(seen.st_mode):
        data = path.read_bytes()
    return Entry(name, seen.st_mode, seen.st_uid, seen.st_gid, int(seen.st_mtime), data)


def odc(entries: Iterable[Entry]) -> bytes:
    """cpio's portable format: octal fields, ids of 18 bits."""
    out = bytearray()
    for number, one in enumerate([*entries, Entry(TRAILER, 0)], 1):
        name = one.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(one.mode) else 1
        fields = ((0, 6), (number & 0o777777, 6), (one.mode, 6), (one.uid & 0o777777, 6), (one.gid & 0o777777, 6),
                  (links, 6), (0, 6), (one.mtime, 11), (len(name), 6), (len(one.data), 11))  # fmt: skip
        out += b"070707" + b"".join(f"{value:0{width}o}".encode() for value, width in fields) + name + one.data
    return bytes(out) + b"\0" * (-len(out) % 512)


def newc(entries: Iterable[Entry]) -> bytes:
    """cpio's SVR4 format: hexadecimal fields, ids of 32 bits."""
    out = bytearray()
    for number, one in enumerate([*entries, Entry(TRAILER, 0)], 1):
        name = one.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(one.mode) else 1
        fields = (number, one.mode, one.uid, one.gid, links, one.mtime, len(one.data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(f"{value:08x}".encode() for value in fields) + name
        out += b"\0" * (-len(out) % 4) + one.data
        out += b"\0" * (-len(out) % 4)
    return bytes(out) + b"\0" * (-len(out) % 512)


def tape(entries: Iterable[Entry], pax: bool) -> bytes:
    """ustar or pax."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT if pax else tarfile.USTAR_FORMAT) as file:
        for one in entries:
            member = tarfile.TarInfo(one.name)
            member.mode, member.uid, member.gid, member.mtime = stat.S_IMODE(one.mode), one.uid, one.gid, one.mtime
            if stat.S_ISDIR(one.mode):
                member.type = tarfile.DIRTYPE
            elif stat.S_ISLNK(one.mode):
                member.type, member.linkname = tarfile.SYMTYPE, one.data.decode()
            else:
                member.size = len(one.data)
            file.addfile(member, io.BytesIO(one.data) if member.size else None)
    return held.getvalue()


def squeeze(data: bytes, how: str, timestamp: int) -> bytes:
    """Compress by name: gzip, bzip2, xz or "" for not at all."""
    if how == "gzip":
        return gzip.compress(data, 6, mtime=timestamp)
    if how == "bzip2":
        return bz2.compress(data)
    return lzma.compress(data, preset=1) if how == "xz" else data


def expand(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    if data[:3] == b"BZh":
        return bz2.decompress(data)
    return lzma.decompress(data) if data[:6] == b"\xfd7zXZ\0" else data


def entries(packed: bytes) -> Iterator[Entry]:
    """The members of an archive of any of these formats. Raises ValueError for anything else."""
    try:
        data = expand(packed)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
    if data[:6] == b"070707":
        yield from read_odc(data)
    elif data[:6] in (b"070701", b"070702"):
        yield from read_newc(data)
    elif data[257:262] == b"ustar":
        yield from read_tape(data)
    elif data.strip(b"\0"):
        raise ValueError("Unrecognized archive format")


def read_odc(data: bytes) -> Iterator[Entry]:
    at = 0
    while data[at : at + 6] == b"070707":
        head = data[at + 6 : at + 76]
        value = [int(head[a:b], 8) for a, b in ((12, 18), (18, 24), (24, 30), (42, 53), (53, 59), (59, 70))]
        mode, uid, gid, mtime, name_size, size = value
        start = at + 76 + name_size
        name = data[at + 76 : start - 1].decode()
        if name == TRAILER:
            return
        yield Entry(name, mode, uid, gid, mtime, data[start : start + size])
        at = start + size
    raise ValueError("Truncated input file (needed a header, only 0 bytes available)")


def read_newc(data: bytes) -> Iterator[Entry]:
    at = 0
    while data[at : at + 5] == b"07070":
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        start = at + 110 + fields[11]
        name = data[at + 110 : start - 1].decode()
        start += -start % 4
        if name == TRAILER:
            return
        yield Entry(name, fields[1], fields[2], fields[3], fields[5], data[start : start + fields[6]])
        at = start + fields[6]
        at += -at % 4
    raise ValueError("Truncated input file (needed a header, only 0 bytes available)")


def read_tape(data: bytes) -> Iterator[Entry]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
            for one in file:
                kind = KINDS.get(one.type, stat.S_IFREG)
                held = file.extractfile(one) if one.isreg() or one.islnk() else None
                content = one.linkname.encode() if one.issym() else held.read() if held else b""
                yield Entry(one.name, (kind or stat.S_IFREG) | one.mode, one.uid, one.gid, int(one.mtime), content)
    except (tarfile.TarError, struct.error) as error:
        raise ValueError(str(error)) from error


def unpack(one: Entry, into: Path, *, exact: bool) -> None:
    """Put one member below a directory. Raises OSError. `exact` (-p) keeps the mode as it is, without the umask."""
    path = into / one.name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISDIR(one.mode):
        path.mkdir(exist_ok=True)
    else:
        path.unlink(missing_ok=True)
    if stat.S_ISLNK(one.mode):
        path.symlink_to(one.data.decode())
    elif stat.S_ISREG(one.mode):
        path.write_bytes(one.data)
    with contextlib.suppress(OSError):
        os.chown(path, one.uid, one.gid, follow_symlinks=False)
    if not stat.S_ISLNK(one.mode):
        path.chmod(stat.S_IMODE(one.mode) & (0o7777 if exact else 0o755))
        os.utime(path, (one.mtime, one.mtime))
