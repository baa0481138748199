"""How ctl.conf is put in place: parts of other targets that must stay are copied from the old file, on the SAN itself."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from controller.drivers.ctld import kept_parts, write
from controller.drivers.lun import LunSpec
from controller.encode import ctl

from .scene import CASES, scene

HEADER, PORTAL = "Ours.", "198.51.100.10:3260"


def target(name: str, initiator: str = "") -> ctl.Target:
    iqn = f"iqn.2026-11.org.example:{name}"
    initiator = initiator or f"iqn.2026-11.org.example:i-{name}"
    return ctl.Target(
        iqn,
        f"/srv/{name}",
        1 << 30,
        name.upper(),
        name.upper(),
        initiator or f"iqn.2026-11.org.example:i-{name}",
        "198.51.100.50",
    )


def put(directory: Path, text: str, kept: list[str], *, ctld: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """Run the script where ctld(8) is what `ctld` says."""
    program = directory / "bin" / "ctld"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{ctld}\n")
    program.chmod(0o755)
    iqn, config = "iqn.2026-11.org.example:b", str(directory / "ctl.conf")
    spec = LunSpec("b", "san", "ctld", iqn, "/srv/b", 1, "i", "a", PORTAL, config)
    return subprocess.run(
        ["/bin/sh", "-s"],
        input=write(spec, text, kept),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
    )


def test_a_part_that_must_stay_is_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "ctl.conf"
    old = [target("a"), target("gone")]
    file.write_text(ctl.render(old, PORTAL, HEADER))
    new = [replace(old[0], initiator="iqn.2026-11.org.example:another"), target("b")]
    kept = [old[0].iqn, old[1].iqn, "iqn.2026-11.org.example:never-written"]

    done = put(tmp_path, ctl.render(new, PORTAL, HEADER), kept)

    assert (done.returncode, done.stderr) == (0, "")
    assert ctl.parse(file.read_text()) == (PORTAL, (new[1], old[0], old[1]))
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "ctl.conf"]


def test_the_first_file_and_one_that_ctld_refuses(tmp_path: Path) -> None:
    file, text = tmp_path / "ctl.conf", ctl.render([target("b")], PORTAL, HEADER)
    assert put(tmp_path, text, []).returncode == 0
    assert file.read_text() == text

    done = put(tmp_path, ctl.render([], PORTAL, HEADER), [], ctld="echo 'ctl.conf.new:3: no' >&2; exit 1")

    assert (done.returncode, done.stderr) == (9, "ctl.conf.new:3: no\n")
    assert file.read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "ctl.conf"]


@pytest.mark.parametrize("case", ["another-host-retired", "another-host-retired-while-attached"])
def test_a_target_of_a_host_that_left_goes_by_its_own_act_alone(case: str) -> None:
    """Never because the file is written for another host: only its own act looks twice."""
    found = scene(CASES / "drivers" / "lun-ctld" / case)
    assert found.resource is not None
    assert kept_parts(found.resource, found.world) == ["iqn.2026-11.org.example:disklessfreebsdbox"]
