"""Secrets: files below one directory, read when they are needed and kept nowhere.

A value leaves this module only into a script that is about to be sent; everything else gets digests. Error texts name
the file, never what is in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from controller.encode.sh import fill_text, holes
from controller.errors import Stall

_USABLE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+\n-----END [A-Z ]*PRIVATE KEY-----"
    r"|\$[A-Za-z0-9./$,=-]+|[A-Za-z0-9._+/@=-]+"
)
"""A key, a crypt hash, or a word: no quote, blank or backquote, because secrets go into files that shells read on."""


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

    def certificates(self, name: str) -> Path:
        """Where the PEM certificates of a file lie, for who reads them by themselves."""
        if "-----BEGIN CERTIFICATE-----" not in self._text(name):
            raise Stall(
                f"cannot use {name}: it holds no certificate",
                hint=f"replace {self._directory / name} by certificates in PEM (-----BEGIN CERTIFICATE-----)",
            )
        return self._directory / name

    def _text(self, name: str) -> str:
        path = self._directory / name
        try:
            if path.resolve().is_relative_to(self._directory.resolve()):
                return path.read_text().rstrip("\n")
            raise OSError("it lies outside the secrets directory")
        except (OSError, UnicodeDecodeError) as error:
            raise Stall(
                f"cannot read the secret {name}: {getattr(error, 'strerror', None) or 'not usable'}",
                hint=f"put it into {path}, readable by the controller alone",
            ) from None

    def _read(self, name: str) -> str:
        path, value = self._directory / name, self._text(name)
        if not _USABLE.fullmatch(value):
            raise Stall(
                f"cannot use the secret {name}: it is empty or holds signs that not every grammar can carry",
                hint=f"replace {path} by a private key, a crypt(3) hash, or letters, digits and . _ + / @ = -",
            )
        return value
