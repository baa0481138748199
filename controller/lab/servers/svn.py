"""``svnlite`` and ``svnliteversion`` over stand-in repositories: a folder per URL with one sub-folder per revision.

A repository at ``/lab/svn/<url with every / as _>`` holds ``<revision>/…``; a working copy keeps ``.svn/lab.json``. The server
of FreeBSD answers, and says so of what it does not have; no other can be reached.
``{"interrupt": true}`` in ``/lab/svn.json`` cuts the next checkout short, after which cleanup and update mend it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.lab.servers.kit import Box, Failed, Uncovered, take
from controller.lab.servers.source import SVN_SERVER


def main(argv: Sequence[str], box: Box) -> int:
    args, revision, names = list(argv[1:]), "", []
    verb = args.pop(0) if args else ""
    while args:
        word = args.pop(0)
        if word in ("-r", "--revision"):
            revision = take(args, word)
        elif word not in ("-q", "--non-interactive", "--force"):
            names.append(word)
    if verb == "checkout" and len(names) == 2:
        return checkout(box, names[0], names[1], revision)
    if verb in ("update", "info", "cleanup") and len(names) <= 1:
        place = names[0] if names else box.cwd
        if not (box.at(place) / ".svn/lab.json").exists():
            raise Failed(f"svn: E155007: '{place}' is not a working copy", 1)
        return {"update": update, "info": info, "cleanup": cleanup}[verb](box, place, revision)
    raise Uncovered(f"svnlite {verb}")


def repository(box: Box, url: str) -> Path:
    place = box.lab / "svn" / url.replace("/", "_")
    if not place.is_dir() and url.startswith(SVN_SERVER):
        raise Failed(f"svn: E170000: URL '{url}' doesn't exist", 1)
    if not place.is_dir():
        raise Failed(f"svn: E170013: Unable to connect to a repository at URL '{url}'", 1)
    return place


def newest(place: Path) -> str:
    return max((one.name for one in place.iterdir()), key=int)


def checkout(box: Box, url: str, place: str, revision: str) -> int:
    source = repository(box, url)
    copy = box.at(place)
    (copy / ".svn").mkdir(parents=True, exist_ok=True)
    note(copy, {"url": url, "revision": 0, "locked": False})
    with box.edit("svn", {}) as settings:
        broken = settings.pop("interrupt", False)
    if broken:
        note(copy, {"url": url, "revision": 0, "locked": True})
        raise Failed("svn: E120106: ra_serf: The server sent a truncated HTTP response body.", 1)
    return bring(copy, source, url, revision or newest(source), "Checked out revision")


def bring(copy: Path, source: Path, url: str, revision: str, said: str) -> int:
    if not (source / revision).is_dir():
        raise Failed(f"svn: E160006: No such revision {revision}", 1)
    shutil.copytree(source / revision, copy, dirs_exist_ok=True)
    note(copy, {"url": url, "revision": int(revision), "locked": False})
    print(f"{said} {revision}.")
    return 0


def read(copy: Path) -> dict[str, Any]:
    return dict(json.loads((copy / ".svn/lab.json").read_text()))


def note(copy: Path, value: dict[str, Any]) -> None:
    (copy / ".svn/lab.json").write_text(json.dumps(value))


def update(box: Box, place: str, revision: str) -> int:
    copy = box.at(place)
    seen = read(copy)
    if seen["locked"]:
        raise Failed(f"svn: E155004: Run 'svn cleanup' to remove locks (type 'svn help cleanup' for details)\n"
                     f"svn: E155004: Working copy '{place}' locked", 1)  # fmt: skip
    source = repository(box, seen["url"])
    print(f"Updating '{place}':")
    return bring(copy, source, seen["url"], revision or newest(source), "Updated to revision")


def cleanup(box: Box, place: str, _revision: str) -> int:
    copy = box.at(place)
    note(copy, {**read(copy), "locked": False})
    return 0


def info(box: Box, place: str, _revision: str) -> int:
    seen = read(box.at(place))
    print(
        f"Path: {place}\nWorking Copy Root Path: {place}\nURL: {seen['url']}\nRevision: {seen['revision']}\nNode Kind: directory"
    )
    return 0


def version(argv: Sequence[str], box: Box) -> int:
    place = box.at(argv[1] if len(argv) > 1 else ".")
    if not (place / ".svn/lab.json").exists():
        print("Unversioned directory")
        return 0
    seen = read(place)
    source = box.lab / "svn" / seen["url"].replace("/", "_") / str(seen["revision"])
    changed = any(
        path.is_file() and path.read_bytes() != (place / path.relative_to(source)).read_bytes()
        for path in source.rglob("*")
        if (place / path.relative_to(source)).is_file()
    )
    print(f"{seen['revision']}{'M' if changed else ''}")
    return 0
