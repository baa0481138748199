"""Secrets: files below one directory, read when they are needed and kept nowhere.

A value leaves this module only into a script that is about to be sent; everything else gets digests. Error texts name
the file, never what is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from controller.encode.sh import fill_text, holes
from controller.errors import Stall


class Vault:
    """The secrets that manifests name as ``{file: NAME}``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return f"Vault({self._directory})"

    def values(self, names: frozenset[str]) -> Mapping[str, str]:
        """The secrets by name. Raises Stall that names the missing or unusable one."""
        return {name: self._read(name) for name in sorted(names)}

    def digest(self, text: str) -> str:
        """sha256 of a text with its secrets filled in: what the file on the far side must have."""
        return hashlib.sha256(fill_text(text, self.values(holes(text))).encode()).hexdigest()

    def _read(self, name: str) -> str:
        path = self._directory / name
        try:
            if path.resolve().is_relative_to(self._directory.resolve()):
                value = path.read_text().rstrip("\n")
            else:
                raise OSError("it lies outside the secrets directory")
        except (OSError, UnicodeDecodeError) as error:
            raise Stall(
                f"cannot read the secret {name}: {getattr(error, 'strerror', None) or 'not usable'}",
                hint=f"put it into {path}, readable by the controller alone",
            ) from None
        if not value or "'" in value or "\0" in value:
            raise Stall(f"cannot use the secret {name}: it is empty or holds a quote", hint=f"replace {path}")
        return value
