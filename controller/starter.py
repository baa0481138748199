"""`jailops init`: the files of a new site. Never overwrites anything.

The example manifests and the schemas are those of this very version; they lie in the package.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from controller import settings
from controller.errors import Stall
from controller.manifests.schema import rendered


def write_settings(directory: Path) -> list[Path]:
    """jailops.toml with every setting explained."""
    return [_write(directory / "jailops.toml", settings.template())]


def write_site(directory: Path) -> list[Path]:
    """The example site to begin with, its schemas and the settings."""
    if directory.exists() and any(directory.iterdir()):
        raise Stall(f"cannot start a site in {directory}: it is not empty", hint="name a new directory")
    written = [_write(directory / "repo" / name, text) for name, text in sorted(repository().items())]
    return [*written, *write_settings(directory)]


def repository() -> dict[str, str]:
    """The example as a repository of its own, with the schemas that its files name for editors."""
    own = {path: text.replace("../../schemas/", "schemas/") for path, text in example().items()}
    return own | {f"schemas/{name}": text for name, text in rendered().items()}


def example() -> dict[str, str]:
    """Path -> text of the example repository."""
    inside = files("controller").joinpath("example")
    found = _texts(inside) if inside.is_dir() else {}
    if not found:
        raise Stall("cannot find the example manifests: this installation is incomplete", hint="install jailops again")
    return found


def _texts(directory: Traversable, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in directory.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found |= _texts(entry, f"{name}/")
        elif entry.name.endswith((".yaml", ".md")):
            found[name] = entry.read_text()
    return found


def _write(path: Path, text: str) -> Path:
    if path.exists():
        raise Stall(f"cannot write {path}: it exists", hint="move it away or name another directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
