"""A generation is not finished when its /etc or /var would not fit into the node's memory disk (rc.initdiskless goes on)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.drivers.recipe_image import FITS


@pytest.mark.parametrize(("kib", "status"), [(2000, 0), (1050, 1), (900, 1)])
def test_a_tenth_stays_free(tmp_path: Path, kib: int, status: int) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/log").write_bytes(b"x" * (1 << 20))
    done = subprocess.run(
        ["/bin/sh", "-s"], input=f"{FITS}\nfits var {kib}\n", cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = f"KiB, and memory.var is {kib} KiB, a tenth of which stays free\n"
    assert done.returncode == status
    assert done.stdout.endswith(said if status else "")
    assert done.stdout.startswith("cannot fit /var into its memory disk: it holds " if status else "")
