"""Layers: what a change costs, what two images share, and that nothing is ever written through an older generation's file."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from controller.starter import repository
from tests.faults.play import LABS, PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

ROOT = "/export/jailops"
FILE, OTHER = "images/freebsd13.yaml", "images/other.yaml"
MAKES = ("buildworld", "buildkernel", "installworld", "distribution", "installkernel")


class Found(NamedTuple):
    inode: int
    mtime: int
    size: int
    sha256: str


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LABS)
async def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    """Two images that differ in their configuration; no host boots the second, so it has no package either. All is kept."""
    first = repository()[FILE].replace("keep: 3 ", "keep: 9 ")
    second = first.replace("name: freebsd13", "name: other").replace("sendmail_enable: NONE", 'cron_enable: "NO"')
    example = {FILE: first, OTHER: second}
    async with played(tmp_path_factory.mktemp("layers") / "stage", example, lab=request.param) as play:
        await play.converged()
        yield play


async def test_two_images_with_one_world_build_it_once(play: Play) -> None:
    assert {target: play.made(target) for target in MAKES} == dict.fromkeys(MAKES, 1)
    named = {name for name in play.statuses() if name.startswith(("world/", "packages/", "image/"))}
    assert named == {"world/freebsd13", "packages/freebsd13", "image/freebsd13", "image/other"}
    (world,), (packages,) = of(play, "layers", "world-*"), of(play, "layers", "packages-*")
    (one,), (other,) = of(play, "images/freebsd13", "*"), of(play, "images/other", "*")
    assert inodes(files(other)) & inodes(files(world)) >= {
        found.inode for path, found in files(world).items() if path.startswith(("bin/", "boot/kernel/", "dist/"))
    }
    below = files(packages)
    assert {path for path, found in files(one).items() if path in below and alike(found, below[path])} >= {
        *("bin/sh", "dist/base.txz", "usr/local/bin/ezjail-admin", "var/db/pkg/local.sqlite", "etc/rc.subr"),
    }


async def test_a_changed_line_writes_about_its_own_bytes_and_leaves_the_layers_alone(play: Play) -> None:
    before, made = everything(play), {target: play.made(target) for target in MAKES}
    (old,) = of(play, "images/freebsd13", "*")
    play.stage.edit(FILE, "sendmail_enable: NONE", 'sendmail_enable: NONE\n    clear_tmp_enable: "YES"')
    await play.stage.push("Clear /tmp at boot")
    await play.until("it is built", lambda: len(of(play, "images/freebsd13", "*")) == 2)
    assert {target: play.made(target) for target in MAKES} == made
    (new,) = {*of(play, "images/freebsd13", "*")} - {old}
    own = {path: found for path, found in files(new).items() if found.inode not in inodes(before)}
    assert "etc/rc.conf" in own
    assert own.keys() <= {
        *("etc/rc.conf", "conf/base/etc.cpio.gz", ".jailops/manifest.json", ".jailops/files"),
    }, "nothing else is written"
    written = sum({found.inode: found.size for found in own.values()}.values())
    known = {found.sha256 for found in before.values()}
    differ = sum({found.sha256: found.size for found in files(new).values() if found.sha256 not in known}.values())
    assert 0 < differ <= written <= 2 * differ
    after = everything(play)
    assert {path: after[path] for path in before} == before, "not a single older file is another one, or newer"


async def test_a_changed_world_is_compiled_once_for_both_images(play: Play) -> None:
    before, made = everything(play), {target: play.made(target) for target in MAKES}
    for file in (FILE, OTHER):
        play.stage.edit(file, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await play.stage.push("No games")
    await play.until("both are built", lambda: len(of(play, "images/other", "*")) == 2)
    await play.until("both are built", lambda: len(of(play, "images/freebsd13", "*")) == 3)
    assert {target: play.made(target) for target in MAKES} == {target: count + 1 for target, count in made.items()}
    assert len(of(play, "layers", "world-*")) == 2
    after = everything(play)
    assert {path: after[path] for path in before} == before


async def test_a_file_that_is_taken_away_again_goes_and_the_generation_that_had_it_keeps_it(play: Play) -> None:
    play.stage.edit(OTHER, "  memory: ", "  files:\n    - path: /etc/ours\n      content: Welcome\n  memory: ")
    await play.stage.push("A file")
    await play.until("it is built", lambda: len(of(play, "images/other", "*")) == 3)
    (with_it,) = newest(play, "images/other")
    play.stage.edit(OTHER, "  files:\n    - path: /etc/ours\n      content: Welcome\n", "")
    play.stage.edit(OTHER, 'cron_enable: "NO"', 'cron_enable: "YES"')
    await play.stage.push("No file, and cron")
    await play.until("it is built", lambda: len(of(play, "images/other", "*")) == 4)
    (without,) = newest(play, "images/other")
    assert (with_it / "etc/ours").read_text() == "Welcome"
    assert not (without / "etc/ours").exists()
    assert alike(files(without)["etc/rc.subr"], files(with_it)["etc/rc.subr"])


async def test_every_layer_and_generation_is_what_its_list_of_hashes_says(play: Play) -> None:
    found = [*of(play, "layers", "*"), *of(play, "images", "*/*")]
    assert len(found) == 11
    for directory in found:
        listed = dict(read(directory / ".jailops/files"))
        here = {f"./{path}": one.sha256 for path, one in files(directory).items() if not path.startswith(".jailops/")}
        links = {f"./{path}": target for path, target in symlinks(directory)}
        assert listed == here | links, directory


def read(listing: Path) -> Iterator[tuple[str, str]]:
    """Path and hash, or a link's target."""
    for line in listing.read_text().splitlines():
        what, _, path = line.removeprefix("link ").partition("  ")
        yield path, what


def of(play: Play, folder: str, pattern: str) -> list[Path]:
    """Complete directories on the share, as they lie on this computer."""
    root = play.stage.site.computers["san"].machine.path(ROOT)
    complete = sorted(root.joinpath(folder).glob(f"{pattern}/.jailops/manifest.json"))
    return [path.parent.parent for path in complete if not path.parent.parent.name.startswith(".")]


def newest(play: Play, folder: str) -> list[Path]:
    return sorted(of(play, folder, "*"), key=lambda path: (path / ".jailops/manifest.json").stat().st_mtime)[-1:]


def files(directory: Path) -> dict[str, Found]:
    found = {}
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            info = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(directory))] = Found(info.st_ino, info.st_mtime_ns, info.st_size, digest)
    return found


def symlinks(directory: Path) -> Iterator[tuple[str, str]]:
    for path in directory.rglob("*"):
        if path.is_symlink():
            yield str(path.relative_to(directory)), str(path.readlink())


def everything(play: Play) -> dict[str, Found]:
    return {
        f"{directory.name}/{path}": found
        for directory in (*of(play, "layers", "*"), *of(play, "images", "*/*"))
        for path, found in files(directory).items()
    }


def inodes(found: Mapping[str, Found]) -> set[int]:
    return {one.inode for one in found.values()}


def alike(one: Found, other: Found) -> bool:
    return one.inode == other.inode
