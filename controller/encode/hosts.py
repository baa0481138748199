"""One node as a DHCP server knows it, whatever the server, and the checks that no DHCP server makes for us.

Host entries come in; sentences about what is wrong with them go out. ``dhcpd -t`` accepts doubled addresses, short
hardware addresses and addresses outside every subnet (seen with 4.4.3), so these checks run before any file is written.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from controller.encode import text

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")
_ROOT_PATH_MAX = 127
"""loader(8) copies the option into FNAME_SIZE (128) bytes, and BOOTP's file field has 128 too."""


@dataclass(frozen=True, slots=True)
class HostEntry:
    """What one node is told at boot. `mask` and all addresses are dotted IPv4, `mac` is lower case with colons."""

    name: str
    mac: str
    address: str
    next_server: str
    filename: str
    root_path: str
    host_name: str
    domain: str | None
    nameservers: tuple[str, ...]
    mask: str
    routers: tuple[str, ...]


Pool = tuple[str, str]
"""First and last address of a dynamic range."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A host that the operator's own configuration declares. `mac` is lower case, or empty when it names none."""

    name: str
    mac: str
    addresses: tuple[str, ...]


def order(entry: HostEntry) -> tuple[str, str, str]:
    """The key by which every encoder sorts, so that equal sets give equal files."""
    return entry.name, entry.mac, entry.address


def check(entry: HostEntry) -> HostEntry:
    """The entry itself, when every DHCP grammar can hold it. Raises ValueError with the first reason why not."""
    for message in problems(entry):
        raise ValueError(message)
    return entry


def problems(entry: HostEntry) -> Iterator[str]:
    """Everything wrong with one entry taken by itself."""
    for test in _TESTS:
        try:
            test(entry)
        except ValueError as error:
            yield f"host {entry.name!r}: {error}"


def lint(
    entries: Iterable[HostEntry], subnet: str | None, pools: Sequence[Pool] = (), others: Sequence[Foreign] = ()
) -> tuple[str, ...]:
    """Everything wrong with a set of entries; empty when all is well.

    `subnet` is the network (``198.51.100.0/24``) that every address must lie in; `pools` are the dynamic ranges that
    none may lie in, for the server would give the address to somebody else as well; `others` are the operator's hosts,
    with which no entry may share a card, an address or a name.
    """
    listed = sorted(entries, key=order)
    found = [message for entry in listed for message in problems(entry)]
    found += _doubled(listed, "name", lambda entry: entry.name.lower())
    found += _doubled(listed, "hardware address", lambda entry: entry.mac.lower())
    found += _doubled(listed, "address", lambda entry: entry.address)
    for entry in listed:
        if _is_ipv4(entry.address):
            found += _misplaced(entry, subnet, pools)
    found += [message for entry in listed for other in others for message in _clashes(entry, other)]
    return tuple(found)


def _clashes(entry: HostEntry, other: Foreign) -> Iterator[str]:
    """The server takes the first of two hosts that fit, whichever file it stands in."""
    shared = [
        ("name", entry.name if entry.name.lower() == other.name.lower() else ""),
        ("hardware address", entry.mac if entry.mac.lower() == other.mac else ""),
        ("address", entry.address if entry.address in other.addresses else ""),
    ]
    for what, value in shared:
        if value:
            yield f"host {entry.name!r}: {what} {value} is also that of host {other.name!r} in the server's own file"


def _doubled(entries: Sequence[HostEntry], what: str, key: Callable[[HostEntry], str]) -> list[str]:
    owners: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        owners[key(entry)].append(entry.name)
    shared = {value: ", ".join(names) for value, names in owners.items() if len(names) > 1}
    return [f"{what} {value} has several owners: {names}" for value, names in shared.items()]


def _misplaced(entry: HostEntry, subnet: str | None, pools: Sequence[Pool]) -> Iterator[str]:
    address = IPv4Address(entry.address)
    if subnet is not None:
        network = IPv4Network(subnet)
        if address not in network:
            yield f"host {entry.name!r}: address {address} lies outside {network}"
        elif network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
            yield f"host {entry.name!r}: address {address} is the network's own in {network}"
    for first, last in pools:
        if IPv4Address(first) <= address <= IPv4Address(last):
            yield f"host {entry.name!r}: address {address} lies in the dynamic range {first} to {last}"


def _is_ipv4(value: str) -> bool:
    try:
        text.ipv4(value, "address")
    except ValueError:
        return False
    return True


def _check_mac(entry: HostEntry) -> None:
    if not _MAC.fullmatch(entry.mac):
        raise ValueError(f"hardware address is not six octets in lower case: {entry.mac!r}")
    if int(entry.mac[:2], 16) & 1 or entry.mac == "00:00:00:00:00:00":
        raise ValueError(f"hardware address is not that of one card: {entry.mac!r}")


def _check_filename(entry: HostEntry) -> None:
    if len(entry.filename) > _ROOT_PATH_MAX or not _FILENAME.fullmatch(entry.filename):
        raise ValueError(f"boot file is not a plain relative path of at most 127 characters: {entry.filename!r}")


def _check_root_path(entry: HostEntry) -> None:
    server, colon, directory = entry.root_path.partition(":")
    if not colon or len(entry.root_path) > _ROOT_PATH_MAX:
        raise ValueError(f"root-path is not IPv4:/path of at most 127 characters: {entry.root_path!r}")
    text.ipv4(server, "root-path's server")
    text.path(directory, "root-path's directory")


def _check_mask(entry: HostEntry) -> None:
    text.ipv4(entry.mask, "subnet mask")
    inverted = ~int(IPv4Address(entry.mask)) & 0xFFFFFFFF
    if entry.mask == "0.0.0.0" or inverted & (inverted + 1):
        raise ValueError(f"subnet mask has holes: {entry.mask!r}")


def _check_lists(entry: HostEntry) -> None:
    for address in entry.nameservers:
        text.ipv4(address, "name server")
    for address in entry.routers:
        text.ipv4(address, "router")


def _check_domain(entry: HostEntry) -> None:
    if entry.domain is not None:
        text.domain(entry.domain, "domain")


_TESTS: tuple[Callable[[HostEntry], object], ...] = (
    lambda entry: text.domain(text.word(entry.name, "name"), "name"),
    _check_mac,
    lambda entry: text.ipv4(entry.address, "address"),
    lambda entry: text.ipv4(entry.next_server, "next-server"),
    _check_filename,
    _check_root_path,
    lambda entry: text.domain(entry.host_name, "host-name"),
    _check_domain,
    _check_lists,
    _check_mask,
)
