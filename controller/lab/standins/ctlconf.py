"""ctl.conf(5) as ctld(8) reads it: text in, portal groups and LUNs out, or the line that ctld logs for a broken file.

Knows the statements that transcripts and manual page show; any other keyword of ctld is not covered by the reference.
"""

from __future__ import annotations

import re

from controller.lab.standins.node import uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WORD = re.compile(r'"(?P<quoted>[^"]+)"|#[^\n]*|(?P<bare>[a-zA-Z0-9.\-@_/:\[\]]+)|(?P<line>\n)|[ \t\r]+|(?P<other>.)')
UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
GROUP = {"auth-type": 1, "chap": 2, "chap-mutual": 4, "initiator-name": 1, "initiator-portal": 1}
PORTALS = {"discovery-auth-group": 1, "listen": 1}
TARGET = {"alias": 1, "auth-group": 1, "portal-group": 1}
LUN = {"path": 1, "size": 1, "serial": 1, "device-id": 1, "blocksize": 1}
"""Statements of each block and the number of their words."""
_KNOWN = """
    alias auth-group auth-type backend blocksize chap chap-mutual ctl-lun debug device-id device-type
    discovery-auth-group discovery-filter dscp foreign initiator-name initiator-portal isns-period isns-server
    isns-timeout listen listen-iser lun maxproc offload option path pcp pidfile port portal-group redirect serial size
    tag target timeout
"""
KEYWORDS = frozenset(_KNOWN.split())


class Syntax(Exception):
    """The whole file is refused; the text is what ctld logs."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[int, str, bool]] = []
        line = 1
        for found in WORD.finditer(text):
            for kind in ("quoted", "bare", "other"):
                if found[kind] is not None:
                    self.tokens.append((line, found[kind], kind == "quoted"))
            line += found["line"] is not None
        self.end = line

    def word(self) -> str:
        """A name or value, never a keyword or a brace."""
        line, word, quoted = self.tokens.pop(0) if self.tokens else (self.end, "", False)
        if not quoted and (word in KEYWORDS or word in ("{", "}", ";", "")):
            raise _near(line, word)
        return word

    def accept(self, token: str) -> bool:
        if self.tokens and self.tokens[0][1:] == (token, False):
            self.tokens.pop(0)
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            line, word, _ = self.tokens[0] if self.tokens else (self.end, "", False)
            raise _near(line, word)

    def keyword(self, known: dict[str, int]) -> str:
        line, word, quoted = self.tokens.pop(0) if self.tokens else (self.end, "", False)
        if not quoted and word in known:
            return word
        if not quoted and word in KEYWORDS:
            uncovered(f"{word} in line {line} of ctl.conf")
        raise _near(line, word)

    def block(self, known: dict[str, int]) -> dict[str, list[list[str]]]:
        """The statements between two braces; of a block within (count 0) the name and its own statements."""
        found: dict[str, list[list[Any]]] = {}
        self.expect("{")
        while not self.accept("}"):
            if not self.accept(";"):
                name = self.keyword(known)
                words: list[Any] = [self.word() for _ in range(known[name])]
                found.setdefault(name, []).append(words or [self.word(), self.block(LUN)])
        return found


def _near(line: int, word: str) -> Syntax:
    return Syntax(f"error in configuration file at line {line} near '{word}': syntax error")


def parse(text: str) -> dict[str, Any]:
    """`portals`: the names of the portal groups in order; `targets`: name -> its portal groups and its LUNs."""
    reader, groups = _Reader(text), {"no-access", "no-authentication", "default"}
    portals: list[str] = []
    targets: dict[str, dict[str, Any]] = {}
    while reader.tokens:
        kind = reader.keyword({"auth-group": 1, "portal-group": 1, "target": 1})
        name = reader.word()
        if name in targets or name in portals or (kind == "auth-group" and name in groups):
            uncovered(f"{kind} {name} twice")
        if kind == "auth-group":
            reader.block(GROUP)
            groups.add(name)
        elif kind == "portal-group":
            reader.block(PORTALS)
            portals.append(name)
        else:
            targets[name] = _target(reader.block({**TARGET, "lun": 0}), portals, groups)
    return {"portals": portals, "targets": targets}


def _target(block: dict[str, list[list[Any]]], portals: list[str], groups: set[str]) -> dict[str, Any]:
    named = [words[0] for words in block.get("portal-group", [])]
    if not named or set(named) - set(portals) or {words[0] for words in block.get("auth-group", [])} - groups:
        uncovered("a target without portal group, or with a group that does not stand above it")
    return {"portals": named, "luns": {int(number): _lun(body) for number, body in block.get("lun", [])}}


def _lun(block: dict[str, list[list[str]]]) -> dict[str, Any]:
    one = {name: words[-1][0] for name, words in block.items()}
    if not {"path", "serial", "device-id"} <= one.keys():
        uncovered("a LUN without path, serial or device-id")
    return {
        "path": one["path"],
        "bytes": size(one["size"]) if "size" in one else None,
        "blocksize": int(one.get("blocksize", "512")),
        "serial": one["serial"],
        "device": one["device-id"],
    }


def size(text: str) -> int:
    """expand_number(3): 64M is 64 times 2^20."""
    found = re.fullmatch(r"([0-9]+)([bkmgtp]?)", text.lower())
    return int(found[1]) << UNITS[found[2]] if found else uncovered(f"size {text}")
