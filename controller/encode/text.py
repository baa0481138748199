"""What the server grammars share: how an unreadable text is reported, a small lexer, and checks of plain values.

Text or a value comes in; tokens, or the same value checked, go out. Nothing here ever repairs a value or guesses: what
a grammar cannot hold is a ValueError, what a parser does not know is a GrammarError, and neither ever reads as "empty".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Literal, TypeAlias

_PATH = re.compile(r"(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*|/\.[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+")
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[a-z0-9][a-z0-9.:-]*)?")
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

Kind: TypeAlias = Literal["word", "string", "mark", "end"]


class GrammarError(ValueError):
    """A text holds something that its parser does not know. Lines count from 1; line 0 is the text as a whole."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}" if line else message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Token:
    """One word, quoted string (without its quotes) or punctuation mark, and the line it stands on."""

    kind: Kind
    value: str
    line: int


class Reader:
    """Walks over tokens; whatever is not what the grammar wants next is a GrammarError at its line.

    `secret` texts may hold passwords: no error about one ever quotes what it found.
    """

    def __init__(self, tokens: Sequence[Token], *, secret: bool = False) -> None:
        self._tokens = tokens
        self._secret = secret
        self._at = 0

    @property
    def ahead(self) -> Token:
        return self._tokens[self._at]

    def take(self) -> Token:
        token = self.ahead
        if token.kind == "end":
            raise GrammarError(token.line, "the text ends in the middle of a declaration")
        self._at += 1
        return token

    def expect(self, *words: str) -> Token:
        """Take these words and marks, in this order; the last one is returned."""
        token = self.ahead
        for word in words:
            token = self.take()
            if token.kind == "string" or token.value != word:
                raise GrammarError(token.line, f"expected {word!r}, found {self._shown(token)}")
        return token

    def word(self) -> str:
        return self._of("word").value

    def string(self) -> str:
        return self._of("string").value

    def accept(self, value: str) -> bool:
        """Take the next word or mark when it is this one."""
        found = self.ahead.kind in ("word", "mark") and self.ahead.value == value
        if found:
            self._at += 1
        return found

    @property
    def done(self) -> bool:
        return self.ahead.kind == "end"

    def _of(self, kind: Kind) -> Token:
        token = self.take()
        if token.kind != kind:
            raise GrammarError(token.line, f"expected a {kind}, found {self._shown(token)}")
        return token

    def _shown(self, token: Token) -> str:
        if self._secret and token.kind == "string":
            return "a string"
        return f'"{token.value}"' if token.kind == "string" else repr(token.value)


def lex(text: str, marks: str, *, secret: bool = False) -> Reader:
    """Cut a text into tokens: ``#`` begins a comment, `marks` stand alone, strings hold neither quote nor backslash.

    We write no escapes and so read none: a backslash anywhere is refused rather than understood wrongly.
    """
    pattern = re.compile(
        rf'(?P<skip>[ \t\r]+|\#[^\n]*)|(?P<line>\n)|"(?P<string>[^"\\\n]*)"|(?P<mark>[{re.escape(marks)}])'
        rf'|(?P<word>[^\s"\\#{re.escape(marks)}]+)'
    )
    tokens: list[Token] = []
    line, at = 1, 0
    while at < len(text):
        found = pattern.match(text, at)
        if found is None:
            raise GrammarError(line, "cannot read the text here" if secret else f"cannot read {text[at : at + 20]!r}")
        at = found.end()
        match found.lastgroup:
            case "line":
                line += 1
            case "string" | "mark" | "word" as kind:
                tokens.append(Token(kind, found.group(kind), line))
    tokens.append(Token("end", "", line))
    return Reader(tokens, secret=secret)


def ipv4(value: str, what: str) -> str:
    """An IPv4 literal in its one canonical form. Names, IPv6 and scope ids (free text!) are refused."""
    try:
        return str(IPv4Address(value))
    except AddressValueError:
        raise ValueError(f"{what} is not an IPv4 address: {value!r}") from None


def path(value: str, what: str) -> str:
    """An absolute path of plain components, no ``.`` or ``..`` among them: safe unquoted in every server grammar."""
    if len(value) > 1023 or not _PATH.fullmatch(value):
        raise ValueError(f"{what} is not an absolute path of letters, digits and ._+- alone: {value!r}")
    return value


def iqn(value: str, what: str) -> str:
    """An iSCSI qualified name (RFC 3720 3.2.6.3.1), lower case, at most 223 characters."""
    if len(value) > 223 or not _IQN.fullmatch(value):
        raise ValueError(f"{what} is not an iSCSI qualified name in lower case: {value!r}")
    return value


def word(value: str, what: str) -> str:
    """A name that is one plain word in every server grammar: letters, digits and ._- , at most 64 characters."""
    if not _WORD.fullmatch(value):
        raise ValueError(f"{what} is not a name of letters, digits and ._- alone: {value!r}")
    return value


def domain(value: str, what: str) -> str:
    """A host or domain name (RFC 1123): labels of letters, digits and inner hyphens, at most 253 characters."""
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError(f"{what} is not a host or domain name: {value!r}")
    return value


def header_lines(header: str) -> list[str]:
    """A comment block, one ``# `` line per line of the header. Control characters are refused."""
    if not all(character.isprintable() or character == "\n" for character in header):
        raise ValueError("a header cannot hold control characters")
    return [f"# {line}".rstrip() for line in header.splitlines()]
