"""What is mounted: `mount -p` and `mount --libxo json` in, `Mount` values out.

A mount point alone proves nothing (a memory disk may sit on it): compare device and type too. Something is always
mounted on a running machine, so an empty answer is an error and never "nothing is mounted".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from controller.encode import libxo
from controller.encode.text import GrammarError

_TAIL = re.compile(r"(?P<names>.+[\t ])(?P<type>\S+)\t(?P<options>\S+)\t{1,2}[0-9]+ [0-9]+")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system. `options` are in the words of the question asked: "ro" (-p) or "read-only" (JSON)."""

    device: str
    mountpoint: str
    fstype: str
    options: tuple[str, ...] = ()

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "read-only" in self.options


def parse_p(text: str) -> tuple[Mount, ...]:
    """`mount -p`. Names with blanks are not escaped there; they are told apart by the padding mount(8) prints."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line]
    return _some(tuple(_mount(number, line) for number, line in lines))


def parse_json(text: str) -> tuple[Mount, ...]:
    """`mount --libxo json` (13 and later). The options are left out there when a file system has none."""
    found = (
        Mount(
            libxo.text_of(row, "special"),
            libxo.text_of(row, "node"),
            libxo.text_of(row, "fstype"),
            libxo.texts_of(row, "opts"),
        )
        for row in libxo.rows(text, "mount", "mounted")
    )
    return _some(tuple(found))


def parse_json_p(text: str) -> tuple[Mount, ...]:
    """`mount --libxo json -p` (13 and later), with the same short options as `mount -p`."""
    found = (
        Mount(
            libxo.text_of(row, "device"),
            libxo.text_of(row, "mntpoint"),
            libxo.text_of(row, "fstype"),
            tuple(libxo.text_of(row, "opts").split(",")),
        )
        for row in libxo.rows(text, "mount", "fstab")
    )
    return _some(tuple(found))


def _some(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    if not mounts:
        raise GrammarError(1, "no file system at all, not even the root")
    return mounts


def _mount(number: int, line: str) -> Mount:
    fields = line.split()
    if len(fields) == 6 and fields[4].isdigit() and fields[5].isdigit():
        device, mountpoint, fstype, options = fields[:4]
        return Mount(device, mountpoint, fstype, tuple(options.split(",")))
    match = _TAIL.fullmatch(line)
    if not match:
        raise GrammarError(number, "not a line of mount -p")
    device, mountpoint = _names(number, match["names"])
    return Mount(device, mountpoint, match["type"], tuple(match["options"].split(",")))


def _names(number: int, names: str) -> tuple[str, str]:
    """Undo mount(8)'s padding: the one division that would have been printed exactly like this."""
    found = []
    for cut in (index for index, char in enumerate(names) if char in " \t"):
        device = names[:cut].rstrip("\t")
        mountpoint = names[len(_padded(device)) :].rstrip("\t ")
        if mountpoint.startswith("/") and names == _padded(device) + _padded(mountpoint):
            found.append((device, mountpoint))
    if len(set(found)) != 1:
        raise GrammarError(number, "cannot tell device and mount point apart: a name holds blanks")
    return found[0]


def _padded(name: str) -> str:
    tabs = sum(len(name) < width for width in (8, 16, 24))
    return name + ("\t" * tabs or " ")
