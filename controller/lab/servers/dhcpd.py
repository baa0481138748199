"""``dhcpd`` and its service on the boot server of the simulated site.

``dhcpd -t`` judges a file; the service reads the main file when it is started and answers from that reading until it is
started again, so a file that was changed later changes nothing that a node is told. There is no reload.
State: ``/lab/dhcpd.json`` {running, failed, starts, served}.
"""

from __future__ import annotations

import sys

from controller.lab.servers import syslog
from controller.lab.servers.kit import Box, count, take, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from controller.lab.servers.dhcp_conf import Served

MAIN = "/etc/dhcp/dhcpd.conf"
BANNER = """Internet Systems Consortium DHCP Server 4.4.3-P1
Copyright 2004-2022 Internet Systems Consortium.
All rights reserved.
For info, please visit https://www.isc.org/software/dhcp/
"""
REFUSAL = """Configuration file errors encountered -- exiting

If you think you have received this message due to a bug rather
than a configuration issue please read the section on submitting
bugs on either our web page at www.isc.org or in the README file
before submitting a bug.  These pages explain the proper
process and the information we find helpful for debugging.

exiting.
"""
STARTED = (
    "Wrote 0 deleted host decls to leases file.",
    "Wrote 0 new dynamic host decls to leases file.",
    "Wrote 0 leases to leases file.",
    "Server starting service.",
)
NOWHERE = {"running": False, "failed": False, "starts": 0, "served": {"hosts": [], "subnets": [], "options": {}}}


def main(argv: Sequence[str], box: Box) -> int:
    args, path, quiet, test = list(argv[1:]), MAIN, False, False
    while args:
        flag = args.pop(0)
        if flag == "-cf":
            path = take(args, flag)
        elif flag in ("-lf", "-pf"):
            take(args, flag)
        elif flag in ("-t", "-q"):
            test, quiet = test or flag == "-t", quiet or flag == "-q"
        elif flag != "-4":
            uncovered(f"dhcpd {flag}")
    if not test:
        uncovered("dhcpd without -t: the service starts the daemon")
    errors = judge(box, path)[1]
    if not quiet:
        ending = REFUSAL if errors else f"Config file: {path}\nDatabase file: /var/lib/dhcp/dhcpd.leases\n"
        sys.stderr.write(BANNER + (errors + "\n" if errors else "") + ending)
    return 1 if errors else 0


def judge(box: Box, path: str) -> tuple[Served, str]:
    """What the file would serve, and the errors that refuse it ("" when it is good)."""
    from controller.lab.servers.dhcp_conf import Bad, Served, parse

    def read(name: str) -> str:
        with open(box.path(name), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    try:
        return parse(path, read), ""
    except Bad as bad:
        return Served(), str(bad)
    except OSError as error:
        return Served(), f"Can't open {path if box.path(path) == error.filename else error.filename}: {error.strerror}"


def start(box: Box) -> str:
    """Start the daemon from the main file; the reason when it does not stay up."""
    served, errors = judge(box, MAIN)
    if not errors and not covers(served, box.load("machine", {}).get("address", "")):
        errors = "Not configured to listen on any interfaces!"
    with box.edit("dhcpd", NOWHERE) as state:
        state.update(running=not errors, failed=bool(errors), starts=state["starts"] + 1)
        if not errors:
            state["served"] = served.as_json()
            syslog.log(box, "dhcpd[16]", *STARTED)
    count(box, "dhcpd starts")
    return errors


def stop(box: Box) -> None:
    with box.edit("dhcpd", NOWHERE) as state:
        state.update(running=False, failed=False)


def covers(served: Served, address: str) -> bool:
    """dhcpd listens only where a subnet declaration covers the interface's address."""
    import ipaddress

    if not address:
        return True
    own = ipaddress.ip_address(address.split("/")[0])
    return any(own in ipaddress.ip_network(f"{net.name}/{net.facts['netmask']}") for net in served.subnets)


def lease(state: Mapping[str, Any], mac: str) -> dict[str, Any] | None:
    """What a client with this MAC is told by a running daemon: the first host entry whose address some subnet holds."""
    import ipaddress

    if not state.get("running"):
        return None
    for host in state["served"]["hosts"]:
        for address in host.get("addresses", ()) if host.get("mac") == mac else ():
            for net in state["served"]["subnets"]:
                if ipaddress.ip_address(address) in ipaddress.ip_network(f"{net['network']}/{net['netmask']}"):
                    options = {**state["served"]["options"], **net["options"], **host["options"]}
                    options.setdefault("subnet-mask", net["netmask"])
                    return {**host, "address": address, "options": options}
    return None
