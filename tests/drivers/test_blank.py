"""A disk is blank only if every byte of its first and last megabyte was read and is zero, to the very last sector."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.drivers.node import blank

MIB = 1 << 20


def look(
    directory: Path, size: int, data: dict[int, bytes], *, sector: int = 512, told: int | None = None
) -> tuple[int, str]:
    """Run the script on a file of zeros with some data in it; diskinfo(8) says `told` bytes."""
    disk = directory / "da0"
    with disk.open("wb") as file:
        file.truncate(size)
        for at, content in data.items():
            file.seek(at)
            file.write(content)
    told = size if told is None else told
    programs = {
        "diskinfo": f"printf 'da0\\t{sector}\\t{told}\\t{told // sector}\\t0\\t0\\n'",
        "dumpfs": "exit 1",
        "gpart": "exit 1",
    }
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    script = blank("da0").replace("/dev/da0", str(disk))
    done = subprocess.run(
        ["/bin/sh", "-s"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{directory}:/usr/bin:/bin"},
    )
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("size", [64 * MIB, 64 * MIB + 3 * 512, 3 * 512, 2 * MIB - 512])
def test_zeros_are_blank(tmp_path: Path, size: int) -> None:
    assert look(tmp_path, size, {}) == (0, "")


def test_zeros_are_blank_in_large_sectors_too(tmp_path: Path) -> None:
    assert look(tmp_path, 64 * MIB + 4096, {}, sector=4096) == (0, "")


@pytest.mark.parametrize(
    ("size", "at", "status"),
    [
        (64 * MIB, 0, 5),
        (64 * MIB, MIB - 1, 5),
        (64 * MIB, 63 * MIB, 6),
        (64 * MIB, 64 * MIB - 1, 6),
        (64 * MIB + 3 * 512, 64 * MIB + 2 * 512, 6),
    ],
)
def test_one_byte_of_data_is_enough(tmp_path: Path, size: int, at: int, status: int) -> None:
    place = {5: "its first megabyte holds data", 6: "its last megabyte holds data"}[status]
    assert look(tmp_path, size, {at: b"G"}) == (status, place)


def test_what_cannot_be_read_is_not_blank(tmp_path: Path) -> None:
    assert look(tmp_path, 64 * MIB, {}, told=65 * MIB) == (7, "its last megabyte cannot be read")
    assert look(tmp_path, 0, {}, told=0) == (2, "its size cannot be read")
    assert look(tmp_path, 64 * MIB, {}, told=64 * MIB + 1) == (2, "its size cannot be read")
