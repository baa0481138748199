"""ifconfig(8): one interface as printed in, its link and IPv4 addresses with prefix lengths out.

Reads both the plain form (hexadecimal netmask, every version) and ``-f inet:cidr`` (11 and later). IPv6 and media lines
are passed over: nothing is decided on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from controller.encode.text import GrammarError

_NAME = re.compile(r"[a-z][a-z0-9_.]*[0-9]+")
_FIRST = re.compile(r"(?P<name>\S+): flags=[0-9a-f]+<(?P<flags>[A-Z0-9_,]*)>.*")
_ETHER = re.compile(r"\tether (?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})")
_INET = re.compile(
    r"\tinet (?P<address>[0-9.]+)(?:/(?P<prefix>[0-9]{1,2}))?(?: --> [0-9.]+)?"
    r"(?: netmask (?P<mask>0x[0-9a-f]{8}))?(?: broadcast [0-9.]+)?(?: vhid [0-9]+)? ?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """One IPv4 address of an interface."""

    address: str
    prefix: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. `ether` is None for one without a link address, such as lo0."""

    name: str
    flags: tuple[str, ...]
    ether: str | None
    addresses: tuple[Address, ...]


def parse(text: str) -> Interface:
    """The answer to `ifconfig IF`. An interface that does not exist is an error of ifconfig, never an empty answer."""
    lines = text.rstrip("\n").split("\n")
    first = _FIRST.fullmatch(lines[0])
    if not first:
        raise GrammarError(1, "not the first line of ifconfig: NAME: flags=… expected")
    ether: str | None = None
    addresses: list[Address] = []
    for number, line in enumerate(lines[1:], 2):
        if not line.startswith("\t"):
            raise GrammarError(number, "more than the one interface that was asked for")
        if line.startswith("\tinet "):
            addresses.append(_address(number, line))
        elif match := _ETHER.fullmatch(line):
            ether = match["mac"]
    flags = tuple(first["flags"].split(",")) if first["flags"] else ()
    return Interface(first["name"], flags, ether, tuple(addresses))


def parse_names(text: str) -> tuple[str, ...]:
    """The answer to `ifconfig -l`: one line of names, at least lo0."""
    names = tuple(text.split())
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise GrammarError(1, "not a list of interfaces")
    return names


def _address(number: int, line: str) -> Address:
    match = _INET.fullmatch(line)
    if not match or (match["prefix"] is None) == (match["mask"] is None):
        raise GrammarError(number, f"not an IPv4 address with its mask: {line.strip()!r}")
    try:
        address = str(IPv4Address(match["address"]))
    except AddressValueError:
        raise GrammarError(number, f"not an IPv4 address: {match['address']!r}") from None
    prefix = int(match["prefix"]) if match["prefix"] else _prefix(number, int(match["mask"], 16))
    if prefix > 32:
        raise GrammarError(number, f"not a prefix length: {prefix}")
    return Address(address, prefix)


def _prefix(number: int, mask: int) -> int:
    prefix = mask.bit_count()
    if mask != 0xFFFFFFFF ^ (0xFFFFFFFF >> prefix):
        raise GrammarError(number, f"a netmask with holes: {mask:#010x}")
    return prefix
