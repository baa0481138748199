"""A node that is switched: shut down from inside, through its BMC, by its network card. Its own site, which it may ruin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio

from controller.drivers.powercycle import REBOOT, off_then_on
from controller.errors import Stall
from controller.graph import Desired
from controller.lab.site import Site
from controller.model import Power, Steps
from controller.power import PowerControl
from controller.vault import Vault
from tests.power.hosts import desired, switches
from tests.site.conftest import PLAN, furnish
from tests.site.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hands() -> AsyncIterator[Hands]:
    async with Site(PLAN) as site:
        hands = Hands(site)
        await furnish(hands)
        yield hands
        assert site.uncovered() == []


async def back(site: Site, node: str, boottime: float) -> None:
    """Wait until the node has gone down and is up again; the test's own timeout ends a wait that is in vain."""
    while True:
        outcome = await site.booted(node)
        if outcome and outcome.state == "up" and site.look(node)["boottime"] > boottime:
            return
        await asyncio.sleep(0.05)


async def test_a_shutdown_typed_on_a_node_reboots_it_and_sshd_goes_and_comes_back(hands: Hands) -> None:
    site = hands.site
    before = site.look("node1")["boottime"]
    end = site.endpoints["node1"]
    key = [str(site.client_key)]
    async with asyncssh.connect(end.host, end.port, username="root", client_keys=key, known_hosts=None) as connection:
        done = await connection.run("shutdown -r now")
        assert (done.exit_status, done.stdout) == (0, "Shutdown NOW!\n")
        assert str(done.stderr).startswith("shutdown: [pid ")
        await connection.wait_closed()
    await back(site, "node1", before)
    assert (await hands.ask("node1", "echo here\n"))[1] == "here\n"
    assert list(site.look("node1")["jails"]) == ["example"]


async def test_the_step_that_reboots_over_ssh_is_answered_before_the_node_goes(hands: Hands) -> None:
    before = hands.site.look("node1")["boottime"]
    assert await hands.ask("node1", REBOOT) == (0, "", "")
    await back(hands.site, "node1", before)


class Nothing:
    """What a control remembers that was never refused."""

    def get(self, key: str) -> str:
        del key
        return ""

    def put(self, key: str, value: str) -> None:
        raise AssertionError(f"{key}: {value}")


def control(tmp_path: Path, power: str) -> tuple[PowerControl, Desired]:
    (tmp_path / "bmc").write_text("simulated\n")
    found = desired(power)
    made = PowerControl(Vault(tmp_path), Nothing())
    made.know(found)
    return made, found


async def perform(steps: Steps, made: PowerControl) -> list[str]:
    """Take power steps as execute does; what was done and what came of it."""
    told: list[str] = []
    answer = None
    while True:
        try:
            step = next(steps) if answer is None else steps.send(answer)
        except StopIteration:
            return told
        assert isinstance(step, Power)
        answer = await made.do(step.host, step.op, step.timeout)
        told.append(f"{step.op}: {answer.out}")


async def test_off_and_on_through_the_bmc_is_a_cold_boot(hands: Hands, tmp_path: Path) -> None:
    site = hands.site
    bmc = await site.bmc("node1")
    made, found = control(
        tmp_path, f"ipmi: {{address: 127.0.0.1, port: {bmc.port}, user: jailops, password: {{file: bmc}}}}"
    )
    before = site.look("node1")["boottime"]
    told = await perform(off_then_on("node1", switches(found, "node1")), made)
    assert told == ["status: on", "off: off", "status: off", "on: on", "status: on"]
    await back(site, "node1", before)
    await made.off("node1")
    assert site.look("node1")["running"] is False
    await made.on("node1")
    await back(site, "node1", before)
    assert await made.status("node1") == "on"


async def test_a_magic_packet_wakes_a_node_that_has_switched_itself_off(hands: Hands, tmp_path: Path) -> None:
    site = hands.site
    port = await site.wake_port("node1")
    made, found = control(tmp_path, f"wakeOnLan: {{broadcast: 127.0.0.1, port: {port}}}")
    before = site.look("node1")["boottime"]
    assert await perform(off_then_on("node1", switches(found, "node1")), made) == ["wake: "]
    assert site.look("node1")["boottime"] == before, "it is on: nothing happens to it"
    await hands.sh("node1", "shutdown -p now >/dev/null 2>&1\n")
    task = site.computers["node1"].task
    assert task
    await task
    await made.wake("node1")
    await back(site, "node1", before)
    with pytest.raises(Stall, match=r"^cannot switch off node1: with spec.power.wakeOnLan it can only be woken$"):
        await made.off("node1")
