"""src.conf(5), the private make.conf(5) and kernel configurations: knobs and options in, text out, text checked.

make expands ``$`` and evaluates ``!=`` while it reads, so names and values are held to characters that mean nothing to
it. Unknown knobs are written as they are: make ignores them silently, and which exist differs by release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from controller.encode.text import GrammarError

_KNOB = re.compile(r"WITH(?:OUT)?_[A-Z0-9_]+")
_OPTION = re.compile(r"[A-Z_][A-Z0-9_]*")
_VALUE = re.compile(r"[A-Za-z0-9_./:,@%+=-]+(?: [A-Za-z0-9_./:,@%+=-]+)*")
_SRC_LINE = re.compile(rf"(?P<knob>{_KNOB.pattern})=yes")
_MAKE_LINE = re.compile(rf"(?P<name>{_OPTION.pattern})\?=(?P<value>{_VALUE.pattern})")

_KERNEL_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_REVOCABLE = ("cpu", "option", "options", "device", "devices", "makeoption", "makeoptions")
_KERNEL_WORDS = (
    *_REVOCABLE,
    *(f"no{word}" for word in _REVOCABLE),
    *("include", "files", "ident", "machine", "maxusers", "profile", "hints", "env", "envvar"),
)
_SHOWN = 60
"""Characters of a word that a problem shows."""

_INCLUDABLE = re.compile(r'"?[A-Za-z0-9_][A-Za-z0-9_.-]*"?')


def render_src(knobs: Iterable[str]) -> str:
    """src.conf(5) text. Only the presence of a knob counts, its value is never read (src.conf(5))."""
    return "".join(f"{_checked(knob)}=yes\n" for knob in knobs)


def render_make(options: Mapping[str, str]) -> str:
    """make.conf(5) text, with ``?=`` so that the build can override it for its own tools, as make.conf(5) asks."""
    for name, value in options.items():
        if not _OPTION.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"cannot write {name!r} to make.conf: make would read more than text in it")
    return "".join(f"{name}?={value}\n" for name, value in options.items())


def parse_src(text: str) -> tuple[str, ...]:
    """The knobs of a src.conf that we wrote."""
    return tuple(match["knob"] for match in _matches(text, _SRC_LINE, "not a knob: WITH_… or WITHOUT_…=yes expected"))


def parse_make(text: str) -> dict[str, str]:
    """The options of a make.conf that we wrote."""
    return {
        match["name"]: match["value"] for match in _matches(text, _MAKE_LINE, "not an option: NAME?=value expected")
    }


def kernel_config_problems(name: str, text: str) -> tuple[str, ...]:
    """Everything that would keep the configuration `name` from building a kernel that boots diskless; () is good."""
    statements = tuple(_statements(text))
    return (*_name_problems(name, statements), *_word_problems(statements), *_diskless_problems(statements))


def _checked(knob: str) -> str:
    if not _KNOB.fullmatch(knob):
        raise ValueError(f"cannot write {knob!r} to src.conf: not WITH_… or WITHOUT_…")
    return knob


def _matches(text: str, pattern: re.Pattern[str], wanted: str) -> Iterator[re.Match[str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.startswith("#"):
            match = pattern.fullmatch(line)
            if not match:
                raise GrammarError(number, wanted)
            yield match


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """config(5): one statement a line, ``#`` begins a comment anywhere, commas separate too."""
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if words:
            yield number, words


def _name_problems(name: str, statements: tuple[tuple[int, list[str]], ...]) -> Iterator[str]:
    if not _KERNEL_NAME.fullmatch(name) or name == "GENERIC":
        yield f"{name} cannot name a kernel configuration of one's own"
    idents = [(number, words[1:]) for number, words in statements if words[0] == "ident"]
    if not idents:
        yield f"no ident line: add 'ident {name}'"
    for number, given in idents:
        if given != [name]:
            yield f"line {number}: ident is {_plain(' '.join(given)) or 'empty'}, but the configuration is named {name}"


def _word_problems(statements: tuple[tuple[int, list[str]], ...]) -> Iterator[str]:
    for number, words in statements:
        if words[0] not in _KERNEL_WORDS:
            meant = "".join(f" ({word} is)" for word in get_close_matches(words[0][:_SHOWN], _KERNEL_WORDS, n=1))
            yield f"line {number}: {_plain(words[0])} is not a word of config(5){meant}"
        elif words[0] == "include" and (len(words) != 2 or not _INCLUDABLE.fullmatch(words[1])):
            yield f"line {number}: include takes the name of one configuration beside this one"


def _plain(text: str) -> str:
    return text[:_SHOWN].encode("ascii", "backslashreplace").decode()


def _diskless_problems(statements: tuple[tuple[int, list[str]], ...]) -> Iterator[str]:
    """GENERIC has what an NFS root needs (10 to 13); the loader passes the address on, so BOOTP must not ask again."""
    has = {"NFSCL", "NFS_ROOT", "md"} if any(words[:2] == ["include", "GENERIC"] for _, words in statements) else set()
    for _, (word, *names) in statements:
        plain = {name.partition("=")[0] for name in names}
        if word in ("options", "option", "device", "devices"):
            has |= plain
        elif word in ("nooptions", "nooption", "nodevice", "nodevices"):
            has -= plain
    for option in ("NFSCL", "NFS_ROOT"):
        if option not in has:
            yield f"no 'options {option}': the node could not mount its root"
    if "md" not in has:
        yield "no 'device md': the node could have no memory disks"
    if "BOOTP_NFSROOT" in has:
        yield "options BOOTP_NFSROOT makes the kernel ignore the root path that it was booted with"
