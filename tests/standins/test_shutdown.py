"""shutdown(8) and reboot(8) of a node, as freebsd.md 7.2 has them: what is said, what is stopped, what the hardware is told."""

from __future__ import annotations

import pytest

from tests.standins.node import Node


@pytest.mark.parametrize(
    ("command", "told", "left"),
    [
        ("shutdown -r now", "reboot", ""),
        ("shutdown -p now", "off", ""),
        ("reboot", "reboot", "example\n"),
    ],
)
async def test_the_command_returns_and_the_hardware_is_told_after_rc_shutdown(
    jailed: Node, command: str, told: str, left: str
) -> None:
    clean = command != "reboot"
    status, out, err = await jailed.run(command)
    assert (status, out) == (0, "Shutdown NOW!\n" if clean else "")
    assert err.startswith("shutdown: [pid ") is clean
    assert await jailed.machine.shut_down() == told
    assert await jailed.good("jls name") == left, "reboot(8) skips rc.shutdown"
