"""The iSCSI initiator of FreeBSD: iscsi.conf(5) written and read, and `iscsictl -L` read.

A CHAP secret travels as a `controller.encode.sh.secret` hole and is filled in just before sending. Because a file read
back may hold a real one, errors here name lines and known keywords but never quote the text itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.encode import libxo
from controller.encode.text import GrammarError

_NICKNAME = re.compile(r"[A-Za-z0-9._-]+")
_ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]-]+")
_QUOTED = re.compile(r"[ !#-~]+")
_SECRET = re.compile(r"\0(?:env:|age:)?[A-Za-z0-9_./+=-]+\0|[ !#-~]+")
_KEYS = ("TargetAddress", "TargetName", "InitiatorName", "AuthMethod", "chapIName", "chapSecret")
_KNOWN = {key.lower(): key for key in _KEYS}
_TOKEN = re.compile(
    r"(?P<skip>[ \t]+|\#[^\n]*)|(?P<end>\n)|(?P<punctuation>[{}=;])"
    r'|"(?P<quoted>[^"\n]+)"|(?P<bare>[A-Za-z0-9._/:\[\]-]+)'
)

_HEADER = re.compile(r"Target name +Target portal +State")
_SESSION = re.compile(r"(?P<target>\S+) +(?P<portal>\S+) +(?P<state>\S(?:.*\S)?) *")
_DEVICE = re.compile(r"[a-z]+[0-9]+")


@dataclass(frozen=True, slots=True)
class Chap:
    """CHAP name and secret of an initiator."""

    user: str
    secret: str = field(repr=False)
    """Normally a hole made by `controller.encode.sh.secret`."""


@dataclass(frozen=True, slots=True)
class Target:
    """One section of iscsi.conf(5): a session to be made."""

    nickname: str
    address: str
    """Portal as ``address[:port]``; `iscsictl -L` repeats exactly this text."""
    name: str
    initiator: str
    """Always given: the default would follow the host name, which DHCP can change."""
    chap: Chap | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One line of `iscsictl -L`. Connected with no devices means logged in, but the disk is not attached (yet)."""

    target: str
    portal: str
    state: str
    """``Connected``, ``Disconnected``, ``Disabled`` or the reason of a failure in the kernel's words."""
    devices: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        return self.state == "Connected"


def render(targets: Iterable[Target]) -> str:
    """iscsi.conf(5) text; the file must be 0600. Raises ValueError for what its quotes cannot hold."""
    return "\n".join(_section(target) for target in targets)


def parse(text: str) -> tuple[Target, ...]:
    """The sections of an iscsi.conf(5). A keyword that jailops does not write is a `GrammarError`."""
    tokens = list(_tokens(text))
    targets = []
    while tokens[0].kind != "eof":
        targets.append(_read_section(tokens))
    return tuple(targets)


def parse_list(text: str) -> tuple[Session, ...]:
    """The table of `iscsictl -L`. Long names push its columns, and a state may hold blanks."""
    lines = text.split("\n")
    if not _HEADER.fullmatch(lines[0].rstrip(" ")):
        raise GrammarError(1, "not the header of iscsictl -L")
    return tuple(_session(number, line) for number, line in enumerate(lines[1:], 2) if line)


def parse_list_json(text: str) -> tuple[Session, ...]:
    """`iscsictl --libxo json -L` (11 and later)."""
    return tuple(_session_row(row) for row in libxo.rows(text, "iscsictl", "session"))


def _section(target: Target) -> str:
    if not _NICKNAME.fullmatch(target.nickname) or target.nickname.lower() in _KNOWN:
        raise ValueError(f"cannot write the section {target.nickname!r} to iscsi.conf: not a nickname")
    if not _ADDRESS.fullmatch(target.address):
        raise ValueError(f"cannot write the portal {target.address!r} of {target.nickname} to iscsi.conf")
    settings = [
        ("TargetAddress", target.address),
        ("TargetName", target.name),
        ("InitiatorName", target.initiator),
    ]
    if target.chap:
        settings += [("AuthMethod", "CHAP"), ("chapIName", target.chap.user), ("chapSecret", target.chap.secret)]
    lines = "".join(f'    {key:<13} = "{_quotable(target.nickname, key, value)}";\n' for key, value in settings)
    return f"{target.nickname} {{\n{lines}}}\n"


def _quotable(nickname: str, key: str, value: str) -> str:
    allowed = _SECRET if key == "chapSecret" else _QUOTED
    if not allowed.fullmatch(value):
        raise ValueError(f"cannot write {key} of {nickname} to iscsi.conf: empty, or not printable, or with a quote")
    return value


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str = field(repr=False)
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    line, place = 1, 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise GrammarError(line, "an empty or open quote, or a character that iscsi.conf does not allow")
        if match["punctuation"]:
            yield _Token(match["punctuation"], "", line)
        elif match["quoted"] or match["bare"]:
            yield _Token("word", match["quoted"] or match["bare"], line)
        line += match["end"] is not None
        place = match.end()
    yield _Token("eof", "", line)


def _take(tokens: list[_Token], kind: str, wanted: str) -> _Token:
    token = tokens.pop(0) if tokens[0].kind != "eof" else tokens[0]
    if token.kind != kind:
        raise GrammarError(token.line, f"{wanted} expected")
    return token


def _read_section(tokens: list[_Token]) -> Target:
    nickname = _take(tokens, "word", "a nickname")
    _take(tokens, "{", "an opening brace after the nickname")
    settings: dict[str, str] = {}
    while tokens[0].kind != "}":
        key, value = _read_setting(tokens)
        settings[key] = value
    tokens.pop(0)
    return _target(nickname, settings)


def _read_setting(tokens: list[_Token]) -> tuple[str, str]:
    keyword = _take(tokens, "word", "a keyword or a closing brace")
    key = _KNOWN.get(keyword.text.lower())
    if key is None:
        raise GrammarError(keyword.line, f"a keyword other than {', '.join(_KEYS)}")
    _take(tokens, "=", f"an equals sign after {key}")
    value = _take(tokens, "word", f"a value of {key}").text
    if tokens[0].kind == ";":
        tokens.pop(0)
    return key, value


def _target(nickname: _Token, settings: dict[str, str]) -> Target:
    for key in ("TargetAddress", "TargetName", "InitiatorName"):
        if key not in settings:
            raise GrammarError(nickname.line, f"a section without {key}")
    method = settings.get("AuthMethod", "None").lower()
    has_chap = [key in settings for key in ("chapIName", "chapSecret")]
    if method not in {"none", "chap"} or has_chap != [method == "chap"] * 2:
        raise GrammarError(nickname.line, "AuthMethod CHAP goes with chapIName and chapSecret, None without")
    chap = Chap(settings["chapIName"], settings["chapSecret"]) if method == "chap" else None
    return Target(nickname.text, settings["TargetAddress"], settings["TargetName"], settings["InitiatorName"], chap)


def _session(number: int, line: str) -> Session:
    match = _SESSION.fullmatch(line)
    if not match:
        raise GrammarError(number, "not a session: target, portal and state expected")
    state, colon, devices = match["state"].partition(":")
    if state != "Connected":
        return Session(match["target"], match["portal"], match["state"])
    if not colon:
        raise GrammarError(number, "Connected without its list of devices")
    return Session(match["target"], match["portal"], state, _devices(number, devices.split()))


def _devices(number: int, names: Iterable[str]) -> tuple[str, ...]:
    devices = tuple(names)
    if not all(_DEVICE.fullmatch(device) for device in devices):
        raise GrammarError(number, "not a list of devices")
    return devices


def _session_row(row: libxo.Row) -> Session:
    attached = row.get("devices", {})
    if not isinstance(attached, dict):
        raise GrammarError(1, "'devices' is not an object")
    luns = attached.get("lun", [])
    if not isinstance(luns, list) or not all(isinstance(lun, dict) for lun in luns):
        raise GrammarError(1, "'lun' is not a list of objects")
    names = _devices(1, (libxo.text_of(lun, "device") for lun in luns))
    return Session(libxo.text_of(row, "name"), libxo.text_of(row, "portal"), libxo.text_of(row, "state"), names)
