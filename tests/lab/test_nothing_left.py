"""However a run ends, it leaves no process, and with them no namespace and no mount; and no file longer than the next run."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.child import PREFIX, sweep

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
RUN = """
from pathlib import Path
import pytest
from tests.lab.server import server

@pytest.mark.parametrize("turn", range(100))
def test_busy(net, directory, turn):
    with server(directory / "san", net.plug("san", "198.51.100.10")) as san:
        san.write("/etc/ganesha/ganesha.conf", "")
        san.must("service tgt start; service nfs-ganesha start")
        Path("{ready}").touch()
"""


def reaped(ready: Path, how: str, seconds: float, argv: Sequence[str], **environment: str) -> tuple[str, str]:
    """Run a command and end it by the signal `seconds` after it is ready: the processes it left, and all that it said."""
    done = subprocess.run(
        [sys.executable, str(HERE / "reaper.py"), how, str(ready), str(seconds), *argv],
        env={**os.environ, **environment},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


def test_a_process_that_is_left_is_noticed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    left, _ = reaped(ready, "SIGTERM", 0, ["sh", "-c", f"setsid sleep 60 >/dev/null 2>&1 & touch {ready}; wait"])
    assert left == "sleep 60 \n"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_run_that_is_interrupted_leaves_nothing(
    tmp_path: Path, how: str, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, ready = tmp_path / "tmp", tmp_path / "ready"
    temporary.mkdir()
    (tmp_path / "test_busy.py").write_text(RUN.replace("{ready}", str(ready)))
    plugins = ["-p", "tests.conftest", "-p", "tests.lab.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml"]
    argv = [sys.executable, "-m", "pytest", "-q", "-n", workers, *plugins, str(tmp_path / "test_busy.py")]
    seconds = random.uniform(0, 1.5)

    left, said = reaped(ready, how, seconds, argv, TMPDIR=str(temporary), PYTHONDONTWRITEBYTECODE="1")

    assert ready.exists(), said
    assert left == "", f"{how} {seconds:.3f} s after the first turn left processes:\n{left}\n{said}"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    if how == "SIGKILL":
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        sweep()
    assert list(temporary.glob(PREFIX + "*")) == [], f"{how} {seconds:.3f} s after the first turn left files:\n{said}"
