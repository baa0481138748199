"""bsdtar, as far as the making and opening of a root file system needs it.

Create (-c), extract (-x) and list (-t), with -f -C -p -v -z -j -J -n -T --null --format --exclude --strip-components
and the options that make an archive reproducible. Member names lose a leading slash; exclusion patterns are not
anchored, as libarchive has it.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.lab.servers import archive
from controller.lab.servers.kit import Box, Failed, take, uncovered

LETTERS = {"z": "gzip", "j": "bzip2", "y": "bzip2", "J": "xz"}
IGNORED = {"--no-xattrs", "--no-acls", "--no-fflags", "--numeric-owner", "--one-file-system", "--no-same-owner"}


@dataclass(slots=True)
class Ask:
    verb: str = ""
    file: str = "-"
    how: str = ""
    format: str = "pax"
    exact: bool = False
    verbose: bool = False
    recurse: bool = True
    null: bool = False
    timestamp: bool = True
    strip: int = 0
    uid: int | None = None
    gid: int | None = None
    exclude: list[str] = field(default_factory=list)
    work: list[tuple[str, str]] = field(default_factory=list)
    """(directory, name) in the order given."""
    folder: str = "."


def main(argv: Sequence[str], box: Box) -> int:
    ask = parse(list(argv[1:]), box)
    if ask.verb == "c":
        return create(ask, box)
    packed = sys.stdin.buffer.read() if ask.file == "-" else read(box, ask.file)
    try:
        return extract(ask, box, packed) if ask.verb == "x" else listing(packed)
    except ValueError as error:
        raise Failed(f"tar: Error opening archive: {error}", 1) from error


def read(box: Box, path: str) -> bytes:
    try:
        return box.at(path).read_bytes()
    except OSError as error:
        raise Failed(f"tar: Error opening archive: Failed to open '{path}'", 1) from error


def parse(args: list[str], box: Box) -> Ask:
    ask = Ask()
    if args and not args[0].startswith("-"):
        args[0] = "-" + args[0]
    while args:
        word = args.pop(0)
        if word.startswith("--"):
            long(ask, word, args)
        elif word.startswith("-") and len(word) > 1:
            short(ask, word[1:], args, box)
        else:
            ask.work.append((ask.folder, word))
    if ask.verb not in ("c", "x", "t"):
        uncovered("tar needs one of -c -x -t")
    return ask


def short(ask: Ask, letters: str, args: list[str], box: Box) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in "cxt":
            ask.verb = letter
        elif letter in LETTERS:
            ask.how = LETTERS[letter]
        elif letter in "pvn":
            ask.exact, ask.verbose = ask.exact or letter == "p", ask.verbose or letter == "v"
            ask.recurse = ask.recurse and letter != "n"
        elif letter in "fCT":
            value, letters = letters or take(args, letter), ""
            told(ask, letter, value, box)
        elif letter != "o":
            uncovered(f"tar -{letter}")


def told(ask: Ask, letter: str, value: str, box: Box) -> None:
    if letter == "f":
        ask.file = value
    elif letter == "C":
        ask.folder = os.path.join(ask.folder, value)
    else:
        text = sys.stdin.read() if value == "-" else box.at(value).read_text()
        names = text.split("\0" if ask.null else "\n")
        ask.work += [(ask.folder, name) for name in names if name]


def long(ask: Ask, word: str, args: list[str]) -> None:
    name, mark, value = word.partition("=")
    flags: dict[str, dict[str, Any]] = {
        "--gzip": {"how": "gzip"}, "--xz": {"how": "xz"}, "--bzip2": {"how": "bzip2"}, "--null": {"null": True},
        "--no-recursion": {"recurse": False}, "--verbose": {"verbose": True},
    }  # fmt: skip
    if name in flags:
        for key, setting in flags[name].items():
            setattr(ask, key, setting)
    elif name in IGNORED:
        return
    elif name in ("--format", "--exclude", "--options", "--uid", "--gid", "--uname", "--gname", "--strip-components"):
        valued(ask, name, value if mark else take(args, name))
    else:
        uncovered(f"tar {word}")


def valued(ask: Ask, name: str, value: str) -> None:
    if name == "--format":
        if value not in ("cpio", "odc", "newc", "ustar", "pax"):
            uncovered(f"tar --format {value}")
        ask.format = value
    elif name == "--exclude":
        ask.exclude.append(value)
    elif name == "--options":
        if value not in ("gzip:!timestamp", "!timestamp"):
            uncovered(f"tar --options {value}")
        ask.timestamp = False
    elif name == "--strip-components":
        ask.strip = int(value)
    elif name in ("--uid", "--gid"):
        setattr(ask, name[2:], int(value))


def excluded(name: str, patterns: Sequence[str]) -> bool:
    """A pattern matches any run of whole path components unless it begins with ^."""
    parts = name.strip("/").split("/")
    for pattern in patterns:
        starts = range(1) if pattern.startswith("^") else range(len(parts))
        bare = pattern.lstrip("^").rstrip("/")
        for start in starts:
            if any(fnmatch.fnmatchcase("/".join(parts[start:end]), bare) for end in range(start + 1, len(parts) + 1)):
                return True
    return False


def create(ask: Ask, box: Box) -> int:
    status = 0
    members: list[archive.Entry] = []
    for folder, name in ask.work:
        if name.startswith("@"):
            uncovered("tar @archive")
        top = box.at(os.path.join(folder, name))
        if not os.path.lexists(top):
            print(f"tar: {name}: Cannot stat: No such file or directory", file=sys.stderr)
            status = 1
            continue
        members += walk(top, name, ask)
    if ask.verbose:
        sys.stderr.write("".join(f"a {one.name}\n" for one in members))
    writer = {"cpio": archive.odc, "odc": archive.odc, "newc": archive.newc}.get(ask.format)
    packed = writer(members) if writer else archive.tape(members, ask.format == "pax")
    packed = archive.squeeze(packed, ask.how, int(time.time()) if ask.timestamp else 0)
    if ask.file == "-":
        sys.stdout.buffer.write(packed)
    else:
        box.at(ask.file).write_bytes(packed)
    if status:
        print("tar: Error exit delayed from previous errors.", file=sys.stderr)
    return status


def walk(path: Path, name: str, ask: Ask) -> Iterator[archive.Entry]:
    if excluded(name, ask.exclude):
        return
    one = archive.entry(path, name.lstrip("/") or ".")
    yield replace(one, uid=one.uid if ask.uid is None else ask.uid, gid=one.gid if ask.gid is None else ask.gid)
    if ask.recurse and path.is_dir() and not path.is_symlink():
        for inner in sorted(path.iterdir()):
            yield from walk(inner, f"{name.rstrip('/')}/{inner.name}", ask)


def extract(ask: Ask, box: Box, packed: bytes) -> int:
    into, wanted, status = box.at(ask.folder), [name for _, name in ask.work], 0
    late = []
    for one in archive.entries(packed):
        parts = one.name.split("/")[ask.strip :]
        clean = "/".join(parts)
        if not clean or excluded(one.name, ask.exclude):
            continue
        if wanted and not any(one.name == name or one.name.startswith(f"{name}/") for name in wanted):
            continue
        try:
            archive.unpack(replace(one, name=clean), into, exact=ask.exact)
        except OSError as error:
            print(f"tar: {clean}: {error.strerror}", file=sys.stderr)
            status = 1
            continue
        late.append((into / clean, one.mtime))
    for path, mtime in reversed(late):
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (mtime, mtime))
    if status:
        print("tar: Error exit delayed from previous errors.", file=sys.stderr)
    return status


def listing(packed: bytes) -> int:
    for one in archive.entries(packed):
        print(one.name + ("/" if one.mode & 0o170000 == 0o040000 and not one.name.endswith("/") else ""))
    return 0
