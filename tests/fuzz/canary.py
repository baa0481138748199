"""Noticing that a value was run: the commands that hostile values name write down each call, and do nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NAMES = ("canary", "id", "touch")


class Canary:
    """A directory of such commands, and an environment in which they come first."""

    def __init__(self, directory: Path, path: str = "") -> None:
        self._calls = directory / "canary-calls"
        birds = directory / "canary"
        birds.mkdir()
        for name in NAMES:
            (birds / name).write_text(f'#!/bin/sh\necho "{name}${{*:+ $*}}" >> {self._calls}\n')
            (birds / name).chmod(0o755)
        self.environment: Mapping[str, str] = {"PATH": f"{birds}:{path or os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    def called(self) -> list[str]:
        """Every call so far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []
