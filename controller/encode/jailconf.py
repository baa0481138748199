"""jail.conf(5): blocks in, text out, and back; also what rc.d/jail writes to /var/run/jail.NAME.conf.

A subset on purpose: named blocks with plain values. Variables, includes, escapes, single quotes and settings outside a
block are a `GrammarError`, because what they do depends on more than this text. What is running says jls(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from controller.encode.text import GrammarError, Reader, lex

Operator: TypeAlias = Literal["", "=", "+="]
Value: TypeAlias = bool | tuple[str, ...]

_NAME = re.compile(r"[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*")
"""A dot would make a child jail, and the kernel refuses a purely numeric name unless it is the jid (jail(8))."""
_READ_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*")
_VALUE = re.compile(r"[ !#%-\[\]^_a-~]*")
"""Printable ASCII without " $ ` and backslash."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One statement: ``name;`` (no operator, no values), ``name = values;`` or ``name += values;``."""

    name: str
    values: tuple[str, ...] = ()
    operator: Operator = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One jail with its statements in order; a later one wins, ``+=`` appends."""

    name: str
    parameters: tuple[Parameter, ...]


def render(blocks: Iterable[Block]) -> str:
    """jail.conf(5) text with every value in double quotes. Raises ValueError for what they cannot hold."""
    return "\n".join(_block(block) for block in blocks)


def parse(text: str) -> tuple[Block, ...]:
    """The blocks of a text in the subset that `render` and rc.d/jail write."""
    reader = lex(text, "{}=;,+")
    blocks = []
    while not reader.done:
        blocks.append(_read_block(reader))
    return tuple(blocks)


def effective(block: Block) -> dict[str, Value]:
    """What the statements add up to: True or False for ``name`` and ``noname``, otherwise the list of values."""
    found: dict[str, Value] = {}
    for parameter in block.parameters:
        if parameter.operator:
            before = found.get(parameter.name, ())
            kept = before if parameter.operator == "+=" and isinstance(before, tuple) else ()
            found[parameter.name] = kept + parameter.values
        else:
            name, value = _boolean(parameter.name)
            found[name] = value
    return found


def _boolean(name: str) -> tuple[str, bool]:
    """``allow.nomount`` switches ``allow.mount`` off; the "no" stands before the last component."""
    parent, dot, last = name.rpartition(".")
    if last.startswith("no") and len(last) > 2:
        return f"{parent}{dot}{last[2:]}", False
    return name, True


def _block(block: Block) -> str:
    if not _NAME.fullmatch(block.name):
        raise ValueError(f"cannot write the jail {block.name!r} to jail.conf: not a name that jail(8) takes")
    lines = "".join(f"    {_statement(block.name, parameter)};\n" for parameter in block.parameters)
    return f"{block.name} {{\n{lines}}}\n"


def _statement(jail: str, parameter: Parameter) -> str:
    if not _PARAMETER.fullmatch(parameter.name):
        raise ValueError(f"cannot write the jail {jail} to jail.conf: {parameter.name!r} is not a parameter's name")
    if bool(parameter.operator) != bool(parameter.values):
        raise ValueError(f"cannot write {parameter.name} of the jail {jail}: an operator goes with values")
    for value in parameter.values:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"cannot write {parameter.name} of the jail {jail}: {value!r} is not plain text")
    quoted = ", ".join(f'"{value}"' for value in parameter.values)
    return f"{parameter.name} {parameter.operator} {quoted}".rstrip(" ")


def _read_block(reader: Reader) -> Block:
    token = reader.take()
    if token.kind == "mark" or not _READ_NAME.fullmatch(token.value):
        raise GrammarError(token.line, f"not the name of one jail: {token.value!r}")
    reader.expect("{")
    parameters = []
    while not reader.accept("}"):
        parameters.append(_read_statement(reader))
    return Block(token.value, tuple(parameters))


def _read_statement(reader: Reader) -> Parameter:
    token = reader.take()
    if token.kind != "word" or not _PARAMETER.fullmatch(token.value):
        raise GrammarError(token.line, f"not a parameter's name: {token.value!r}")
    operator: Operator = ""
    if reader.accept("+"):
        reader.expect("=")
        operator = "+="
    elif reader.accept("="):
        operator = "="
    values = _read_values(reader) if operator else ()
    reader.expect(";")
    return Parameter(token.value, values, operator)


def _read_values(reader: Reader) -> tuple[str, ...]:
    values = [_read_value(reader)]
    while reader.accept(","):
        values.append(_read_value(reader))
    return tuple(values)


def _read_value(reader: Reader) -> str:
    token = reader.take()
    if token.kind == "mark" or not _VALUE.fullmatch(token.value):
        raise GrammarError(token.line, f"not a plain value: {token.value!r}")
    return token.value
