"""Boot files of generations that are gone: the question and the removal, run by a real sh over a real directory."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from controller.diff import judge
from controller.drivers import DRIVERS
from controller.drivers.retention import OldTftp
from controller.model import Answer, Resource, Run, Script
from controller.plan import make_plan

from .report import drive
from .scene import CASES, scene

IMAGE, GONE, THERE = "freebsd13", "000000000000", "000000000004"


def ran(script: Script) -> Answer:
    ended = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=False)
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def asked(root: Path) -> list[str]:
    resource = Resource(scene(CASES / "drivers/bootretention/all-well").ref, "", OldTftp(str(root), (IMAGE, "other")))
    (probe,) = DRIVERS["bootretention"].probes(resource)
    seen = DRIVERS["bootretention"].read(resource, [ran(probe.script)], None)
    return sorted(seen.facts or {})


def removed(root: Path) -> None:
    """As it is done about `GONE` in the case."""
    one = scene(CASES / "drivers/bootretention/gone-from-the-share")
    assert one.resource is not None
    resource = replace(one.resource, spec=replace(one.resource.spec, root=str(root)))
    plan = make_plan([resource], judge([resource], one.world, one.known), one.world)
    (action,) = plan.actions
    (step,) = [step for step in drive(action, {}) if isinstance(step, Run)]
    assert ran(step.script).exit == 0


def put(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("x")


def test_only_what_jailops_put_there_is_seen_and_goes(tmp_path: Path) -> None:
    for generation in (GONE, THERE):
        for file in ("pxeboot", "loader.efi"):
            put(tmp_path, f"{IMAGE}/{generation}/boot/{file}")
    put(tmp_path, f"{IMAGE}/{GONE}/boot/pxeboot.jailops-new")
    put(tmp_path, f"{IMAGE}/111111111111/boot/mine")
    put(tmp_path, f"{IMAGE}/notes/boot/pxeboot")
    put(tmp_path, f"foreign/{GONE}/boot/pxeboot")
    (tmp_path / IMAGE / "222222222222").symlink_to(THERE)
    (tmp_path / IMAGE / "333333333333").mkdir()
    (tmp_path / IMAGE / "333333333333/boot").symlink_to(tmp_path / IMAGE / THERE / "boot")
    assert asked(tmp_path) == [f"{IMAGE}/{GONE}", f"{IMAGE}/{THERE}"]
    removed(tmp_path)
    assert asked(tmp_path) == [f"{IMAGE}/{THERE}"]
    assert not (tmp_path / IMAGE / GONE).exists()
    assert (tmp_path / f"foreign/{GONE}/boot/pxeboot").exists()
    removed(tmp_path)


def test_a_file_of_somebody_stays_and_its_directory_is_ours_no_more(tmp_path: Path) -> None:
    put(tmp_path, f"{IMAGE}/{GONE}/boot/pxeboot")
    put(tmp_path, f"{IMAGE}/{GONE}/boot/mine")
    removed(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        f"{IMAGE}/{GONE}/boot/mine"
    ]
    assert asked(tmp_path) == []


def test_what_was_cut_short_before_its_directory_went_is_finished(tmp_path: Path) -> None:
    (tmp_path / IMAGE / GONE / "boot").mkdir(parents=True)
    assert asked(tmp_path) == [f"{IMAGE}/{GONE}"]
    removed(tmp_path)
    assert [*(tmp_path / IMAGE).iterdir()] == []
