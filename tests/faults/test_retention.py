"""Old generations and layers leave the share, and never one that anybody may need; a build that it cannot hold is refused."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from controller.lab.servers import furnish
from controller.starter import repository
from tests.faults.play import FIRST, NODES, PATIENCE, SECOND, Play, played
from tests.faults.test_layers import FILE, ROOT, everything, files, inodes, listed, newest, of, symlinks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

IMAGE = "freebsd13"
NEW = "ba9876543210"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    manifest = repository()[FILE].replace("keep: 3 ", "keep: 2 ")
    assert "keep: 2 " in manifest
    async with played(tmp_path_factory.mktemp("retention") / "stage", {FILE: manifest}) as play:
        await play.converged()
        yield play


async def test_the_newest_stay_and_what_runs_and_nothing_else(play: Play) -> None:
    (booted,) = generations(play)
    made = [await changed(play, number) for number in range(3)]
    await play.until("the old ones are gone", lambda: generations(play) == {booted, *made[-2:]}, 120)
    await play.until("boot files as well", lambda: boot_files(play) == generations(play))
    assert runs(play) == {booted}
    await play.next_pass()
    await play.next_pass()
    told = play.statuses()["retention/san"]
    assert told["state"] == "Ready"
    assert told["detail"]["stays"][f"images/{IMAGE}/{booted}"] == (
        f"kept, last proved by {FIRST} and {SECOND}, run by {FIRST} and {SECOND}"
    )
    assert f"images/{IMAGE}/{made[-1]}" in told["detail"]["stays"]
    true_to_their_lists(play)
    removed = "\n".join(play.acts(0))
    assert f"remove images/{IMAGE}/{made[0]}" in removed


async def test_a_host_that_is_off_may_run_any_generation(play: Play) -> None:
    for node in NODES:
        await play.stage.site.reboot(node)
    (now,) = runs(play)
    await play.converged()
    await play.until("only two are left", lambda: len(generations(play)) == 2)
    await play.stage.site.power_off(SECOND)
    await play.until("it is away", lambda: play.state(f"node/{SECOND}") == "Unknown")
    made = [await changed(play, number) for number in range(4, 7)]
    await play.next_pass()
    await play.next_pass()
    assert generations(play) >= {now, *made}, "nothing goes that it may have booted"
    told = play.statuses()["retention/san"]["message"]
    assert f"nothing of {IMAGE} is removed: {SECOND} cannot be seen and may run any of them" in told
    await play.stage.site.power_on(SECOND)
    await play.stage.site.booted(SECOND)
    await play.until("it runs the newest", lambda: runs(play) == {now, made[-1]})
    await play.until("the ones between are gone", lambda: generations(play) == {now, *made[-2:]})
    true_to_their_lists(play)


async def test_nothing_goes_while_the_boot_server_cannot_be_seen(play: Play) -> None:
    await play.stage.site.reboot(FIRST)
    await play.converged()
    await play.stage.site.power_off("boot-server")
    await play.until("it is away", lambda: play.state("dhcp/boot-server") == "Unknown")
    before = generations(play)
    made = [await changed(play, number) for number in range(7, 8)]
    await play.next_pass()
    assert generations(play) == before | {*made}
    assert len(before) == 2
    assert "the DHCP entries of boot-server cannot be seen" in play.statuses()["retention/san"]["message"]
    await play.stage.site.power_on("boot-server")
    await play.until("two newest and the booted one", lambda: generations(play) == {*runs(play), *made})
    assert len(generations(play)) == 2
    true_to_their_lists(play)


async def test_a_world_goes_with_the_last_generation_that_is_made_of_it(play: Play) -> None:
    old = layers(play)
    assert len(old) == 2
    play.stage.edit(FILE, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await changed(play, 9)
    await play.until("both worlds are there", lambda: len(layers(play)) == 4)
    await play.next_pass()
    assert layers(play) > old
    await changed(play, 10)
    for node in NODES:
        await play.stage.site.reboot(node)
    await play.until("the old world and its packages are gone", lambda: len(layers(play)) == 2)
    assert not layers(play) & old
    true_to_their_lists(play)
    await play.converged()


async def test_leftovers_go_and_what_is_not_ours_is_named_and_stays(play: Play) -> None:
    root = share(play)
    for name in (f"images/{IMAGE}/.removing-{NEW}", f"layers/.building-world-{NEW}", f"images/{IMAGE}/notes"):
        (root / name / "bin").mkdir(parents=True)
        (root / name / "bin/sh").write_text("x")
    await play.until("the leftovers are gone", lambda: not [*root.glob("*/.building-*"), *root.glob("*/*/.removing-*")])
    await play.converged()
    assert (root / f"images/{IMAGE}/notes/bin/sh").read_text() == "x"
    assert play.passes()[0].record["unmanaged"] == [f"images/{IMAGE}/notes on san"]


async def test_a_world_that_the_share_cannot_hold_is_not_begun(play: Play) -> None:
    before, worlds, machine = play.made(), layers(play), play.stage.site.computers["san"].machine
    entries, boots = play.look("boot-server")["dhcp"], (boot_files(play), runs(play), play.everywhere())
    play.stage.edit(FILE, "    - WITHOUT_GAMES", "    - WITHOUT_GAMES\n    - WITHOUT_HAST")
    furnish.fill(machine, free=2**10, total=2**30)
    await play.stage.push("No HAST")
    await play.until("it is refused", lambda: play.state(f"world/{IMAGE}") == "Stalled")
    told = play.statuses()[f"world/{IMAGE}"]
    assert told["message"].startswith(f"cannot build the world of {IMAGE}: it needs about ")
    assert told["message"].endswith(f"on san:{ROOT}, 1.0 KiB of 1.0 GiB are free; make room or lower keep")
    assert "it begins by itself once there is room" in told["hint"]
    await play.next_pass()
    assert (play.made(), layers(play)) == (before, worlds)
    assert play.look("boot-server")["dhcp"] == entries
    assert (boot_files(play), runs(play), play.everywhere()) == boots

    furnish.fill(machine, free=2**10, total=2**11)
    never = f"and san:{ROOT} has 2.0 KiB in all: it can never fit there"
    await play.until("it can never fit", lambda: never in play.statuses()[f"world/{IMAGE}"]["message"])
    assert "begins by itself once there is room" not in play.statuses()[f"world/{IMAGE}"]["hint"]
    assert play.look("boot-server")["dhcp"] == entries
    assert (boot_files(play), runs(play), play.everywhere()) == boots
    for node in NODES:
        await play.stage.site.reboot(node)
    assert runs(play) == boots[1], "a node that is booted meanwhile boots what it did"
    furnish.fill(machine, free=2**30, total=2**31)
    await play.until("it is built", lambda: play.made() == before + 1)
    await play.until("and all on top of it", lambda: play.state(f"image/{IMAGE}") == "Ready", 120)


async def test_a_generation_takes_its_directories_and_lists_as_well(play: Play) -> None:
    """A share with room for the files that the last ones had for themselves, and for nothing else, is too small for one more."""
    machine, before = play.stage.site.computers["san"].machine, generations(play)
    known = [
        json.loads((one / ".jailops/manifest.json").read_text())["bytes"] for one in of(play, f"images/{IMAGE}", "*")
    ]
    (last,) = newest(play, f"images/{IMAGE}")
    others = {path: found for path, found in everything(play).items() if not path.startswith(f"{last.name}/")}
    alone = {path: found for path, found in files(last).items() if found.inode not in inodes(others)}
    folders = sum(path.is_dir() for path in last.rglob("*"))
    files_of_its_own = sum(found.size for path, found in alone.items() if not path.startswith(".jailops/"))
    assert sum({one.inode: one.size for one in alone.values()}.values()) + 4096 * folders <= max(known)
    furnish.fill(machine, free=2 * files_of_its_own + 2**14, total=2**30)
    old = next(line for line in (play.stage.work / FILE).read_text().splitlines() if "jailops_test" in line)
    play.stage.edit(FILE, old, '    jailops_test: "11"')
    await play.stage.push("Number 11")
    await play.until("it is refused", lambda: "it needs about " in play.statuses()[f"image/{IMAGE}"]["message"])
    await play.next_pass()
    assert generations(play) == before
    furnish.fill(machine, free=2**30, total=2**31)
    await play.until("it is built", lambda: generations(play) - before, within=120)
    (new,) = generations(play) - before
    await play.until("it is published", lambda: new in json.dumps(play.look("boot-server")["dhcp"]), within=120)


async def test_a_share_that_gets_full_in_the_middle_of_a_build(play: Play) -> None:
    """What the build has written goes with it; so there is room again for the next try as soon as a person has made some."""
    world, root, machine = f"world/{IMAGE}", share(play), play.stage.site.computers["san"].machine
    before, served, worlds, compiled = play.everywhere(), play.look("boot-server")["dhcp"], layers(play), play.made()
    play.build(fail="full")
    play.stage.edit(FILE, "    - WITHOUT_WIRELESS", "    - WITHOUT_WIRELESS\n    - WITHOUT_LPR")
    await play.stage.push("No LPR")
    await play.until("it has failed", lambda: play.state(world) == "Stalled")
    assert re.fullmatch(
        rf"cannot build the world of {IMAGE}: line \d+ of the log: install: \S+: No space left on device \(exit 2\)",
        play.statuses()[world]["message"],
    )
    assert not [*root.glob("*/.building-*"), *root.glob("*/*/.building-*")]

    furnish.fill(machine, free=2**10, total=2**30)
    made = play.made("installworld")
    await play.jailops("retry", world)
    await play.until("it is refused", lambda: "it needs about " in play.statuses()[world]["message"])
    assert play.made("installworld") == made
    # A build that was killed could remove nothing. What it left is no reason to refuse the next one, which removes it first,
    # and then asks for itself.
    left = root / "layers" / f".building-{play.statuses()[world]['detail']['wanted']}.build-vm"
    (left / "bin").mkdir(parents=True)
    await play.jailops("retry", world)
    await play.until("nothing is left of it", lambda: not left.exists())
    refused = "1.0 KiB of 1.0 GiB are free; make room or lower keep (exit 1)"
    await play.until("it is refused again", lambda: play.statuses()[world]["message"].endswith(refused))
    assert (play.state(world), play.made("installworld")) == ("Stalled", made)
    assert (play.everywhere(), play.look("boot-server")["dhcp"], layers(play)) == (before, served, worlds)

    play.build()
    furnish.fill(machine, free=2**30, total=2**31)
    await play.jailops("retry", world)
    await play.until("all is built", lambda: play.state(f"image/{IMAGE}") == "Ready", within=150)
    assert play.made() == compiled + 1, "what was compiled is there still"
    assert play.everywhere() == before


async def changed(play: Play, number: int) -> str:
    """A push that makes another generation, once it is there."""
    before = generations(play)
    text = (play.stage.work / FILE).read_text()
    old = next((line for line in text.splitlines() if "jailops_test" in line), None)
    if old is None:
        play.stage.edit(FILE, "    sendmail_enable: NONE", f'    jailops_test: "{number}"\n    sendmail_enable: NONE')
    else:
        play.stage.edit(FILE, old, f'    jailops_test: "{number}"')
    await play.stage.push(f"Number {number}")
    await play.until("another generation", lambda: generations(play) - before, within=120)
    (new,) = generations(play) - before
    if play.look("boot-server")["running"]:
        await play.until("it is published", lambda: new in json.dumps(play.look("boot-server")["dhcp"]), within=120)
    return new


def share(play: Play) -> Path:
    return play.stage.site.computers["san"].machine.path(ROOT)


def generations(play: Play) -> set[str]:
    return {path.name for path in of(play, f"images/{IMAGE}", "*")}


def layers(play: Play) -> set[str]:
    return {path.name for path in of(play, "layers", "*")}


def boot_files(play: Play) -> set[str]:
    root = play.stage.site.computers["boot-server"].machine.path("/srv/tftp")
    return {path.parent.parent.name for path in root.glob(f"{IMAGE}/*/boot/pxeboot")}


def runs(play: Play) -> set[str]:
    return {play.look(node)["generation"] for node in NODES}


def true_to_their_lists(play: Play) -> None:
    """Nothing was done to a file that another one shares."""
    for directory in (*of(play, "layers", "*"), *of(play, "images", "*/*")):
        here = {f"./{path}": one.sha256 for path, one in files(directory).items() if not path.startswith(".jailops/")}
        links = {f"./{path}": target for path, target in symlinks(directory)}
        assert listed(directory) == here | links, directory
