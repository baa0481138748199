"""ezjail 3.4.2: the file of one jail written and read, and the table of `ezjail-admin list` read.

ezjail sources these files as root, so values are written only from characters that mean nothing inside sh's double
quotes, and read as text: a line that sh would have to evaluate is a `GrammarError`. Never sources anything.

Two traps the callers must know. `ezjail-admin config` writes the file anew and drops the `fstab` line (seen on 13.2).
`ezjail-admin list` answers an empty table with exit status 0 when its directory is not there; hence `parse_list` wants
to see standard error too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from controller.encode.names import safename
from controller.encode.text import GrammarError

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "hostname": "",
        "ip": "",
        "rootdir": "",
        "exec_start": "/bin/sh /etc/rc",
        "exec_stop": "",
        "mount_enable": "YES",
        "devfs_enable": "YES",
        "devfs_ruleset": "devfsrules_jail",
        "procfs_enable": "YES",
        "fdescfs_enable": "YES",
        "image": "",
        "imagetype": "",
        "attachparams": "",
        "attachblocking": "",
        "forceblocking": "",
        "zfs_datasets": "",
        "cpuset": "",
        "fib": "",
        "parentzfs": "",
        "parameters": "",
        "post_start_script": "",
        "retention_policy": "",
    }
)
"""Every key that ezjail 3.4.2 writes, in its order, with the value of a jail created without options."""

_OURS = ("fstab",)
"""rc.d/jail reads it, ezjail-admin drops it: where the jail's fstab lies when /etc is a memory disk."""

_VALUE = re.compile(r"[ !#%-\[\]^_a-~]*")
_EXPORT = re.compile(r'export (?P<name>jail_[A-Za-z0-9_]+)="(?P<value>[^"]*)"')
_ORDER = re.compile(r"# (?P<word>PROVIDE|REQUIRE|BEFORE):(?P<names>[ A-Za-z0-9_.-]*)")
_ORDER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

_HEAD = """\
# To specify the start up order of your ezjails, use these lines to
# create a Jail dependency tree. See rcorder(8) for more details.
#
# PROVIDE: {provide}
# REQUIRE: {require}
# BEFORE: {before}
#

"""


@dataclass(frozen=True, slots=True)
class JailFile:
    """``/usr/local/etc/ezjail/<safename>``. The order words are rcorder(8)'s."""

    safename: str
    settings: Mapping[str, str]
    """Key (the part after ``jail_<safename>_``) to value, in the order of the file."""
    provide: tuple[str, ...] = ("standard_ezjail",)
    require: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One jail of `ezjail-admin list`. `running` believes an id file; jls(8) by name is the truth."""

    kind: Literal["directory", "image", "bde", "eli", "zfs"]
    state: Literal["running", "attached", "stopped"]
    norun: bool
    """Not started at boot."""
    jid: int | None
    addresses: tuple[str, ...]
    """As configured, but ezjail strips ``interface|`` from the first one."""
    hostname: str
    root: str


def jail_file(name: str, ip: str, rootdir: str, **settings: str) -> JailFile:
    """What `ezjail-admin create` would write for `name`, with `settings` (keys of DEFAULTS, or fstab) over it."""
    own = {"hostname": name, "ip": ip, "rootdir": rootdir}
    return JailFile(safename(name), {**DEFAULTS, **own, **settings})


def render(file: JailFile) -> str:
    """The file as ezjail writes it; keys not given get ezjail's defaults. ValueError for what sh would evaluate."""
    _check(file)
    settings = {**DEFAULTS, **file.settings}
    head = _HEAD.format(provide=" ".join(file.provide), require=" ".join(file.require), before=" ".join(file.before))
    ordered = [key for key in (*DEFAULTS, *_OURS) if key in settings]
    return head + "".join(f'export jail_{file.safename}_{key}="{settings[key]}"\n' for key in ordered)


def _check(file: JailFile) -> None:
    if not file.safename or file.safename != safename(file.safename):
        raise ValueError(f"cannot write the ezjail file {file.safename!r}: not a safe name")
    for word in (*file.provide, *file.require, *file.before):
        if not _ORDER_NAME.fullmatch(word):
            raise ValueError(f"cannot write the ezjail file {file.safename}: {word!r} is not a name for rcorder")
    for key, value in file.settings.items():
        if key not in DEFAULTS and key not in _OURS:
            raise ValueError(f"cannot write the ezjail file {file.safename}: {key!r} is not a key of ezjail")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"cannot write the ezjail file {file.safename}: sh would read the value of {key}")


def parse(text: str) -> JailFile:
    """Read a jail's file as text. Keys that ezjail does not know are kept: rc.d/jail may read them."""
    exports: dict[str, str] = {}
    order: dict[str, tuple[str, ...]] = {"PROVIDE": (), "REQUIRE": (), "BEFORE": ()}
    last = 1
    for number, line in enumerate(text.split("\n"), 1):
        words = _ORDER.fullmatch(line)
        if words:
            order[words["word"]] = tuple(words["names"].split())
        elif line.strip(" \t") and not line.startswith("#"):
            last = number
            name, value = _export(number, line)
            exports[name] = value
    prefix = _prefix(exports, last)
    settings = {name.removeprefix(prefix): value for name, value in exports.items()}
    return JailFile(prefix[5:-1], settings, order["PROVIDE"], order["REQUIRE"], order["BEFORE"])


def _export(number: int, line: str) -> tuple[str, str]:
    match = _EXPORT.fullmatch(line.rstrip(" \t"))
    if not match:
        raise GrammarError(number, 'neither a comment nor a plain export jail_NAME_KEY="value"')
    if not _VALUE.fullmatch(match["value"]):
        raise GrammarError(number, f"the value of {match['name']} would be evaluated by sh")
    return match["name"], match["value"]


def _prefix(exports: Mapping[str, str], line: int) -> str:
    """``jail_<safename>_``, known from the one variable that must be there: the host name."""
    found = [name.removesuffix("hostname") for name in exports if name.endswith("_hostname")]
    if len(found) != 1:
        raise GrammarError(line, f"{len(found)} host names where the file of one jail has one")
    stranger = next((name for name in exports if not name.startswith(found[0]) or name == found[0]), None)
    if stranger is not None:
        raise GrammarError(line, f"{stranger} does not belong to the jail {found[0][5:-1]}")
    return found[0]


_LIST_HEAD = "STA JID  IP              Hostname                       Root Directory"
_LIST_RULE = re.compile(r"[- ]+")
_JAIL = re.compile(r"(?P<kind>[DIBEZ])(?P<state>[RAS])(?P<norun>[N ]) (?P<jid>N/A|[0-9]{1,9}) +(?P<rest>.*)")
_MORE = re.compile(r" {4}(?P<jid>N/A|[0-9]{1,9}) +(?P<address>\S+)")
_KINDS: Final[Mapping[str, Literal["directory", "image", "bde", "eli", "zfs"]]] = {
    "D": "directory",
    "I": "image",
    "B": "bde",
    "E": "eli",
    "Z": "zfs",
}
_STATES: Final[Mapping[str, Literal["running", "attached", "stopped"]]] = {
    "R": "running",
    "A": "attached",
    "S": "stopped",
}


@dataclass(slots=True)
class _Row:
    """A jail while its further address lines are still being read."""

    first: Listed
    more: list[str] = field(default_factory=list)

    def done(self) -> Listed:
        row = self.first
        addresses = (*row.addresses, *self.more)
        return Listed(row.kind, row.state, row.norun, row.jid, addresses, row.hostname, row.root)


def parse_list(text: str, stderr: str = "") -> tuple[Listed, ...]:
    """The table of `ezjail-admin list`. Anything on standard error means that the table cannot be believed."""
    if stderr.strip():
        raise GrammarError(1, f"ezjail-admin list complained: {stderr.strip()}")
    lines = text.rstrip("\n").split("\n")
    if lines[0] != _LIST_HEAD or len(lines) < 2 or not _LIST_RULE.fullmatch(lines[1]):
        raise GrammarError(1, "not the header of ezjail-admin list")
    return tuple(row.done() for row in _rows(lines[2:]))


def _rows(lines: list[str]) -> Iterator[_Row]:
    row: _Row | None = None
    for number, line in enumerate(lines, 3):
        more = _MORE.fullmatch(line)
        if more and row:
            row.more.append(more["address"])
            continue
        if row:
            yield row
        row = _Row(_listed(number, line))
    if row:
        yield row


def _listed(number: int, line: str) -> Listed:
    match = _JAIL.fullmatch(line)
    if not match:
        raise GrammarError(number, "not a jail of ezjail-admin list")
    state, jid = f"{match['kind']}{match['state']}{match['norun']}", match["jid"]
    rest = line[len(f"{state:<3} {jid:<4} ") :]
    found = {
        (address, host, root)
        for address, tail in _splits(rest, 15)
        if " " not in address
        for host, root in _splits(tail, 30)
        if root.startswith("/")
    }
    if len(found) != 1:
        raise GrammarError(number, "cannot tell the columns apart")
    address, host, root = found.pop()
    return Listed(
        _KINDS[match["kind"]],
        _STATES[match["state"]],
        match["norun"] == "N",
        None if jid == "N/A" else int(jid),
        (address,) if address else (),
        host,
        root,
    )


def _splits(text: str, width: int) -> Iterator[tuple[str, str]]:
    """Every way in which printf's ``%-<width>s %s`` could have printed this text."""
    for cut in (index for index, char in enumerate(text) if char == " "):
        left = text[:cut].rstrip(" ")
        if text[:cut] == f"{left:<{width}}":
            yield left, text[cut + 1 :]
