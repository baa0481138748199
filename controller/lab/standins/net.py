"""ifconfig(8) and netstat(1) of a node with one Ethernet card, whose first address belongs to the boot."""

from __future__ import annotations

from controller.lab.standins.node import Failed, Kernel, libxo, out, rcvar, uncovered, xo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def ifconfig(argv: Sequence[str]) -> int:
    args = list(argv[1:])
    node = Kernel.read()["node"]
    card = node["interface"]
    if args == ["-l"]:
        out(f"{card} lo0\n")
        return 0
    cidr = args[:2] == ["-f", "inet:cidr"]
    args = args[2:] if cidr else args
    if args[:1] not in ([card], ["lo0"]) and args:
        raise Failed(f"ifconfig: interface {args[0]} does not exist")
    if args == [card]:
        out(_shown(Kernel.read(), cidr))
        return 0
    if args[:1] != [card]:
        uncovered("this form")
    return _alias([word for word in args[1:] if word != "inet"])


def _alias(words: list[str]) -> int:
    if words[-1:] == ["alias"] and len(words) == 2:
        address, slash, bits = words[0].partition("/")
        with Kernel() as state:
            add_alias(state, address, int(bits) if slash else uncovered("an alias without a prefix length"))
    elif words[-1:] == ["-alias"] and len(words) == 2:
        with Kernel() as state:
            if not remove_alias(state, words[0].partition("/")[0]):
                raise Failed("ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address")
    else:
        uncovered("this form")
    return 0


def add_alias(state: dict[str, Any], address: str, bits: int) -> None:
    """Adding an address again succeeds and changes nothing."""
    if address != state["node"]["address"] and all(one["address"] != address for one in state["aliases"]):
        state["aliases"].append({"address": address, "bits": bits})


def remove_alias(state: dict[str, Any], address: str) -> bool:
    if address == state["node"]["address"]:
        uncovered("removing the address that carries the root")
    left = [one for one in state["aliases"] if one["address"] != address]
    found = len(left) != len(state["aliases"])
    state["aliases"] = left
    return found


def addresses(state: dict[str, Any]) -> list[str]:
    return [state["node"]["address"], *(one["address"] for one in state["aliases"])]


def from_rc_conf(state: dict[str, Any]) -> None:
    """What rc.d/netif does with ifconfig_<card>_alias0 … and ifconfig_<card>_aliases at boot."""
    card = state["node"]["interface"]
    words = [rcvar(f"ifconfig_{card}_alias{number}", "") for number in range(64)]
    words += [f"inet {part.strip()}" for part in rcvar(f"ifconfig_{card}_aliases", "").split("inet ")[1:]]
    for word in words:
        if word:
            family, _, rest = word.partition(" ")
            address, _, bits = rest.strip().partition("/")
            if family != "inet" or not bits.isdigit():
                uncovered(f"alias {word}")
            add_alias(state, address, int(bits))


def _number(address: str) -> int:
    return int.from_bytes(bytes(int(part) for part in address.split(".")), "big")


def _text(number: int) -> str:
    return ".".join(str(part) for part in number.to_bytes(4, "big"))


def _line(address: str, mask: int, cidr: bool) -> str:
    broadcast = _text(_number(address) | (mask ^ 0xFFFFFFFF))
    shown = f"{address}/{bin(mask).count('1')}" if cidr else f"{address} netmask 0x{mask:08x}"
    return f"\tinet {shown} broadcast {broadcast}\n"


def _shown(state: dict[str, Any], cidr: bool) -> str:
    node = state["node"]
    lines = _line(node["address"], _number(node["netmask"]), cidr)
    for one in state["aliases"]:
        lines += _line(one["address"], 0xFFFFFFFF << (32 - one["bits"]) & 0xFFFFFFFF, cidr)
    return (
        f"{node['interface']}: flags=8863<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500\n"
        "\toptions=481209b<RXCSUM,TXCSUM,VLAN_MTU,VLAN_HWTAGGING,VLAN_HWCSUM,WOL_MAGIC,VLAN_HWFILTER,NOMAP>\n"
        f"\tether {node['mac']}\n{lines}"
        "\tmedia: Ethernet autoselect (1000baseT <full-duplex>)\n\tstatus: active\n"
        "\tnd6 options=29<PERFORMNUD,IFDISABLED,AUTO_LINKLOCAL>\n"
    )


def netstat(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    if args != ["-rn", "-f", "inet"]:
        uncovered("netstat other than -rn -f inet")
    routes = _routes(Kernel.read()["node"], Kernel.read()["aliases"])
    if not json:
        out("Routing tables\n\nInternet:\nDestination        Gateway            Flags     Netif Expire\n")
        out("".join(f"{one[0]:<18} {one[1]:<18} {one[2]:<6} {one[3]:>8}\n" for one in routes))
        return 0
    pretty = {"U": "up", "G": "gateway", "H": "host", "S": "static"}
    rows = [
        {
            "destination": destination,
            "gateway": gateway,
            "flags": flags,
            "flags_pretty": [pretty[flag] for flag in flags],
            "weight": 1,
            "interface-name": card,
        }
        for destination, gateway, flags, card in routes
    ]
    table = {"rt-family": [{"address-family": "Internet", "rt-entry": rows}]}
    out(xo({"statistics": {"route-information": {"route-table": table}}}) + "\n")
    return 0


def _routes(node: dict[str, Any], aliases: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    card, mask = node["interface"], _number(node["netmask"])
    network = f"{_text(_number(node['address']) & mask)}/{bin(mask).count('1')}"
    own = [node["address"], *(one["address"] for one in aliases)]
    routes = [("default", node["gateway"], "UG", card), ("127.0.0.1", "link#2", "UH", "lo0")]
    routes.append((network, "link#1", "U", card))
    return [*routes, *((address, "link#1", "UHS", "lo0") for address in sorted(own, key=_number))]
