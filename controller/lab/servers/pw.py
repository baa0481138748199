"""``pw -R ROOT`` and ``pwd_mkdb``: users of a root file system, by editing master.passwd and group as pw(8) does."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from controller.lab.servers.kit import Box, Failed, take, uncovered
from controller.lab.servers.rootfs import databases, put

FIELDS = {"u": 2, "g": 3, "c": 7, "d": 8, "s": 9}


def main(argv: Sequence[str], box: Box) -> int:
    args, root = list(argv[1:]), box.at("/")
    if args[:1] == ["-R"]:
        root = box.at(args[1])
        args = args[2:]
    if not args:
        raise Failed("usage:\n  pw [user|group|lock|unlock] [add|del|mod|show|next] [help|switches/values]", 64)
    verb = args.pop(0)
    if not (root / "etc/master.passwd").exists():
        raise Failed("pw: could not lock the group file: No such file or directory", 1)
    said = switches(args)
    actions = {"useradd": add, "usermod": modify, "userdel": delete, "usershow": show, "groupadd": group_add}
    if verb not in actions:
        uncovered(f"pw {verb}")
    actions[verb](root / "etc", said)
    if verb != "usershow":
        databases(root / "etc")
    return 0


def switches(args: list[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    while args:
        word = args.pop(0)
        if not word.startswith("-"):
            said["n"] = word
        elif word[1] in "nuGgdshHc":
            said[word[1]] = word[2:] or take(args, word)
        elif word in ("-m", "-r"):
            said[word[1]] = "yes"
        else:
            uncovered(f"pw {word}")
    return said


def rows(etc: Path) -> list[list[str]]:
    return [line.split(":") for line in (etc / "master.passwd").read_text().splitlines()]


def write(etc: Path, found: list[list[str]]) -> None:
    put(etc / "master.passwd", "".join(":".join(row) + "\n" for row in found), 0o600)


def find(found: list[list[str]], said: dict[str, str]) -> list[str]:
    for row in found:
        if row[0] == said.get("n"):
            return row
    raise Failed(f"pw: no such user `{said.get('n')}'", 67)


def password(said: dict[str, str], now: str) -> str:
    """-h - locks; -H 0 reads a hash on descriptor 0; -h 0 would read a clear password."""
    if said.get("h") == "-":
        return "*"
    if said.get("H") == "0":
        return sys.stdin.readline().rstrip("\n")
    if "h" in said or "H" in said:
        uncovered("pw with a clear password")
    return now


def add(etc: Path, said: dict[str, str]) -> None:
    found = rows(etc)
    if any(row[0] == said["n"] for row in found):
        raise Failed(f"pw: login name `{said['n']}' already exists", 65)
    uid = said.get("u") or str(max(1000, *(int(row[2]) for row in found if int(row[2]) < 32000)) + 1)
    home = said.get("d", f"/home/{said['n']}")
    group_add(etc, {"n": said["n"], "g": uid})
    row = [
        said["n"],
        password(said, "*"),
        uid,
        uid,
        "",
        "0",
        "0",
        said.get("c", "User &"),
        home,
        said.get("s", "/bin/sh"),
    ]
    write(etc, [*found, row])
    join(etc, said)
    if "m" in said:
        place = etc.parent / home.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        put(place / ".profile", "# .profile\n")
        for one in (place, place / ".profile"):
            with contextlib.suppress(OSError):
                os.chown(one, int(uid), int(uid))


def modify(etc: Path, said: dict[str, str]) -> None:
    found = rows(etc)
    row = find(found, said)
    row[1] = password(said, row[1])
    for letter, index in FIELDS.items():
        if letter in said:
            row[index] = said[letter]
    write(etc, found)
    join(etc, said)


def join(etc: Path, said: dict[str, str]) -> None:
    wanted = [name for name in said.get("G", "").split(",") if name]
    lines = [line.split(":") for line in (etc / "group").read_text().splitlines()]
    known = {row[0] for row in lines}
    for name in wanted:
        if name not in known:
            raise Failed(f"pw: group `{name}' does not exist", 67)
    for row in lines:
        members = [name for name in row[3].split(",") if name]
        if row[0] in wanted and said["n"] not in members:
            row[3] = ",".join([*members, said["n"]])
    put(etc / "group", "".join(":".join(row) + "\n" for row in lines))


def delete(etc: Path, said: dict[str, str]) -> None:
    found = rows(etc)
    row = find(found, said)
    write(etc, [other for other in found if other is not row])
    if "r" in said:
        shutil.rmtree(etc.parent / row[8].lstrip("/"), ignore_errors=True)


def show(etc: Path, said: dict[str, str]) -> None:
    print(":".join(find(rows(etc), said)))


def group_add(etc: Path, said: dict[str, str]) -> None:
    text = (etc / "group").read_text()
    if not any(line.startswith(f"{said['n']}:") for line in text.splitlines()):
        put(etc / "group", f"{text}{said['n']}:*:{said['g']}:\n")


def pwd_mkdb(argv: Sequence[str], box: Box) -> int:
    args, folder, file = list(argv[1:]), "/etc", ""
    while args:
        word = args.pop(0)
        if word == "-d":
            folder = take(args, word)
        elif word not in ("-p", "-C"):
            file = word
    if not file or not box.at(file).exists():
        raise Failed(f"pwd_mkdb: {file or '/etc/master.passwd'}: No such file or directory", 1)
    databases(box.at(folder))
    return 0
