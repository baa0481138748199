"""A node of the simulated site that does not come up, and what its servers' logs say of it."""

from __future__ import annotations

import time

import pytest

from controller.encode import bootlog
from controller.encode.boottime import Timeline, timeline
from tests.site import scripts
from tests.site.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE, MAC, ADDRESS = "node2", "12:34:56:78:90:ac", "198.51.100.51"
SERVERS = ("boot", "san")


async def looked(hands: Hands, since: float) -> Timeline:
    node = bootlog.Node(MAC, ADDRESS, f"/export/jailops/hosts/{NODE}", "/export/jailops/images/standard")
    answers = [await hands.ask(name, bootlog.question(node)) for name in SERVERS]
    assert [status for status, _, _ in answers] == [0, 0]
    boot, san = (bootlog.parse(out, node) for _, out, _ in answers)
    found = timeline(boot, san, since, SERVERS)
    assert found is not None
    return found


async def test_a_boot_is_told_phase_by_phase(hands: Hands) -> None:
    since = time.time()
    outcome = await hands.site.reboot(NODE)
    assert outcome is not None
    assert outcome.state == "up"
    found = await looked(hands, since)
    assert [step.phase for step in found.steps] == list(bootlog.PHASES)
    assert [step.what for step in found.steps if step.what] == [
        ADDRESS,
        ADDRESS,
        f"standard/{scripts.GENERATION}/boot/pxeboot",
        scripts.ROOT,
        f"/export/jailops/hosts/{NODE}/etc",
    ]
    assert (found.boots, found.refused, found.untold) == (1, None, frozenset())


async def test_tftp_is_stopped(hands: Hands) -> None:
    await hands.sh("boot", "service tftpd-hpa stop\n")
    since = time.time()
    try:
        assert await hands.site.reboot(NODE, timeout=1) is None
        found = await looked(hands, since)
        assert found.last_phase is not None
        assert (found.last_phase.phase, found.last_phase.what) == ("leased", ADDRESS)
        assert "never asked for its boot file: is TFTP blocked or not running" in found.told
        assert found.boots > 1
        assert ":69 " not in await hands.sh("boot", "ss -Hlun\n")
    finally:
        await hands.sh("boot", "service tftpd-hpa start\n")
    outcome = await hands.site.booted(NODE)
    assert outcome is not None
    assert outcome.state == "up"


async def test_the_export_is_missing(hands: Hands) -> None:
    await hands.sh("san", f"exportfs -u {ADDRESS}:{scripts.ROOT}\n")
    since = time.time()
    try:
        outcome = await hands.site.reboot(NODE)
        assert outcome is not None
        assert outcome.state == "stuck"
        found = await looked(hands, since)
        assert found.last_phase is not None
        assert found.last_phase.phase == "loader"
        assert f"then NFS on san refused it {scripts.ROOT}: unmatched host" in found.told
    finally:
        await hands.sh("san", f"exportfs -o ro,no_root_squash,no_subtree_check,sync {ADDRESS}:{scripts.ROOT}\n")


async def test_the_boot_file_is_missing(hands: Hands) -> None:
    file = f"{scripts.TFTP}/pxeboot"
    await hands.sh("boot", f"mv {file} {file}.away\n")
    since = time.time()
    try:
        assert await hands.site.reboot(NODE, timeout=1) is None
        assert "then TFTP on boot refused it: File not found" in (await looked(hands, since)).told
    finally:
        await hands.sh("boot", f"mv {file}.away {file}\n")
    await hands.site.booted(NODE)


async def test_dhcp_does_not_know_the_card(hands: Hands) -> None:
    before = await hands.sh("boot", "cat /etc/dhcp/jailops.conf\n")
    await hands.serve("")
    since = time.time()
    try:
        assert await hands.site.reboot(NODE, timeout=0.5) is None
        said = (await looked(hands, since)).told
        assert "then DHCP on boot refused it: network 198.51.100.0/24: no free leases" in said
        await hands.site.power_off(NODE)
        assert (await looked(hands, time.time())).last_phase is None
    finally:
        await hands.serve(before)
        await hands.site.power_on(NODE)
    await hands.site.booted(NODE)
