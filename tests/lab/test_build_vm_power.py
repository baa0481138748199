"""A real QEMU on a real network: what the driver's own scripts do with it, from its start to a clean end.

The hypervisor is a machine of the lab. systemd is not there: its stand-in keeps the unit's process, everything else is real.
The guest is a boot sector that knows nothing but its power button.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.encode import vm
from controller.model import Answer, Script
from tests.lab.child import until
from tests.lab.guest import SMALL, boot_sector
from tests.lab.monitor import Monitor
from tests.lab.net import Net
from tests.lab.server import Server, server

pytestmark = pytest.mark.lab

VM = replace(SMALL, vnc=1)


@pytest.fixture
def below(net: Net, directory: Path) -> Iterator[Server]:
    """A hypervisor with a bridge, as its administrator set it up."""
    with server(directory / "below", net.plug("below", "198.51.100.3")) as below:
        below.must("mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
        below.must("ip link add br0 type bridge && ip link set eth0 master br0 && ip link set br0 up")
        below.write(VM.disk, boot_sector())
        yield below


def run(below: Server, script: Script) -> Answer:
    done = below.run(script)
    return Answer(done.exit, done.out.encode(), done.err.encode())


def power(below: Server) -> vm.Power:
    return vm.parse_power(run(below, vm.look_script(VM)), VM.name)


def started(below: Server) -> None:
    assert run(below, vm.start_script(VM)) == Answer(0, b"", b"")
    proof = run(below, vm.proof_script(VM))
    assert '"status": "running"' in proof.out, proof.err


def booted(below: Server) -> None:
    monitor = Monitor(below.machine.path(vm.socket(VM.name)))
    until("the guest runs", monitor.guest_is_ready, within=20)
    monitor.close()


def test_from_off_to_on_to_off(below: Server) -> None:
    seen = power(below)
    assert (seen.on, seen.word, seen.asked) == (False, "inactive", "")

    started(below)

    seen = power(below)
    assert (seen.on, seen.word, seen.asked) == (True, "active", "start")
    assert seen.since < 30
    link = below.must("ip -oneline link show dev tap1")
    assert "master br0" in link
    assert "UP" in link
    assert "127.0.0.1:5901" in below.must("ss -Hltn")
    assert below.must(f"stat -c %a /run/jailops-vm-{VM.name}").strip() == "700"

    booted(below)
    assert run(below, vm.stop_script(VM)).exit == 0
    until("it is off", lambda: not power(below).on, within=20)

    seen = power(below)
    assert (seen.word, seen.asked) == ("inactive", "stop"), "it ended by itself, and well"
    assert below.run(f"test -e /run/jailops-vm-{VM.name}").exit == 1
    started(below)  # over the cable and the unit's name that are there already


def test_a_guest_that_is_deaf_stays_on(below: Server) -> None:
    below.write(VM.disk, boot_sector(deaf=True))
    started(below)
    booted(below)
    assert run(below, vm.stop_script(VM)) == Answer(0, b'{"return": {}}\n', b"")
    assert '"running"' in run(below, vm.proof_script(VM)).out
    seen = power(below)
    assert (seen.on, seen.asked) == (True, "stop")


def test_a_unit_that_is_stopped_presses_the_button_first(below: Server) -> None:
    """So does a hypervisor that is shut down."""
    started(below)
    booted(below)
    below.must(f"systemctl stop {vm.unit(VM.name)}")
    assert power(below).word == "inactive"
    assert "terminating on signal" not in journal(below), "that is what QEMU says when its plug is pulled"


def test_what_does_not_start_says_why(below: Server) -> None:
    below.must(f"rm {VM.disk}")
    assert run(below, vm.start_script(VM)).exit == 0
    proof = run(below, vm.proof_script(VM))
    assert (proof.exit, "Could not open '/var/lib/jailops/build-vm.raw'" in proof.err) == (1, True)
    assert power(below).word == "failed"
    below.write(VM.disk, boot_sector())
    started(below)


def test_no_second_vm_on_one_disk(below: Server) -> None:
    """Somebody started it by hand, and not as our unit: QEMU's own lock keeps a second one from the disk."""
    started(below)
    other = replace(VM, name="other", tap="tap2", vnc=2)
    run(below, vm.start_script(other))
    proof = run(below, vm.proof_script(other))
    assert (proof.exit, 'Failed to get "write" lock' in proof.err) == (1, True)


def test_a_bridge_that_is_not_there(below: Server) -> None:
    refused = run(below, vm.start_script(replace(VM, bridge="br9")))
    assert (refused.exit, bool(re.search(r"br9.*does not exist", refused.err))) == (1, True)
    assert not power(below).on


def journal(below: Server) -> str:
    return below.must(f"journalctl --quiet --no-pager --output=cat --lines=50 --unit={vm.unit(VM.name)}")
