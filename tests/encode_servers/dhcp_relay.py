"""Asks a DHCP server for every card in a file, as a relay does, and prints what it offers: one JSON object per line.

python -m tests.encode_servers.dhcp_relay MACS OWN-ADDRESS SERVER
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_TEXTS = {12: "host_name", 15: "domain", 17: "root_path"}
_ADDRESSES = {1: "mask", 3: "routers", 6: "nameservers"}


def main(macs: Path, own: str, server: str) -> None:
    """Each question waits for its own answer; a server that says nothing ends the run."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind((own, 67))
        relay.settimeout(20)
        for number, mac in enumerate(macs.read_text().split(), start=1):
            relay.sendto(discover(number, bytes.fromhex(mac.replace(":", "")), IPv4Address(own)), (server, 67))
            print(json.dumps({"mac": mac, **offer(relay.recv(4096), number)}))


def discover(number: int, card: bytes, relay: IPv4Address) -> bytes:
    none = bytes(4)
    header = _HEADER.pack(1, 1, 6, 1, number, 0, 0, none, none, none, relay.packed, card, b"", b"", _COOKIE)
    return header + bytes([53, 1, 1, 57, 2, 5, 220, 55, 6, 1, 3, 6, 12, 15, 17, 255])


def offer(packet: bytes, number: int) -> dict[str, Any]:
    """What a node would know, by the names of `HostEntry`."""
    _, _, _, _, answers, _, _, _, yours, following, _, _, _, file, _ = _HEADER.unpack_from(packet)
    assert answers == number, "another question's answer"
    told: dict[str, Any] = {"address": _address(yours), "next_server": _address(following)}
    told["filename"] = file.rstrip(b"\0").decode()
    at = _HEADER.size
    while packet[at] != 255:
        code, length = packet[at], packet[at + 1]
        value = packet[at + 2 : at + 2 + length]
        if code in _TEXTS:
            told[_TEXTS[code]] = value.decode()
        if code in _ADDRESSES:
            told[_ADDRESSES[code]] = [_address(value[start : start + 4]) for start in range(0, length, 4)]
        at += 2 + length
    return told


def _address(four: bytes) -> str:
    return str(IPv4Address(four))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
