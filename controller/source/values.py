"""What goes into the Git source and what comes out of it: frozen values, no behaviour.

GitSettings → Head → Snapshot        Accepted | Proven | Refused        NotePush
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class GitSettings:
    """Where the manifests come from. The user of jailops writes these, never a manifest."""

    url: str
    """``https://host/path``, ``ssh://user@host[:port]/path``, ``user@host:path``; a local path if `allow_local`."""
    mirror: Path
    """A directory of our own. It is made 0700 and holds the bare repository and what git needs beside it."""
    branch: str = "main"
    token_file: Path | None = None
    """HTTPS: a file whose first line is the token. Read anew at every use, so a token may be replaced at any time."""
    token_user: str = "jailops"
    """The user name sent with the token; most Git hosts do not look at it."""
    ca_file: Path | None = None
    """HTTPS: the certificates to believe, instead of the system's."""
    ssh_key_file: Path | None = None
    host_keys: tuple[str, ...] = ()
    """SSH: ``ssh-ed25519 AAAA…``, or a line of known_hosts. A key that is not listed is refused."""
    allow_local: bool = False
    deadline: float = 120.0
    """Seconds for everything one fetch or push does over the network."""
    idle: int = 30
    """HTTPS: seconds below 1000 bytes per second before a transfer counts as dead."""
    max_file_bytes: int = 512 * 1024 * 1024
    """No file that git writes grows beyond this: the largest pack one fetch may bring."""
    max_memory_bytes: int = 2 * 1024 * 1024 * 1024
    """Address space of each git process."""
    max_listing_bytes: int = 16 * 1024 * 1024
    """The listing of one revision's files, about 100 bytes for each."""
    max_blob_bytes: int = 256 * 1024
    """One manifest file."""
    notes_ref: str = "refs/notes/jailops"
    signers_file: Path | None = None
    """Who may sign with SSH, as ALLOWED SIGNERS of ssh-keygen(1). With it, or with `gpg_keys_file`, everybody must sign."""
    revoked_file: Path | None = None
    """SSH keys that are believed no more: public keys, or a key revocation list."""
    gpg_keys_file: Path | None = None
    """Who may sign with GnuPG: their public keys, armoured."""
    trusted_commit: str = ""
    """Full id: this commit and all before it need no signature."""


@dataclass(frozen=True, slots=True)
class Head:
    """The commit at the tip of the branch. Texts are one line, printable and at most 200 characters."""

    revision: str
    author: str
    email: str
    subject: str
    committed_at: float
    """Unix time in seconds, as the committer claims."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file that may hold manifests."""

    path: str
    blob_id: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class PathProblem:
    """A path that cannot be used. `path` is printable, whatever the tree held."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision's manifest files. With `problems` it is not the whole picture: never conclude absence from it."""

    revision: str
    author: str
    email: str
    subject: str
    committed_at: float
    blobs: tuple[TreeEntry, ...]
    problems: tuple[PathProblem, ...] = ()

    @property
    def empty(self) -> bool:
        """True when the revision holds no manifest file at all: nobody's wish, until a person confirms it."""
        return not self.blobs


@dataclass(frozen=True, slots=True)
class Accepted:
    """The candidate continues from the last applied revision (or a person acknowledged it)."""

    revision: str


@dataclass(frozen=True, slots=True)
class Proven:
    """Every commit since the last trusted one is signed by somebody who may."""

    revision: str
    signer: str
    """Who signed the revision itself, with the key; empty when it is trusted by the settings."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The candidate must not be applied; the last applied revision stays in force."""

    revision: str
    reason: Literal["HistoryRewritten", "NotSigned"]
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class NotePush:
    """The note is kept in the mirror in any case; this says whether the remote has it too, and if not, why."""

    pushed: bool
    reason: str = ""
