"""However a run with a controller in it ends, no process is left: the controller ends with the tests that started it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab.child import PREFIX, sweep
from tests.lab.test_nothing_left import reaped

pytestmark = pytest.mark.lab

RUN = """
import asyncio
from pathlib import Path
from controller import app
from tests.lab.loop.stage import staged

async def test_busy():
    async with staged() as stage:
        await stage.until("the controller works", lambda: app.holder(stage.loaded) is not None)
        Path("{ready}").touch()
        await asyncio.sleep(60)
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_an_interrupted_run_ends_its_controller(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary, ready = tmp_path / "tmp", tmp_path / "ready"
    temporary.mkdir()
    (tmp_path / "test_busy.py").write_text(RUN.replace("{ready}", str(ready)))
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        "pyproject.toml",
    ]

    left, said = reaped(ready, how, 0, [*argv, str(tmp_path / "test_busy.py")], TMPDIR=str(temporary))

    assert ready.exists(), said
    assert left == "", said
    if how == "SIGKILL":
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        sweep()
    assert list(temporary.glob(PREFIX + "*")) == [], said
