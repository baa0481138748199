"""A host that gets another name: with `previous` it keeps all that it has, without it one has gone and another has come.

One site, told in one story. What servers and the node hold is compared before and after: volume, target, share, memory of boots,
jails by their numbers, and every file on the jail disk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.play import FIRST, PATIENCE, RUNNING, SECOND, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

NEW, THIRD, OTHER = "newbox", "thirdbox", "otherbox"
KEPT = (
    "ls -i /srv/iscsi/jailops; ls -i /export/jailops/hosts; ls -i /export/jailops/boots; ls -i /export/jailops/images/*; "
    "tgtadm --lld iscsi --op show --mode target | grep -E '^Target|Connection|IP Address|Backing'"
)
"""All that the SAN holds of hosts, with what tells a file from one that was made anew."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("moves") / "stage") as play:
        await play.converged()
        ends = play.stage.site.endpoints
        await play.stop()
        settings = play.stage.settings.read_text()
        for old, new in ((SECOND, NEW), (SECOND, THIRD), (FIRST, OTHER)):
            where = f'"{old}" = "{ends[old].host}:{ends[old].port}"'
            assert where in settings
            settings = settings.replace(where, f"{where}, {where.replace(old, new, 1)}")
        play.stage.settings.write_text(settings)
        await play.start()
        await play.converged()
        yield play


def rename(play: Play, old: str, new: str, say: str = "") -> None:
    for folder in ("hosts", "jails"):
        for file in (play.stage.work / folder).glob("*.yaml"):
            text = file.read_text()
            text = text.replace(f"\n  host: {old}\n", f"\n  host: {new}\n")
            file.write_text(text.replace(f"\n  name: {old}\n", f"\n  name: {new}\n"))
            if f"\n  name: {new}\n" in text.replace(old, new) and folder == "hosts" and say:
                file.write_text(file.read_text().replace("\nspec:\n", f"\nspec:\n{say}", 1))


async def test_M8_a_renamed_host_keeps_all_that_it_has(play: Play) -> None:
    await play.on(SECOND, "echo precious > /iscsi/jails/web/root/data")
    kept, tree, jails = await play.on("san", KEPT), play.tree("."), play.everywhere()
    act = play.last_act()
    rename(play, SECOND, NEW, f"  previous: {SECOND}\n")
    await play.stage.push("The second host has another name")
    await play.until("its reboot waits", lambda: "RebootPending" in str(play.statuses().get(f"bootconf/{NEW}")))
    await play.next_pass()
    assert play.acts(act) == [
        f"write {NEW}'s own files on san",
        "write DHCP entries on boot-server and restart once",
    ]
    assert await play.on("san", KEPT) == kept
    assert play.tree(".") == tree
    assert play.everywhere() == jails
    states = {name: one["state"] for name, one in play.statuses().items() if SECOND in name or NEW in name}
    assert not [name for name in states if SECOND in name]
    assert {name for name, state in states.items() if state != "Ready"} == {f"boot/{NEW}", f"bootconf/{NEW}"}
    assert not play.passes()[0].record["unmanaged"]

    await play.stage.site.reboot(SECOND)
    await play.converged()
    assert await play.on(SECOND, "hostname") == f"{NEW}\n"
    assert set(play.jails(SECOND)) == RUNNING[SECOND]
    assert await play.on(SECOND, "cat /iscsi/jails/web/root/data") == "precious\n"
    assert await play.on("san", KEPT) == kept


async def test_D5_a_jail_that_goes_with_a_rename_is_retired_and_comes_back_byte_for_byte(play: Play) -> None:
    """It is remembered by the host's first name."""
    tree = play.tree(".")
    file = play.stage.work / "jails" / f"{SECOND}.yaml"
    documents = file.read_text().split("---\n")
    file.write_text("---\n".join(one for one in documents if "name: web" not in one))
    rename(play, NEW, THIRD)
    act = play.last_act()
    await play.stage.push("Once more, and without web")
    await play.until("web is stopped", lambda: "web" not in play.jails(SECOND))
    await play.next_pass()
    assert f"retire jail web on {THIRD}: stop it, keep its data" in play.acts(act)
    assert not [one for one in play.acts(act) if one.startswith(("make", "create", "take"))]
    assert play.state(f"jail/{THIRD}/web") == "Retired"
    await play.stage.git("checkout", "-q", "HEAD~1", "--", f"jails/{SECOND}.yaml")
    rename(play, NEW, THIRD)
    await play.stage.push("It comes back")
    await play.until("web runs", lambda: set(play.jails(SECOND)) == RUNNING[SECOND])
    await play.next_pass()
    assert play.tree(".") == tree


async def test_M8_without_previous_one_host_has_gone_and_one_has_come(play: Play) -> None:
    """Nothing of the old one is touched: neither its jail, which runs on, nor its disk, nor what the SAN holds of it."""
    await play.on(FIRST, "echo precious > /iscsi/jails/example/root/data")
    kept = f"ls -i /srv/iscsi/jailops/{FIRST}; ls -iR /export/jailops/hosts/{FIRST}"
    before, tree, jails = await play.on("san", kept), play.tree(".", FIRST), play.jails(FIRST)
    await play.stop()
    rename(play, FIRST, OTHER)
    revision = await play.stage.push("The first host has another name, and does not say so")
    asked = f"meant? Host/{OTHER} has the MAC address of Host/{FIRST}, which is gone: if it was renamed, say previous: {FIRST} in"
    assert asked in (await play.jailops("plan")).out
    assert asked in (await play.jailops("check", revision)).out
    await play.start()
    lun, disk = f"lun/{FIRST}", f"filesystem/{OTHER}"
    await play.until("both are left alone", lambda: {play.state(lun), play.state(disk)} == {"Failed", "Stalled"})
    told = play.statuses()
    assert told[lun]["message"].startswith(
        f"cannot take target iqn.2026-11.org.example:{FIRST} away: iqn.1994-09.org.freebsd:"
    )
    assert told[disk]["message"].startswith(
        f"cannot use /dev/ufs/jails of {OTHER}: that label is on da0, and its own disk is da1"
    )
    assert play.jails(FIRST) == jails

    await play.stage.site.power_off(FIRST)
    await play.until("nobody is attached", lambda: FIRST not in str(play.look("san")["sessions"]))
    assert (await play.jailops("retry", lun)).status == 0
    await play.until("its target is gone", lambda: play.state(lun) == "Retired")
    assert f"iqn.2026-11.org.example:{FIRST}" not in play.look("san")["targets"]
    assert await play.on("san", kept) == before
    assert play.tree(".", FIRST) == tree
