"""The journal of the simulated Debian machines: what their daemons logged, and the words of journalctl(1) that read it.

One line per entry in ``/lab/journal``, in the form of ``--output=short-unix`` (measured with systemd 252), kept short. The
daemons' own words are those of dhcpd 4.4.3, tftpd-hpa 5.2 and rpc.mountd 2.6.2.
"""

from __future__ import annotations

import os
import time

from controller.lab.servers import units
from controller.lab.servers.kit import Box, replace, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

LIMIT: Final = 1 << 20
"""Bytes. A node that is not served asks for ever; the older half goes."""
TFTP_DEFAULTS: Final = "/etc/default/tftpd-hpa"


def log(box: Box, identifier: str, *messages: str) -> None:
    """Something that a daemon said just now."""
    name, file = box.load("machine", {}).get("name", "debian"), box.path("/lab/journal")
    os.makedirs(box.path("/lab"), exist_ok=True)
    if os.path.exists(file) and os.path.getsize(file) > LIMIT:
        with open(file, "rb") as old:
            replace(file, old.read()[-LIMIT // 2 :].partition(b"\n")[2])
    with open(file, "a") as journal:
        for message in messages:
            journal.write(f"{time.time():.6f} {name} {identifier}: {message}\n")


def dhcp(box: Box, mac: str, address: str | None) -> None:
    """One client that asks dhcpd and, when it is known there, takes what it is offered."""
    import ipaddress

    if address is None:
        subnet = box.load("dhcpd", {})["served"]["subnets"][0]
        network = ipaddress.ip_network(f"{subnet['network']}/{subnet['netmask']}")
        log(box, "dhcpd[16]", f"DHCPDISCOVER from {mac} via eth0: network {network}: no free leases")
        return
    own = box.load("machine", {}).get("address", "")
    log(
        box,
        "dhcpd[16]",
        f"DHCPDISCOVER from {mac} via eth0",
        f"DHCPOFFER on {address} to {mac} via eth0",
        f"DHCPREQUEST for {address} ({own}) from {mac} via eth0",
        f"DHCPACK on {address} to {mac} via eth0",
    )


def tftp(box: Box, defaults: str, address: str, filename: str, found: bool) -> None:
    """One request; in.tftpd says nothing of it unless its options are verbose, and of a refusal only when they are twice."""
    import re

    verbosity = len(re.findall(r"(?:--verbose|-v)\b", defaults))
    if verbosity:
        log(box, "in.tftpd[41]", f"RRQ from {address} filename {filename}")
    if verbosity > 1 and not found:
        log(box, "in.tftpd[41]", f"sending NAK (1, File not found) to {address}")


def mount(box: Box, address: str, path: str, refusal: str) -> None:
    """One mount request to rpc.mountd."""
    if refusal:
        shown = path if refusal == "unmatched host" else "/"
        log(box, "rpc.mountd[70]", f"refused mount request from {address} for {path} ({shown}): {refusal}")
    else:
        log(box, "rpc.mountd[70]", f"authenticated mount request from {address}:582 for {path} ({path})")


def speaker(line: str) -> str:
    """Who said it, without the process: TIME MACHINE IDENTIFIER[PID]: MESSAGE."""
    return line.split(" ", 3)[2].partition(":")[0].partition("[")[0]


def journalctl(argv: Sequence[str], box: Box) -> int:
    """``--output=short-unix --lines=N [--identifier=NAME]…``; entries that do not exist are no error. Else a unit is meant."""
    if "--output=short-unix" not in argv:
        return units.journalctl(argv, box)
    given = [word.partition("=")[::2] for word in argv[1:] if word not in ("--quiet", "--no-pager")]
    names = {value for key, value in given if key == "--identifier"}
    options = {key: value for key, value in given if key != "--identifier"}
    if options.keys() != {"--output", "--lines"} or options["--output"] != "short-unix" or "--quiet" not in argv:
        uncovered("journalctl form")
    lines = box.text("/lab/journal").splitlines()
    chosen = [line for line in lines if not names or speaker(line) in names]
    for line in chosen[-int(options["--lines"]) :]:
        print(line)
    return 0
