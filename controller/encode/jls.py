"""jls(8): running jails by name, from `jls -nq` (every version) and from its JSON (11 and later).

Ask for at least `WANTED`, and always with ``-q`` in text: 13 prints a value with blanks bare without it. The tables of
`jls` and `jls -v` are never read, they cut long values; the default JSON has no names and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.encode import libxo
from controller.encode.text import GrammarError

WANTED: Final = ("jid", "name", "path", "host.hostname", "ip4.addr", "dying")
"""Parameters that `parse` and `parse_json` need; ip6.addr is read too where the kernel has it."""

_NAME = r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*"
_TOKEN = re.compile(
    rf"(?P<name>{_NAME})(?P<equals>=)?"
    r"""(?(equals)(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^ "'][^ ]*)?))(?:[ ]|$)"""
)
_BOOLEAN = re.compile(r"(?:no)?(?:dying|persist)|allow(?:\.[a-z0-9_]+)+|ip[46]\.(?:no)?saddrsel")
"""Bare words that are parameters. Anything else bare is a piece of a value that was printed without quotes."""
_JID = re.compile(r"[0-9]{1,9}")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Jail:
    """One jail that the kernel knows. A dying one has no processes but its name and addresses are still taken."""

    jid: int
    name: str
    path: str
    hostname: str
    addresses: tuple[str, ...]
    """IPv4 first, then IPv6."""
    dying: bool


def parse(text: str) -> tuple[Jail, ...]:
    """`jls -nq PARAMETER…`, one jail per line; no line means no jail, so look at the exit status first."""
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line)
    return tuple(_jail(number, _parameters(number, line)) for number, line in lines)


def parse_json(text: str) -> tuple[Jail, ...]:
    """`jls --libxo json -n PARAMETER…` or `jls --libxo json -v`."""
    return tuple(_from_row(row) for row in libxo.rows(text, "jail-information", "jail"))


def _parameters(number: int, line: str) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {}
    for name, value in _tokens(number, line):
        if name in found:
            raise GrammarError(number, f"{name} stands twice: a value was printed without quotes")
        found[name] = value
    return found


def _tokens(number: int, line: str) -> Iterator[tuple[str, str | bool]]:
    place = 0
    while place < len(line):
        match = _TOKEN.match(line, place)
        if not match:
            raise GrammarError(number, f"not a parameter of jls -n at column {place + 1}")
        if match["equals"]:
            quoted = match["double"] or match["single"] or match["bare"] or ""
            yield match["name"], _ESCAPE.sub(r"\1", quoted)
        else:
            yield _boolean(number, match["name"])
        place = match.end()


def _boolean(number: int, word: str) -> tuple[str, bool]:
    if not _BOOLEAN.fullmatch(word):
        raise GrammarError(number, f"{word!r} is no switch of a jail: a value was printed without quotes")
    parent, dot, last = word.rpartition(".")
    if last.startswith("no"):
        return f"{parent}{dot}{last[2:]}", False
    return word, True


def _jail(number: int, parameters: Mapping[str, str | bool]) -> Jail:
    texts = {name: value for name, value in parameters.items() if isinstance(value, str)}
    dying = parameters.get("dying")
    missing = [name for name in WANTED if name not in parameters]
    if missing or not isinstance(dying, bool) or not texts.keys() >= set(WANTED) - {"dying"}:
        raise GrammarError(number, f"a jail without {missing[0] if missing else 'its values'}")
    if not _JID.fullmatch(texts["jid"]):
        raise GrammarError(number, f"not a jid: {texts['jid']!r}")
    addresses = _addresses(texts["ip4.addr"]) + _addresses(texts.get("ip6.addr", ""))
    return Jail(int(texts["jid"]), texts["name"], texts["path"], texts["host.hostname"], addresses, dying)


def _addresses(value: str) -> tuple[str, ...]:
    return () if value in ("", "-") else tuple(value.split(","))


def _from_row(row: libxo.Row) -> Jail:
    if "name" not in row:
        raise GrammarError(1, "jails without names: ask jls with -v or -n")
    jid, name, path = libxo.number_of(row, "jid"), libxo.text_of(row, "name"), libxo.text_of(row, "path")
    if "state" in row:
        addresses = libxo.texts_of(row, "ipv4_addrs") + libxo.texts_of(row, "ipv6_addrs")
        return Jail(jid, name, path, libxo.text_of(row, "hostname"), addresses, _dying(libxo.text_of(row, "state")))
    dying = row.get("dying")
    if not isinstance(dying, bool) or "ip4.addr" not in row:
        raise GrammarError(1, "a jail without dying or ip4.addr")
    addresses = libxo.texts_of(row, "ip4.addr") + libxo.texts_of(row, "ip6.addr")
    return Jail(jid, name, path, libxo.text_of(row, "host.hostname"), addresses, dying)


def _dying(state: str) -> bool:
    if state not in ("ACTIVE", "DYING"):
        raise GrammarError(1, f"not a state of a jail: {state!r}")
    return state == "DYING"
