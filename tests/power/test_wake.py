"""Magic packets, and hosts without a switch that can do what is asked."""

from __future__ import annotations

import socket

import pytest

from controller.errors import ControllerError, Stall
from tests.power.conftest import Control
from tests.power.hosts import MAC


async def test_a_magic_packet_is_the_mac_sixteen_times(control: Control) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", 0))
        await control(f"wakeOnLan: {{broadcast: 127.0.0.1, port: {card.getsockname()[1]}}}").wake("node1")
        assert card.recv(200) == b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) * 16


async def test_a_broadcast_is_allowed_to_be_one(control: Control) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("0.0.0.0", 0))
        await control(f"wakeOnLan: {{broadcast: 127.255.255.255, port: {card.getsockname()[1]}}}").wake("node1")
        assert card.recv(200).startswith(b"\xff" * 6)


WAKE = "wakeOnLan: {broadcast: 127.0.0.1}"
ONLY = "with spec.power.wakeOnLan it can only be woken"
IPMI = "ipmi: {address: 127.0.0.1, user: jailops, password: {file: %s}}"


@pytest.mark.parametrize(
    ("power", "host", "op", "message"),
    [
        ("", "node1", "off", "cannot switch off node1: its manifest has no spec.power"),
        (WAKE, "node1", "on", f"cannot switch on node1: {ONLY}"),
        (WAKE, "node1", "status", f"cannot ask for the power of node1: {ONLY}"),
        (IPMI % "bmc", "node1", "wake", "cannot wake node1: its manifest has no spec.power.wakeOnLan"),
        (IPMI % "bmc", "nobody", "off", "cannot switch off nobody: no such host is known"),
        (IPMI % "absent", "node1", "off", "cannot read the secret absent: No such file or directory"),
    ],
)  # fmt: skip
async def test_what_a_host_has_no_switch_for_is_for_a_person(
    control: Control, power: str, host: str, op: str, message: str
) -> None:
    made = control(power)
    with pytest.raises(ControllerError) as caught:
        await {"status": made.status, "off": made.off, "on": made.on, "wake": made.wake}[op](host)
    assert isinstance(caught.value, Stall)
    assert str(caught.value) == message
    assert caught.value.hint
