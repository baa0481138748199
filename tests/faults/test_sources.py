"""Where worlds come from, and bad input: what is wrong is said before anything is compiled, and nodes boot as before."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from controller.lab.servers import source
from controller.starter import repository
from tests.faults.play import FIRST, PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

FILE, IMAGE = "images/freebsd13.yaml", "image/freebsd13"
COMMIT = f"commit: {source.COMMIT_13_2}"
BUILDER, OTHER_BUILDER, SAN = (f"infrastructure/{name}.yaml" for name in ("build-vm", "svn-vm", "san"))
SOURCE = "/usr/src"
RELEASE = "release: 10.4-RELEASE"
SLIP = f"{source.SVN_URL}x"
SVN = f"    svn:\n      url: {SLIP}\n      revision: {source.SVN_REVISION}\n\n"
META_MODE = re.compile(
    r"images/freebsd13\.yaml:\d+:\d+: Image/freebsd13: spec\.incremental: found \"metaMode\", "
    r"expected none or noClean \(10 has no META_MODE\)"
)
NO_CLEAN = "The src.conf WITHOUT_CLEAN option can now be used instead of NO_CLEAN."
"""What make says to who gave it the older name (Makefile.inc1)."""
SETS = "/var/sets"
LAYERS = "/export/jailops/layers"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    """With a second build VM: each has one source directory, for git or for Subversion."""
    example = repository()
    other = example[BUILDER].replace("name: build-vm", "name: svn-vm").replace("198.51.100.20", "198.51.100.21")
    san = example[SAN].replace("    clients:\n", "    clients:\n      - 198.51.100.21\n")
    async with played(tmp_path_factory.mktemp("sources") / "stage", {OTHER_BUILDER: other, SAN: san}) as play:
        await play.converged()
        yield play


def image(play: Play, name: str, *edits: tuple[str, str]) -> None:
    """One more image, like the example's but for the edits; no host boots it."""
    text = (play.stage.work / FILE).read_text().replace("name: freebsd13", f"name: {name}")
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (play.stage.work / f"images/{name}.yaml").write_text(text)


def dist(play: Play, sums: dict[str, str], **other: str) -> list[tuple[str, str]]:
    """The edits that make an image of sets."""
    text = (play.stage.work / FILE).read_text()
    git = text[text.index("    git:\n") : text.index("  # src.conf(5)")]
    compiled = text[text.index("  srcConf:\n") : text.index("  packages: ")]
    sets = "".join(
        f"      {name}: {{ url: {place}/{name}.txz, sha256: {sums[name]} }}\n"
        for name, place in (("base", SETS), ("kernel", f"file://{SETS}"))
    )
    return [(git, f"    dist:\n{sets}"), (compiled, ""), *other.items()]


async def sets(play: Play) -> dict[str, str]:
    """base.txz and kernel.txz of the world that is there, on the build VM: name -> SHA-256."""
    out = await play.on(
        "build-vm",
        f"mkdir -p {SETS}; cd /mnt/jailops/layers/world-*; cp dist/base.txz {SETS}; tar -cJf {SETS}/kernel.txz ./boot/kernel"
        f"; cd {SETS}; sha256 -r base.txz kernel.txz",
    )
    return {line.split()[1].removesuffix(".txz"): line.split()[0] for line in out.splitlines()}


async def test_bad_inputs_are_said_and_nothing_is_compiled(play: Play) -> None:
    sums = await sets(play)
    image(play, "knob", ("- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_NOSUCH\n    - WITH_GIMES"))
    text = (play.stage.work / FILE).read_text()
    config = text[text.index("    name: MYKERNEL") : text.index("  packages: ")]
    image(play, "kernel", (config, "    name: NOSUCH\n\n"))
    image(play, "package", ("packages: []", "packages: [nosuch]"))
    image(play, "processor", ("architecture: amd64", "architecture: i386"), *dist(play, sums))
    image(play, "release", ("release: 13.2-RELEASE", "release: 13.1-RELEASE"), *dist(play, sums))
    image(play, "broken", *dist(play, {**sums, "kernel": "0" * 64}))
    before, dhcp, made = play.everywhere(), play.look("boot-server")["dhcp"], play.made()
    await play.stage.push("Six images, each with a mistake")
    says = {
        "world/knob": "srcConf has what this source does not know: WITHOUT_NOSUCH WITH_GIMES",
        "world/kernel": "this source has no kernel configuration sys/amd64/conf/NOSUCH",
        "packages/package": "pkg: No packages available to install matching 'nosuch' have been found in the repositories",
        "world/processor": "its kernel is for amd64, and not for i386",
        "world/release": 'it is not 13.1-RELEASE but USERLAND_VERSION="13.2-RELEASE"',
        "world/broken": f"kernel.txz from file://{SETS}/kernel.txz is another one: its SHA-256 is {sums['kernel']}, and not "
        + "0" * 64,
    }
    await play.until("all are judged", lambda: all(play.state(one) == "Stalled" for one in says), 120)
    for name, message in says.items():
        kind, _, which = name.partition("/")
        assert play.statuses()[name]["message"] == f"cannot build the {kind} of {which}: {message} (exit 1)"
        assert play.state(f"image/{which}") == "Waiting"
    assert play.made() == made, "nothing was compiled"
    assert (play.everywhere(), play.look("boot-server")["dhcp"]) == (before, dhcp)
    assert play.state(IMAGE) == "Ready"


async def test_clocks_that_differ_are_said_before_anything_is_built(play: Play) -> None:
    """make(1) would take what it has just made for older than its sources."""
    made, clock = play.made(), play.stage.site.computers["build-vm"].machine.directory / "lab" / "clock"
    clock.write_text("3600")
    image(play, "skewed", ("    - WITHOUT_WIRELESS\n", ""))
    await play.stage.push("An image, and a clock that is an hour ahead")
    await play.until("it is said", lambda: play.state("world/skewed") == "Stalled")
    assert re.fullmatch(
        r"cannot build the world of skewed: the clock of the build VM is 3[56]\d\d s ahead of the SAN's: make takes new files "
        r"for old ones; let NTP keep both \(exit 1\)",
        play.statuses()["world/skewed"]["message"],
    )
    assert play.made() == made
    clock.unlink()
    await play.jailops("retry", "world/skewed")
    await play.until("it is built", lambda: play.state("image/skewed") == "Ready", 120)


async def test_a_world_of_sets_and_one_of_a_branch(play: Play) -> None:
    """Beside the bad ones of the test before. What the second is compiled of is kept in META_MODE."""
    sums = await sets(play)
    image(play, "sets", *dist(play, sums))
    image(play, "branch", (COMMIT, ""), ("release: 13.2-RELEASE", "release: 13.2-RELEASE\n  incremental: metaMode"))
    image(play, "nobranch", (COMMIT, ""), ("branch: releng/13.2", "branch: releng/13.9"))
    made = play.made()
    await play.stage.push("Other sources")
    await play.until("no such branch", lambda: "13.9" in play.statuses().get("image/nobranch", {}).get("message", ""))
    assert play.statuses()["image/nobranch"]["message"] == (
        "cannot say yet which image nobranch needs: https://git.freebsd.org/src.git has no refs/heads/releng/13.9"
    )
    await play.until(
        "both are built", lambda: [play.state(f"image/{one}") for one in ("sets", "branch")] == ["Ready"] * 2
    )
    assert play.made() == made + 1, "sets are not compiled, and the branch has moved on from the commit"
    (generation,) = (await play.on("san", "ls /export/jailops/images/branch")).split()
    manifest = json.loads(
        await play.on("san", f"cat /export/jailops/images/branch/{generation}/.jailops/manifest.json")
    )
    assert manifest["inputs"]["source.git.commit"] == source.COMMIT_13_2_P1
    assert manifest["inputs"]["incremental"] == "metaMode"
    assert [play.made(f"{target} in META_MODE") for target in ("buildworld", "buildkernel")] == [1, 1]
    assert "filemon module" not in (await play.jailops("build", "log", "world/branch")).out
    said = await play.on("san", "cat /export/jailops/images/sets/*/bin/freebsd-version")
    assert 'USERLAND_VERSION="13.2-RELEASE"' in said


async def test_a_generation_that_is_removed_by_hand(play: Play) -> None:
    """The Site of the example only warns about an image that differs."""
    dhcp, before = play.look("boot-server")["dhcp"], play.everywhere()
    wanted = play.statuses()[IMAGE]["detail"]["wanted"]
    place = f"/export/jailops/images/freebsd13/{wanted}"
    await play.on("san", f"mv {place} {place}.away")
    await play.until("it is seen", lambda: play.state(IMAGE) == "Drifted")
    told = play.statuses()[IMAGE]
    assert told["message"] == (
        f"differs by hand: {place} is gone from san, or has lost its .jailops/manifest.json; the Site says only to warn, "
        f"so jailops does not build freebsd13 generation {wanted}"
    )
    assert told["hint"] == "undo it by hand, or have jailops do it: image: enforce in spec.drift of the Site"
    assert (play.look("boot-server")["dhcp"], play.everywhere()) == (dhcp, before)
    await play.on("san", f"mv {place}.away {place}")
    await play.until("it is there", lambda: play.state(IMAGE) == "Ready")

    play.stage.edit("site.yaml", "image: warn", "image: enforce")
    await play.stage.push("Roots are put back")
    await play.on("san", f"rm -rf {place}")
    await play.until("it is seen", lambda: play.state(IMAGE) == "Failed")
    told = play.statuses()[IMAGE]
    assert told["message"] == f"cannot find {place} on san, although its build ended well"
    assert told["hint"].endswith("Then build it again with: jailops retry image/freebsd13")
    await play.jailops("retry", IMAGE)
    await play.until("it is built again", lambda: play.state(IMAGE) == "Ready")
    assert generation(play) == wanted


async def test_a_node_boots_what_proved_itself_while_its_generation_is_away(play: Play) -> None:
    """It would find no root. What its manifest wants comes back by itself."""
    proved, before = generation(play), play.everywhere()
    play.stage.edit(FILE, "sendmail_enable: NONE", "sendmail_enable: NONE\n    lpd_enable: NO")
    await play.stage.push("A newer generation")
    await play.until("it is published", lambda: generation(play) != proved)
    newer = f"/export/jailops/images/freebsd13/{generation(play)}"
    await play.on("san", f"mv {newer} {newer}.away")
    await play.until("nobody is sent there", lambda: generation(play) == proved)
    outcome = await play.stage.site.reboot(FIRST)
    assert outcome is not None
    assert (outcome.state, play.look(FIRST)["generation"]) == ("up", proved)
    await play.on("san", f"mv {newer}.away {newer}")
    await play.until("it is published again", lambda: generation(play) == newer.rpartition("/")[2])
    assert {node: set(jails) for node, jails in play.everywhere().items()} == {
        node: set(jails) for node, jails in before.items()
    }
    play.stage.edit(FILE, "sendmail_enable: NONE\n    lpd_enable: NO", "sendmail_enable: NONE")
    await play.stage.push("As before")
    await play.until("it is published", lambda: generation(play) == proved)


async def test_a_tag_is_built_anew_when_it_has_moved_and_not_before(play: Play) -> None:
    """The build VM asks for it every ten minutes, as for a branch."""
    made, before = play.made(), published(play)
    assert before["source.git.commit"] == source.COMMIT_13_2
    git = part(play, "    git:\n", "  # src.conf(5)")
    tagged = f"    git:\n      url: {source.URL}\n      tag: {source.TAG}\n\n"
    play.stage.edit(FILE, git, tagged)
    pushed = await play.stage.push("The tag of that very commit")
    await play.until("it is known", lambda: play.passes()[0].revision == pushed and play.state(IMAGE) == "Ready")
    assert (play.made(), published(play)) == (made, before), "a tag is the commit that it names"

    moved = await move_tag(play)
    await play.next_pass()
    assert play.made() == made, "what the VM was told is younger than ten minutes"
    await play.on("build-vm", "touch -t 202001010000 /var/db/jailops/tips/*")
    await play.until("it is published", lambda: published(play) == {**before, "source.git.commit": moved}, 120)
    assert play.made() == made + 1

    dhcp, running = play.look("boot-server")["dhcp"], play.everywhere()
    play.stage.edit(FILE, source.TAG, "release/13.9.0")
    await play.stage.push("A tag that there is not")
    await play.until("it is said", lambda: "13.9.0" in play.statuses()[IMAGE]["message"])
    assert play.state(IMAGE) == "Waiting"
    assert play.statuses()[IMAGE]["message"] == (
        f"cannot say yet which image freebsd13 needs: {source.URL} has no refs/tags/release/13.9.0"
    )
    await play.next_pass()
    assert (play.made(), play.look("boot-server")["dhcp"], play.everywhere()) == (made + 1, dhcp, running)
    play.stage.edit(FILE, tagged.replace(source.TAG, "release/13.9.0"), git)
    await play.stage.push("The commit again")
    await play.until("it is back", lambda: published(play) == before)
    assert play.made() == made + 1, "its generation was kept"


async def test_what_subversion_does_not_have_is_said(play: Play) -> None:
    """The image moves to a build VM whose source directory holds something else."""
    dhcp, running = play.look("boot-server")["dhcp"], play.everywhere()
    await play.on("svn-vm", f"git init -q {SOURCE}")
    play.stage.edit(FILE, part(play, "    git:\n", "  # src.conf(5)"), SVN)
    play.stage.edit(FILE, "buildVM: build-vm", "buildVM: svn-vm")
    play.stage.edit(FILE, "release: 13.2-RELEASE", RELEASE)
    play.stage.edit(FILE, "    - WITHOUT_DEBUG_FILES\n", "")
    await play.stage.push("10.4, with a slip of the pen")
    await stalled(
        play, f"{SOURCE} holds a git repository, not {SLIP}: move it away, or give the BuildVM another sourceDir"
    )
    await play.on("svn-vm", f"rm -rf {SOURCE}/.git")
    await play.jailops("retry", "world/freebsd13")
    await stalled(play, f"svn: E170000: URL '{SLIP}' doesn't exist")
    await play.next_pass()
    assert (made_of_svn(play), play.look("boot-server")["dhcp"], play.everywhere()) == (0, dhcp, running)


async def test_a_world_of_subversion_is_the_revision_that_the_manifest_names(play: Play) -> None:
    """It goes on from the test before."""
    before = published(play)
    play.stage.edit(FILE, SLIP, source.SVN_URL)
    await play.stage.push("The right place")
    await play.until("it is published", lambda: published(play) != before, 120)
    assert made_of_svn(play) == 1
    after = published(play)
    assert {key: text for key, text in after.items() if key.startswith("source.")} == {
        "source.svn.url": source.SVN_URL,
        "source.svn.revision": str(source.SVN_REVISION),
    }
    assert (before["release"], after["release"]) == ("13.2-RELEASE", "10.4-RELEASE")
    assert await userland(play) == "10.4-RELEASE", "a newer revision is there, and nobody asked for it"
    assert NO_CLEAN not in (await play.jailops("build", "log", "world/freebsd13")).out

    play.stage.edit(FILE, f"revision: {source.SVN_REVISION}", f"revision: {source.SVN_REVISION_P1}")
    play.stage.edit(FILE, RELEASE, f"{RELEASE}\n  incremental: noClean")
    await play.stage.push("A newer revision, on top of what was compiled")
    newer = {**after, "source.svn.revision": str(source.SVN_REVISION_P1), "incremental": "noClean"}
    await play.until("it is published", lambda: published(play) == newer, 120)
    assert made_of_svn(play) == 2
    assert await userland(play) == "10.4-RELEASE-p1"
    assert NO_CLEAN in (await play.jailops("build", "log", "world/freebsd13")).out


async def test_what_this_revision_or_release_does_not_have_changes_nothing(play: Play) -> None:
    """It goes on from the test before."""
    made, dhcp, running = made_of_svn(play), play.look("boot-server")["dhcp"], play.everywhere()
    play.stage.edit(FILE, "incremental: noClean", "incremental: metaMode")
    await play.stage.push("What 10 does not have")
    (refused,) = (await play.refused()).record["refused"]
    assert META_MODE.search(refused), refused
    play.stage.edit(FILE, "incremental: metaMode", "incremental: noClean")
    play.stage.edit(FILE, f"revision: {source.SVN_REVISION_P1}", "revision: 999999")
    await play.stage.push("A revision that there is not")
    await stalled(play, "svn: E160006: No such revision 999999")
    await play.next_pass()
    assert (made_of_svn(play), play.look("boot-server")["dhcp"], play.everywhere()) == (made, dhcp, running)


def part(play: Play, begin: str, end: str) -> str:
    """What stands in the image's manifest from one text up to another."""
    text = (play.stage.work / FILE).read_text()
    return text[text.index(begin) : text.index(end)]


def published(play: Play) -> dict[str, str]:
    """What the generation was made of that DHCP leads the nodes to."""
    text = (share(play) / f"images/freebsd13/{generation(play)}/.jailops/manifest.json").read_text()
    return dict(json.loads(text)["inputs"])


def generation(play: Play) -> str:
    entries = play.look("boot-server")["dhcp"]
    return str(entries[FIRST]["options"]["root-path"]).rpartition("/")[2]


def share(play: Play) -> Path:
    return play.stage.site.computers["san"].machine.path("/export/jailops")


async def userland(play: Play) -> str:
    """The release that the published generation says it is."""
    version = f"/export/jailops/images/freebsd13/{generation(play)}/bin/freebsd-version"
    return (await play.on("san", f"sed -n 's/^USERLAND_VERSION=//p' {version}")).strip().strip('"')


async def stalled(play: Play, why: str) -> None:
    message = f"cannot build the world of freebsd13: {why} (exit 1)"
    await play.until(why, lambda: play.statuses().get("world/freebsd13", {}).get("message") == message)
    assert (play.state("world/freebsd13"), play.state(IMAGE)) == ("Stalled", "Waiting")


async def move_tag(play: Play) -> str:
    """Another commit with the same files behind the tag, on the server; its id."""
    server = ("-C", str(play.stage.directory / "site/internet/src.git"))
    tree = f"{source.COMMIT_13_2}^{{tree}}"
    commit = (await play.stage.git(*server, "commit-tree", "-p", source.COMMIT_13_2, "-m", "Moved", tree)).strip()
    await play.stage.git(*server, "tag", "--force", "-a", "-m", "Moved", source.TAG, commit)
    return commit


def made_of_svn(play: Play) -> int:
    return int(play.look("svn-vm")["counters"].get("buildworld", 0))
