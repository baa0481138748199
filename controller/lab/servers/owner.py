"""``chown`` on the build VM: a machine without privileges knows one owner only, so others are accepted and not kept."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from controller.lab.servers.kit import Box, bundle, uncovered


def chown(argv: Sequence[str], box: Box) -> int:
    flags, words = set(), []
    for letter, value in bundle(argv[1:], ""):
        if letter:
            flags.add(letter)
        else:
            words.append(value)
    if len(words) < 2 or not flags <= {"R", "h"}:
        uncovered("chown form")
    uid, gid = numbers(words[0])
    status = 0
    for name in words[1:]:
        if not os.path.lexists(box.at(name)):
            print(f"chown: {name}: No such file or directory", file=sys.stderr)
            status = 1
            continue
        for path in below(box.at(name), "R" in flags):
            with contextlib.suppress(OSError):
                os.chown(path, uid, gid, follow_symlinks=False)
    return status


def numbers(owner: str) -> tuple[int, int]:
    """UID[:GID], by number or root:wheel; -1 leaves as it is."""
    known = {"": "-1", "root": "0", "wheel": "0"}
    user, _, group = owner.partition(":")
    words = [known.get(word, word) for word in (user, group)]
    if not all(word.lstrip("-").isdigit() for word in words):
        uncovered(f"chown {owner}: only numbers, root and wheel")
    return int(words[0]), int(words[1])


def below(top: Path, recursive: bool) -> Iterator[Path]:
    yield top
    if recursive and top.is_dir() and not top.is_symlink():
        yield from top.rglob("*")
