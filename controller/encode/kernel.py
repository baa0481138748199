"""Short answers of the base system: when and what a node booted, its disks, labels and free space.

Each function takes the whole standard output of one command and returns its value. An empty answer is always a
`GrammarError`: these commands print something or fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from controller.encode import libxo
from controller.encode.text import GrammarError

_BOOTTIME = re.compile(r"\{ sec = (?P<sec>[0-9]{1,12}), usec = (?P<usec>[0-9]{1,6}) \}(?: .*)?")
_RELEASE = r"[0-9]+\.[0-9]+-[A-Z][A-Z0-9]*(?:-p[0-9]+)?"
_UNAME_V = re.compile(rf"FreeBSD (?P<release>{_RELEASE}) (?P<rest>.*\S) *")
_IDENT = re.compile(r"[A-Za-z0-9_.-]+")
_KENV = re.compile(r'(?P<name>[^\s="]+)="(?P<value>.*)"')
_SYSCTL = re.compile(r"(?P<name>[a-zA-Z0-9_%-]+(?:\.[a-zA-Z0-9_%-]+)+): ?(?P<value>.*)")
_DF_HEAD = re.compile(r"Filesystem +(?:1024-blocks|1K-blocks) +Used +Avail +Capacity +Mounted on")
_DF = re.compile(
    r"(?P<device>\S.*?) +(?P<total>[0-9]{1,18}) +(?P<used>-?[0-9]{1,18}) +(?P<available>-?[0-9]{1,18})"
    r" +[0-9]+% +(?P<mountpoint>/.*)"
)
_DISKINFO = re.compile(
    r"(?P<name>\S+)\t(?P<sector>[0-9]{1,9})\t(?P<size>[0-9]{1,18})\t(?P<sectors>[0-9]{1,18})(?:\t[0-9]+)*"
)
_UFS_NAME = re.compile(r"/dev/(?P<kind>ufs|ufsid)/(?P<name>[A-Za-z0-9_-]+)")
_GLABEL = re.compile(r" *(?P<name>\S+) +(?P<status>\S+) +(?P<provider>\S+)")
_CAM = re.compile(
    r"<(?P<model>[^>]*)> +at scbus(?P<bus>[0-9]{1,9}) target (?P<target>[0-9]{1,9}) lun (?P<lun>[0-9a-f]{1,16})"
    r" \((?P<devices>[a-z0-9,]*)\)"
)


@dataclass(frozen=True, slots=True)
class KernelVersion:
    """`uname -v`: the release, and the kernel configuration's ident."""

    release: str
    ident: str


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """One line of `df -k`, in KiB. What is available is negative when the reserve of the file system is in use."""

    device: str
    mountpoint: str
    total: int
    used: int
    available: int


@dataclass(frozen=True, slots=True)
class Disk:
    """`diskinfo DISK`: sizes in bytes."""

    name: str
    sector_size: int
    size: int


@dataclass(frozen=True, slots=True)
class Label:
    """One line of `glabel status -s`: a name below /dev and the provider that carries it."""

    name: str
    provider: str


@dataclass(frozen=True, slots=True)
class CamDevice:
    """One line of `camcontrol devlist`. tgt's LUN 0 is its controller, with a pass device only (seen on 13.2)."""

    model: str
    bus: int
    target: int
    lun: int
    devices: tuple[str, ...]


def boottime(text: str) -> float:
    """`sysctl -n kern.boottime`, Unix time in seconds. It moves when the clock is stepped: compare with tolerance."""
    match = _BOOTTIME.fullmatch(value(text))
    if not match:
        raise GrammarError(1, "not a boot time: { sec = N, usec = N } expected")
    return int(match["sec"]) + int(match["usec"]) / 1_000_000


def value(text: str) -> str:
    """An answer of one line, such as of `kenv -q NAME`, `sysctl -n NAME`, `hostname` or `diskinfo -s DISK`."""
    line = text.removesuffix("\n")
    if not line or not line.isprintable():
        raise GrammarError(1, "not an answer of one printable line")
    return line


def uname_v(text: str) -> KernelVersion:
    """`uname -v`, of a reproducible build (ends in the ident) or not (ends in the path of the build)."""
    match = _UNAME_V.fullmatch(value(text))
    ident = match["rest"].split(" ")[-1].rpartition("/")[2] if match else ""
    if not match or not _IDENT.fullmatch(ident):
        raise GrammarError(1, "not the version of a FreeBSD kernel")
    return KernelVersion(match["release"], ident)


def freebsd_version(text: str) -> tuple[str, ...]:
    """`freebsd-version -k -r -u`: one release per flag, always in the order kernel, running, userland."""
    lines = tuple(_lines(text))
    for number, line in lines:
        if not re.fullmatch(_RELEASE, line):
            raise GrammarError(number, f"not a FreeBSD release: {line!r}")
    return tuple(line for _, line in lines)


def kenv(text: str) -> dict[str, str]:
    """`kenv` without a name: every variable of the kernel environment."""
    return dict(_pairs(text, _KENV, 'not a kernel variable: NAME="VALUE" expected'))


def sysctl(text: str) -> dict[str, str]:
    """`sysctl NAME…` without -n; values of one line."""
    return dict(_pairs(text, _SYSCTL, "not a sysctl: NAME: VALUE expected"))


def df(text: str) -> tuple[FreeSpace, ...]:
    """`df -k [PATH…]`."""
    (first, header), *lines = _lines(text)
    if not _DF_HEAD.fullmatch(header) or not lines:
        raise GrammarError(first, "not the header of df -k, or nothing below it")
    found = (_matched(number, line, _DF, "not a line of df -k") for number, line in lines)
    return tuple(
        FreeSpace(row["device"], row["mountpoint"], int(row["total"]), int(row["used"]), int(row["available"]))
        for row in found
    )


def df_json(text: str) -> tuple[FreeSpace, ...]:
    """`df --libxo json -k [PATH…]` (11 and later)."""
    found = tuple(
        FreeSpace(
            libxo.text_of(row, "name"),
            libxo.text_of(row, "mounted-on"),
            libxo.number_of(row, "total-blocks"),
            libxo.number_of(row, "used-blocks"),
            libxo.number_of(row, "available-blocks"),
        )
        for row in libxo.rows(text, "storage-system-information", "filesystem")
    )
    if not found:
        raise GrammarError(1, "df without a file system")
    return found


def diskinfo(text: str) -> Disk:
    """`diskinfo DISK`, one line with tabs."""
    row = _matched(1, text.removesuffix("\n"), _DISKINFO, "not a line of diskinfo")
    if int(row["sector"]) * int(row["sectors"]) != int(row["size"]):
        raise GrammarError(1, "diskinfo's sizes contradict each other")
    return Disk(row["name"], int(row["sector"]), int(row["size"]))


def dumpfs_name(text: str) -> tuple[Literal["ufs", "ufsid"], str]:
    """`dumpfs -l DEVICE`: proves a UFS but not its label, on 13.2 it answered with the id of a labelled one."""
    row = _matched(1, value(text), _UFS_NAME, "not the name of a UFS")
    return ("ufs" if row["kind"] == "ufs" else "ufsid"), row["name"]


def glabel(text: str) -> tuple[Label, ...]:
    """`glabel status -s`: which disk carries which label. No line at all means no label, if it exited with 0."""
    lines = _lines(text) if text else ()
    rows = (_matched(number, line, _GLABEL, "not a line of glabel status -s") for number, line in lines)
    return tuple(Label(row["name"], row["provider"]) for row in rows)


def camcontrol(text: str) -> tuple[CamDevice, ...]:
    """`camcontrol devlist`. No line at all means no device, if it exited with 0."""
    lines = _lines(text) if text else ()
    rows = (_matched(number, line, _CAM, "not a line of camcontrol devlist") for number, line in lines)
    return tuple(
        CamDevice(
            row["model"],
            int(row["bus"]),
            int(row["target"]),
            int(row["lun"], 16),
            tuple(name for name in row["devices"].split(",") if name),
        )
        for row in rows
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise GrammarError(1, "an empty answer")
    return enumerate(lines, 1)


def _pairs(text: str, pattern: re.Pattern[str], wanted: str) -> Iterator[tuple[str, str]]:
    for number, line in _lines(text):
        row = _matched(number, line, pattern, wanted)
        yield row["name"], row["value"]


def _matched(number: int, line: str, pattern: re.Pattern[str], wanted: str) -> re.Match[str]:
    match = pattern.fullmatch(line)
    if not match:
        raise GrammarError(number, wanted)
    return match
