"""The SAN goes away and comes back; a node loses its memory, with and without a controller. One stage for all, in each lab.

With real daemons tgtd is stopped by signal, so that the kernel goes on taking connections and nobody answers: the worst
way to be away.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import pytest
import pytest_asyncio

from tests.faults.play import FIRST, LABS, NODES, PATIENCE, RUNNING, SECOND, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

LONGEST_LOOK = 15.0
"""Seconds: ten for a disk that never answers, and what two busy cores add."""
LONGEST_PASS = 25.0
"""A look, an act, and the look that proves it: later ones wait three seconds for tgtd and for no disk."""


OUTAGE = 120.0
"""Seconds that real daemons are away: far past every ping, login and look that could give up or come back by itself."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LABS)
async def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("away") / "stage", lab=request.param) as play:
        await play.converged()
        yield play


async def test_the_san_away_and_back(play: Play) -> None:
    before, act, begun = play.everywhere(), play.last_act(), time.time()
    play.stage.site.san_away()
    await play.until("both sessions are down", lambda: all(play.state(f"session/{one}") == "Waiting" for one in NODES))
    one = play.statuses()
    assert one[f"session/{FIRST}"]["message"] == (
        f"the SAN does not answer: the iSCSI session of {FIRST} is 'Disconnected'; its disk is left alone"
    )
    disk = "cannot look at the jail disk of jailbox2: the iSCSI session is not connected (exit 75)"
    for name in ("base/jailbox2", "jail/jailbox2/db", "jail/jailbox2/web", "jail/jailbox2/build.example.org"):
        assert (one[name]["state"], one[name]["message"]) == ("Unknown", disk)
    assert one["lun/jailbox2"]["state"] == "Unknown"
    assert one["lun/jailbox2"]["message"] == "cannot ask tgtd on san: tgtd does not answer (exit 124)"
    assert [one[f"{kind}/{node}"]["state"] for kind in ("addresses", "node") for node in NODES] == ["Ready"] * 4
    assert one["image/freebsd13"]["state"] == one["dhcp/boot-server"]["state"] == "Ready"

    # Others are watched and repaired meanwhile.
    await play.on(SECOND, "ifconfig em0 inet 198.51.100.72 -alias")
    took = await play.until("jailbox2 has its address back", lambda: "198.51.100.72" in str(addresses(play, SECOND)))
    assert took < LONGEST_LOOK
    served = await play.leases()
    await play.on("boot-server", "echo '# by hand' >> /etc/dhcp/jailops.conf")
    took = await play.until("DHCP's file is ours again", lambda: "by hand" not in play.dhcp_file())
    assert took < LONGEST_LOOK
    assert await play.leases() == served
    if play.real:
        await play.until("the outage lasted", lambda: time.time() > begun + OUTAGE, within=OUTAGE)
    for _ in range(3):
        await play.next_pass()

    while_away = [one for one in play.passes(500) if one.started > begun]
    assert max(one.seconds for one in while_away) < LONGEST_PASS
    assert {one.result for one in while_away} == {"held"}
    assert [one for one in play.acts(act) if "198.51.100.72" not in one and "DHCP" not in one] == []
    play.stage.site.san_back()
    await play.converged()
    assert play.everywhere() == before, "the jails ran on, none was made or started again"
    assert [one for one in play.acts(act) if "198.51.100.72" not in one and "DHCP" not in one] == []


async def test_what_would_not_serve_a_node_that_boots_is_told(play: Play) -> None:
    """Nothing that is served now shows it: a stopped tftpd, a main file with which dhcpd would not start."""
    act, main = play.last_act(), "/etc/dhcp/dhcpd.conf"
    await play.on(
        "boot-server", f"service tftpd-hpa stop; cp {main} /root/kept; sed -i 's/^authoritative;/authoritative/' {main}"
    )
    stalled = ["bootfiles/boot-server", "dhcp/boot-server"]
    if not play.real:
        await play.on("san", "service rpcbind stop")
        stalled.append("exports/san")
    await play.until("they are told", lambda: {play.state(one) for one in stalled} == {"Stalled"})
    assert (
        "line 3: semicolon expected.; nothing was changed, the old entries are served"
        in (play.statuses()["dhcp/boot-server"]["message"])
    )
    await play.on("boot-server", f"service tftpd-hpa start; cp /root/kept {main}; rm /root/kept")
    if not play.real:
        await play.on("san", "service rpcbind start")
    await play.converged()
    assert play.acts(act) == []


@pytest.mark.parametrize("play", ["simulated"], indirect=True)
async def test_S1_a_machine_that_shows_another_key_is_left_alone_and_no_other(play: Play) -> None:
    """As if something else answered at its address: nothing is done there, and a person is told what to make sure of."""
    server, act = play.stage.site.computers["boot-server"], play.last_act()
    known, server.key = server.key, asyncssh.generate_private_key("ssh-ed25519")
    await play.stage.site.cut("boot-server")
    await play.until("it is told", lambda: play.state("dhcp/boot-server") != "Ready")
    await play.on("boot-server", "echo '# by hand' >> /etc/dhcp/jailops.conf")
    await play.on(SECOND, "ifconfig em0 inet 198.51.100.72 -alias")
    await play.until("jailbox2 has its address back", lambda: "198.51.100.72" in str(addresses(play, SECOND)))
    for _ in range(2):
        await play.next_pass()
    frozen = {name: one for name, one in play.statuses().items() if one["state"] != "Ready"}
    assert frozen.keys() == {f"{kind}/boot-server" for kind in ("bootfiles", "bootretention", "dhcp")}
    assert {one["state"] for one in frozen.values()} == {"Stalled"}
    assert all("Host key is not trusted" in one["message"] for one in frozen.values())
    assert all("put the new public host key into its manifest" in one["hint"] for one in frozen.values())
    assert play.acts(act) == ["add 198.51.100.72 on em0 of jailbox2"]
    server.key = known
    await play.stage.site.cut("boot-server")
    await play.converged()
    assert "by hand" not in play.dhcp_file()


async def test_a_node_that_boots_while_the_controller_is_off(play: Play) -> None:
    before = play.look(FIRST)
    await play.stop()
    outcome = await play.stage.site.reboot(FIRST)
    assert outcome is not None
    assert outcome.state == "up", play.stage.site.console(FIRST)
    came_up(play, before)
    mark, act, last = await play.stage.site.mark(), play.last_act(), play.passes()[0].id
    await play.start()
    await play.until("a pass", lambda: play.passes()[0].id > last)
    first = play.passes(play.passes()[0].id - last)[-1]
    assert first.said == "converged: nothing to do"
    assert play.acts(act) == []
    assert await play.stage.site.writes(mark) == {}


async def test_a_node_that_boots_while_the_controller_watches(play: Play) -> None:
    before, act, other = play.look(FIRST), play.last_act(), play.jails(SECOND)
    begun = time.time()
    outcome = await play.stage.site.reboot(FIRST)
    assert outcome is not None
    assert outcome.state == "up", play.stage.site.console(FIRST)
    await play.converged()
    came_up(play, before)
    assert play.jails(SECOND) == other
    assert [one for one in play.acts(act) if "create" in one or "make " in one or "install" in one] == []
    assert max(one.seconds for one in play.passes(50) if one.started > begun) < LONGEST_PASS


async def test_a_node_whose_files_were_lost_by_hand(play: Play) -> None:
    """Less than a reboot: somebody empties what a memory disk holds."""
    before, act = play.everywhere(), play.last_act()
    await play.on(FIRST, "rm -f /etc/iscsi.conf")
    await play.until("the file is back", lambda: play.acts(act) == [f"write /etc/iscsi.conf on {FIRST}"])
    await play.converged()
    assert await play.on(FIRST, "ls -l /etc/iscsi.conf | cut -c 1-10") == "-rw-------\n"
    assert play.everywhere() == before


def came_up(play: Play, before: dict[str, Any]) -> None:
    """Disk attached and mounted, jails running, addresses set, and the same host to the world; anew since `before`."""
    now = play.look(FIRST)
    assert now["boottime"] > before["boottime"]
    assert now["jails"].keys() == RUNNING[FIRST]
    assert {at: now["mounts"].get(at) for at in ("/", "/iscsi")} == {
        at: before["mounts"].get(at) for at in ("/", "/iscsi")
    }
    assert [one["connected"] for one in now["sessions"]] == [True]
    assert now["addresses"] == before["addresses"]
    assert now["host_keys"] == before["host_keys"]
    assert now["generation"] == before["generation"]


def addresses(play: Play, node: str) -> Any:
    return play.look(node)["addresses"]
