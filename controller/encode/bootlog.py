"""What a boot server and a SAN logged about one node's network boot: dhcpd, Kea, tftpd, mountd, and who used nfs-ganesha.

The question is a script for Debian and FreeBSD (`question`); its answer becomes a `Log` of events (`parse`), whose meaning
is `controller.encode.boottime`'s. A line that says nothing about the node is skipped. That a log holds no such line is worth
something only if the daemon is known to log at all and the log goes back far enough: both stand in the `Log`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from controller.encode import ganesha
from controller.encode.logtime import dated
from controller.encode.sh import lines, sh
from controller.encode.text import GrammarError
from controller.model import Script

Phase: TypeAlias = Literal["asked", "offered", "leased", "fetched", "loader", "root", "share"]
PHASES: Final[tuple[Phase, ...]] = ("asked", "offered", "leased", "fetched", "loader", "root", "share")
"""In the order of a boot (transcripts, 13.2/pxe): the card asks DHCP and takes the offer, fetches the boot file by TFTP; that
is the loader, which asks DHCP again and mounts the root; rc.initdiskless mounts the node's own share."""

Teller: TypeAlias = Literal["dhcp", "tftp", "nfs"]
TELLER: Final[dict[Phase, Teller]] = {
    "asked": "dhcp", "offered": "dhcp", "leased": "dhcp", "fetched": "tftp", "loader": "dhcp", "root": "nfs", "share": "nfs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Node:
    """How logs call one node, and what is its own."""

    mac: str
    address: str
    share: str
    """The directory on the SAN that holds this node's own files."""
    image: str
    """The directory that holds every root of its image; other nodes use it too."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that one node did, or was refused."""

    at: float
    """Unix time by the clock of the machine that logged it."""
    phase: Phase
    what: str = ""
    """The address, file or path."""
    refused: str = ""
    """Why it was refused, in the daemon's words; empty when it was not. DHCP refuses by not answering who has "asked"."""
    used: bool = False
    """It was not logged when it happened: `at` is when the server saw it used last."""


@dataclass(frozen=True, slots=True)
class Source:
    """One log: how far back it goes, whose work it tells (anybody's), and what it says about the node."""

    begins: float
    tells: frozenset[Teller]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """All that one machine could say. `now` is its own clock, `zone` its distance from UTC in seconds."""

    now: float
    zone: int
    sources: tuple[Source, ...] = field(default=())

    def told(self, teller: Teller, since: float) -> bool:
        """Whether something of this kind that happened since then would be seen here."""
        return any(teller in source.tells and source.begins <= since for source in self.sources)

    def events(self, *tellers: Teller) -> list[Event]:
        """What these daemons told, once each, oldest first."""
        found = {event: None for source in self.sources for event in source.events if TELLER[event.phase] in tellers}
        return sorted(found, key=lambda event: event.at)


# -- the question ------------------------------------------------------------------------------------------------------

_LINES: Final = 20_000
"""How far back a log is read."""
_KEPT: Final = 300
"""Lines about one node that are sent; a whole boot makes about ten."""

_FILES: Final = (
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/daemon.log",
    "/var/log/xferlog",
    "/var/log/dhcpd.log",
    "/var/log/kea/kea-dhcp4.log",
    "/var/log/kea-dhcp4.log",
    "/usr/local/var/log/kea-dhcp4.log",
)
_IDENTIFIERS: Final = ("dhcpd", "kea-dhcp4", "in.tftpd", "tftpd", "rpc.mountd", "mountd")

_KEEP: Final = r"""jo_keep() { # TITLE: of a log on standard input, where it begins, whose work it tells, and what of this node
awk -v title="$1" -v mac="$jo_mac" -v adr="$jo_adr" -v most="$jo_kept" '
function named(word, at) {
    at = index(low, word)
    return at && substr(low, at + length(word), 1) !~ /[0-9a-f]/ && (at == 1 || substr(low, at - 1, 1) !~ /[0-9a-f.]/)
}
{ low = tolower($0) }
NR == 1 { print "= " title; print "< " $0 }
/dhcpd(\[[0-9]+\])?: |kea-dhcp4| DHCP4_/ { dhcp = 1; ours = 1 }
/RRQ from |read request for / { tftp = 1; ours = 1 }
/tftpd(\[[0-9]+\])?: |ALLOC_ENGINE_V4_/ { ours = 1 }
/rpc\.mountd(\[[0-9]+\])?: |mount request succeeded from / { nfs = 1; ours = 1 }
/mount request / { ours = 1 }
ours && (named(mac) || named(adr)) { kept[count++ % most] = $0 }
{ ours = 0 }
END {
    if (dhcp) print "? dhcp"
    if (tftp) print "? tftp"
    if (nfs) print "? nfs"
    for (i = count > most ? count - most : 0; i < count; i++) print "> " kept[i % most]
}'
}"""

_LOOK: Final = """LC_ALL=C; export LC_ALL
jo_mac={mac} jo_adr={address} jo_kept={kept}
date '+now %s %z'
if command -v journalctl >/dev/null 2>&1; then
    journalctl --quiet --no-pager --output=short-unix --lines={lines} {identifiers} 2>/dev/null | jo_keep journal
fi
for f in {files}; do
    test ! -f "$f" || tail -n {lines} "$f" | jo_keep "$f"
done"""

_GANESHA: Final = """if command -v dbus-send >/dev/null 2>&1; then
    jo_ask() {{
        dbus-send --system --print-reply --reply-timeout=5000 --dest=org.ganesha.nfsd "/org/ganesha/nfsd/$1" \\
            "org.ganesha.nfsd.$2" 2>/dev/null | sed 's/^/> /'
    }}
    echo '= ganesha clients'; jo_ask ClientMgr clientmgr.ShowClients
    echo '= ganesha exports'; jo_ask ExportMgr exportmgr.ShowExports
fi"""


def question(node: Node, *, ganesha: bool = False) -> Script:
    """What the logs of this machine say about a node; with `ganesha` also what nfs-ganesha knows, which logs no mounts
    (measured, 4.3). Read-only, bounded in what it reads and sends."""
    look = sh(
        _LOOK,
        mac=node.mac.lower(),
        address=node.address,
        kept=_KEPT,
        lines=_LINES,
        identifiers=[f"--identifier={name}" for name in _IDENTIFIERS],
        files=_FILES,
    )
    return lines(Script(_KEEP), look, *([sh(_GANESHA)] if ganesha else []), Script("echo end"))


# -- the answer --------------------------------------------------------------------------------------------------------


def parse(text: str, node: Node) -> Log:
    """The answer to `question`. Raises GrammarError when it is not one, or is cut short; unreadable log lines are skipped."""
    head, *body = text.splitlines() or [""]
    clock = re.fullmatch(r"now (\d{1,11}) ([+-])([01]\d)([0-5]\d)", head)
    if clock is None or body[-1:] != ["end"]:
        raise GrammarError(1, "not a whole answer about a boot's logs")
    zone = (int(clock[3]) * 3600 + int(clock[4]) * 60) * (-1 if clock[2] == "-" else 1)
    reader = _Reader(node, float(clock[1]), zone)
    return Log(float(clock[1]), zone, tuple(reader.sources(body[:-1])))


class _Reader:
    def __init__(self, node: Node, now: float, zone: int) -> None:
        self._node = node
        self._now = now
        self._zone = zone

    def sources(self, body: Iterable[str]) -> Iterator[Source]:
        title, rows, clients = "", list[str](), ""
        for line in [*body, "= "]:
            if not line.startswith("= "):
                rows.append(line)
                continue
            if title == "ganesha clients":
                clients = _shown(rows)
            elif title == "ganesha exports":
                yield from self._ganesha(clients, _shown(rows))
            elif title:
                yield self._log(rows)
            title, rows = line[2:], []

    def _log(self, rows: Iterable[str]) -> Source:
        begins, tells, events = float("inf"), set[Teller](), list[Event]()
        for row in rows:
            mark, line = row[:2], row[2:]
            if mark == "? " and line in ("dhcp", "tftp", "nfs"):
                tells.add(line)  # type: ignore[arg-type]
            elif mark == "< ":
                said = dated(line, self._now, self._zone)
                begins = said[0] if said else begins
            elif mark == "> " and (said := dated(line, self._now, self._zone)):
                events += [Event(said[0], *rest) for rest in _meaning(said[1], self._node)]
        return Source(begins, frozenset(tells), tuple(events))

    def _ganesha(self, clients: str, exports: str) -> Iterator[Source]:
        """A server without an answer tells nothing; one that never met the node proves that it did not ask since the start."""
        try:
            known, (started, used) = ganesha.parse_show_clients(clients), ganesha.parse_last_use(exports)
        except GrammarError:
            return
        share = max((at for path, at in used.items() if _below(path, self._node.share)), default=0.0)
        image, others = self._node.image, (path for path in used if not _below(path, self._node.share))
        root = max((used[path] for path in others if _below(path, image) or _below(image, path)), default=0.0)
        client = known.get(self._node.address, ganesha.ClientUse(False, 0.0))
        events = []
        if client.nfs and root:
            events.append(Event(min(client.at, root), "root", used=True))
        if share:
            events.append(Event(share, "share", self._node.share, used=True))
        if client.at and (not client.nfs or client.at > max(root, share) + _PAUSE):
            events.append(Event(client.at, "root", refused="nfs-ganesha let it mount nothing", used=True))
        # It serves some moments before the time that it gives as its start (seen on a busy machine).
        begins = min([started, *(at for at in used.values() if at), *(one.at for one in known.values())])
        yield Source(begins, frozenset({"nfs"}), tuple(events))


_PAUSE: Final = 5.0
"""Seconds. Whoever was let in reads at once, so that who was heard later than anything was read had only asked."""


def _below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _shown(rows: Iterable[str]) -> str:
    return "\n".join(row[2:] for row in rows)


# -- what: the words of the daemons ------------------------------------------------------------------------------------

_Said: TypeAlias = tuple[Phase, str, str]
_MAC: Final = r"(?P<mac>[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5})"
_IP: Final = r"(?P<ip>\d+\.\d+\.\d+\.\d+)"
_NAME: Final = r"(?: \(.*\))?"

_WORDS: Final[tuple[tuple[str, tuple[Phase, ...]], ...]] = (
    # ISC dhcpd 4.4.3
    (rf"DHCPDISCOVER from {_MAC}{_NAME} via [^\s:]+(?:: (?P<why>.+))?", ("asked",)),
    (rf"DHCPOFFER on (?P<what>{_IP}) to {_MAC}{_NAME} via .*", ("offered",)),
    (rf"DHCPACK on (?P<what>{_IP}) to {_MAC}{_NAME} via .*", ("leased",)),
    (rf"(?P<why>DHCPNAK) on {_IP} to {_MAC}{_NAME} via .*", ("leased",)),
    (rf"DHCPREQUEST for {_IP}{_NAME} from {_MAC}{_NAME} via [^\s:]+: (?P<why>.+)", ("leased",)),
    # Kea 2.2, and how 2.4 calls the first; one line stands for question and answer
    (rf".*DHCP4_LEASE_(?:ADVERT|OFFER) \[hwtype=1 {_MAC}\].*: lease (?P<what>{_IP}) .*", ("asked", "offered")),
    (rf".*DHCP4_LEASE_ALLOC \[hwtype=1 {_MAC}\].*: lease (?P<what>{_IP}) .*", ("leased",)),
    (rf".*ALLOC_ENGINE_V4_ALLOC_FAIL\w* \[hwtype=1 {_MAC}\].*?, tid=\w+: (?P<why>.+)", ("asked",)),
    # tftpd-hpa 5.2 with --verbose (the second with --verbose twice); tftpd(8) -l of FreeBSD
    (rf"RRQ from {_IP} filename (?P<what>.+?)(?: remapped to .*)?", ("fetched",)),
    (rf"sending NAK \(\d+, (?P<why>.*)\) to {_IP}", ("fetched",)),
    (rf"{_IP}: read request for (?P<what>.+): success", ("fetched",)),
    (rf"{_IP}: read request for (?P<what>.+): (?P<why>(?!success$).+)", ("fetched",)),
    # rpc.mountd 2.6.2; mountd(8) of FreeBSD, successes only with -l
    (rf"authenticated mount request from {_IP}:\d+ for (?P<what>/\S*) .*", ("root",)),
    (rf"refused mount request from {_IP} for (?P<what>/\S*) \(.*\): (?P<why>.+)", ("root",)),
    (rf"mount request succeeded from {_IP} for (?P<what>/\S*)", ("root",)),
    (rf"mount request (?P<why>denied) from {_IP} for (?P<what>/\S*)", ("root",)),
    (rf"mount request from {_IP} for (?P<why>non existent path|non-directory path) (?P<what>/\S*)", ("root",)),
    (rf"mount request from {_IP} (?P<why>from unprivileged port)", ("root",)),
)  # fmt: skip
_PATTERNS: Final = tuple((re.compile(pattern), phases) for pattern, phases in _WORDS)


def _meaning(text: str, node: Node) -> Iterator[_Said]:
    """Phase, object and refusal of one message; nothing when it is not about the node."""
    for pattern, phases in _PATTERNS:
        found = pattern.fullmatch(text.rstrip())
        if found is None:
            continue
        said = found.groupdict()
        if (said["mac"].lower() != node.mac.lower()) if "mac" in said else (said["ip"] != node.address):
            return
        what, why = (said.get("what") or "").strip(), said.get("why") or ""
        for phase in phases:
            ours = phase == "root" and _below(what, node.share)
            yield ("share" if ours else phase), what, why
        return
