"""Runs one of the scripts in real/ as root in namespaces of its own, and gives what every command of it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "real"


@dataclass(frozen=True)
class Said:
    exit: int
    text: str


def run(script: str, files: Mapping[str, str], directory: Path, timeout: float = 100) -> dict[str, Said]:
    """The answers by name. The kill of the first process of the new pid namespace ends everything in it."""
    given, answers = directory / "in", directory / "out"
    given.mkdir()
    answers.mkdir()
    for name, text in files.items():
        (given / name).write_text(text)
    command = ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "sh", str(SCRIPTS / script)]
    ended = subprocess.run(
        [*command, str(given), str(answers)],
        env={**os.environ, "PYTHON": sys.executable, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"},
        cwd=SCRIPTS.parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), f"{script} did not run to its end: {ended.stdout}"
    return {
        path.name: Said(
            int(status.read_text()) if (status := path.with_name(path.name + ".rc")).exists() else 0, path.read_text()
        )
        for path in answers.iterdir()
        if path.suffix != ".rc"
    }
