"""What every stand-in needs: its machine's root, its state files, and one way to say "not covered by the reference".

In: a root directory (``/`` inside a machine, a temporary directory in tests). Out: files below that root, text on
stdout and stderr. It never touches anything outside the root.

A look at a site runs a dozen of these commands, each in a Python of its own, where imports cost more than all the rest. So what
every look asks imports little (`tests/site/test_start.py` says what not), and what is rare imports in its own functions.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
import sys

from controller.lab import quickjson as json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
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


class Box:
    """One machine as its stand-ins see it."""

    def __init__(self, root: str | Path, cwd: str = "/", env: Mapping[str, str] | None = None) -> None:
        self.root, self.cwd, self.env = os.fspath(root), cwd, env or {}

    def path(self, inside: str) -> str:
        """The real place of a path as the machine names it; relative paths start at the working directory."""
        absolute = posixpath.normpath(posixpath.join(self.cwd, inside))
        return posixpath.join(self.root, absolute.lstrip("/"))

    def at(self, inside: str) -> Path:
        """The same for commands that make and walk directories: a build's, not a look's."""
        from pathlib import Path

        return Path(self.path(inside))

    def chdir(self, path: str) -> Box:
        return Box(self.root, posixpath.normpath(posixpath.join(self.cwd, path)), self.env)

    @property
    def lab(self) -> Path:
        return self.at("/lab")

    def text(self, inside: str) -> str:
        """What a file says; nothing when there is none."""
        try:
            with open(self.path(inside)) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def load(self, name: str, default: Any) -> Any:
        """The state file ``/lab/<name>.json``, or a copy of the default when there is none."""
        try:
            with open(self.path(f"/lab/{name}.json")) as file:
                return json.load(file)
        except FileNotFoundError:
            return json.loads(json.dumps(default))

    def edit(self, name: str, default: Any) -> Edit:
        """`with` it, the same value can be changed."""
        return Edit(self, name, default)

    def refuse(self, argv: Sequence[str], why: str) -> int:
        """Note the question in ``/lab/uncovered`` so that a test can fail on it."""
        os.makedirs(self.path("/lab"), exist_ok=True)
        with open(self.path("/lab/uncovered"), "a") as notes:
            notes.write(" ".join(argv) + (f"  ({why})" if why else "") + "\n")
        print(f"{argv[0]}: not covered by the reference: {' '.join(argv)} {why}".rstrip(), file=sys.stderr)
        return UNCOVERED


class Edit:
    """Change a state file under a lock; it is replaced whole, and only when it differs and nothing was raised."""

    def __init__(self, box: Box, name: str, default: Any) -> None:
        self._box, self._name, self._default = box, name, default
        self._file = box.path(f"/lab/{name}.json")

    def __enter__(self) -> Any:
        folder, name = posixpath.split(self._file)
        os.makedirs(folder, exist_ok=True)
        self._lock = open(posixpath.join(folder, f".{name.removesuffix('.json')}.lock"), "a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._value = self._box.load(self._name, self._default)
        self._before = json.dumps(self._value, sort_keys=True)
        return self._value

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            after = json.dumps(self._value, sort_keys=True)
            if kind is None and (after != self._before or not posixpath.exists(self._file)):
                replace(self._file, after.encode())


def replace(path: str, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file by a temporary name, which is this process's own, and rename."""
    folder, name = posixpath.split(path)
    fresh = posixpath.join(folder, f".{name}.{os.getpid()}")
    with open(fresh, "wb") as file:
        file.write(content)
    os.chmod(fresh, mode)
    os.replace(fresh, path)


def program(*argv: str) -> None:
    """Run a program of this computer, which must succeed."""
    status = os.spawnv(os.P_WAIT, argv[0], argv)
    if status:
        raise RuntimeError(f"{' '.join(argv)}: exit status {status}")


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
