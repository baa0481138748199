"""Where a secret must never stand: the log, the store, the mirror, the notes, the metrics page, what the commands print."""

from __future__ import annotations

from pathlib import Path

from tests.faults.play import Play

_CHAP = "Kn4ckw0rst-am-M0nt4g"
"""A CHAP secret that nothing else contains; the host keys are made anew for each stage and stand for themselves."""


def plant(play: Play) -> None:
    """Give the first node a recognisable CHAP secret, before anything has used another."""
    (file,) = play.stage.loaded.secrets.directory.rglob("chap")
    file.write_text(_CHAP)


def secrets(play: Play) -> dict[str, list[bytes]]:
    """Name -> the texts that give it away: of a private key, every line of its private half."""
    directory = play.stage.loaded.secrets.directory
    return {
        str(path.relative_to(directory)): _essence(path.read_bytes()) for path in directory.rglob("*") if path.is_file()
    }


def _essence(secret: bytes) -> list[bytes]:
    lines = secret.strip().splitlines()
    return lines[3:-1] if b"PRIVATE KEY" in lines[0] else [secret.strip()]


async def leaks(play: Play) -> list[str]:
    """Every hit as ``secret: place``."""
    places = await gathered(play)
    return [
        f"{name}: {place}"
        for name, texts in secrets(play).items()
        for text in texts
        for place, content in places.items()
        if text in content
    ]


async def gathered(play: Play) -> dict[str, bytes]:
    """Everything that the controller has told anybody or kept, by place. Git's objects are read unpacked."""
    found = {"log": play.stage.log.read_bytes()}
    store = play.stage.loaded.store.directory
    found |= {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for repository in (play.stage.repository, *_mirrors(store)):
        told = await play.stage.git("-C", str(repository), "log", "--all", "--patch", "--notes=jailops")
        notes = await play.stage.git("-C", str(repository), "log", "--patch", "refs/notes/jailops")
        found |= {f"history of {repository}": told.encode(), f"notes of {repository}": notes.encode()}
    for words in (
        ("status",),
        ("status", "-o", "json"),
        ("history",),
        ("history", "-o", "json", "-n", "500"),
        ("plan",),
    ):
        said = await play.jailops(*words)
        found[f"jailops {' '.join(words)}"] = f"{said.out}{said.err}".encode()
    found["/metrics"] = (await play.page("/metrics")).encode()
    return found


def _mirrors(store: Path) -> list[Path]:
    return [head.parent for head in (store / "mirror").rglob("HEAD") if (head.parent / "objects").is_dir()]
