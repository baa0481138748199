"""The candidate of ISC dhcpd's include file is only tested, and only counts, where the main file really includes it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.drivers.dhcp import candidate


@pytest.mark.parametrize("line", ["", '# include "{include}";', '   #include "{include}";'])
def test_an_include_that_is_commented_out_is_none(tmp_path: Path, line: str) -> None:
    main, include = tmp_path / "dhcpd.conf", tmp_path / "jailops.conf"
    main.write_text(line.format(include=include) + "\n")
    done = subprocess.run(
        ["sh", "-s"], input=candidate(str(main), str(include), "text\n"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, f"{main} does not include {include}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["dhcpd.conf"]
