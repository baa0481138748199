"""Plain jail.conf(5) instead of ezjail on one host: create, restart on change, put back, reboot by itself, retire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from controller.starter import repository
from tests.faults.play import FIRST, PATIENCE, RUNNING, SECOND, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

FILE = "jails/jailbox2.yaml"
TREE: dict[str, str] = {}
"""The whole jail disk, before a jail left Git."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    path = "hosts/jailbox2.yaml"
    text = repository()[path]
    assert "manager: ezjail" in text
    plain = {path: text.replace("manager: ezjail", "manager: jail.conf")}
    async with played(tmp_path_factory.mktemp("plain") / "stage", plain) as play:
        await play.converged()
        yield play


async def test_they_are_made_and_run(play: Play) -> None:
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING
    made = [one for one in play.acts(0) if one.startswith("create jail ") and SECOND in one]
    assert sorted(made) == sorted(set(made)) == [
        f"create jail build.example.org on {SECOND}", f"create jail db on {SECOND}", f"create jail web on {SECOND}",
    ]  # fmt: skip
    jail = play.look(SECOND)["jails"]["web"]
    assert (jail["path"], jail["addresses"], jail["hostname"]) == (
        "/iscsi/jails/web", ["198.51.100.71"], "www.example.org",
    )  # fmt: skip
    conf = await play.on(SECOND, "cat /etc/jail.web.conf")
    assert 'path = "/iscsi/jails/web"' in conf
    assert "/iscsi/jails/web/usr/local/www" in await play.on(SECOND, "mount -p")
    assert "ezjail" not in await play.on(SECOND, "ls /iscsi/jails /iscsi/jails/etc")


async def test_a_changed_parameter_restarts_that_jail_alone(play: Play) -> None:
    before = play.jails(SECOND)
    play.stage.edit(FILE, 'allow.raw_sockets: "1"', 'allow.raw_sockets: "0"')
    await play.stage.push("No ping")
    await play.until("db runs anew", lambda: play.jails(SECOND).get("db", before["db"]) != before["db"])
    await play.converged()
    assert play.jails(SECOND)["web"] == before["web"]
    assert 'allow.raw_sockets = "0"' in await play.on(SECOND, "cat /etc/jail.db.conf")


async def test_what_is_changed_by_hand_is_put_back(play: Play) -> None:
    text = await play.on(SECOND, "cat /etc/jail.web.conf")
    await play.on(SECOND, "rm /etc/jail.web.conf")
    await play.converged()
    assert await play.on(SECOND, "cat /etc/jail.web.conf") == text
    jid = play.jails(SECOND)["db"]
    await play.on(SECOND, "jail -f /etc/jail.db.conf -r db")
    await play.until("db runs again", lambda: play.jails(SECOND).get("db", jid) != jid)
    await play.converged()


async def test_the_node_boots_by_itself(play: Play) -> None:
    keys = play.look(SECOND)["host_keys"]
    await play.stop()
    outcome = await play.stage.site.reboot(SECOND)
    assert outcome is not None
    assert outcome.state == "up", play.stage.site.console(SECOND)
    assert set(play.jails(SECOND)) == RUNNING[SECOND], play.stage.site.console(SECOND)
    assert play.look(SECOND)["host_keys"] == keys
    act = play.last_act()
    await play.start()
    assert (await play.converged()).said == "converged: nothing to do"
    assert play.acts(act) == []


async def test_a_jail_that_left_the_manifests_is_retired(play: Play) -> None:
    await play.on(SECOND, "echo precious > /iscsi/jails/web/root/data; chmod 600 /iscsi/jails/web/root/data")
    TREE.update(play.tree("."))
    file = play.stage.work / FILE
    documents = file.read_text().split("---\n")
    file.write_text("---\n".join(one for one in documents if "name: web" not in one))
    act = play.last_act()
    await play.stage.push("No web")
    await play.until("web is stopped", lambda: "web" not in play.jails(SECOND))
    await play.converged()
    acts = [one for one in play.acts(act) if "jail web" in one or "198.51.100.71" in one]
    assert acts == [f"retire jail web on {SECOND}: stop it, keep its data", f"remove 198.51.100.71 on em0 of {SECOND}"]
    assert "198.51.100.71" not in str(play.look(SECOND)["addresses"])
    kinds = [(one.result, {str(done["ref"]["kind"]) for done in one.record["outcomes"]}) for one in play.passes(20)]
    assert next(one for one in kinds if "addresses" in one[1]) == ("converged", {"hostshare", "jail", "addresses"})
    assert play.state(f"jail/{SECOND}/web") == "Retired"
    assert await play.on(SECOND, "cat /iscsi/jails/web/root/data") == "precious\n"
    await play.stage.site.reboot(SECOND)
    await play.converged()
    assert set(play.jails(SECOND)) == {"db"}
    assert set(play.jails(FIRST)) == RUNNING[FIRST]


async def test_D5_a_retired_jail_comes_back_byte_for_byte(play: Play) -> None:
    assert TREE
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.until("web runs", lambda: "web" in play.jails(SECOND))
    await play.converged()
    assert play.tree(".") == TREE
