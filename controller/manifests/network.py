"""The scalar types of the network: IPv4 and MAC addresses, subnets, portals, ssh public keys.

Addresses are literals, never names that something else would have to resolve. Pure.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Final, TypeAlias

from controller.manifests.scalar import Refused, Scalar, text

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"


@dataclass(frozen=True, slots=True)
class Portal:
    """Where an iSCSI target listens."""

    address: IPv4Address
    port: int = 3260

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


def _address(value: str) -> IPv4Address:
    address = IPv4Address(value)
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise Refused("the IPv4 address of one machine")
    return address


def _interface(value: str) -> IPv4Interface:
    interface = IPv4Interface(value)
    _address(str(interface.ip))
    if not 8 <= interface.network.prefixlen <= 30:
        raise Refused("a network between /8 and /30")
    return interface


def _subnet(value: str) -> IPv4Network:
    try:
        return IPv4Network(value)
    except ValueError:
        raise Refused(
            "the network's first address before the '/'", suggestion=str(IPv4Interface(value).network)
        ) from None


def _portal(value: str) -> Portal:
    address, _, port = value.partition(":")
    if port and not 1 <= int(port) <= 65535:
        raise ValueError
    return Portal(_address(address), int(port) if port else 3260)


def _mac(value: str) -> str:
    mac = value.lower()
    if mac == "00:00:00:00:00:00" or int(mac[:2], 16) & 1:
        raise Refused("the MAC address of one network card, neither zero nor multicast (the first byte must be even)")
    return mac


@dataclass(frozen=True, slots=True)
class Https:
    """The root of a web server."""

    host: str
    port: int = 443

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}"


def _https(value: str) -> Https:
    host, _, port = value.removeprefix("https://").rstrip("/").partition(":")
    if port and not 1 <= int(port) <= 65535:
        raise ValueError
    if host.replace(".", "").isdigit():
        host = str(_address(host))
    return Https(host.lower(), int(port) if port else 443)


def _broadcast(value: str) -> IPv4Address:
    address = IPv4Address(value)
    if value != "255.255.255.255" and (address.is_unspecified or address.is_multicast or address.is_reserved):
        raise Refused("the broadcast address of one network, or 255.255.255.255")
    return address


def _like(pattern: str, expected: str, parse: object, *examples: str) -> Scalar:
    """Only text of exactly this shape reaches the parser, which knows more forms than we want (netmasks, scopes)."""
    shape = text(pattern, expected, *examples, longest=4096)
    assert callable(parse)

    def both(value: str) -> object:
        shape.parse(value)
        return parse(value)

    return Scalar(expected, both, shape.schema, examples)


IPv4: TypeAlias = Annotated[
    IPv4Address, _like(_IPV4, "an IPv4 address such as 198.51.100.10", _address, "198.51.100.10")
]
Cidr: TypeAlias = Annotated[
    IPv4Interface,
    _like(
        rf"{_IPV4}/(?:[12]?[0-9]|3[0-2])",
        "an IPv4 address with its prefix length, such as 198.51.100.50/24",
        _interface,
        "198.51.100.50/24",
    ),
]
Subnet: TypeAlias = Annotated[
    IPv4Network,
    _like(rf"{_IPV4}/(?:[12]?[0-9]|3[0-2])", "an IPv4 network such as 198.51.100.0/24", _subnet, "198.51.100.0/24"),
]
PortalText: TypeAlias = Annotated[
    Portal,
    _like(rf"{_IPV4}(?::[0-9]{{1,5}})?", "IPv4:port such as 198.51.100.10:3260", _portal, "198.51.100.10:3260"),
]
HttpsText: TypeAlias = Annotated[
    Https,
    _like(
        r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?/?",
        "https:// and a host name or an IPv4 address, with an optional :port and nothing after it",
        _https,
        "https://198.51.100.90",
    ),
]
Broadcast: TypeAlias = Annotated[
    IPv4Address,
    _like(_IPV4, "a broadcast address such as 198.51.100.255", _broadcast, "198.51.100.255"),
]
Mac: TypeAlias = Annotated[
    str,
    _like(
        r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}",
        "a MAC address such as 12:34:56:78:90:ab",
        _mac,
        "12:34:56:78:90:ab",
    ),
]

# ssh ----------------------------------------------------------------------------------------------------------------

_KEY_TYPES: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_KEY = rf"(?:{'|'.join(_KEY_TYPES)}) +[A-Za-z0-9+/]+={{0,2}}"
_COMMENT = r"(?: +[!-~](?:[ -~]*[!-~])?)?"
_EXAMPLE_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC9ipcgJX/IxDT0M9AAAE+UA9FLmTCl9hlt6vf2JgNza"


def _key_fields(blob: bytes) -> list[bytes]:
    """The length-prefixed fields of an RFC 4253 key. Raises ValueError unless they fill the blob to its last byte."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields


def _public_key(value: str) -> str:
    """``algorithm base64 [comment]`` with single spaces, after looking inside the base64."""
    algorithm, encoded, *comment = value.split(None, 2)
    try:
        fields = _key_fields(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise Refused("a complete public key (its base64 text is cut off or altered)") from None
    if not fields or fields[0] != algorithm.encode():
        raise Refused(f"a key whose base64 text is an {algorithm} key as its first word says")
    if not _plausible(algorithm, fields):
        raise Refused(f"a complete {algorithm} public key (RSA: at least 2048 bits)")
    return " ".join([algorithm, encoded, *comment])


def _plausible(algorithm: str, fields: list[bytes]) -> bool:
    if algorithm == "ssh-ed25519":
        return len(fields) == 2 and len(fields[1]) == 32
    if algorithm == "ssh-rsa":
        return len(fields) == 3 and int.from_bytes(fields[2], "big").bit_length() >= 2048
    return len(fields) == 3 and fields[1] == algorithm.rpartition("-")[2].encode()


def _host_key(value: str) -> str:
    return " ".join(_public_key(value).split(" ")[:2])


HostKey: TypeAlias = Annotated[
    str,
    _like(
        _KEY + _COMMENT,
        "one public key line such as ssh-keyscan prints after the host: algorithm and base64 text",
        _host_key,
        _EXAMPLE_KEY,
    ),
]
"""Algorithm and base64 text, without a comment."""

AuthorizedKey: TypeAlias = Annotated[
    str,
    _like(
        _KEY + _COMMENT,
        "one public key line: algorithm, base64 text and an optional comment",
        _public_key,
        f"{_EXAMPLE_KEY} alice@desk",
    ),
]
