"""``systemctl``, ``service``, ``ss`` and ``dbus-send`` front for the daemons of the simulated Debian machines.

isc-dhcp-server is the only unit with a life of its own (see dhcpd.py); the others are up until someone stops them, and
then nobody is served (`exports.served`, and TFTP in `controller.lab.site`).
With ``{"start_limit": true}`` in ``/lab/service.json`` systemd's limit of five starts in ten seconds holds.
"""

from __future__ import annotations

import sys
import time

from controller.lab.servers import dhcpd, units
from controller.lab.servers.kit import Box, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DHCP = "isc-dhcp-server"
TFTP = "tftpd-hpa"
OTHERS = {"tgt", "nfs-kernel-server", "nfs-server", "nfs-ganesha", "tftpd-hpa", "rpcbind", "ssh", "isc-dhcp-server"}
ALIASES = {"nfs-server": "nfs-kernel-server"}
STARTS, SECONDS = 5, 10.0


def systemctl(argv: Sequence[str], box: Box) -> int:
    if argv[-1].startswith("jailops-vm-"):
        return units.systemctl(argv, box)
    args = [word for word in argv[1:] if word not in ("--quiet", "-q", "--no-pager", "--no-ask-password")]
    quiet = len(args) != len(argv) - 1
    if len(args) != 2 or args[1].removesuffix(".service") not in OTHERS:
        uncovered("systemctl form or unit")
    return act(box, args[0], args[1].removesuffix(".service"), quiet)


def service(argv: Sequence[str], box: Box) -> int:
    if len(argv) != 3:
        uncovered("service form")
    if argv[1] not in OTHERS:
        print(f"{argv[1]}: unrecognized service", file=sys.stderr)
        return 1
    return act(box, argv[2], argv[1], quiet=False)


def act(box: Box, verb: str, unit: str, quiet: bool) -> int:
    unit = ALIASES.get(unit, unit)
    if verb == "is-active":
        if not quiet:
            print(activity(box, unit))
        return 0 if activity(box, unit) == "active" else 3
    if verb == "is-failed":
        print(activity(box, unit))
        return 0 if activity(box, unit) == "failed" else 1
    if verb == "status":
        print(f"● {unit}.service\n     Active: {activity(box, unit)}")
        return 0 if activity(box, unit) == "active" else 3
    if verb == "reset-failed":
        return reset(box, unit)
    if verb == "stop":
        return stop(box, unit)
    if verb in ("start", "restart", "try-restart"):
        return start(box, verb, unit)
    if verb in ("reload", "force-reload") and unit != DHCP:
        return 0
    print(f"Unknown command verb {verb}.", file=sys.stderr)
    return 1


def activity(box: Box, unit: str) -> str:
    if unit != DHCP:
        return str(box.load("service", {}).get("units", {}).get(unit, "active"))
    state = box.load("dhcpd", dhcpd.NOWHERE)
    return "active" if state["running"] else "failed" if state["failed"] else "inactive"


def start(box: Box, verb: str, unit: str) -> int:
    if verb == "start" and activity(box, unit) == "active":
        return 0
    if too_often(box, unit):
        print(f"Job for {unit}.service failed.\n{unit}.service: Start request repeated too quickly.", file=sys.stderr)
        return 1
    if unit != DHCP:
        return remember(box, unit, "active")
    reason = dhcpd.start(box)
    if reason:
        print(f"Job for {unit}.service failed because the control process exited with error code.", file=sys.stderr)
        print(f'See "systemctl status {unit}.service" and "journalctl -xeu {unit}.service" for details.',
              file=sys.stderr)  # fmt: skip
    return 1 if reason else 0


def too_often(box: Box, unit: str) -> bool:
    with box.edit("service", {}) as state:
        if not state.get("start_limit"):
            return False
        now = time.time()
        recent = [at for at in state.setdefault("started", {}).get(unit, []) if now - at < SECONDS]
        state["started"][unit] = [*recent, now][-STARTS:]
    limited = len(recent) >= STARTS
    if limited and unit == DHCP:
        with box.edit("dhcpd", dhcpd.NOWHERE) as daemon:
            daemon.update(running=False, failed=True)
    return limited


def reset(box: Box, unit: str) -> int:
    with box.edit("service", {}) as state:
        state.get("started", {}).pop(unit, None)
    if unit == DHCP:
        with box.edit("dhcpd", dhcpd.NOWHERE) as daemon:
            daemon["failed"] = False
    return 0


def stop(box: Box, unit: str) -> int:
    if unit == DHCP:
        dhcpd.stop(box)
        return 0
    return remember(box, unit, "inactive")


def remember(box: Box, unit: str, what: str) -> int:
    with box.edit("service", {}) as state:
        state.setdefault("units", {})[unit] = what
    return 0


def ss(argv: Sequence[str], box: Box) -> int:
    """``ss -lun``: the listening UDP sockets, numbers only (with -H: without the header)."""
    letters = set("".join(word.lstrip("-") for word in argv[1:] if word.startswith("-")))
    if not letters <= set("lunHap4") or "u" not in letters or any(not word.startswith("-") for word in argv[1:]):
        uncovered("ss form")
    if "H" not in letters:
        print("State  Recv-Q Send-Q Local Address:Port Peer Address:PortProcess")
    ports = {DHCP: 67, TFTP: 69}
    for port in (port for unit, port in ports.items() if activity(box, unit) == "active"):
        print(f"UNCONN 0      0      {f'0.0.0.0:{port}':>18}      0.0.0.0:*          ")
    return 0
