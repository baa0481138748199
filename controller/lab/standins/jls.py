"""jls(8): tables, parameters and libxo JSON of the prisons that run."""

from __future__ import annotations

from controller.lab.standins.jails import DEFAULTS, find
from controller.lab.standins.node import Failed, Kernel, libxo, options, out, uncovered, xo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def main(argv: Sequence[str]) -> int:
    json, args = libxo(argv[1:])
    found, names = options(args, "hnqsvdN", "j")
    state = Kernel.read()
    chosen = state["jails"]
    if "j" in found:
        one = find(state, found["j"])
        if one is None:
            raise Failed(f'jls: jail "{found["j"]}" not found')
        chosen = [one]
    if "s" in found:
        uncovered("jls -s")
    if json:
        return _jls_json(state, chosen, found, names)
    if "n" in found or "h" in found or names:
        return _jls_params(state, chosen, found, names)
    return _jls_table(chosen, found)


def _jls_table(chosen: list[dict[str, Any]], found: dict[str, str]) -> int:
    if "v" in found:
        out(f"   JID  {'Hostname':<29} Path\n        {'Name':<29} State\n        CPUSetID\n        IP Address(es)\n")
        for one in chosen:
            out(f"{one['jid']:6d}  {one['hostname']:<29.29} {one['path']:.74}\n        {one['name']:<29.29} ACTIVE\n")
            out(f"        {one['cpuset']}\n" + "".join(f"        {address}\n" for address in one["ip4"]))
        return 0
    out(
        (f" {'JID':<15}" if "N" in found else "   JID")
        + "  IP Address      Hostname                      Path\n"[("N" in found) :]
    )
    for one in chosen:
        first = f" {one['name']:<15} " if "N" in found else f"{one['jid']:6d}  "
        address = one["ip4"][0] if one["ip4"] else ""
        out(f"{first}{address:<15.15} {one['hostname']:<29.29} {one['path']:.74}\n")
    return 0


def values(state: dict[str, Any], one: dict[str, Any] | None) -> dict[str, str | list[str]]:
    """Every parameter by name, plain names first, then dotted ones, alphabetically. With no jail only names matter."""
    loaded = set(state["modules"]) | {"devfs", "procfs", "tmpfs"}
    known: dict[str, str | list[str]] = {
        key: value
        for key, value in DEFAULTS.items()
        if not key.startswith("allow.mount.") or key.rpartition(".")[2] in loaded
    }
    known |= {"dying": "false", "host": "new", "ip4": "disable", "ip6": "disable", "parent": "0", "vnet": "inherit"}
    known |= {"osreldate": str(state["node"]["osreldate"]), "osrelease": state["node"]["release"], "children.cur": "0"}
    known |= {"ip4.saddrsel": "true", "ip6.saddrsel": "true", "ip6.addr": []}
    known |= dict.fromkeys(("jid", "name", "path", "host.hostname", "ip4.addr", "cpuset.id"), "")
    if one is not None:
        known |= one["params"]
        known |= {"jid": str(one["jid"]), "name": one["name"], "path": one["path"], "host.hostname": one["hostname"]}
        known |= {"ip4.addr": one["ip4"], "cpuset.id": str(one["cpuset"])}
    return {key: known[key] for key in sorted(known, key=lambda key: ("." in key, key))}


def _jls_params(state: dict[str, Any], chosen: list[dict[str, Any]], found: dict[str, str], names: list[str]) -> int:
    if "h" in found:
        out(" ".join(names or values(state, None)) + "\n")
    for one in chosen:
        known = values(state, one)
        for name in names:
            if name not in known:
                raise Failed(f"jls: unknown parameter: {name}")
        keys = names or list(known)
        out(
            " ".join(_named(key, known[key], found) if "n" in found else _bare(known[key], found) for key in keys)
            + "\n"
        )
    return 0


def _named(key: str, value: str | list[str], found: dict[str, str]) -> str:
    if value in ("true", "false"):
        head, dot, tail = key.rpartition(".")
        return key if value == "true" else f"{head}{dot}no{tail}"
    if isinstance(value, list) and not value:
        return f'{key}=""' if "q" in found else f"{key}="
    return f"{key}={_bare(value, found)}"


def _bare(value: str | list[str], found: dict[str, str]) -> str:
    if isinstance(value, list):
        return ",".join(value) or "-"
    if value == "":
        return '""'
    return f'"{value}"' if "q" in found and " " in value else value


def _jls_json(state: dict[str, Any], chosen: list[dict[str, Any]], found: dict[str, str], names: list[str]) -> int:
    rows: list[dict[str, Any]] = []
    for one in chosen:
        if "n" in found or names:
            known = values(state, one)
            keys = names or list(known)
            rows.append({key: known[key] == "true" if known[key] in ("true", "false") else known[key] for key in keys})
        elif "v" in found:
            row = {"jid": one["jid"], "hostname": one["hostname"], "path": one["path"], "name": one["name"]}
            rows.append(
                {**row, "state": "ACTIVE", "cpusetid": one["cpuset"], "ipv4_addrs": one["ip4"], "ipv6_addrs": []}
            )
        else:
            address = one["ip4"][0] if one["ip4"] else ""
            rows.append({"jid": one["jid"], "ipv4": address, "hostname": one["hostname"], "path": one["path"]})
    out(xo({"__version": "2", "jail-information": {"jail": rows}}) + "\n")
    return 0
