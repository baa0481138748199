"""What the drivers of every case would send to a machine: text that its sh can read, on the right paths."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.diff import judge
from controller.drivers import DRIVERS
from controller.drivers.ctld import look_at_rules
from controller.drivers.looks import listens_udp
from controller.drivers.lun import list_volumes, look_at_volume, make_volume, other_volumes, spec_of
from controller.encode import ctl
from controller.encode.sh import fill, holes
from controller.model import Answer, Run, Script
from controller.plan import make_plan
from controller.secret import Secret

from .report import drive
from .scene import CASES, Scene, folders, manifests, scene

FOLDERS = list(folders())


def runs(one: Scene) -> Iterator[Run]:
    if one.resource is not None:
        plan = make_plan([one.resource], judge([one.resource], one.world, one.known), one.world)
        for action in plan.actions:
            yield from (step for step in drive(action, one.answers) if isinstance(step, Run))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_sh_can_read_every_script(folder: Path) -> None:
    one = scene(folder)
    probes = DRIVERS[one.ref.kind].probes(one.resource) if one.resource else ()
    for script in {*(probe.script for probe in probes), *(step.script for step in runs(one))}:
        text = fill(script, dict.fromkeys(holes(script), Secret("it", 'it\'s "secret"')))
        ended = subprocess.run(["/bin/sh", "-n"], input=text.encode(), capture_output=True, check=False)
        assert (ended.returncode, ended.stderr.decode()) == (0, ""), text


def test_an_export_never_makes_a_generation() -> None:
    """What lies under a generation's name counts as complete."""
    scripts = [step.script for step in runs(scene(CASES / "drivers/exports-freebsd/intent-a-new-generation"))]
    made = [line for script in scripts for line in script.splitlines() if line.startswith("mkdir -p '/export")]
    assert made == [
        "mkdir -p '/export/jailops' '/export/jailops/hosts/disklessfreebsdbox/etc' '/export/jailops/hosts/jailbox2/etc'"
    ]


def test_no_step_of_a_retired_lun_touches_its_volume() -> None:
    scripts = [step.script for step in runs(scene(CASES / "drivers/lun-tgt/retire"))]
    assert scripts
    assert not [script for script in scripts if "/srv/iscsi" in script]


def ran(script: Script, tools: Path | None = None) -> tuple[int, str, str]:
    """What sh made of it; `tools` holds the commands of a system that is not this one."""
    path = f"{tools}:/usr/bin:/bin" if tools else "/usr/bin:/bin"
    ended = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=False, text=True, env={"PATH": path})
    return ended.returncode, ended.stdout, ended.stderr


def test_the_size_of_a_file_of_nothing_and_of_neither(tmp_path: Path) -> None:
    (tmp_path / "node1").write_bytes(b"x" * 1000)
    assert ran(look_at_volume(f"{tmp_path}/node1")) == (0, "1000\n", "")
    assert ran(look_at_volume(f"{tmp_path}/node2")) == (44, "", "")
    assert ran(look_at_volume(str(tmp_path))) == (75, "", "")


def test_the_size_of_a_character_device_is_what_diskinfo_says(tmp_path: Path) -> None:
    """FreeBSD's zvols; diskinfo(8) prints name, sector size, size in bytes, size in sectors and more."""
    diskinfo = tmp_path / "diskinfo"
    diskinfo.write_text('#!/bin/sh\nprintf "%s\\t512\\t1073741824\\t2097152\\t0\\t0\\n" "$1"\n')
    diskinfo.chmod(0o755)
    assert ran(look_at_volume("/dev/null"), tmp_path) == (0, "1073741824\n", "")
    diskinfo.write_text("#!/bin/sh\nexit 1\n")
    assert ran(look_at_volume("/dev/null"), tmp_path)[:2] == (0, "\n"), "no digits: unknown, not a size"


def test_a_volume_is_made_and_grown_and_never_cut(tmp_path: Path) -> None:
    spec = replace(spec_of(manifests(()), "jailbox2"), volume=f"{tmp_path}/volumes/jailbox2", size=4096)
    for size, status in ((4096, 0), (8192, 0), (4096, 1)):
        assert ran(make_volume(replace(spec, size=size)))[0] == status
    assert (tmp_path / "volumes/jailbox2").stat().st_size == 8192


def test_a_device_is_never_made() -> None:
    spec = replace(spec_of(manifests(()), "jailbox2"), volume="/dev/vg0/jailbox2", size=4096)
    words = "/dev/vg0/jailbox2 is a device, and not one of 4096 bytes: make or grow it by hand\n"
    assert ran(make_volume(spec)) == (3, "", words)


def test_files_of_nobody_are_named_and_nothing_else_is(tmp_path: Path) -> None:
    spec = replace(spec_of(manifests(()), "jailbox2"), volume=f"{tmp_path}/volumes/jailbox2")
    assert ran(list_volumes(spec)) == (0, "", ""), "before the first volume there is no directory"
    (tmp_path / "volumes" / "folder").mkdir(parents=True)
    (tmp_path / "volumes" / "device").symlink_to("/dev/null")
    for name in ("jailbox2", "old.img", "-n", "with blank\x1b[1m"):
        (tmp_path / "volumes" / name).touch()
    status, out, err = ran(list_volumes(spec))
    assert (status, err) == (0, "")
    assert set(other_volumes(Answer(status, out.encode(), b""), spec)) == {
        f"volume {tmp_path}/volumes/{name} on san" for name in ("-n", "old.img", "with blank?[1m")
    }


SS = "UNCONN 0      0            0.0.0.0:69        0.0.0.0:*          \n"
SOCKSTAT = """USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS
root     inetd      7     5  udp4   *:69                  *:*
"""


@pytest.mark.parametrize(
    ("tool", "said", "status"),
    [
        ("ss", SS, 0),
        ("ss", SS.replace(":69 ", ":6969 "), 1),
        ("ss", "", 1),
        ("sockstat", SOCKSTAT, 0),
        ("sockstat", SOCKSTAT.splitlines()[0], 1),
        ("neither", "", 75),
    ],
)
def test_who_listens_is_asked_of_what_the_system_has(tmp_path: Path, tool: str, said: str, status: int) -> None:
    (tmp_path / "said").write_text(said)
    for name in ("grep", "cat"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    (tmp_path / tool).write_text(f"#!/bin/sh\ncat {tmp_path}/said\n")
    (tmp_path / tool).chmod(0o755)
    ended = subprocess.run(["/bin/sh", "-c", listens_udp(69)], env={"PATH": str(tmp_path)}, check=False)
    assert ended.returncode == status


def test_the_rules_that_the_san_digests_are_those_that_are_wanted(tmp_path: Path) -> None:
    """The longer name begins with the shorter one, and a larger disk is no other rule."""
    file = tmp_path / "ctl.conf"
    spec = replace(spec_of(manifests(()), "jailbox2"), config=str(file))
    names = ("iqn.2026-11.org.example:n1", "iqn.2026-11.org.example:n11", "iqn.2026-11.org.example:n2")
    targets = [
        ctl.Target(name, f"/s/{number}", 512, f"S{number}", f"S{number}", spec.initiator, spec.address)
        for number, name in enumerate(names)
    ]
    file.write_text(ctl.render([replace(one, size=1024) for one in targets], "198.51.100.10:3260", "by hand"))
    text = ctl.render(targets, "198.51.100.10:3260", "ours")
    for name in names:
        rules = ctl.rules_of(text, name)
        assert rules.count(f'"{name}"') == 3
        want = hashlib.sha256(rules.encode()).hexdigest()
        assert ran(look_at_rules(replace(spec, iqn=name))) == (0, f"{want}\n", "")
    file.unlink()
    assert ran(look_at_rules(spec)) == (0, "absent\n", "")
