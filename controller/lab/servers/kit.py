"""What every stand-in needs: its machine's root, its state files, and one way to say "not covered by the reference".

In: a root directory (``/`` inside a machine, a temporary directory in tests). Out: files below that root, text on
stdout and stderr. It never touches anything outside the root.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import posixpath
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

UNCOVERED = 70
"""Exit status of a stand-in that was asked something no reference describes (EX_SOFTWARE of sysexits(3))."""


class Uncovered(Exception):
    """The command line, or the state it met, is not described by the reference."""


class Failed(Exception):
    """The command fails the way the real one does: text for stderr (without its newline) and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Box:
    """One machine as its stand-ins see it."""

    root: Path
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)

    def at(self, path: str) -> Path:
        """The real place of a path as the machine names it; relative paths start at the working directory."""
        absolute = posixpath.normpath(posixpath.join(self.cwd, path))
        return self.root / absolute.lstrip("/")

    def chdir(self, path: str) -> Box:
        return Box(self.root, posixpath.normpath(posixpath.join(self.cwd, path)), self.env)

    @property
    def lab(self) -> Path:
        return self.root / "lab"

    def load(self, name: str, default: Any) -> Any:
        """The state file ``/lab/<name>.json``, or the default when there is none."""
        try:
            return json.loads((self.lab / f"{name}.json").read_text())
        except FileNotFoundError:
            return copy.deepcopy(default)

    @contextlib.contextmanager
    def edit(self, name: str, default: Any) -> Iterator[Any]:
        """Change a state file under a lock; it is replaced whole, and only when it differs."""
        file = self.lab / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_name(f".{file.stem}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            value = self.load(name, default)
            before = json.dumps(value, sort_keys=True)
            yield value
            if json.dumps(value, sort_keys=True) != before or not file.exists():
                replace(file, json.dumps(value, indent=1, sort_keys=True).encode())

    def refuse(self, argv: Sequence[str], why: str) -> int:
        """Note the question in ``/lab/uncovered`` so that a test can fail on it."""
        self.lab.mkdir(parents=True, exist_ok=True)
        with (self.lab / "uncovered").open("a") as notes:
            notes.write(" ".join(argv) + (f"  ({why})" if why else "") + "\n")
        print(f"{argv[0]}: not covered by the reference: {' '.join(argv)} {why}".rstrip(), file=sys.stderr)
        return UNCOVERED


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file by temporary name and rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(name, mode)
    os.replace(name, path)


def uncovered(why: str) -> NoReturn:
    raise Uncovered(why)


def take(args: list[str], flag: str) -> str:
    """The word that must follow a flag; usage errors of the real tools are not covered."""
    if not args:
        uncovered(f"{flag} without a value")
    return args.pop(0)


def bundle(args: Sequence[str], with_value: str) -> Iterator[tuple[str, str]]:
    """getopt(3): yields ("x", value) per option, then ("", word) for every operand."""
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            if word != "--":
                rest.insert(0, word)
            break
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in with_value:
                yield letter, letters or take(rest, f"-{letter}")
                letters = ""
            else:
                yield letter, ""
    for word in rest:
        yield "", word


def count(box: Box, name: str) -> int:
    """One more run of something, kept in ``/lab/counters.json``."""
    with box.edit("counters", {}) as counters:
        counters[name] = counters.get(name, 0) + 1
        return int(counters[name])
