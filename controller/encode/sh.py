"""POSIX sh: the grammar in which everything is asked and done on a machine.

`sh()` is the one door: every value that goes through it arrives on the far side as exactly one word, whatever bytes it
holds. Nothing is ever quoted for a login shell (root's is csh up to FreeBSD 13); scripts reach ``/bin/sh`` on its
standard input. Never puts a secret into a script: `secret()` leaves a hole that execute fills just before sending.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter

from controller.model import Script
from controller.secret import Secret

_CHUNK = 16_384
"""Bytes per printf of a binary file: far below any shell's limit for one word (printf is a builtin in every sh we meet)."""

_HOLE = re.compile("\0((?:env:|age:)?[a-zA-Z0-9_./+=-]+)\0")
"""A file's name, ``env:`` and a variable's, or ``age:`` and an age file in base64: see `controller.manifests.base.SecretRef`."""


def q(word: str) -> Script:
    """Quote one word for sh. Raises ValueError for NUL, which no argument can hold (and which marks secrets)."""
    if "\0" in word:
        raise ValueError("a word for sh cannot hold NUL")
    return Script(_single_quoted(word))


def sh(template: str, /, **values: str | int | Script | Sequence[str]) -> Script:
    """Fill a script: ``sh("mount {dev} {dir}", dev=…, dir=…)``. Write literal braces doubled.

    A plain str or int becomes one quoted word, a sequence of str several, and only what `sh`, `q` or `put_file` made
    (passed through `raw`) is inserted as it is.
    """
    out: list[str] = []
    for literal, name, spec, conversion in Formatter().parse(template):
        out.append(literal)
        if name is None:
            continue
        if spec or conversion:
            raise ValueError(f"no format or conversion in a script: {name}")
        value = values[name]
        out.append(_encoded(value))
    return Script("".join(out))


class Raw(str):
    """Script text that is already encoded, marked so that `sh` inserts it unquoted."""

    __slots__ = ()


def raw(script: Script) -> Script:
    """Mark an encoded script for insertion into another one by `sh`."""
    return Script(Raw(script))


def lines(*scripts: Script) -> Script:
    """One script of several, one after the other."""
    return Script("\n".join(scripts))


def guarded(*scripts: Script) -> Script:
    """Several scripts that stop at the first failure, whose exit status is the whole's."""
    return Script("\n".join(["set -e", *scripts]))


def put_file(path: str, content: str | bytes, mode: int = 0o644, *, temp: str | None = None) -> Script:
    """Write a file so that a reader sees the old or the new one, never half: temp name, chmod, sync, rename.

    `content` may hold `secret()` holes when it is text. The temporary file is 0600 from its first byte; it lies beside
    the file, or at `temp` (same file system) where every name in the directory means something.
    """
    temp = temp or f"{path}.jailops-new"
    body = _print_text(content) if isinstance(content, str) else _print_bytes(content)
    return sh(
        "( umask 077 && {{ {body} ; }} > {temp} && chmod {mode} {temp} && sync && mv -f {temp} {path} )",
        body=raw(body),
        temp=temp,
        mode=f"{mode:o}",
        path=path,
    )


def secret(name: str) -> str:
    """A hole for a secret, to be put inside text given to `put_file`. Only execute knows what goes there."""
    if not _HOLE.fullmatch(f"\0{name}\0"):
        raise ValueError(f"not a secret's name: {name!r}")
    return f"\0{name}\0"


def named(name: str) -> str:
    """A secret's name as a person finds it: of an age file the last signs, which stand on its last line but one."""
    kind, _, rest = name.rpartition(":")
    return {"env": f"JAILOPS_SECRET_{rest}", "age": f"in the age file that ends in {rest[-12:]}"}.get(kind, name)


def holes(text: str) -> frozenset[str]:
    """The names of the secrets that a text waits for."""
    return frozenset(_HOLE.findall(text))


def fill(script: str, values: Mapping[str, Secret]) -> str:
    """Put the secrets in. The holes stand inside single quotes, so the values are escaped for there.

    Raises KeyError with the missing secret's name.
    """
    return _HOLE.sub(lambda hole: values[hole.group(1)].reveal().replace("'", "'\\''"), script)


def fill_text(text: str, values: Mapping[str, Secret]) -> str:
    """The same for text that is not inside a script, such as a file whose digest is wanted."""
    return _HOLE.sub(lambda hole: values[hole.group(1)].reveal(), text)


def _encoded(value: str | int | Script | Sequence[str]) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, (str, int)):
        return q(str(value))
    return " ".join(q(word) for word in value)


def _single_quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _print_text(text: str) -> Script:
    """Holes are kept: the quotes are written around them, and `fill` escapes what comes in."""
    if "\0" in _HOLE.sub("", text):
        raise ValueError("a text file cannot hold NUL")
    return Script(f"printf %s {_single_quoted(text)}")


def _print_bytes(data: bytes) -> Script:
    """Any bytes through a text channel: printf's octal escapes (POSIX), in pieces."""
    pieces = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
    return Script(" && ".join(f"printf {_octal(piece)}" for piece in pieces) or ":")


def _octal(piece: bytes) -> str:
    safe = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ./_:=,+-")
    # A leading "-" would be read as an option, a digit after an escape as part of it: escapes are always three digits.
    body = "".join(chr(byte) if byte in safe and index else f"\\{byte:03o}" for index, byte in enumerate(piece))
    return f"'{body}'"
