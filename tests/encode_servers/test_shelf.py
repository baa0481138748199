"""What lies on a share and how it goes: the scripts, run by a real sh over a real directory, and what they answer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from controller.encode import shelf
from controller.encode.sh import lines
from controller.encode.shelf import (
    Entry,
    clear_script,
    free_script,
    hide_script,
    parse_freed,
    parse_shelf,
    shelf_script,
)
from controller.encode.text import GrammarError
from controller.model import Script

OLD, NEW = "0123456789ab", "ba9876543210"
PLACE = "images/freebsd13"
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def ran(script: Script, *, first: str = "", tools: Path | None = None) -> Ended:
    """By sh in a mount table of its own; `first` is done there before, `tools` hides commands of this computer."""
    path = f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin" if tools else "/usr/sbin:/usr/bin:/sbin:/bin"
    ended = subprocess.run(
        [*UNSHARE, "/bin/sh"],
        input=f"{first}\n{script}",
        capture_output=True,
        check=False,
        text=True,
        env={"PATH": path},
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def made(root: Path, path: str, manifest: str, **files: str) -> Path:
    directory = root / path
    (directory / ".jailops").mkdir(parents=True)
    (directory / ".jailops/manifest.json").write_text(f"{manifest}\n")
    for name, text in files.items():
        (directory / "bin").mkdir(exist_ok=True)
        (directory / "bin" / name).write_text(text)
    return directory


def generation(root: Path, name: str, **files: str) -> Path:
    return made(root, f"{PLACE}/{name}", f'{{"image":"freebsd13","generation":"{name}","finished":1}}', **files)


def entry(name: str = OLD, state: shelf.State = "complete", prefix: str = "") -> Entry:
    return Entry(f"{PLACE}/{prefix}{name}", PLACE, "freebsd13", name, state)


def remove_script(directory: str, one: Entry) -> Script:
    """All of it, as the driver has it run."""
    hide = () if one.state == "removing" else (hide_script(directory, one),)
    return lines(*hide, clear_script(directory, one))


def listed(root: Path) -> dict[str, str]:
    answer = ran(shelf_script(str(root)))
    assert (answer.status, answer.err) == (0, "")
    return {one.path: one.state for one in parse_shelf(answer.out)}


def test_the_listing_tells_ours_from_everything_else(tmp_path: Path) -> None:
    generation(tmp_path, OLD)
    made(tmp_path, f"layers/world-{OLD}", f'{{"layer":"world","key":"{OLD}"}}')
    made(tmp_path, f"layers/packages-{OLD}", f'{{"layer":"packages","key":"{OLD}"}}')
    made(tmp_path, f"{PLACE}/{NEW}", f'{{"image":"freebsd13","generation":"{OLD}"}}')
    made(tmp_path, "images/x/eeeeeeeeeeee", '{"image":"x","generation":"eeeeeeeeeeee","finished":"now"}')
    made(tmp_path, "layers/world-zzz", '{"layer":"world","key":"zzz"}')
    made(tmp_path, f"layers/{NEW}", f'{{"image":"layers","generation":"{NEW}"}}')
    made(tmp_path, f"{PLACE}/world-{NEW}", f'{{"layer":"world","key":"{NEW}"}}')
    made(tmp_path, f"{PLACE}/by hand\n{NEW}\tx", '{"image":"freebsd13"}')
    for name in (f".building-{NEW}", f".removing-{NEW}", f".removing-building-{OLD}", "cccccccccccc", ".snapshot"):
        (tmp_path / PLACE / name).mkdir()
    for name in (f".building-world-{NEW}", f".building-world-{NEW}.build-vm", f".removing-building-world-{NEW}.vm2"):
        (tmp_path / "layers" / name).mkdir()
    made(tmp_path, f"layers/world-{NEW}.vm2", f'{{"layer":"world","key":"{NEW}"}}')
    (tmp_path / "layers" / f".removing-world-{NEW}.vm2").mkdir()
    (tmp_path / PLACE / "notes.txt").write_text("mine")
    (tmp_path / PLACE / "dddddddddddd").symlink_to(OLD)
    (tmp_path / PLACE / ".removing-dddddddddddd").symlink_to(OLD)
    (tmp_path / "images/elsewhere").symlink_to(tmp_path / PLACE)
    assert listed(tmp_path) == {
        f"{PLACE}/{OLD}": "complete",
        f"layers/world-{OLD}": "complete",
        f"layers/packages-{OLD}": "complete",
        f"{PLACE}/.building-{NEW}": "building",
        f"layers/.building-world-{NEW}": "building",
        f"layers/.building-world-{NEW}.build-vm": "building",
        f"layers/.removing-building-world-{NEW}.vm2": "removing",
        f"layers/.removing-world-{NEW}.vm2": "foreign",
        f"layers/world-{NEW}.vm2": "foreign",
        f"{PLACE}/.removing-{NEW}": "removing",
        f"{PLACE}/.removing-building-{OLD}": "removing",
        f"{PLACE}/{NEW}": "foreign",
        "images/x/eeeeeeeeeeee": "foreign",
        "layers/world-zzz": "foreign",
        f"layers/{NEW}": "foreign",
        f"{PLACE}/world-{NEW}": "foreign",
        f"{PLACE}/by?hand?{NEW}?x": "foreign",
        f"{PLACE}/cccccccccccc": "foreign",
        f"{PLACE}/notes.txt": "foreign",
        f"{PLACE}/dddddddddddd": "foreign",
        f"{PLACE}/.removing-dddddddddddd": "foreign",
    }


def test_an_empty_share_has_nothing_and_a_missing_one_is_unknown(tmp_path: Path) -> None:
    assert listed(tmp_path) == {}
    assert ran(shelf_script(f"{tmp_path}/none")).status == 75


@pytest.mark.parametrize(
    "text", ["complete\timages/x/y\t", "directory images/x", f"directory\t{PLACE}/{OLD}\t{{", "\n"]
)
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_shelf(text)


def test_a_generation_goes_and_the_files_that_another_one_shares_stay_as_they_are(tmp_path: Path) -> None:
    old, new = generation(tmp_path, OLD, sh="x" * 100, own="y" * 1000), generation(tmp_path, NEW, rc="z")
    (old / "bin/twice").hardlink_to(old / "bin/own")
    (new / "bin/sh").hardlink_to(old / "bin/sh")
    (new / "bin/sh").chmod(0o4555)
    (old / "bin").chmod(0o555)
    before = (new / "bin/sh").stat()
    answer = ran(remove_script(f"{tmp_path}/{PLACE}", entry()))
    manifest = len(f'{{"image":"freebsd13","generation":"{OLD}","finished":1}}\n')
    assert (answer.status, answer.err, parse_freed(answer.out)) == (0, "", 1000 + manifest)
    after = (new / "bin/sh").stat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, 1)
    assert listed(tmp_path) == {f"{PLACE}/{NEW}": "complete"}
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry())).status == shelf.GONE


def test_what_was_cut_short_is_finished_and_a_new_one_of_the_same_name_stays(tmp_path: Path) -> None:
    generation(tmp_path, OLD, sh="x").rename(tmp_path / PLACE / f".removing-{OLD}")
    (tmp_path / PLACE / f".removing-{OLD}/.jailops/manifest.json").unlink()
    generation(tmp_path, OLD)
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry(state="removing", prefix=".removing-"))).status == 0
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


def test_between_hiding_and_clearing_it_is_invisible_and_then_finished(tmp_path: Path) -> None:
    generation(tmp_path, OLD, sh="x")
    assert ran(hide_script(f"{tmp_path}/{PLACE}", entry())) == (0, "", "")
    assert listed(tmp_path) == {f"{PLACE}/.removing-{OLD}": "removing"}
    assert (tmp_path / PLACE / f".removing-{OLD}/bin/sh").exists()
    assert ran(clear_script(f"{tmp_path}/{PLACE}", entry(state="removing", prefix=".removing-"))).status == 0
    assert listed(tmp_path) == {}


def test_what_an_earlier_removal_left_goes_before_the_one_of_the_same_name(tmp_path: Path) -> None:
    generation(tmp_path, OLD)
    (tmp_path / PLACE / f".removing-{OLD}").mkdir()
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry())).status == 0
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


def test_a_leftover_of_a_build_goes_under_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / PLACE / f".building-{OLD}/dev").mkdir(parents=True)
    generation(tmp_path, OLD)
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry(state="building", prefix=".building-"))).status == 0
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


@pytest.mark.parametrize("what", ["no manifest", "a link", "a file"])
def test_what_is_not_ours_stays(tmp_path: Path, what: str) -> None:
    elsewhere = generation(tmp_path, NEW)
    place = tmp_path / PLACE / OLD
    match what:
        case "no manifest":
            place.mkdir()
        case "a link":
            place.symlink_to(elsewhere)
        case "a file":
            place.write_text("mine")
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry())).status == shelf.NOT_OURS
    assert os.path.lexists(place)
    assert (elsewhere / ".jailops/manifest.json").exists()


def test_a_hidden_name_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = generation(tmp_path, NEW)
    (tmp_path / PLACE / f".removing-{OLD}").symlink_to(elsewhere)
    script = remove_script(f"{tmp_path}/{PLACE}", entry(state="removing", prefix=".removing-"))
    assert ran(script).status == shelf.NOT_OURS
    assert (elsewhere / ".jailops/manifest.json").exists()


@pytest.mark.parametrize("inside", ["bin", ""])
def test_what_has_something_mounted_stays_complete(tmp_path: Path, inside: str) -> None:
    old = generation(tmp_path, OLD, sh="x")
    again = "" if inside else f"mkdir {old}/.jailops && : > {old}/.jailops/manifest.json"
    first = f"mount -t tmpfs tmpfs {old}/{inside}\n{again}"
    answer = ran(remove_script(f"{tmp_path}/{PLACE}", entry()), first=first)
    assert (answer.status, answer.out) == (shelf.MOUNTED, "")
    assert answer.err == f"tmpfs is mounted on {old / inside!s}\n"
    assert (old / "bin/sh").read_text() == "x"
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


def test_a_mount_is_found_below_what_was_cut_short(tmp_path: Path) -> None:
    left = tmp_path / PLACE / f".removing-{OLD}"
    (left / "dev").mkdir(parents=True)
    (left / "file").write_text("x")
    script = remove_script(f"{tmp_path}/{PLACE}", entry(state="removing", prefix=".removing-"))
    assert ran(script, first=f"mount -t tmpfs tmpfs {left}/dev").status == shelf.MOUNTED
    assert (left / "file").exists()


def test_the_share_is_found_by_its_real_path(tmp_path: Path) -> None:
    """The table of mounts knows no symbolic links."""
    real = generation(tmp_path / "data", OLD, sh="x")
    (tmp_path / "export").symlink_to(tmp_path / "data")
    script = remove_script(f"{tmp_path}/export/{PLACE}", entry())
    assert ran(script, first=f"mount -t tmpfs tmpfs {real}/bin").status == shelf.MOUNTED


def freebsd(directory: Path, table: str, chflags: str = ":") -> Path:
    """The commands that FreeBSD has otherwise: mount -p, and chflags(1), which notes what it was told."""
    directory.mkdir()
    tools = {"mount": f"cat <<'end'\n{table}\nend", "chflags": f'echo "$@" >> {directory}/said\n{chflags}'}
    for name, text in tools.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    return directory


NO_PROC = "/bin/mount -t tmpfs tmpfs /proc"


def test_freebsd_tells_mounts_by_mount_p_under_the_name_of_before(tmp_path: Path) -> None:
    old = generation(tmp_path, OLD, sh="x")
    tools = freebsd(tmp_path / "tools", f"tank / zfs rw 0 0\ndevfs\t\t\t{old}/dev\t\t\tdevfs\trw\t\t0 0")
    answer = ran(remove_script(f"{tmp_path}/{PLACE}", entry()), first=NO_PROC, tools=tools)
    assert (answer.status, answer.err) == (shelf.MOUNTED, f"devfs is mounted on {old}/dev\n")
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


def test_a_table_that_cannot_be_read_proves_nothing(tmp_path: Path) -> None:
    generation(tmp_path, OLD)
    tools = freebsd(tmp_path / "tools", "")
    (tools / "mount").write_text("#!/bin/sh\nexit 1\n")
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry()), first=NO_PROC, tools=tools).status == shelf.UNKNOWN
    assert listed(tmp_path) == {f"{PLACE}/{OLD}": "complete"}


def test_flags_are_cleared_only_where_nobody_else_has_them(tmp_path: Path) -> None:
    old, new = generation(tmp_path, OLD, own="x", shared="y"), generation(tmp_path, NEW, rc="z")
    (new / "bin/shared").hardlink_to(old / "bin/shared")
    tools = freebsd(tmp_path / "tools", "tank / zfs rw 0 0")
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry()), first=NO_PROC, tools=tools).status == 0
    (said,) = (tools / "said").read_text().splitlines()
    options, flags, *paths = said.split()
    assert (options, flags) == ("-h", "noschg,nosappnd,nosunlnk")
    hidden = f".removing-{OLD}"
    assert sorted(paths) == [
        hidden, f"{hidden}/.jailops", f"{hidden}/.jailops/manifest.json", f"{hidden}/bin", f"{hidden}/bin/own",
    ]  # fmt: skip


def test_what_cannot_be_removed_is_named_and_stays_hidden(tmp_path: Path) -> None:
    """As with an immutable file that is shared. Here it is a mount that no table tells of."""
    old = generation(tmp_path, OLD, own="x")
    tools = freebsd(tmp_path / "tools", "tank / zfs rw 0 0")
    first = f"/bin/mount --bind {old}/bin/own {old}/bin/own\n{NO_PROC}"
    answer = ran(remove_script(f"{tmp_path}/{PLACE}", entry()), first=first, tools=tools)
    assert answer.status == 6
    assert "bin/own" in answer.err
    assert listed(tmp_path) == {f"{PLACE}/.removing-{OLD}": "removing"}
    assert ran(remove_script(f"{tmp_path}/{PLACE}", entry(state="removing", prefix=".removing-"))).status == 0
    assert listed(tmp_path) == {}


def test_nothing_is_ever_said_about_what_is_not_ours() -> None:
    with pytest.raises(ValueError, match="not ours to remove"):
        clear_script("/export", Entry(f"{PLACE}/notes"))
    with pytest.raises(ValueError, match="not ours to remove"):
        hide_script("/export", Entry(f"{PLACE}/notes"))


def test_a_build_vm_tells_of_what_is_mounted_there(tmp_path: Path) -> None:
    (tmp_path / PLACE / f".building-{OLD}/dev").mkdir(parents=True)
    path = f"{tmp_path}/{PLACE}/.building-{OLD}"
    assert ran(free_script(path)).status == 0
    assert ran(free_script(path), first=f"mount -t tmpfs devfs {path}/dev").status == 1
    assert ran(free_script(f"{tmp_path}/none/x")).status == shelf.GONE


@pytest.mark.parametrize("text", ["", "freed", "freed 1\nfreed 2\n", "freed -1\n"])
def test_only_a_number_of_bytes_is_one(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_freed(text)
