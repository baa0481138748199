"""Where a secret must never stand: the log, the store, the mirror, the notes, the metrics page, what the commands print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from controller.demo.stage import Stage

if TYPE_CHECKING:
    from tests.faults.play import Play

_CHAP = "Kn4ckw0rst-am-M0nt4g"
"""A CHAP secret that nothing else contains; the host keys are made anew for each stage and stand for themselves."""


def plant(stage: Stage) -> None:
    """Give the first node a recognisable CHAP secret, before anything has used another."""
    (file,) = stage.loaded.secrets.directory.rglob("chap")
    file.write_text(_CHAP)


def secrets(stage: Stage) -> dict[str, list[bytes]]:
    """Name -> the texts that give it away: of a private key, every line of its private half."""
    directory = stage.loaded.secrets.directory
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): _essence(path.read_bytes()) for path in files}


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
