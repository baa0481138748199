"""The controller is killed, stopped and started again while it builds, creates a jail, or does nothing.

Killed means SIGKILL: no handler runs and nothing is tidied up. The end must be that of an undisturbed run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.play import FIRST, LABS, PATIENCE, RUNNING, SECOND, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

MAKES = ("buildworld", "buildkernel", "installworld", "distribution", "installkernel")
GRACE = 10.0
"""Seconds in which a daemon that is told to stop must have ended."""
HOLD = """\
#!/bin/sh
/.machine/usr/bin/sync
while test -e /lab/hold; do /bin/sleep 0.05; done
"""
"""A sync(8) for the node: the step that creates a jail calls it between its mark and ezjail-admin."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LABS)
async def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    """Not converged: the first test stops the very first build."""
    async with played(tmp_path_factory.mktemp("stops") / "stage", lab=request.param) as play:
        play.build(seconds=15)
        yield play


async def test_killed_and_stopped_during_a_build(play: Play) -> None:
    await play.until("make builds the world", lambda: play.made() == 1)
    await play.kill()
    await play.start()
    await play.next_pass()
    assert play.state("world/freebsd13") == "Changing"
    busy = play.statuses()["world/freebsd13"]["busy"]
    assert busy["stage"].startswith("build")
    assert busy["started"] > 0
    assert await play.stop() < GRACE
    assert "host " not in play.dhcp_file(), "the build was over too soon for this test"
    await asyncio.sleep(1)  # nobody looks, and make goes on
    await play.start()
    await play.converged()
    assert {target: play.made(target) for target in MAKES} == dict.fromkeys(MAKES, 1)
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING
    images = await play.on("san", "ls -A /export/jailops/images/freebsd13")
    assert len(images.split()) == 1, "one generation, and no half-made one beside it"
    assert play.rows(OPEN) == []


async def test_stopped_while_it_is_idle(play: Play) -> None:
    assert await play.stop() < GRACE
    act = play.last_act()
    await play.start()
    await play.converged()
    assert play.acts(act) == []


async def test_killed_while_a_jail_is_created(play: Play) -> None:
    """The step goes on without us, and the next controller must not begin it a second time."""
    with held(play) as hold:
        add_jail(play, "cache", "198.51.100.74")
        await play.stage.push("A cache")
        await play.until("the creating mark is on the disk", lambda: marks(play) == ["creating-cache"])
        await play.kill()
        assert [row[0] for row in play.rows(OPEN)] == ["create jail cache on jailbox2"]
        await play.start()
        await play.until("the open entry is settled", lambda: ("jail/jailbox2/cache",) in settled(play))
        await play.until("the second create is refused", lambda: play.state("jail/jailbox2/cache") == "Failed")
        said = play.statuses()["jail/jailbox2/cache"]["message"]
        assert said == "cannot act on jailbox2: an earlier act still runs there"
        hold.unlink()
        await play.jailops("retry", "jail/jailbox2/cache")
        await play.converged()
    assert set(play.jails(SECOND)) == {"db", "web", "cache"}
    assert (await play.on(SECOND, "ls -A /iscsi/jails/.jailops")).split() == []
    assert await tree(play, "cache") == await tree(play, "db")
    assert play.rows(OPEN) == []


async def test_a_half_made_root_of_ours_is_moved_aside(play: Play) -> None:
    """What a power cut during ezjail-admin create leaves: our mark, part of a root, no record."""
    await play.on(
        SECOND,
        "mkdir -p /iscsi/jails/.jailops /iscsi/jails/mail/etc && : > /iscsi/jails/.jailops/creating-mail"
        " && echo half > /iscsi/jails/mail/etc/rc.conf",
    )
    add_jail(play, "mail", "198.51.100.75")
    await play.stage.push("Mail")
    await play.until("jail mail runs", lambda: "mail" in play.jails(SECOND))
    await play.converged()
    aside = (await play.on(SECOND, "ls /iscsi/jails/.jailops/trash")).split()
    assert [name.partition(".")[0] for name in aside] == ["mail"]
    assert await play.on(SECOND, f"cat /iscsi/jails/.jailops/trash/{aside[0]}/etc/rc.conf") == "half\n"
    assert await tree(play, "mail") == await tree(play, "db")


async def test_a_root_that_is_not_ours_is_left_alone(play: Play) -> None:
    await play.on(SECOND, "mkdir -p /iscsi/jails/old/etc && echo precious > /iscsi/jails/old/etc/rc.conf")
    add_jail(play, "old", "198.51.100.76")
    await play.stage.push("An old jail's name")
    await play.until("it is refused", lambda: play.state("jail/jailbox2/old") == "Stalled")
    status = play.statuses()["jail/jailbox2/old"]
    assert status["message"] == (
        "cannot create jail/jailbox2/old: /iscsi/jails/old exists on jailbox2 but ezjail knows no such jail"
    )
    assert status["hint"] == (
        "if it is the jail's old root, take it over with: ezjail-admin create -x old 198.51.100.76; else move it away"
    )
    assert await play.on(SECOND, "cat /iscsi/jails/old/etc/rc.conf") == "precious\n"
    await play.on(SECOND, "mv /iscsi/jails/old /iscsi/old")
    await play.converged()
    assert "old" in play.jails(SECOND)


async def test_stopped_during_a_long_act(play: Play) -> None:
    with held(play) as hold:
        add_jail(play, "slow", "198.51.100.77")
        await play.stage.push("A slow jail")
        await play.until("the creating mark is on the disk", lambda: "creating-slow" in marks(play))
        # Nobody else waits for it.
        await play.on(FIRST, "ifconfig em0 inet 198.51.100.61 -alias")
        await play.until("the other's address is back", lambda: "198.51.100.61" in str(play.look(FIRST)["addresses"]))
        await play.until("a pass ends without it", lambda: play.state("jail/jailbox2/slow") == "Unknown")
        said = play.statuses()["jail/jailbox2/slow"]["message"]
        assert said == "cannot look at jailbox2 now: an act that takes long still runs in its disk lane"
        await play.on(FIRST, "ifconfig em0 inet 198.51.100.61 -alias")
        took = await play.until("it is back", lambda: "198.51.100.61" in str(play.look(FIRST)["addresses"]))
        assert took < GRACE
        assert await play.stop() < GRACE
        await play.start()
        await play.next_pass()
        hold.unlink()
        await play.jailops("retry", "jail/jailbox2/slow")
        await play.converged()
    assert "slow" in play.jails(SECOND)
    assert await tree(play, "slow") == await tree(play, "db")
    assert (await play.on(SECOND, "ls /iscsi/jails/.jailops/trash")).count("slow") == 0
    assert play.rows(OPEN) == []


OPEN = "SELECT summary FROM journal WHERE ended_at IS NULL"


def settled(play: Play) -> list[tuple[str]]:
    """Acts whose end was never seen and that a later look has settled; none may be open after it."""
    query = "SELECT kind || '/' || name FROM journal WHERE message = 'the controller was stopped'"
    return [tuple(row) for row in play.rows(query)]


def add_jail(play: Play, name: str, address: str) -> None:
    file = play.stage.work / "jails" / "jailbox2.yaml"
    spec = f"spec:\n  host: {SECOND}\n  addresses: [{address}]\n"
    file.write_text(f"{file.read_text()}---\napiVersion: jailops/v1\nkind: Jail\nmetadata:\n  name: {name}\n{spec}")


def disk(play: Play) -> Path:
    """The files of jailbox2's jail disk, as the SAN's volume has them."""
    return play.stage.site.computers["san"].machine.path(f"/srv/iscsi/jailops/{SECOND}.ufs/jails")


def marks(play: Play) -> list[str]:
    return sorted(path.name for path in disk(play).glob(".jailops/creating-*"))


async def tree(play: Play, jail: str) -> list[str]:
    """Every path of a jail's root."""
    found = await play.on(SECOND, f"cd /iscsi/jails/{jail} && find . | sort")
    return [line for line in found.splitlines() if not line.startswith(("./var/", "./tmp/", "./basejail/"))]


@contextmanager
def held(play: Play) -> Iterator[Path]:
    """Let every creation of a jail on jailbox2 wait; removing the file lets them go on."""
    machine = play.stage.site.computers[SECOND].machine
    sync, hold = machine.directory / "system" / "bin" / "sync", machine.directory / "lab" / "hold"
    target = sync.readlink()
    hold.touch()
    sync.unlink()
    sync.write_text(HOLD)
    sync.chmod(0o755)
    try:
        yield hold
    finally:
        hold.unlink(missing_ok=True)
        sync.unlink()
        sync.symlink_to(target)
