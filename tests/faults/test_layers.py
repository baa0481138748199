"""Layers: what a change costs, what two images share, and that nothing is ever written through an older generation's file."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from controller.lab.servers import archive
from controller.starter import repository
from tests.faults.play import LABS, PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

ROOT = "/export/jailops"
FILE, OTHER = "images/freebsd13.yaml", "images/other.yaml"
IMAGE = ("images/freebsd13", "*")
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
    """Beside them, what says what the generation is: manifest and own list, a few KiB whatever the size of the root."""
    old, new = await changed(play, "sendmail_enable: NONE", 'sendmail_enable: NONE\n    clear_tmp_enable: "YES"')
    assert own(new, old.files).keys() == {
        *("etc/rc.conf", "conf/base/etc.cpio.gz", ".jailops/manifest.json", ".jailops/own"),
    }, "nothing else is written"
    assert 0 < differing(new, old) <= written(new, old.files) <= 2 * differing(new, old) + 8 * 1024


async def test_a_hundred_kibibytes_write_less_than_twice_that(play: Play) -> None:
    texts = ["".join(hashlib.sha256(f"{file} {number}".encode()).hexdigest() for number in range(800)) for file in "ab"]
    added = "".join(f"    - path: /etc/{name}\n      content: {text}\n" for name, text in zip("ab", texts, strict=True))
    old, new = await changed(play, "  memory: ", f"  files:\n{added}  memory: ")
    assert own(new, old.files).keys() == {
        *("etc/a", "etc/b", "conf/default/etc/a", "conf/default/etc/b", ".jailops/manifest.json", ".jailops/own"),
    }, "nothing else is written"
    assert differing(new, old) == sum(map(len, texts)) == 102_400
    assert written(new, old.files) <= 2 * differing(new, old)


async def test_the_memory_disks_are_filled_with_what_the_generation_says(play: Play) -> None:
    """Template by template, as rc.initdiskless does it: the archive holds rc.conf, the rest are links of the very files."""
    for new in newest(play, "images/freebsd13"):
        found = files(new)
        for tree, packed in (("etc", {"etc/rc.conf"}), ("var", set[str]())):
            here = {path for path in found if path.startswith(f"{tree}/")}
            templates = {path for path in found if path.startswith(f"conf/default/{tree}/")}
            assert templates == {f"conf/default/{path}" for path in here - packed}
            assert all(alike(found[path], found[f"conf/default/{path}"]) for path in here - packed)
            members = {one.name: one for one in archive.entries((new / f"conf/base/{tree}.cpio.gz").read_bytes())}
            assert members.keys() == (packed or {"var"})
            for path in packed:
                assert members[path].data == (new / path).read_bytes()
                assert stat.S_IMODE(members[path].mode) == stat.S_IMODE((new / path).stat().st_mode)


async def test_a_changed_world_is_compiled_once_for_both_images(play: Play) -> None:
    before, made = everything(play), {target: play.made(target) for target in MAKES}
    for file in (FILE, OTHER):
        play.stage.edit(file, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await play.stage.push("No games")
    await play.until("both are built", lambda: len(of(play, "images/other", "*")) == 2)
    await play.until("both are built", lambda: len(of(play, *IMAGE)) == 4)
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
    assert len(found) == 12
    for directory in found:
        here = {f"./{path}": one.sha256 for path, one in files(directory).items() if not path.startswith(".jailops/")}
        links = {f"./{path}": target for path, target in symlinks(directory)}
        assert listed(directory) == here | links, directory


def listed(directory: Path) -> dict[str, str]:
    """Path -> hash, or a link's target. A generation has its own lines, on top of the list of the layer below."""
    own = directory / ".jailops/own"
    if not own.exists():
        return dict(_lines(directory / ".jailops/files"))
    gone = {line.removeprefix("gone ") for line in own.read_text().splitlines() if line.startswith("gone ")}
    found = dict(_lines(directory / ".jailops/below")) | dict(_lines(own))
    return {path: what for path, what in found.items() if path not in gone}


def _lines(listing: Path) -> Iterator[tuple[str, str]]:
    for line in listing.read_text().splitlines():
        if not line.startswith("gone "):
            what, _, path = line.removeprefix("link ").partition("  ")
            yield path, what


class Older(NamedTuple):
    """A generation, and all that lay on the share with it."""

    directory: Path
    files: Mapping[str, Found]


async def changed(play: Play, old: str, new: str) -> tuple[Older, Path]:
    """One edit, and the generation that it makes. Nothing is compiled for it, and nothing older is touched."""
    before, made, there = everything(play), {target: play.made(target) for target in MAKES}, of(play, *IMAGE)
    (older,) = newest(play, IMAGE[0])
    play.stage.edit(FILE, old, new)
    await play.stage.push("An edit")
    await play.until("it is built", lambda: len(of(play, *IMAGE)) == len(there) + 1)
    assert {target: play.made(target) for target in MAKES} == made
    after = everything(play)
    assert {path: after[path] for path in before} == before, "not a single older file is another one, or newer"
    (newer,) = {*of(play, *IMAGE)} - {*there}
    return Older(older, before), newer


def own(generation: Path, before: Mapping[str, Found]) -> dict[str, Found]:
    known = inodes(before)
    return {path: found for path, found in files(generation).items() if found.inode not in known}


def written(generation: Path, before: Mapping[str, Found]) -> int:
    return sum({found.inode: found.size for found in own(generation, before).values()}.values())


def differing(new: Path, old: Older) -> int:
    """Bytes of the files that a node sees and that are others than before."""
    before = files(old.directory)
    return sum(
        found.size
        for path, found in files(new).items()
        if not path.startswith((".jailops/", "conf/")) and (path not in before or before[path].sha256 != found.sha256)
    )


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
