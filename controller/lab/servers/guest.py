"""QEMU and libvirt of the simulated hypervisor: a process that *is* the build VM's power.

While the process runs and is connected to ``/lab/power.sock``, the site keeps the simulated build VM switched on. The power
button is told to the site, which ends the connection once the VM is off; a process that is killed pulls the plug. The monitor
speaks as much of QMP as is asked here. State of libvirt: its domains in ``/lab/domains.json``, running ones are units.
"""

from __future__ import annotations

import sys

from controller.lab import quickjson as json
from controller.lab.servers import units
from controller.lab.servers.kit import Box, Failed, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}
WITH_VALUE = frozenset(
    {"-name", "-machine", "-smp", "-m", "-drive", "-nic", "-qmp", "-display", "-vnc"},
)
LINKS = "state/links"


def qemu(argv: Sequence[str], box: Box) -> int:
    words = list(argv[1:])
    if set(words[::2]) - WITH_VALUE or len(words) % 2:
        uncovered("qemu option")
    given = dict(zip(words[::2], words[1::2], strict=True))
    drive, nic = (dict(part.partition("=")[::2] for part in given[one].split(",")) for one in ("-drive", "-nic"))
    if not box.at(drive["file"]).exists():
        raise Failed(
            f"{argv[0]}: -drive {given['-drive']}: Could not open '{drive['file']}': No such file or directory"
        )
    if nic["ifname"] not in box.load(LINKS, {}):
        raise Failed(f"{argv[0]}: -nic {given['-nic']}: could not configure /dev/net/tun ({nic['ifname']})")
    monitor = given["-qmp"].removeprefix("unix:").partition(",")[0]
    run(box, given["-name"].removeprefix("guest="), box.at(monitor))
    return 0


def run(box: Box, name: str, monitor: Path) -> None:
    """Be the VM until the site says that it is off."""
    import selectors
    import socket

    power = socket.socket(socket.AF_UNIX)
    power.connect(str(box.lab / "power.sock"))
    power.sendall(f"{name}\n".encode())
    monitor.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(monitor))
    listener.listen()
    with selectors.DefaultSelector() as selector:
        selector.register(power, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is power:
                    if not power.recv(64):
                        monitor.unlink(missing_ok=True)
                        return
                else:
                    answer(listener.accept()[0], power)


def answer(client: socket.socket, power: socket.socket) -> None:
    """One client of the monitor, until it hangs up: QEMU's takes one at a time, too."""
    with client, client.makefile("rw") as talk:
        talk.write(json.dumps(GREETING) + "\n")
        talk.flush()
        for line in talk:
            asked = json.loads(line)["execute"]
            said: dict[str, object] = {"return": {}}
            if asked == "query-status":
                said = {"return": {"status": "running", "singlestep": False, "running": True}}
            elif asked == "system_powerdown":
                power.sendall(b"powerdown\n")
            elif asked != "qmp_capabilities":
                said = {"error": {"class": "CommandNotFound", "desc": f"The command {asked} has not been found"}}
            talk.write(json.dumps(said) + "\n")
            talk.flush()


def ip(argv: Sequence[str], box: Box) -> int:
    """``ip`` for taps and the bridges that ``/lab/bridges.json`` names: which cable is plugged in where."""
    words = list(argv[1:])
    with box.edit(LINKS, {}) as links:
        if words[:3] == ["link", "show", "dev"] and len(words) == 4:
            if words[3] not in links:
                raise Failed(f'Device "{words[3]}" does not exist.')
        elif words[:3] == ["tuntap", "add", "dev"] and words[4:] == ["mode", "tap"]:
            links[words[3]] = {"master": "", "up": False}
        elif words[:3] == ["link", "set", "dev"] and words[4:5] == ["master"] and len(words) == 6:
            if words[5] not in box.load("bridges", []):
                raise Failed(f'Error: argument "{words[5]}" is wrong: Device does not exist', 255)
            links[words[3]]["master"] = words[5]
        elif words[:3] == ["link", "set", "dev"] and words[4:] == ["up"]:
            links[words[3]]["up"] = True
        else:
            uncovered("ip form")
    return 0


def virsh(argv: Sequence[str], box: Box) -> int:
    words = list(argv[1:])
    if words[:2] != ["--quiet", "--connect"] or words[4:5] != ["--domain"] or words[6:] not in ([], ["--mode", "acpi"]):
        uncovered("virsh form")
    verb, domain = words[3], words[5]
    if domain not in box.load("domains", []):
        raise Failed(f"error: failed to get domain '{domain}'")
    unit = f"domain-{domain}.service"
    running = unit in box.load(units.UNITS, {})
    if verb == "domstate":
        print("running\n" if running else "shut off\n")
        return 0
    if verb == "start":
        if running:
            raise Failed(f"error: Domain '{domain}' is already active")
        return units.run(box, unit, [sys.argv[0].replace("virsh", "libvirt-guest"), domain], {})
    if verb == "shutdown":
        if not running:
            raise Failed(f"error: Failed to shutdown domain '{domain}'\nerror: Requested operation is not valid: "
                         "domain is not running")  # fmt: skip
        import socket

        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(_monitor(box, domain)))
            with client.makefile("rw") as talk:
                talk.readline()
                talk.write('{"execute": "system_powerdown"}\n')
                talk.flush()
                talk.readline()
        return 0
    return uncovered(f"virsh {verb}")


def libvirt_guest(argv: Sequence[str], box: Box) -> int:
    """The process that libvirt keeps for a running domain."""
    run(box, argv[1], _monitor(box, argv[1]))
    return 0


def _monitor(box: Box, domain: str) -> Path:
    return box.lab / "state" / f"{domain}.monitor"


def who(argv: Sequence[str], box: Box) -> int:
    """Who is logged in on the build VM: what ``/lab/who`` holds."""
    if len(argv) != 1:
        uncovered("who form")
    print(box.text("/lab/who"), end="")
    return 0
