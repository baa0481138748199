"""What every job of a recipe does whatever it makes, run for true: what it leaves, for whom it waits, when it ends."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.drivers import recipe_image, recipe_packages, recipe_world
from controller.drivers.inputs import inputs
from controller.drivers.recipe import build_place, manifest
from controller.drivers.recipe_image import image_script
from controller.drivers.recipe_packages import packages_script
from controller.drivers.recipe_world import world_script
from controller.encode.space import Needs
from controller.manifests.image import Dist, Set, Source
from controller.model import Script

from .builder import Builder
from .scene import IMAGE, manifests

NAME = "world-0123456789ab"
BUILDING = f".building-{NAME}.build-vm"
BEGUN = 'mkdir -p "$W/root/dev" "$D/bin"\nmount -t devfs devfs "$W/root/dev"\necho x > "$D/bin/sh"'
ENDED = 'umount "$W/root/dev"'


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path)
    yield builder
    for job in tmp_path.glob("work/jobs/*"):
        builder.stop(job.name)


def until(true: Callable[[], object]) -> None:
    for _ in range(1500):
        if true():
            return
        threading.Event().wait(0.02)
    raise AssertionError("never")


def test_what_is_made_appears_under_its_name_at_the_end(builder: Builder) -> None:
    status, log = builder.run(builder.script(NAME, BEGUN, ENDED))
    assert (status, log[-1]) == (0, "--- jailops: complete")
    assert builder.left() == [NAME]
    assert not (builder.work / "stage").exists()


def test_what_fails_leaves_nothing_on_the_share_and_a_log_that_ends_with_why(builder: Builder) -> None:
    status, log = builder.run(builder.script(NAME, BEGUN, "echo 'jailops: it went wrong'\nexit 3"))
    assert (status, log[-1]) == (3, "jailops: it went wrong")
    assert builder.left() == []
    assert list(builder.mounts()) == [str(builder.share)]


@pytest.mark.parametrize("inner", ["dev", "usr/ports"])
def test_what_is_mounted_below_is_never_walked_into(builder: Builder, inner: str) -> None:
    """Something that a person has mounted there."""
    mounted = f'mkdir -p "$D/{inner}"\nmount -t nullfs /usr/ports "$D/{inner}"\necho x > "$D/{inner}/kept"'
    status, log = builder.run(builder.script(NAME, mounted, "exit 3"))
    place = builder.share / "layers" / BUILDING
    assert (status, log[-1]) == (3, f"{place} stays: it cannot be removed")
    assert (place / inner / "kept").read_text() == "x\n"
    status, log = builder.run(builder.script(NAME, "exit 4"))
    assert log[-1] == (
        f"jailops: cannot remove {place}, left by a build that was cut short; is something mounted below it?"
    )
    assert (status, (place / inner / "kept").exists()) == (1, True)
    (builder.lab / "mounts").write_text("")
    assert builder.run(builder.script(NAME, BEGUN, ENDED))[0] == 0


def test_devices_that_cannot_be_unmounted_are_never_walked_into(builder: Builder) -> None:
    """A kill leaves the /dev of pkg's chroot mounted on the VM: the next build takes it off first, or does not begin."""
    (builder.lab / "busy").touch()
    device = builder.work / "stage/root/dev"
    assert builder.run(builder.script(NAME, BEGUN, f"echo x > {device}/null\nexit 3"))[0] == 3
    assert (builder.left(), list(builder.mounts())) == ([], [str(builder.share), str(device)])
    status, log = builder.run(builder.script(NAME, "exit 4"))
    stage = builder.work / "stage"
    assert (status, log[-1]) == (
        1,
        f"jailops: cannot remove {stage}, left by a build that was cut short; is something mounted below it?",
    )
    assert (device / "null").exists()
    (builder.lab / "busy").unlink()
    assert builder.run(builder.script(NAME, BEGUN, ENDED))[0] == 0
    assert list(builder.mounts()) == [str(builder.share)]


PKG = """test "$1" = -c || exit 64
case $3 in
install)
  grep -q "$2/dev" {lab}/mounts || exit 70
  echo more >> "$2/usr/share/x"; chmod 700 "$2/bin/y"; ln -f "$2/bin/y" "$2/bin/z"
  rm "$2/usr/share/old"; mkdir "$2/usr/share/empty"; chmod 711 "$2/usr/share"
  echo user >> "$2/etc/passwd"; echo tool > "$2/usr/local/tool"; ln -s tool "$2/usr/local/alias" ;;
esac"""


def test_no_package_can_write_to_a_file_of_the_world(builder: Builder) -> None:
    """Nor change its mode: it has a copy, and what differs then is the layer's own. The rest is shared."""
    builder.tool("pkg", PKG.format(lab=builder.lab))
    builder.tool("cp", 'case $1 in /etc/resolv.conf) : > "$2" ;; *) exec /bin/cp "$@" ;; esac')
    builder.tool(
        "tar", 'for a; do shift; test "$a" != -n || a=--no-recursion; set -- "$@" "$a"; done; exec /bin/tar "$@"'
    )
    desired = manifests(())
    made_of, spec = inputs(desired, IMAGE), desired.images[IMAGE].spec
    made = (
        'cd "$D"\nmkdir -p bin dev etc usr/share usr/local var .jailops\n'
        "echo y > bin/y\nchmod 555 bin/y\nln bin/y bin/hard\nln -s y bin/soft\n"
        "for f in x old same; do echo $f > usr/share/$f; done\n"
        'echo root > etc/passwd\ntemplates\nentries "$D" "$W/own"\nhashes "$D" "$W/own" "$D/.jailops/files"'
    )
    world = f"world-{made_of.world_key}"
    facts = manifest({"layer": "world", "key": made_of.world_key}, Script(":"))
    assert builder.run(builder.script(world, made, facts))[0] == 0
    below = builder.share / "layers" / world
    before = looks(below)
    status, log = builder.run(builder.here(packages_script(spec, builder.place, made_of)))
    assert (status, log[-1]) == (0, "--- jailops: complete"), log
    assert looks(below) == before
    layer = builder.share / "layers" / f"packages-{made_of.packages_key}"
    after = looks(layer)
    new = {"usr/share/x", "bin/y", "bin/z", "usr/local/tool", "usr/local/alias"}
    new |= {"bin/hard", "etc/passwd", "conf/default/etc/passwd"}
    assert before.keys() - after.keys() == {"usr/share/old"}
    assert {path for path in after if after[path] != before.get(path)} - OURS == new
    assert (layer / "usr/share/x").read_text() == "x\nmore\n"
    assert [stat.S_IMODE((layer / path).stat().st_mode) for path in ("bin/y", "bin/hard", "usr/share")] == [
        0o700,
        0o700,
        0o711,
    ]
    assert ((layer / "usr/share/empty").is_dir(), (layer / "etc/resolv.conf").exists()) == (True, False)
    assert (builder.left(), list(builder.mounts())) == (sorted([world, layer.name]), [str(builder.share)])
    assert not (builder.work / "stage").exists()


OURS = {".jailops/files", ".jailops/manifest.json"}


def looks(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, mode and content of whatever is no directory, by path."""
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, path.lstat().st_mode, path.read_bytes())
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def test_a_build_that_is_stopped_unmounts_and_leaves_the_rest_to_retention(builder: Builder) -> None:
    """Whoever stops it waits ten seconds for its end; a world is not removed in that time."""
    up = builder.lab / "up"
    builder.start(NAME, builder.script(NAME, BEGUN, f"touch {up}\nsleep 600"))
    until(up.exists)
    builder.stop(NAME)
    assert (builder.look(NAME).state, builder.look(NAME).exit) == ("done", 143)
    assert builder.left() == [BUILDING]
    assert list(builder.mounts()) == [str(builder.share)]


def test_what_a_killed_build_leaves_is_removed_by_the_next_one(builder: Builder) -> None:
    up = builder.lab / "up"
    builder.start(NAME, builder.script(NAME, BEGUN, f"touch {up}\nsleep 600"))
    until(up.exists)
    pid = builder.look(NAME).pid
    assert pid
    os.killpg(pid, signal.SIGKILL)
    until(lambda: builder.look(NAME).state == "lost")
    assert builder.left() == [BUILDING]
    assert builder.run(builder.script(NAME, 'test ! -e "$D/bin"\nmkdir "$D/bin"'))[0] == 0
    assert (builder.left(), list(builder.mounts())) == ([NAME], [str(builder.share)])


HASHES = 'mkdir "$D/.jailops" "$D/bin"\necho x > "$D/bin/sh"\nstage hashes\nentries "$D" "$W/own"\n'
MADE = (
    'mkdir -p "$D/bin" "$D/.jailops"\necho x > "$D/bin/sh"\necho c > "$D/libc.so"',
    'entries "$D" "$W/own"\nhashes "$D" "$W/own" "$D/.jailops/files"',
    manifest({"layer": "world", "key": NAME}, Script(":")),
)
HASHED = f'{HASHES}hashes "$D" "$W/own" "$D/.jailops/files"'


def test_a_stage_that_has_no_limit_of_its_own_ends_as_well(builder: Builder) -> None:
    """All commands of a stage share its time, and it begins anew with the next one."""
    assert builder.run(builder.script(NAME, HASHED))[0] == 0
    slow = Builder(builder.lab / "slow", other=1)
    slow.tool("find", "exec sleep 600")
    status, log = slow.run(slow.script(NAME, HASHED))
    assert log[-2:] == ["--- jailops: hashes", "jailops: hashes took longer than 1 s; see the timeouts of the BuildVM"]
    assert (status, slow.left()) == (124, [])
    status, log = slow.run(slow.script(NAME, "sleep 1.1", 'timed touch "$D/late"'))
    assert log[-1] == "jailops: prepare took longer than 1 s; see the timeouts of the BuildVM"
    assert (status, slow.left()) == (124, [])


def test_no_build_takes_longer_than_the_next_one_waits_for_it() -> None:
    """Two of them, or one of each image."""
    desired = manifests(())
    place, made_of, spec = build_place(desired, IMAGE), inputs(desired, IMAGE), desired.images[IMAGE].spec
    scripts = {
        world_script(spec, place, made_of),
        packages_script(spec, place, made_of),
        image_script(desired, IMAGE, place, made_of),
    }
    found = [re.findall(r"^ *stage ([a-z.]+)(?: '?([0-9]+)'?)?$", script, re.MULTILINE) for script in scripts]
    stages = [{name: int(most or place.vm.timeouts.other) for name, most in one if name != "complete"} for one in found]
    assert {name for one in stages for name in one} >= {
        *(
            "buildworld",
            "installkernel",
            "base.txz",
            "packages",
            "clone",
            "configuration",
            "archives",
            "files",
            "publish",
        )
    }
    longest = max(sum(one.values()) for one in stages)
    assert 2 * longest <= place.wait
    assert replace(place, images=5).wait >= 5 * longest


SET = Set(url="/sets/one.txz", sha256="0" * 64)


def test_the_bar_knows_every_stage_of_every_job() -> None:
    desired = manifests(())
    made_of, spec = inputs(desired, IMAGE), desired.images[IMAGE].spec
    place = build_place(desired, IMAGE)
    unpacked = spec.model_copy(update={"source": Source(dist=Dist(base=SET, kernel=SET))})
    scripts = {
        world_script(spec, place, made_of): recipe_world.COMPILED,
        world_script(unpacked, place, made_of): recipe_world.UNPACKED,
        packages_script(spec, place, made_of): recipe_packages.STAGES,
        image_script(desired, IMAGE, place, made_of): recipe_image.STAGES,
    }
    for script, stages in scripts.items():
        assert [*stages, "complete"] == re.findall(r"^ *stage ([a-z.]+)(?: '?[0-9]+'?)?$", script, re.MULTILINE)


def test_builds_of_one_vm_run_one_after_the_other(builder: Builder) -> None:
    up, gate, second = builder.lab / "up", builder.lab / "gate", f"image-{NAME}"
    builder.start(NAME, builder.script(NAME, f"touch {up}\nsleep 600"))
    until(up.exists)
    builder.start(second, builder.script("0123456789ab", f"while test ! -e {gate}; do sleep 0.05; done"))
    until(lambda: builder.log(second))
    assert builder.log(NAME) == ["--- jailops: prepare"], "it has waited for nobody"
    assert builder.log(second) == ["--- jailops: waiting for the build before it"]
    pid = builder.look(NAME).pid
    assert pid
    os.killpg(pid, signal.SIGKILL)
    until(lambda: len(builder.log(second)) > 1)
    assert builder.log(second) == ["--- jailops: waiting for the build before it", "--- jailops: prepare"]
    assert builder.look(NAME).state == "lost"
    gate.touch()
    until(lambda: builder.look(second).state == "done")
    assert builder.look(second).exit == 0


@pytest.mark.parametrize("late", ["builds still", "is about to publish"])
def test_two_vms_that_make_one_layer_at_the_same_time(tmp_path: Path, late: str) -> None:
    """An image that moves to another VM. Each makes it in a place of its own; the second one finds it made."""
    one = Builder(tmp_path / "one")
    two = Builder(tmp_path / "two")
    two.beside(one, "vm2")
    up, gate = tmp_path / "up", tmp_path / "gate"
    wait = f"while test ! -e {gate}; do sleep 0.05; done"
    if late == "is about to publish":
        two.tool("mv", f'case $1 in *.vm2) touch {up}; {wait} ;; esac\nexec /bin/mv "$@"')
    steps = ("touch {up}", wait) if late == "builds still" else ()
    two.start(NAME, two.script(NAME, 'mkdir "$D/bin"', *(step.format(up=up) for step in steps), *MADE))
    until(up.exists)
    assert one.run(one.script(NAME, 'mkdir "$D/bin"', *MADE))[0] == 0
    place = one.share / "layers" / NAME
    before = {path: path.stat().st_ino for path in place.rglob("*")}
    assert sorted(path.name for path in before) == [".jailops", "bin", "files", "libc.so", "manifest.json", "sh"]
    gate.touch()
    until(lambda: two.look(NAME).state == "done")
    assert (two.look(NAME).exit, two.log(NAME)[-2:]) == (
        0,
        ["it is there already: another build VM has made it meanwhile", "--- jailops: complete"],
    )
    assert {path: path.stat().st_ino for path in place.rglob("*")} == before
    assert one.left() == [NAME]


def test_what_is_in_the_way_of_a_layer_and_is_none_stays(builder: Builder) -> None:
    (builder.share / "layers" / NAME).mkdir(parents=True)
    status, log = builder.run(builder.script(NAME, *MADE))
    place = builder.share / "layers" / NAME
    assert (status, log[-1]) == (1, f"jailops: {place} is there and not complete; remove it on the SAN")
    assert (builder.left(), list(place.iterdir())) == ([NAME], [])


def test_a_wait_without_end_has_its_own_words(tmp_path: Path) -> None:
    none = ("source", "buildworld", "buildkernel", "install", "packages", "clone", "other")
    builder = Builder(tmp_path, **dict.fromkeys(none, 0))
    lock = builder.work / "build.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, log = builder.run(builder.script(NAME))
    assert (status, log) == (
        75,
        [
            "--- jailops: waiting for the build before it",
            "jailops: waited 0 s for other builds of this VM, longer than their timeouts let them take; "
            f"end what holds {lock}",
        ],
    )


def test_only_the_lock_says_that_it_is_not_free(builder: Builder) -> None:
    status, log = builder.run(builder.script(NAME, "exit 75"))
    assert (status, log) == (1, ["--- jailops: prepare"])


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (3600, "3600 s ahead of"),
        (61, "61 s ahead of"),
        (50, ""),
        (-50, ""),
        (-61, "61 s behind"),
        (-3600, "3600 s behind"),
    ],
)
def test_a_clock_that_is_ahead_or_behind(builder: Builder, ahead: int, says: str) -> None:
    """make(1) would take what it has just made for older than its sources, or the other way round."""
    builder.tool("date", "echo 1000000")
    builder.tool("stat", f"echo {1000000 - ahead}")
    status, log = builder.run(builder.script(NAME))
    words = (
        f"jailops: the clock of the build VM is {says} the SAN's: make takes new files for old ones; let NTP keep both"
    )
    assert (status, log[-1]) == ((1, words) if says else (0, "--- jailops: complete"))


WORLD = Needs(2362232012, 66_000, "on san:/export/jailops")


@pytest.mark.parametrize(
    ("free", "inodes", "lacks"),
    [
        (2**31 + 2**29, 66_000, ""),
        (2**30, 66_000, "it needs about 2.2 GiB on san:/export/jailops, 1.0 GiB of 64.0 GiB are free"),
        (0, 66_000, "it needs about 2.2 GiB on san:/export/jailops, 0 B of 64.0 GiB are free"),
        (2**32, 65_999, "it needs about 66000 inodes on san:/export/jailops, 65999 are free"),
        (2**32, 0, "it needs about 66000 inodes on san:/export/jailops, 0 are free"),
    ],
)
def test_a_build_asks_for_room_when_it_is_its_turn(builder: Builder, free: int, inodes: int, lacks: str) -> None:
    """Nothing is made where there is too little, and what an earlier try left is not counted against it."""
    (builder.share / "layers" / BUILDING).mkdir(parents=True)
    builder.room(free, total=2**36, inodes=inodes)
    status, log = builder.run(builder.script(NAME, needs=WORLD))
    if lacks:
        assert (status, log[-1], builder.left()) == (1, f"jailops: {lacks}; make room or lower keep", [])
    else:
        assert (status, builder.left()) == (0, [NAME])


@pytest.mark.parametrize(("table", "text"), [("-kP", ""), ("-kP", "df: no\n"), ("-iP", "Filesystem 1K-blocks\n")])
def test_where_df_tells_nothing_a_build_begins(builder: Builder, table: str, text: str) -> None:
    (builder.lab / f"df{table}").write_text(text)
    assert builder.run(builder.script(NAME, needs=WORLD))[0] == 0


def test_two_builds_that_fit_each_alone(builder: Builder) -> None:
    up, gate, second = builder.lab / "up", builder.lab / "gate", "world-ba9876543210"
    builder.room(2**32)
    builder.start(NAME, builder.script(NAME, f"touch {up}\nwhile test ! -e {gate}; do sleep 0.05; done", needs=WORLD))
    until(up.exists)
    builder.start(second, builder.script(second, needs=WORLD))
    until(lambda: builder.log(second))
    builder.room(2**30)
    gate.touch()
    until(lambda: builder.look(second).state == "done")
    assert (builder.look(NAME).exit, builder.look(second).exit, builder.left()) == (0, 1, [NAME])
    assert "it needs about 2.2 GiB on san:/export/jailops, 1.0 GiB of 1.0 TiB are free" in builder.log(second)[-1]
