"""rc.conf(5) and loader.conf(5): names and values in, assignments out, and back.

rc.conf is sourced by sh as root, so only what no shell can take for anything but text is written: a value that holds
one of " $ ` \\ or a control character is refused. Never evaluates anything; a line that is no plain assignment and no
comment is a `GrammarError`, because what it would do is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.encode.text import GrammarError

_SH_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOADER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_VALUE = re.compile(r"[ !#%-\[\]^_a-~]*")
"""Printable ASCII without the four characters that sh reads inside double quotes."""

_LINE = re.compile(
    r"""(?P<name>[^\s="'#]+)=
        (?: "(?P<double>[^"]*)" | '(?P<single>[^']*)' | (?P<bare>[A-Za-z0-9_./:,@%+=-]*) )
        [ \t]*(?:(?<=[ \t])\#.*)?""",
    re.VERBOSE,
)


def render(variables: Mapping[str, str]) -> str:
    """rc.conf(5) text, one ``name="value"`` per line in the order given. Raises ValueError for what sh would read."""
    return _render(variables, _SH_NAME, "rc.conf")


def render_loader(variables: Mapping[str, str]) -> str:
    """loader.conf(5) text; names may hold dots and hyphens. Raises ValueError as `render` does."""
    return _render(variables, _LOADER_NAME, "loader.conf")


def parse(text: str) -> dict[str, str]:
    """The assignments of an rc.conf; of two with one name the later wins, as in sh."""
    return _parse(text, _SH_NAME)


def parse_loader(text: str) -> dict[str, str]:
    """The assignments of a loader.conf; the later wins."""
    return _parse(text, _LOADER_NAME)


def _render(variables: Mapping[str, str], names: re.Pattern[str], file: str) -> str:
    for name, value in variables.items():
        if not names.fullmatch(name):
            raise ValueError(f"cannot write {name!r} to {file}: not a variable's name")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"cannot write {name} to {file}: {_first_refused(value)!r} is not allowed in a value")
    return "".join(f'{name}="{value}"\n' for name, value in variables.items())


def _first_refused(value: str) -> str:
    return next(char for char in value if not _VALUE.fullmatch(char))


def _parse(text: str, names: re.Pattern[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t")
        if stripped and not stripped.startswith("#"):
            name, value = _assignment(number, stripped, names)
            found[name] = value
    return found


def _assignment(number: int, line: str, names: re.Pattern[str]) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if not match or not names.fullmatch(match["name"]):
        raise GrammarError(number, 'neither a comment nor a plain assignment name="value"')
    value = match["double"] or match["single"] or match["bare"] or ""
    if not _VALUE.fullmatch(value):
        raise GrammarError(number, f"{_first_refused(value)!r} is not plain text in the value of {match['name']}")
    return match["name"], value
