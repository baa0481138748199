"""Bytes of a YAML file to plain values with the position of each, or problems. Never raises for bad input.

Every scalar stays the text it was: YAML 1.1 would turn a MAC address into a number and `no` into False. Only an
empty or null value becomes NOTHING. Anchors, aliases, merge keys and tags are refused, so that a small
file cannot grow; size, depth and the number of nodes are bounded. Runs in the child that reads revisions, and in
`jailops check DIRECTORY`, which holds no key; a process that acts never imports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml
from yaml._yaml import CParser

from controller.model import Origin
from controller.problem import NOTHING, Nothing, Problem, quoted
from controller.trees import MAX_DEPTH, Path, Place, Tree, Trees, Value

MAX_BYTES: Final = 256 * 1024
MAX_NODES: Final = 20_000
MAX_DOCUMENTS: Final = 2_500
"""No object has fewer than eight values, so a file that MAX_NODES admits never has more."""

_REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
"""What YAML 1.2 calls not printable, foreign line breaks, and what makes text look other than it is."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BREAK = re.compile(r"\r\n|\r|\n")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_DOCUMENT = re.compile(r"(?:(?<=\n)|(?<=\r)|\A)---(?=[ \t\r\n]|\Z)")
"""Three hyphens at the start of a line begin a document wherever they stand (YAML 1.2, c-forbidden)."""


def read(path: str, data: bytes) -> Trees:
    """All documents of one file, and everything wrong with its YAML. A broken document does not hide the others."""
    decoded = _decode(path, data)
    if isinstance(decoded, Problem):
        return Trees((), (decoded,), lost=True)
    file = _File(path)
    trees: list[Tree] = []
    for number, (first_line, chunk) in enumerate(_chunks(decoded)):
        if number > MAX_DOCUMENTS:
            file.too_many(first_line)
            break
        trees += file.documents(chunk, first_line)
    return Trees(tuple(trees), tuple(file.problems), file.lost)


def _decode(path: str, data: bytes) -> str | Problem:
    def problem(found: str, expected: str, before: str = "") -> Problem:
        lines = _BREAK.split(before)
        return Problem(Origin(path, len(lines), len(lines[-1]) + 1), "", found, expected)

    if len(data) > MAX_BYTES:
        return problem(f"a file of {len(data)} bytes", f"at most {MAX_BYTES // 1024} KiB")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return problem("a UTF-16 file", "UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        return problem(f"the byte 0x{data[error.start]:02x}, which is not UTF-8", "UTF-8 text", before)
    bad = _REFUSED.search(text)
    if bad is None:
        return text
    if bad.start() == 0 and bad[0] == "\ufeff":
        return problem("a byte order mark (U+FEFF)", "UTF-8 without one")
    return problem(f"the character U+{ord(bad[0]):04X}", "printable text, tabs and line ends", text[: bad.start()])


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """Each document's text with the number of lines before it."""
    starts = [match.start() for match in _DOCUMENT.finditer(text)]
    line = 0
    for start, end in zip([0, *starts], [*starts, len(text)], strict=True):
        chunk = text[start:end]
        if chunk:
            yield line, chunk
            line += len(_BREAK.findall(chunk))


class _TooMuch(Exception):
    """A bound was passed; the problem is already noted, and the rest of the document is not looked at."""


@dataclass(slots=True)
class _Node:
    """One event's worth of document. The children of a mapping are its keys and values in turn."""

    place: tuple[int, int]
    text: str | Nothing = NOTHING
    children: list[_Node] | None = None
    mapping: bool = False


@dataclass(slots=True)
class _File:
    """What is counted and collected over one file."""

    path: str
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    lost: bool = False

    def documents(self, chunk: str, first_line: int) -> Iterator[Tree]:
        """The documents of one chunk, up to its first syntax error."""
        if self.nodes > MAX_NODES or not chunk.strip():
            return
        parser = CParser(chunk)
        try:
            while (event := parser.get_event()) is not None:
                if isinstance(event, yaml.DocumentStartEvent):
                    tree = _Builder(self, parser, first_line).build()
                    if tree.value is not NOTHING:
                        yield tree
        except _TooMuch:
            self.lost = True
        except yaml.YAMLError as error:
            self.lost = True
            self.problems.append(self._syntax(error, chunk, first_line))

    def too_many(self, first_line: int) -> None:
        """From here on nothing is read."""
        found, expected = f"more than {MAX_DOCUMENTS} documents in one file", "fewer; split the file"
        self.problems.append(Problem(Origin(self.path, first_line + 1, 1), "", found, expected))
        self.lost = True

    def _syntax(self, error: yaml.YAMLError, chunk: str, first_line: int) -> Problem:
        directive = _DIRECTIVE.search(chunk)
        if directive and not chunk.startswith("---"):
            line = first_line + len(_BREAK.findall(chunk[: directive.start()])) + 1
            return Problem(Origin(self.path, line), "", "a YAML directive", "none")
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = _BREAK.split(chunk)
        here = lines[line] if line < len(lines) else ""
        what = str(getattr(error, "problem", None) or "unreadable text")
        expected = "valid YAML"
        if here[: column + 1].strip(" ").startswith("\t"):
            what, expected = "a tab", "spaces (tabs cannot indent YAML)"
        else:
            what = f"broken YAML ({what})"
        return Problem(Origin(self.path, first_line + line + 1, column + 1), "", what, expected)


class _Builder:
    """Builds one document: first nodes from events, with a stack of its own instead of Python's, then values."""

    def __init__(self, file: _File, parser: CParser, first_line: int) -> None:
        self.file = file
        self.parser = parser
        self.first_line = first_line
        self.places: dict[Path, Place] = {}
        self.whole = True

    def build(self) -> Tree:
        """Called after the document's start was read; reads up to its end. Raises _TooMuch and yaml.YAMLError."""
        root = self._compose()
        value = self._value(root, (), root.place)
        return Tree(value, self.places, self.whole)

    def _compose(self) -> _Node:
        top = _Node((0, 0), children=[])
        stack = [top]
        while not isinstance(event := self.parser.get_event(), yaml.DocumentEndEvent):
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
                continue
            assert isinstance(event, yaml.NodeEvent)
            node = self._node(event)
            children = stack[-1].children
            assert children is not None
            children.append(node)
            if node.children is not None:
                stack.append(node)
                if len(stack) > MAX_DEPTH + 1:
                    raise self._too_much(node.place, f"more than {MAX_DEPTH} levels", "fewer")
        assert top.children
        return top.children[0]

    def _node(self, event: yaml.NodeEvent) -> _Node:
        mark = event.start_mark
        assert mark is not None
        place = (self.first_line + mark.line + 1, mark.column + 1)
        self.file.nodes += 1
        if self.file.nodes > MAX_NODES:
            raise self._too_much(place, f"more than {MAX_NODES} values in one file", "fewer; split the file")
        if isinstance(event, yaml.AliasEvent):
            self.whole = False
            self._problem(place, f"the alias *{event.anchor}", "the value itself (anchors and aliases are not read)")
            return _Node(place)
        if event.anchor is not None:
            self._problem(place, f"the anchor &{event.anchor}", "the value alone (anchors and aliases are not read)")
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            self._problem(place, f"the tag {quoted(event.tag)}", "the value alone (tags are not read)")
        if isinstance(event, yaml.ScalarEvent):
            return _Node(place, text=self._text(event, place))
        return _Node(place, children=[], mapping=isinstance(event, yaml.MappingStartEvent))

    def _text(self, event: yaml.ScalarEvent, place: tuple[int, int]) -> str | Nothing:
        if not event.style and event.value in _NULLS:
            return NOTHING
        # Only an escape in double quotes can bring in what the file itself may not hold.
        if event.style == '"' and (bad := _REFUSED.search(event.value)):
            self.whole = False
            self._problem(place, f"the character U+{ord(bad[0]):04X} in quotes", "printable text, tabs and line ends")
        return str(event.value)

    def _value(self, node: _Node, path: Path, key: tuple[int, int]) -> Value:
        """Depth is bounded, so that this may call itself."""
        self.places[path] = Place(node.place, key)
        if node.children is None:
            return node.text
        if node.mapping:
            return self._mapping(node.children, path)
        return tuple(self._value(child, (*path, index), child.place) for index, child in enumerate(node.children))

    def _mapping(self, children: list[_Node], path: Path) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            word = self._new_word(key, path, result)
            if word is not None:
                result[word] = self._value(value, (*path, word), key.place)
        return result

    def _new_word(self, key: _Node, path: Path, known: Mapping[str, Value]) -> str | None:
        """A key that can be used, or a problem and None."""
        if key.children is not None or isinstance(key.text, Nothing):
            self.whole = False
            found = "nothing" if key.children is None else "a list or a mapping"
            self._problem(key.place, f"{found} as a key", "a word as a key")
        elif key.text == "<<":
            self.whole = False
            self._problem(key.place, "the merge key <<", "the keys themselves")
        elif key.text in known:
            line, column = self.places[*path, key.text].key
            found = f"the key {quoted(key.text)} again"
            self._problem(key.place, found, f"each key once (it stands at {line}:{column} already)")
        else:
            return key.text
        return None

    def _problem(self, place: tuple[int, int], found: str, expected: str) -> None:
        self.file.problems.append(Problem(Origin(self.file.path, *place), "", found, expected))

    def _too_much(self, place: tuple[int, int], found: str, expected: str) -> _TooMuch:
        self._problem(place, found, expected)
        return _TooMuch()
