"""Faults that only real daemons have: tgtd that is stopped in the middle of everything, and a real Prometheus.

tgtd is stopped by signal, so that the kernel goes on taking connections and nobody answers: the worst way to be away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.leaks import found, kept
from tests.faults.play import FIRST, NODES, PATIENCE, RUNNING, SECOND, Play
from tests.lab.child import lab_directory
from tests.lab.loop.stage import RealStage, staged
from tests.lab.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

AWAY = 20.0
"""Seconds of outage: the node's iSCSI ping gives up after 5, and a look at the disk after 10; a pass comes every 2."""
LONGEST_LOOK, LONGEST_PASS = 15.0, 25.0
RULES = Path(__file__).parents[2] / "deploy/prometheus/jailops.rules.yml"


class RealPlay(Play):
    """Nothing here differs but where the commands run."""

    stage: RealStage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play() -> AsyncIterator[RealPlay]:
    async with staged() as stage:
        play = RealPlay(stage)
        await play.converged()
        yield play
        assert stage.site.uncovered() == []
        assert found(stage, await kept(stage)) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(play: RealPlay) -> AsyncIterator[Prometheus]:
    with lab_directory() as directory, prometheus(play.stage.site.ctl, directory, [play.stage.listen], RULES) as server:
        yield server


async def test_tgtd_stopped_and_continued(play: RealPlay) -> None:
    before, act, begun = play.everywhere(), play.last_act(), time.time()
    play.stage.site.san_away()
    try:
        await play.until(
            "both sessions are down", lambda: all(play.state(f"session/{one}") == "Waiting" for one in NODES)
        )
        one = play.statuses()
        assert one["lun/jailbox2"]["message"] == "cannot ask tgtd on san: tgtd does not answer (exit 124)"
        assert one["jail/jailbox2/web"]["message"] == (
            "cannot look at the jail disk of jailbox2: the iSCSI session is not connected (exit 75)"
        )
        unknown = {name for name, status in one.items() if status["state"] == "Unknown"}
        assert unknown == {
            *(f"{kind}/{node}" for kind in ("lun", "base") for node in NODES),
            *(f"jail/{SECOND}/{name}" for name in ("build.example.org", "db", "web")),
            f"jail/{FIRST}/example",
        }
        await play.on(SECOND, "ifconfig em0 inet 198.51.100.72 -alias")
        took = await play.until("jailbox2's address is back", lambda: "198.51.100.72" in str(play.look(SECOND)))
        assert took < LONGEST_LOOK
        play.stage.site.servers["boot-server"].must("echo '# by hand' >> /etc/dhcp/jailops.conf")
        file = play.stage.site.servers["boot-server"].machine.path("/etc/dhcp/jailops.conf")
        took = await play.until("DHCP's file is ours again", lambda: "by hand" not in file.read_text())
        assert took < LONGEST_LOOK
        assert (await asyncio.to_thread(play.stage.site.lease, SECOND)).address == "198.51.100.51"
        await play.until("the outage lasted", lambda: time.time() > begun + AWAY)
        await play.next_pass()
    finally:
        play.stage.site.san_back()
    while_away = [one for one in play.passes(50) if one.started > begun]
    assert len(while_away) >= 3
    assert max(one.seconds for one in while_away) < LONGEST_PASS
    assert [one for one in play.acts(act) if "198.51.100.72" not in one and "DHCP" not in one] == []
    await play.converged()
    assert play.everywhere() == before, "the jails ran on, none was made or started again"
    assert [one for one in play.acts(act) if "198.51.100.72" not in one and "DHCP" not in one] == []


async def test_nobody_is_alarmed_while_all_is_well(play: RealPlay, server: Prometheus) -> None:
    await play.until("it is scraped", lambda: server.query("jailops_pass_last_timestamp_seconds"))
    assert server.query('sum(jailops_drift{cause="hand"})')[0]["value"][1] == "0"
    await play.until("no alert is left from before the first scrape", lambda: server.alerts() == {})


async def test_drift_that_is_only_watched_fires_the_alert(play: RealPlay, server: Prometheus) -> None:
    play.stage.edit("site.yaml", "jail: enforce", "jail: warn")
    await play.stage.push("Jails are only watched")
    await play.converged()
    await play.stage.site.stop_jail_by_hand(SECOND, "web")
    await play.until("it is seen", lambda: play.state(f"jail/{SECOND}/web") == "Drifted")
    assert play.statuses()[f"jail/{SECOND}/web"]["message"] == "differs by hand; the Site says only to warn"
    await play.until("the alert fires", lambda: server.alerts() == {"JailopsDriftNotRepaired": "firing"})
    assert (
        server.query('ALERTS{alertname="JailopsDriftNotRepaired",alertstate="firing"}')[0]["metric"]["kind"] == "jail"
    )
    assert "web" not in play.jails(SECOND)
    play.stage.edit("site.yaml", "jail: warn", "jail: enforce")
    await play.stage.push("Jails are kept running")
    await play.until("the jail runs", lambda: "web" in play.jails(SECOND))
    await play.converged()
    await play.until("the alert is gone", lambda: server.alerts() == {})


async def test_a_failed_build_fires_the_alert(play: RealPlay, server: Prometheus) -> None:
    leases = [await asyncio.to_thread(play.stage.site.lease, node) for node in NODES]
    play.build(fail="compile")
    play.stage.edit("images/freebsd13.yaml", "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await play.stage.push("No games")
    await play.until("the alert fires", lambda: server.alerts().get("JailopsBuildFailed") == "firing")
    message = play.statuses()["image/freebsd13"]["message"]
    assert message.startswith("cannot build freebsd13: line ")
    assert " error: " in message
    assert [await asyncio.to_thread(play.stage.site.lease, node) for node in NODES] == leases
    play.build()
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.converged()
    await play.until("the alert is gone", lambda: "JailopsBuildFailed" not in server.alerts())
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING
