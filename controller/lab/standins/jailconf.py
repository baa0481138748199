"""The grammar of jail.conf(5), as far as 13.2 has it: no `.include`. Text in, parameters out, in the order written.

A parameter's value is a list of strings, or None for a boolean that was only named ("mount.devfs;").
"""

from __future__ import annotations

from controller.lab.standins.node import Failed, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Params: TypeAlias = dict[str, list[str] | None]

PUNCTUATION = "{};=,"


def parse(text: str, file: str) -> dict[str, Params]:
    """Jail name -> parameters; what stands outside blocks, and in `*` blocks, comes first in every jail."""
    tokens = _tokens(text, file)
    everywhere: Params = {}
    blocks: dict[str, Params] = {}
    while tokens:
        kind, word = tokens.pop(0)
        if kind != "word":
            raise _syntax(file, word)
        if tokens[:1] == [("mark", "{")]:
            tokens.pop(0)
            target = everywhere if word == "*" else blocks.setdefault(word, {})
            while tokens[:1] != [("mark", "}")]:
                if not tokens:
                    raise _syntax(file, "end of file")
                _statement(tokens, target, file)
            tokens.pop(0)
        else:
            tokens.insert(0, (kind, word))
            _statement(tokens, everywhere, file)
    return {name: _merged(everywhere, params, name) for name, params in blocks.items()}


def _merged(first: Params, then: Params, name: str) -> Params:
    merged: Params = {**first, **then, "name": [name]}
    variables = {key[1:]: values[0] for key, values in merged.items() if key.startswith("$") and values}
    variables["name"] = name
    return {
        key: [_substituted(value, variables) for value in values] if values is not None else None
        for key, values in merged.items()
        if not key.startswith("$")
    }


def _substituted(value: str, variables: dict[str, str]) -> str:
    for key, text in variables.items():
        value = value.replace("${" + key + "}", text).replace(f"${key}", text)
    return value


def _statement(tokens: list[tuple[str, str]], target: Params, file: str) -> None:
    kind, name = tokens.pop(0)
    if kind != "word":
        raise _syntax(file, name)
    operator = tokens[0][1] if tokens and tokens[0][0] == "mark" else ""
    if operator == ";":
        tokens.pop(0)
        target[name] = None
        return
    if operator not in ("=", "+="):
        raise _syntax(file, name)
    tokens.pop(0)
    values = []
    while True:
        kind, word = tokens.pop(0) if tokens else ("mark", "end of file")
        if kind != "word":
            raise _syntax(file, word)
        values.append(word)
        kind, word = tokens.pop(0) if tokens else ("mark", "end of file")
        if (kind, word) == ("mark", ";"):
            break
        if (kind, word) != ("mark", ","):
            raise _syntax(file, word)
    target[name] = [*(target.get(name) or []), *values] if operator == "+=" else values


def _syntax(file: str, near: str) -> Failed:
    return Failed(f"jail: {file}: syntax error near {near}")


def _tokens(text: str, file: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            at += 1
        elif char == "#" or text.startswith("//", at):
            at = (text.find("\n", at) + 1) or len(text)
        elif text.startswith("/*", at):
            at = (text.find("*/", at) + 2) if "*/" in text[at:] else len(text)
        elif text.startswith("+=", at):
            tokens.append(("mark", "+="))
            at += 2
        elif char in PUNCTUATION:
            tokens.append(("mark", char))
            at += 1
        elif char in "\"'":
            end = text.find(char, at + 1)
            if end < 0 or "\\" in text[at:end]:
                uncovered("an unterminated or escaped string in " + file)
            tokens.append(("word", text[at + 1 : end]))
            at = end + 1
        else:
            end = at
            while end < len(text) and not text[end].isspace() and text[end] not in PUNCTUATION + "+\"'":
                end += 1
            if end == at or text[at] == ".":
                raise _syntax(file, text[at : at + 10])
            tokens.append(("word", text[at:end]))
            at = end
    return tokens
