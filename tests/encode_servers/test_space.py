"""df(1) of several systems, and of this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.encode.space import Space, parse_space, size, space_script
from controller.encode.text import GrammarError

LINUX = """\
=Filesystem     1024-blocks     Used Available Capacity Mounted on
=/dev/vda         263174212 23812384  82345678      23% /
=Filesystem       Inodes  IUsed    IFree IUse% Mounted on
=/dev/vda       16777216 512345 16264871    4% /
"""
FREEBSD = """\
=Filesystem   1024-blocks     Used    Avail Capacity  Mounted on
=/dev/da0p2      20307196 13042072  5640552    70%    /export
=Filesystem   512-blocks     Used    Avail Capacity iused   ifree %iused  Mounted on
=/dev/da0p2     40614392 26084144 11281104    70%  435042 2170172   17%   /export
"""
"""As df.c of 13.2 prints it: -P changes the unit, -i adds columns."""
FULL = FREEBSD.replace(" 5640552 ", " -112000 ").replace(" 2170172 ", " 0 ")
BTRFS = LINUX.replace("16777216 512345 16264871    4%", "       0      0        0     -")
BLANK = LINUX.replace("/dev/vda  ", "a pool/x  ")


@pytest.mark.parametrize(
    ("text", "space"),
    [
        (LINUX, Space(263174212 << 10, 82345678 << 10, 16264871)),
        (f"0123456789ab\t{{}}\n{LINUX}world-1\t{{}}\n", Space(263174212 << 10, 82345678 << 10, 16264871)),
        (FREEBSD, Space(20307196 << 10, 5640552 << 10, 2170172)),
        (FULL, Space(20307196 << 10, 0, 0)),
        (BTRFS, Space(263174212 << 10, 82345678 << 10, None)),
        (BLANK, Space(263174212 << 10, 82345678 << 10, 16264871)),
    ],
)
def test_figures(text: str, space: Space) -> None:
    assert parse_space(text) == space


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n".join(LINUX.splitlines()[:3]),
        LINUX.replace("Available", "Frei"),
        LINUX.replace("82345678", "?"),
        LINUX * 2,
    ],
)
def test_anything_else_is_no_figure(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_space(text)


def test_this_computer_tells_them(tmp_path: Path) -> None:
    said = subprocess.run(["/bin/sh"], input=space_script(str(tmp_path)), capture_output=True, check=True, text=True)
    space = parse_space(said.stdout)
    assert 0 <= space.free <= space.total


def test_a_directory_that_is_not_there_has_none(tmp_path: Path) -> None:
    script = space_script(f"{tmp_path}/none")
    said = subprocess.run(["/bin/sh"], input=script, capture_output=True, check=True, text=True)
    assert (said.stdout, said.stderr) == ("", "")


@pytest.mark.parametrize(
    ("amount", "text"), [(5, "5 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 41, "2.0 TiB")]
)
def test_sizes_for_people(amount: int, text: str) -> None:
    assert size(amount) == text
