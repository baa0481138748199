"""Secrets: files below one directory, variables of our environment, and age files in the manifests. Kept nowhere.

They are read, and decrypted, when they are needed. A value leaves this module only as a `Secret`, for a script that is about to
be sent; everything else gets digests. Error texts name the secret, never what is in it.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyrage

from controller.encode.sh import fill_text, holes, named
from controller.errors import Stall
from controller.secret import Secret

PREFIX: Final = "JAILOPS_SECRET_"
"""Of variables that are secrets. A manifest cannot name others: who can push must not read what else is in our environment."""

_USABLE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+\n-----END [A-Z ]*PRIVATE KEY-----"
    r"|\$[A-Za-z0-9./$,=-]+|[A-Za-z0-9._+/@=-]+"
)
"""A key, a crypt hash, or a word: no quote, blank or backquote, because secrets go into files that shells read on."""


class Vault:
    """The secrets that manifests name. `identity`: the file with the private half that age files are encrypted for."""

    def __init__(
        self, directory: Path, identity: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._environment = {name: text for name, text in (environment or {}).items() if name.startswith(PREFIX)}

    def __repr__(self) -> str:
        return f"Vault({self._directory})"

    def values(self, names: frozenset[str]) -> Mapping[str, Secret]:
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

    def _read(self, name: str) -> Secret:
        kind, _, rest = name.rpartition(":")
        if kind == "env":
            value, place = self._variable(rest), f"the variable {PREFIX}{rest}"
        elif kind == "age":
            value, place = self._decrypted(name, b64decode(rest)), "what is encrypted there"
        else:
            value, place = self._text(name), str(self._directory / name)
        if not _USABLE.fullmatch(value):
            raise Stall(
                f"cannot use the secret {named(name)}: it is empty or holds signs that not every grammar can carry",
                hint=f"replace {place} by a private key, a crypt(3) hash, or letters, digits and . _ + / @ = -",
            )
        return Secret(named(name), value)

    def _variable(self, name: str) -> str:
        if PREFIX + name not in self._environment:
            raise Stall(
                f"cannot read the secret {PREFIX}{name}: there is no such variable",
                hint=f"start jailops with {PREFIX}{name} in its environment, then again",
            )
        return self._environment[PREFIX + name].rstrip("\n")

    def _decrypted(self, name: str, sealed: bytes) -> str:
        cannot = f"cannot decrypt the secret {named(name)}"
        identities = self._identities(cannot)
        try:
            return str(pyrage.decrypt(sealed, identities), "utf-8").rstrip("\n")
        except pyrage.DecryptError as error:
            why = "it is for other keys than ours" if "No matching keys" in str(error) else "it is damaged"
        except UnicodeDecodeError:
            why = "it holds no text"
        hint = f"encrypt it again: age --armor --recipient with the public half of {self._identity}"
        raise Stall(f"{cannot}: {why}", hint=hint) from None

    def _identities(self, cannot: str) -> list[pyrage.x25519.Identity]:
        """Raises Stall that begins with `cannot`."""
        if self._identity is None:
            raise Stall(
                f"{cannot}: no identity is set", hint="name the file of age-keygen in [secrets] age_identity_file"
            )
        hint = f"make {self._identity} with age-keygen, readable by the controller alone"
        try:
            lines = [line for line in self._identity.read_text().splitlines() if line.strip() and line[0] != "#"]
            found = [pyrage.x25519.Identity.from_str(line.strip()) for line in lines]
        except OSError as error:
            raise Stall(f"{cannot}: {self._identity} cannot be read: {error.strerror}", hint=hint) from None
        except (UnicodeDecodeError, pyrage.IdentityError):
            raise Stall(f"{cannot}: {self._identity} is no identity of age", hint=hint) from None
        if not found:
            raise Stall(f"{cannot}: {self._identity} holds no identity", hint=hint)
        return found
