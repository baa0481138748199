"""What the drivers of every case would send to a machine: text that its sh can read, on the right paths."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.diff import judge
from controller.drivers import DRIVERS
from controller.encode.sh import fill, holes
from controller.model import Run
from controller.plan import make_plan

from .report import drive
from .scene import CASES, Scene, folders, scene

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
        text = fill(script, dict.fromkeys(holes(script), 'it\'s "secret"'))
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
