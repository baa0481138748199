"""tgt, the Linux user-space iSCSI target: targets.conf(5), and what ``tgtadm --op show --mode target`` prints.

One LUN goes in and the file of its target comes out, and back. tgt-admin(8) hands these values to a shell, so nothing
but plain words ever gets into the file; a secret is a hole for execute to fill, or a word of the same kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.encode import text as check
from controller.encode.sh import holes
from controller.encode.text import GrammarError, header_lines

_SECRET = re.compile(r"[A-Za-z0-9._+/@-]{12,64}")
_NUMBER = 1
"""tgtd's LUN 0 is always its controller; the disk is LUN 1."""

# Without any initiator-address tgt-admin binds ALL, even beside an initiator-name. Nobody can come from this one, not even
# a process on the SAN itself (measured, 1.0.85).
NOBODY = "255.255.255.255"


@dataclass(frozen=True, slots=True)
class Lun:
    """One target with one disk for the machine that logs in by the name `initiator`.

    There is no address: tgt lets in who matches *either* an address or a name (measured, 1.0.85), so an address would
    open the target to every name that comes from there. The second factor beside the name is CHAP.
    """

    iqn: str
    backing: str
    serial: str
    scsi_id: str
    initiator: str
    chap_user: str | None = None
    chap_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Nexus:
    """One logged-in initiator: the session number and, for each connection, its number and address."""

    session: int
    initiator: str
    connections: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Disk:
    """One LUN of a running target. `size_text` is rounded for people ("67 MB"): compare bytes on the backing file."""

    number: int
    backing: str
    size_text: str
    online: bool
    readonly: bool
    scsi_id: str
    scsi_sn: str


@dataclass(frozen=True, slots=True)
class Target:
    """A running target, ours or not. Its `tid` is good for this answer only: tgtd hands it out anew."""

    tid: int
    iqn: str
    state: str
    luns: tuple[Disk, ...]
    acl_addresses: tuple[str, ...]
    acl_initiators: tuple[str, ...]
    accounts: tuple[str, ...]
    nexus: tuple[Nexus, ...]


def serial_for(iqn: str) -> str:
    """A serial number that never changes and differs between SANs: 16 hexadecimal digits of the name's digest."""
    return hashlib.sha256(check.iqn(iqn, "target").encode()).hexdigest()[:16].upper()


def check_secret(secret: str) -> str:
    """A CHAP secret that the file can hold: 12 to 64 letters, digits and ``._+/@-``. The error never shows it."""
    if not _SECRET.fullmatch(secret):
        raise ValueError("a CHAP secret for tgt must be 12 to 64 letters, digits and ._+/@- alone")
    return secret


def render(lun: Lun, header: str = "") -> str:
    """The file of one target. Raises ValueError for a value that the shell behind tgt-admin could take apart."""
    _check(lun)
    lines = [
        f"<target {lun.iqn}>",
        f"    <backing-store {lun.backing}>",
        f"        lun {_NUMBER}",
        f"        scsi_id {lun.scsi_id}",
        f"        scsi_sn {lun.serial}",
        "    </backing-store>",
        f"    initiator-address {NOBODY}",
        f"    initiator-name {lun.initiator}",
        *([f"    incominguser {lun.chap_user} {lun.chap_secret}"] if lun.chap_user is not None else []),
        "</target>",
    ]
    return "\n".join([*header_lines(header), *lines, ""])


def parse(text: str) -> Lun:
    """Read such a file back. Raises GrammarError on anything that `render` does not write."""
    lines = list(_lines(text))
    found: list[str] = []
    for shape in _SHAPES:
        number, line = lines.pop(0) if lines else (0, "the end of the text")
        match = re.fullmatch(shape, line)
        if match is None:
            raise GrammarError(number, f"not what stands there in our target file: {_without_secret(line)!r}")
        found += match.groups()
    user, secret = _incoming(lines)
    if [line for _, line in lines] != ["</target>"]:
        number = lines[0][0] if lines else 0
        raise GrammarError(number, "expected </target> and nothing after it")
    iqn, backing, scsi_id, serial, initiator = found
    try:
        return _check(Lun(iqn, backing, serial, scsi_id, initiator, user, secret))
    except ValueError as error:
        raise GrammarError(0, str(error)) from None


def _check(lun: Lun) -> Lun:
    check.iqn(lun.iqn, "target")
    check.path(lun.backing, "backing store")
    check.iqn(lun.initiator, "initiator")
    for what, value in (("serial", lun.serial), ("scsi_id", lun.scsi_id)):
        if len(check.word(value, what)) > 16:
            raise ValueError(f"{what} is longer than 16 characters: {value!r}")
    if (lun.chap_user is None) != (lun.chap_secret is None):
        raise ValueError(f"target {lun.iqn} has a CHAP user without a secret, or a secret without a user")
    if lun.chap_user is not None and lun.chap_secret is not None:
        check.word(lun.chap_user, "CHAP user")
        if not _is_hole(lun.chap_secret):
            check_secret(lun.chap_secret)
    return lun


def _is_hole(secret: str) -> bool:
    return any(secret == f"\0{name}\0" for name in holes(secret))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r")
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _incoming(lines: list[tuple[int, str]]) -> tuple[str | None, str | None]:
    if not lines or not lines[0][1].startswith("incominguser "):
        return None, None
    number, line = lines.pop(0)
    words = line.split(" ")
    if len(words) != 3:
        raise GrammarError(number, "incominguser wants a user and a secret")
    return words[1], words[2]


def _without_secret(line: str) -> str:
    return "incominguser …" if "user" in line.lower() else line


_SHAPES = (
    r"<target (\S+)>",
    r"<backing-store (\S+)>",
    rf"lun {_NUMBER}",
    r"scsi_id (\S+)",
    r"scsi_sn (\S+)",
    r"</backing-store>",
    rf"initiator-address {re.escape(NOBODY)}",
    r"initiator-name (\S+)",
)


def parse_show(text: str) -> tuple[Target, ...]:
    """Every target that tgtd runs, without the controller LUN 0 of each.

    Empty text is no target: only believe it beside exit status 0. Raises GrammarError for an answer that is cut short,
    or in which a section or a line is not one that tgt 1.0.85 prints.
    """
    return tuple(_target(node) for node in _tree(text))


@dataclass(frozen=True, slots=True)
class _Node:
    """A line of an indented answer and the lines below it."""

    line: int
    text: str
    children: list[_Node] = field(default_factory=list)

    def value(self, key: str) -> str:
        """What stands behind ``key: `` in the one child that begins so."""
        found = [child.text[len(key) + 2 :] for child in self.children if f"{child.text} ".startswith(f"{key}: ")]
        if len(found) != 1:
            raise GrammarError(self.line, f"{self.text!r} has {len(found)} lines {key!r}, not one")
        return found[0]

    def number(self, shape: str) -> int:
        found = re.fullmatch(shape, self.text)
        if found is None:
            raise GrammarError(self.line, f"not what tgtd prints there: {self.text!r}")
        return int(found[1])

    def yes(self, key: str) -> bool:
        value = self.value(key)
        if value not in ("Yes", "No"):
            raise GrammarError(self.line, f"{key} of {self.text!r} is neither Yes nor No: {value!r}")
        return value == "Yes"


def _tree(text: str) -> list[_Node]:
    """tgtd indents by four spaces for each level."""
    root = _Node(0, "")
    open_nodes = [root]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped:
            continue
        depth, odd = divmod(len(line) - len(line.lstrip(" ")), 4)
        if odd or depth >= len(open_nodes):
            raise GrammarError(number, f"unknown indentation: {line!r}")
        node = _Node(number, stripped)
        open_nodes[depth].children.append(node)
        open_nodes[depth + 1 :] = [node]
    return root.children


_SECTIONS = ["System", "I_T nexus", "LUN", "Account", "ACL"]


def _target(node: _Node) -> Target:
    tid = node.number(r"Target (\d+): \S+")
    if [section.text for section in node.children] != [f"{name} information:" for name in _SECTIONS]:
        raise GrammarError(node.line, f"the sections of {node.text!r} are not those of tgt 1.0.85, or some are missing")
    system, nexus, luns, accounts, rules = node.children
    disks = [lun for lun in luns.children if lun.value("Type") != "controller"]
    if len(luns.children) == len(disks):
        raise GrammarError(luns.line, f"{node.text!r} is cut short: its controller LUN is missing")
    acl = [_leaf(rule) for rule in rules.children]
    return Target(
        tid=tid,
        iqn=node.text.partition(": ")[2],
        state=system.value("State"),
        luns=tuple(map(_disk, disks)),
        acl_addresses=tuple(rule for rule in acl if not _is_initiator(rule)),
        acl_initiators=tuple(filter(_is_initiator, acl)),
        accounts=tuple(map(_leaf, accounts.children)),
        nexus=tuple(map(_nexus, nexus.children)),
    )


def _disk(node: _Node) -> Disk:
    return Disk(
        number=node.number(r"LUN: (\d+)"),
        backing=node.value("Backing store path"),
        size_text=node.value("Size").partition(",")[0],
        online=node.yes("Online"),
        readonly=node.yes("Readonly"),
        scsi_id=node.value("SCSI ID"),
        scsi_sn=node.value("SCSI SN"),
    )


def _nexus(node: _Node) -> Nexus:
    connections = [child for child in node.children if child.text.startswith("Connection: ")]
    return Nexus(
        session=node.number(r"I_T nexus: (\d+)"),
        initiator=node.value("Initiator").rpartition(" alias: ")[0],
        connections=tuple((each.number(r"Connection: (\d+)"), each.value("IP Address")) for each in connections),
    )


def _leaf(node: _Node) -> str:
    if node.children or " " in node.text.removesuffix(" (outgoing)"):
        raise GrammarError(node.line, f"not one word: {node.text!r}")
    return node.text


def _is_initiator(rule: str) -> bool:
    return rule.startswith(("iqn.", "eui.", "naa."))
