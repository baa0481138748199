"""Kea's DHCPv4 server: reservations inside the whole configuration of its control socket (Kea ARM 17).

A full ``config-get`` answer and host entries go in, the full configuration for ``config-set`` comes out. Only
reservations that carry our mark are ever replaced, and the control socket is never lost: ``config-set`` without it
succeeds and locks us out (seen on 2.2.0). Answers hold database passwords, so no value here prints one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from controller.encode import hosts
from controller.encode.hosts import HostEntry, Pool
from controller.encode.text import GrammarError, ipv4

Config = Mapping[str, Any]
_MARK = "jailops"
_OPTIONS = ("root-path", "host-name", "domain-name", "domain-name-servers", "subnet-mask", "routers")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the control socket. `result`: 0 done, 1 error, 2 unsupported, 3 nothing found, 4 conflict."""

    result: int
    text: str
    arguments: Config = field(default_factory=dict, repr=False)


def command(name: str, arguments: Config | None = None) -> str:
    """One request for the control socket, as one JSON object."""
    return json.dumps({"command": name} | ({"arguments": dict(arguments)} if arguments is not None else {}))


def reply(text: str) -> Reply:
    """Read an answer: the bare object of a UNIX socket or the one-element list of HTTP. Raises GrammarError."""
    try:
        body = json.loads(text)
    except ValueError:
        raise GrammarError(0, f"Kea's answer of {len(text)} characters is not JSON") from None
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict) or type(body.get("result")) is not int:
        raise GrammarError(0, "Kea's answer has no result")
    words, arguments = body.get("text", ""), body.get("arguments", {})
    if not isinstance(words, str) or not isinstance(arguments, dict):
        raise GrammarError(0, "Kea's answer has a text or arguments of an unknown shape")
    return Reply(body["result"], words, arguments)


def merge(config: Config, entries: Iterable[HostEntry], subnet: str) -> dict[str, Any]:
    """The arguments for ``config-test`` and ``config-set``: `config` with our reservations in `subnet` replaced.

    Raises ValueError when an entry cannot be written, when the subnet or the control socket is not in `config`, or
    when somebody else's reservation already has one of our addresses.
    """
    merged = copy.deepcopy({"Dhcp4": dict(_dhcp4(config))})
    if not any(merged["Dhcp4"].get(key) for key in ("control-socket", "control-sockets")):
        raise ValueError("the configuration has no control socket: to set it would lock the controller out")
    reservations = [_reservation(hosts.check(entry)) for entry in sorted(entries, key=hosts.order)]
    _refuse_conflicts(merged, reservations)
    for holder in _holders(merged["Dhcp4"]):
        if "reservations" in holder:
            holder["reservations"] = [item for item in holder["reservations"] if not _is_ours(item)]
    ours = _subnet(merged["Dhcp4"], subnet)
    ours["reservations"] = [*ours.get("reservations", []), *reservations]
    return merged


def entries(config: Config) -> tuple[HostEntry, ...]:
    """Our reservations in a ``config-get`` answer. Defaults that Kea adds are left out; what we never write raises."""
    return tuple(sorted((_entry(item) for item in _reservations(config) if _is_ours(item)), key=hosts.order))


def entries_of(text: str) -> tuple[HostEntry, ...] | None:
    """Our reservations in the file that Kea reads at its next start; None when that cannot be read as JSON, as after a
    hand's edit with comments: what it would serve is not known then."""
    try:
        return entries(json.loads(text))
    except ValueError:
        return None


def unmanaged(config: Config) -> tuple[str, ...]:
    """Other people's reservations, each as ``ADDRESS KEY (NAME)`` to show to a person."""
    return tuple(_shown(item) for item in _reservations(config) if not _is_ours(item))


def pools(config: Config) -> tuple[Pool, ...]:
    """The dynamic ranges of all subnets. Raises GrammarError for a pool that is neither a range nor a network."""
    listed = [pool["pool"] for holder in _holders(_dhcp4(config)) for pool in holder.get("pools", [])]
    return tuple(map(_pool, listed))


def _dhcp4(config: Config) -> dict[str, Any]:
    body = config.get("Dhcp4")
    if not isinstance(body, dict):
        raise GrammarError(0, "the configuration has no Dhcp4 part")
    return body


def _holders(dhcp4: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every place that may hold reservations: the global list, the subnets, and those of shared networks."""
    yield dhcp4  # type: ignore[misc]
    yield from dhcp4.get("subnet4", [])
    for network in dhcp4.get("shared-networks", []):
        yield from network.get("subnet4", [])


def _subnet(dhcp4: dict[str, Any], subnet: str) -> dict[str, Any]:
    wanted = IPv4Network(subnet)
    found = [holder for holder in _holders(dhcp4) if "subnet" in holder and IPv4Network(holder["subnet"]) == wanted]
    if len(found) != 1:
        raise ValueError(f"the configuration has {len(found)} subnets {wanted}, not one")
    return found[0]


def _reservations(config: Config) -> Iterator[Mapping[str, Any]]:
    for holder in _holders(_dhcp4(config)):
        yield from holder.get("reservations", [])


def _is_ours(reservation: Mapping[str, Any]) -> bool:
    context = reservation.get("user-context")
    return isinstance(context, dict) and context.get(_MARK) is True


def _refuse_conflicts(config: Config, reservations: list[dict[str, Any]]) -> None:
    for other in _reservations(config):
        for mine in reservations:
            shared = [key for key in ("hw-address", "ip-address") if str(other.get(key, "")).lower() == mine[key]]
            if shared and not _is_ours(other):
                raise ValueError(f"host {mine['hostname']!r}: {_shown(other)} has the same {' and '.join(shared)}")


def _shown(item: Mapping[str, Any]) -> str:
    keys = ("hw-address", "client-id", "duid", "circuit-id", "flex-id")
    identity = next((str(item[key]) for key in keys if item.get(key)), "?")
    return f"reservation {item.get('ip-address', '?')} {identity} ({item.get('hostname') or 'no name'})"


def _reservation(entry: HostEntry) -> dict[str, Any]:
    values = (
        entry.root_path,
        entry.host_name,
        entry.domain or "",
        ", ".join(entry.nameservers),
        entry.mask,
        ", ".join(entry.routers),
    )
    return {
        "hw-address": entry.mac,
        "ip-address": entry.address,
        "hostname": entry.name,
        "next-server": entry.next_server,
        "boot-file-name": entry.filename,
        # Kea sends what a client asks for: a FreeBSD 10 loader asks for nothing, a 13 one not for 6 and 15 (bootp.c).
        "option-data": [_option(name, data) for name, data in zip(_OPTIONS, values, strict=True) if data],
        "user-context": {_MARK: True},
    }


def _option(name: str, data: str) -> dict[str, Any]:
    return {"name": name, "data": data, "always-send": True}


def _entry(item: Mapping[str, Any]) -> HostEntry:
    options = _options(item)
    try:
        entry = HostEntry(
            name=item["hostname"],
            mac=item["hw-address"].lower(),
            address=item["ip-address"],
            next_server=item["next-server"],
            filename=item["boot-file-name"],
            root_path=options["root-path"],
            host_name=options["host-name"],
            domain=options.get("domain-name"),
            nameservers=_addresses(options.get("domain-name-servers", "")),
            mask=options["subnet-mask"],
            routers=_addresses(options.get("routers", "")),
        )
        return hosts.check(entry)
    except (KeyError, AttributeError) as error:
        raise GrammarError(0, f"our {_shown(item)} lacks or spoils {error}") from None
    except ValueError as error:
        raise GrammarError(0, f"our {_shown(item)} is not as we write it: {error}") from None


def _options(item: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in item.get("option-data", []):
        name, data = option.get("name"), option.get("data")
        if name not in _OPTIONS or name in found or not isinstance(data, str) or option.get("always-send") is not True:
            raise GrammarError(0, f"our {_shown(item)} has an option {name!r} that we did not write so")
        found[name] = data
    return found


def _addresses(data: str) -> tuple[str, ...]:
    return tuple(ipv4(part.strip(), "address") for part in data.split(",")) if data else ()


def _pool(written: str) -> Pool:
    first, dash, last = (part.strip() for part in written.partition("-"))
    try:
        if dash:
            return ipv4(first, "pool"), ipv4(last, "pool")
        network = IPv4Network(first)
    except ValueError:
        raise GrammarError(0, f"a pool is neither a range nor a network: {written!r}") from None
    return str(network[0]), str(network[-1])
