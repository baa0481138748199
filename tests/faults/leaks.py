"""Where a secret must never stand: the log, the store, the mirror, the notes, the metrics page, what the commands print."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyrage

from controller import starter
from controller.demo.stage import Stage

if TYPE_CHECKING:
    from tests.faults.play import Play

_CHAP = "Kn4ckw0rst-am-M0nt4g"
"""A CHAP secret that nothing else contains; the host keys are made anew for each stage and stand for themselves."""


_ROOT = "$6$Gr4mm31$R00t.und/B1rnen"
_ADMIN = "$6$Gr4mm31$Kr4utsal4t.mit/Sp3ck"
_IMAGE = "images/freebsd13.yaml"


@contextmanager
def hashes(directory: Path) -> Iterator[Mapping[str, str]]:
    """The example with two more secrets: one in a variable, one encrypted in its manifest, both for what starts inside."""
    identity = pyrage.x25519.Identity.generate()
    (directory / "identity").write_text(f"{identity}\n")
    sealed = str(pyrage.encrypt(_ADMIN.encode(), [identity.to_public()], armored=True), "ascii")
    lines = "".join(f"          {line}\n" for line in sealed.splitlines())
    text = starter.repository()[_IMAGE]
    text = text.replace("  users: ", "  rootPasswordHash: {env: ROOT_HASH}\n  users: ")
    text = text.replace("      uid: 1001\n", f"      uid: 1001\n      passwordHash:\n        age: |\n{lines}")
    added = {"JAILOPS_SECRET_ROOT_HASH": _ROOT, "JAILOPS_SECRETS__AGE_IDENTITY_FILE": str(directory / "identity")}
    os.environ |= added
    try:
        yield {_IMAGE: text}
    finally:
        for name in added:
            del os.environ[name]


def plant(stage: Stage) -> None:
    """Give the first node a recognisable CHAP secret, before anything has used another."""
    (file,) = stage.loaded.secrets.directory.rglob("chap")
    file.write_text(_CHAP)


def secrets(stage: Stage) -> dict[str, list[bytes]]:
    """Name -> the texts that give it away: of a private key, every line of its private half."""
    directory = stage.loaded.secrets.directory
    files = [path for path in directory.rglob("*") if path.is_file()]
    own = {
        "the controller's key": stage.loaded.ssh.key_file.read_bytes(),
        "env": _ROOT.encode(),
        "age": _ADMIN.encode(),
    }
    given = {**own, **{str(path.relative_to(directory)): path.read_bytes() for path in files}}
    return {**{name: _essence(secret) for name, secret in given.items()}, "an identity": [b"AGE-SECRET-KEY-"]}


def _essence(secret: bytes) -> list[bytes]:
    lines = secret.strip().splitlines()
    return lines[3:-1] if b"PRIVATE KEY" in lines[0] else [secret.strip()]


def found(stage: Stage, places: Mapping[str, bytes]) -> list[str]:
    """Every hit in these texts as ``secret: place``."""
    return [
        f"{name}: {place}"
        for name, texts in secrets(stage).items()
        for text in texts
        for place, content in places.items()
        if text in content
    ]


async def kept(stage: Stage) -> dict[str, bytes]:
    """All that the controller has written, by place. Git's objects are read unpacked."""
    told = {"log": stage.log.read_bytes()}
    store = stage.loaded.store.directory
    told |= {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for repository in (stage.repository, *_mirrors(store)):
        for ref in ("--all", "refs/notes/jailops"):
            text = await stage.git("-C", str(repository), "log", "--patch", "--notes=jailops", ref)
            told[f"git log {ref} in {repository}"] = text.encode()
    return told


async def shown(play: Play) -> dict[str, bytes]:
    """All that the controller and its commands show, by command."""
    told = {"/metrics": (await play.page("/metrics")).encode()}
    for words in (
        ("status",), ("status", "-o", "json"), ("history",), ("history", "-o", "json", "-n", "500"), ("plan",),
    ):  # fmt: skip
        said = await play.jailops(*words)
        told[f"jailops {' '.join(words)}"] = f"{said.out}{said.err}".encode()
    return told


def _mirrors(store: Path) -> list[Path]:
    return [head.parent for head in (store / "mirror").rglob("HEAD") if (head.parent / "objects").is_dir()]
