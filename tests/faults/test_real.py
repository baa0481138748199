"""Faults as a real Prometheus sees them, in the real lab."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.play import PATIENCE, RUNNING, SECOND, Play, played
from tests.lab.child import lab_directory
from tests.lab.prometheus import RULES, Prometheus, hurried, prometheus

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("real") / "stage", lab="real") as play:
        await play.converged()
        yield play


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(play: Play) -> AsyncIterator[Prometheus]:
    """Its alerts wait a second at most: the rules as they are would take a quarter of an hour."""
    rules, here = hurried(RULES.read_text()), play.stage.listen
    with lab_directory() as directory, prometheus(play.stage.placed, directory, [here], rules) as server:
        yield server


async def test_nobody_is_alarmed_while_all_is_well(play: Play, server: Prometheus) -> None:
    await play.until("it is scraped", lambda: server.query("jailops_pass_last_timestamp_seconds"))
    assert server.query('sum(jailops_drift{cause="hand"})')[0]["value"][1] == "0"
    await play.until("no alert is left from before the first scrape", lambda: server.alerts() == {})


async def test_drift_that_is_only_watched_fires_the_alert(play: Play, server: Prometheus) -> None:
    play.stage.edit("site.yaml", "jail: enforce", "jail: warn")
    await play.stage.push("Jails are only watched")
    await play.converged()
    await play.stage.site.stop_jail_by_hand(SECOND, "web")
    await play.until("it is seen", lambda: play.state(f"jail/{SECOND}/web") == "Drifted")
    assert play.statuses()[f"jail/{SECOND}/web"]["message"] == (
        f"differs by hand: it is not running; the Site says only to warn, so jailops does not start jail web on {SECOND}"
    )
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


async def test_a_failed_build_fires_the_alert(play: Play, server: Prometheus) -> None:
    leases = await play.leases()
    play.build(fail="compile")
    play.stage.edit("images/freebsd13.yaml", "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await play.stage.push("No games")
    await play.until("the alert fires", lambda: server.alerts().get("JailopsBuildFailed") == "firing")
    message = play.statuses()["world/freebsd13"]["message"]
    assert message.startswith("cannot build the world of freebsd13: line ")
    assert " error: " in message
    assert await play.leases() == leases
    play.build()
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.converged()
    await play.until("the alert is gone", lambda: "JailopsBuildFailed" not in server.alerts())
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING
