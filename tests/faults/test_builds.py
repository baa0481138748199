"""Builds as jobs: obsolete ones are cancelled, wanted ones go on, lost ones come again, and none takes for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.play import PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

FILE, WORLD = "images/freebsd13.yaml", "world/freebsd13"
JOBS = "/var/db/jailops/jobs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("builds") / "stage") as play:
        await play.converged()
        yield play


async def test_a_build_that_a_commit_makes_obsolete_is_stopped_and_may_come_again(play: Play) -> None:
    dhcp = play.look("boot-server")["dhcp"]
    job = await begun(play, "WITHOUT_GAMES")
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.until("the build is stopped", lambda: any(f"stop {job}" in act for act in play.acts(0)))
    await play.until("the world is as before", lambda: play.state(WORLD) == "Ready")
    assert await makes(play) == "", "nobody of it is left at work"
    assert "1 cancelled" in await play.on("build-vm", f"cat {JOBS}/{job}/attempts/list")
    assert await play.on("build-vm", f"cat {JOBS}/{job}/attempts/1.log") != ""
    assert play.look("boot-server")["dhcp"] == dhcp

    play.build(seconds=1)
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.until("it is built after all", lambda: layer_is_there(play, job))
    await play.until("the image is as wanted", lambda: play.state("image/freebsd13") == "Ready")


async def test_a_build_whose_key_is_still_wanted_goes_on(play: Play) -> None:
    job = await begun(play, "WITHOUT_LPR")
    pid = await play.on("build-vm", f"cat {JOBS}/{job}/pid")
    play.stage.edit(FILE, "sendmail_enable: NONE", 'sendmail_enable: NONE\n    clear_tmp_enable: "YES"')
    await play.stage.push("Clear /tmp at boot")
    await play.next_pass()
    assert await play.on("build-vm", f"cat {JOBS}/{job}/pid") == pid
    assert play.state(WORLD) == "Changing"
    assert play.statuses()[WORLD]["busy"]["eta"] is not None, "earlier builds tell how long it goes on"


async def test_a_build_that_vanishes_is_started_once_more(play: Play) -> None:
    """It goes on from the test before."""
    job = str(play.statuses()[WORLD]["detail"]["wanted"])
    made, before = play.made(), play.last_act()
    await kill(play, job)
    await play.until("make works again", lambda: play.made() == made + 1)
    assert any(act.startswith("build the world of freebsd13") for act in play.acts(before))
    assert "1 lost" in await play.on("build-vm", f"cat {JOBS}/{job}/attempts/list")
    await kill(play, job)
    await play.until("a person must look", lambda: play.state(WORLD) == "Stalled")
    message = play.statuses()[WORLD]["message"]
    assert message == (
        "cannot build the world of freebsd13: its job vanished without a result (was the build VM switched off?), "
        "after 2 tries"
    )
    play.build(seconds=1)
    assert (await play.jailops("retry", WORLD)).status == 0
    await play.until("it is built", lambda: layer_is_there(play, job))


async def test_a_stage_that_takes_too_long_is_ended(play: Play) -> None:
    play.build(seconds=30)
    play.stage.edit("infrastructure/build-vm.yaml", "  jobs: 4", "  timeouts:\n    buildworld: 1s\n  jobs: 4")
    play.stage.edit(FILE, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_TALK")
    await play.stage.push("No time")
    late = "buildworld took longer than 1 s; see the timeouts of the BuildVM"
    await play.until("it is ended", lambda: late in play.statuses()[WORLD]["message"])
    assert play.state(WORLD) == "Stalled"
    assert await makes(play) == ""


async def test_the_log_of_a_build(play: Play) -> None:
    """It goes on from the test before; a log may hold anything, and a terminal must not obey it."""
    ended = await play.jailops("build", "log", WORLD)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("--- jailops: prepare\n"), "there was nobody to wait for"
    assert ended.out.endswith("see the timeouts of the BuildVM\n")
    wrong = await play.jailops("build", "log", "world/nosuch")
    assert wrong.status == 1
    assert wrong.err.startswith(
        "jailops: cannot show the log of world/nosuch: there is no such layer\n  what you can do: there is world/freebsd13, "
    )
    play.build(seconds=6)
    play.stage.edit("infrastructure/build-vm.yaml", "buildworld: 1s", "buildworld: 1h")
    await play.stage.push("Time")
    made = play.made()
    assert (await play.jailops("retry", WORLD)).status == 0
    await play.until("make works", lambda: play.made() == made + 1)
    followed = await play.jailops("build", "log", WORLD, "--follow")
    assert followed.status == 0
    assert followed.out.splitlines()[-1] == "--- jailops: complete"
    assert ">>> World build completed on" in followed.out


async def test_which_commit_made_an_image_another_one(play: Play) -> None:
    """It goes on from the test before, whose generation is the newest."""
    await play.until("the image is as wanted", lambda: play.state("image/freebsd13") == "Ready")
    play.stage.edit(FILE, "\n    - WITHOUT_TALK", "")
    play.stage.edit(FILE, '\n    clear_tmp_enable: "YES"', '\n    clear_tmp_enable: "NO"')
    talk = await play.stage.push("Talk again")
    play.stage.edit(FILE, '\n    clear_tmp_enable: "NO"', "")
    tmp = await play.stage.push("Leave /tmp alone")
    play.stage.edit("hosts/jailbox2.yaml", "policy: manual", "policy: manual  # as before")
    await play.stage.push("Something else")
    said = await play.jailops("explain", "image/freebsd13")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("image/freebsd13: generation ")
    assert lines[2:] == [
        "  rcConf.clear_tmp_enable: YES -> (nothing)",
        f"      {tmp[:12]} Demo: Leave /tmp alone",
        "  srcConf.WITHOUT_TALK: yes -> (nothing)",
        f"      {talk[:12]} Demo: Talk again",
    ]
    wrong = await play.jailops("explain", "nosuch")
    assert (
        wrong.err
        == "jailops: cannot explain image/nosuch: there is no such image\n  what you can do: there is freebsd13\n"
    )


async def begun(play: Play, knob: str) -> str:
    """Push a knob; the job that compiles with it, once make works."""
    play.build(seconds=30)
    made = play.made()
    play.stage.edit(FILE, "- WITHOUT_WIRELESS", f"- WITHOUT_WIRELESS\n    - {knob}")
    await play.stage.push(knob)
    await play.until("make works", lambda: play.made() == made + 1)
    await play.until("the build is seen", lambda: play.state(WORLD) == "Changing")
    return str(play.statuses()[WORLD]["detail"]["wanted"])


async def kill(play: Play, job: str) -> None:
    await play.on("build-vm", f"read -r pid < {JOBS}/{job}/pid; kill -s KILL -- -$pid")


async def makes(play: Play) -> str:
    """The command lines of everything that make was asked for and that is at work still."""
    listing = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null && echo; done"
    return "\n".join(line for line in (await play.on("build-vm", listing)).splitlines() if " buildworld " in line)


def layer_is_there(play: Play, name: str) -> bool:
    return play.stage.site.computers["san"].machine.path(f"/export/jailops/layers/{name}").is_dir()
