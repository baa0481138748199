"""The pages a person reads, taken apart: blocks of code, links, headings, and the parts that are made from the code.

In: Markdown files of this repository. Out: values. It writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command
from typer.testing import CliRunner

from controller.cli import cli
from controller.settings import Settings
from tests.docs import matrix

ROOT = Path(__file__).parents[2]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MADE = re.compile(r"(<!-- (commands|settings|matrix) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str, *pages: Path) -> list[Block]:
    return [one for page in pages or PAGES for one in _blocks(page) if one.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Block(page, line, match[2], match[3])


def links(page: Path) -> list[str]:
    """Where the page's links lead, without those inside code."""
    return _LINK.findall(prose(page.read_text()))


def prose(text: str) -> str:
    """The page without fenced blocks and code in a line."""
    return re.sub(r"`[^`\n]*`", "``", _FENCE.sub("", text))


def code(page: Path) -> list[str]:
    """Everything on the page that is set as code: the lines of blocks, and code inside a line."""
    text = page.read_text()
    fenced = [line.strip() for one in _FENCE.finditer(text) for line in one[3].splitlines()]
    return [*fenced, *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))]


def anchors(page: Path) -> set[str]:
    """What Git hosts make of the headings."""
    headings = re.findall(r"^#+ +(.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Mapping[str, tuple[str, ...]]:
    """Every command of the command line with its options."""
    return {
        name: ("--help", *(option for one in command.params for option in one.opts if option.startswith("-")))
        for name, command in _below(get_command(cli), "")
    }


def _below(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Commands of groups by all their words, such as ``build log``."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def filled(text: str) -> str:
    """The page with its made parts made anew."""
    made = {"commands": _all_help, "settings": _all_settings, "matrix": matrix.page}
    return _MADE.sub(lambda match: match[1] + made[match[2]]() + match[4], text)


def _all_help() -> str:
    return "".join(f"## {name}\n\n```text\n{_help(name)}\n```\n\n" for name in commands())


def _help(name: str) -> str:
    shown = CliRunner().invoke(
        cli, [*name.split(), "--help"], prog_name="jailops", env={"COLUMNS": "100", "NO_COLOR": "1"}
    )
    assert shown.exit_code == 0, shown.output
    return "\n".join(line.rstrip() for line in shown.output.strip().splitlines())


def _all_settings() -> str:
    parts = []
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        head = f"## {name}\n\n| setting | value | default | what it says |\n|---|---|---|---|\n"
        parts.append(head + "".join(_row(key, one) for key, one in section.model_fields.items()) + "\n")
    return "".join(parts)


def _row(key: str, option: Any) -> str:
    default = option.get_default(call_default_factory=True)
    shown = "**required**" if option.is_required() else f"`{default}`" if default not in (None, (), {}, "") else ""
    shown = shown.replace("`True`", "`true`").replace("`False`", "`false`")
    return f"| `{key}` | {_value(option.annotation)} | {shown} | {option.description} |\n"


def _value(annotation: Any) -> str:
    """What may be written, in the words of TOML."""
    words = {str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path"}
    if annotation in words:
        return words[annotation]
    text = str(annotation)
    if text.startswith("typing.Literal"):
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if "Mapping" in text:
        return "table of texts"
    if "tuple" in text:
        return "list of texts"
    return _value(inner[0])
