"""Every folder of tests/cases/drivers: what a driver reads, what differs, what the plan says, and the steps in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.drivers import DRIVERS

from .report import report
from .scene import folders, scene

FOLDERS = list(folders())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_case(folder: Path) -> None:
    assert report(scene(folder)) == (folder / "expected.txt").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_case_is_about_its_kind(folder: Path) -> None:
    assert folder.parent.name.partition("-")[0] == scene(folder).ref.kind
    assert "{want:" not in (folder / "expected.txt").read_text()


def test_every_driver_has_a_case_for_each_answer() -> None:
    """At least: all is well, something is done about it, and an answer that cannot be read."""
    texts: dict[str, list[str]] = {}
    for folder in FOLDERS:
        texts.setdefault(folder.parent.name.partition("-")[0], []).append((folder / "expected.txt").read_text())
    assert texts.keys() == DRIVERS.keys()
    for kind, found in texts.items():
        assert any("nothing differs: Ready" in text for text in found), kind
        assert any(text.startswith("held (unknown): cannot") for text in found), kind
        assert kind in ("node", "bootconf") or any("  done\n" in text for text in found), kind
