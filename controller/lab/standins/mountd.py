"""mountd(8), showmount(8) and rpcinfo(8): exports(5) read line by line; a bad line is skipped, and only syslog says so.

mountd's list says nothing about nfsd(8), which is asked through rpcbind.
"""

from __future__ import annotations

import os

from controller.lab.standins.node import Failed, Kernel, options, out, rcvar, syslog, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FLAGS = ("ro", "o", "alldirs", "quiet", "public")
VALUED = ("maproot", "mapall", "network", "mask", "sec")


class Bad(Exception):
    """What syslog gets for a line that is skipped: for each message its text."""


def read(state: dict[str, Any], pid: int) -> None:
    """Serve what the files say now. Raises nothing for a bad line, as mountd."""
    exports: dict[str, list[str]] = {}
    for line in _lines():
        try:
            paths, hosts = _parse(line)
        except Bad as bad:
            for message in bad.args:
                syslog(state, "mountd", pid, message)
            continue
        for path in paths:
            known = exports.setdefault(path, [])
            known += [host for host in hosts if host not in known]
    state["exports"] = exports


def _lines() -> list[str]:
    """The files that mountd_flags names, else /etc/exports; a missing one exports nothing."""
    named = [word for word in rcvar("mountd_flags", "").split() if word.startswith("/")]
    lines = []
    for path in named or ["/etc/exports"]:
        if os.path.isfile(path):
            with open(path) as file:
                lines += file.read().replace("\\\n", " ").split("\n")
    return [line for line in lines if line.strip() and not line.startswith(("#", "V4:"))]


def _parse(line: str) -> tuple[list[str], list[str]]:
    words = line.split()
    paths: list[str] = []
    while words and words[0].startswith("/"):
        path = words.pop(0)
        if not os.path.exists(path) or os.path.realpath(path) != path:
            why = "symbolic link in export path or statfs failed"
            raise Bad(f"bad exports list line '{line[: line.index(path) + len(path)]}': {why}")
        paths.append(path)
    given: dict[str, str] = {}
    while words and words[0].startswith("-"):
        name, _, value = words.pop(0)[1:].partition("=")
        if name not in (*FLAGS, *VALUED):
            raise Bad(f"bad opt {name}", f"bad exports list line '{line}'")
        if name in VALUED and not value:
            value = words.pop(0) if words else uncovered(f"-{name} without a value")
        given[name] = value
    if not paths or ("network" in given) == bool(words):
        uncovered(f"exports line {line!r}")
    return paths, words if words else [_network(given)]


def _network(given: dict[str, str]) -> str:
    """showmount shows the network's address alone."""
    import ipaddress  # slow, and only this line needs it

    prefix = f"/{given['mask']}" if "mask" in given else ""
    return str(ipaddress.ip_network(given["network"] + prefix, strict=False).network_address)


def showmount(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "e")
    if "e" not in found or rest != ["localhost"]:
        uncovered("this form")
    state = Kernel.read()
    if "rpcbind" not in state["services"]:
        raise Failed("RPC: Port mapper failure\nshowmount: can't do exports rpc")
    if "mountd" not in state["services"]:
        uncovered("showmount with rpcbind but without mountd")
    out("Exports list on localhost:\n")
    for path, hosts in state["exports"].items():
        out(f"{path:<34} {' '.join(hosts)} \n")
    return 0


def rpcinfo(argv: Sequence[str]) -> int:
    """``rpcinfo -u HOST nfs 3``, in the words of its source (usr.bin/rpcinfo)."""
    if len(argv) != 5 or argv[1] != "-u" or argv[3:] != ["nfs", "3"]:
        uncovered("this form")
    services = Kernel.read()["services"]
    why = "Program not registered" if "rpcbind" in services else "Port mapper failure - RPC: Timed out"
    if not {"rpcbind", "nfsd"} <= services.keys():
        out("program 100003 version 3 is not available\n")
        raise Failed(f"rpcinfo: RPC: {why}")
    out("program 100003 version 3 ready and waiting\n")
    return 0
