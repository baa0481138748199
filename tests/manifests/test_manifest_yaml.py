"""YAML that is hostile or broken at the level of bytes: a problem with its position, soon, and never an exception."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.manifests.check import check
from controller.manifests.load import Blob, load
from controller.manifests.models import KINDS
from controller.reader.yamltree import MAX_DOCUMENTS, MAX_NODES

GOOD = b"apiVersion: jailops/v1\nkind: Site\nmetadata:\n  name: good\nspec: {}\n"

BYTES: Mapping[str, tuple[bytes, str]] = {
    "bom": (b"\xef\xbb\xbf" + GOOD, "f.yaml:1:1: found a byte order mark (U+FEFF), expected UTF-8 without one"),
    "utf-16": (GOOD.decode().encode("utf-16"), "f.yaml:1:1: found a UTF-16 file, expected UTF-8"),
    "utf-16 without bom": (
        GOOD.decode().encode("utf-16-le"),
        "f.yaml:1:2: found the character U+0000, expected printable text, tabs and line ends",
    ),
    "nul": (
        GOOD + b"# \0\n",
        "f.yaml:6:3: found the character U+0000, expected printable text, tabs and line ends",
    ),
    "escape": (
        b"# a\r\n# b\r# \x1b[31m",
        "f.yaml:3:3: found the character U+001B, expected printable text, tabs and line ends",
    ),
    "right to left": (
        "# \u202e\n".encode() + GOOD,
        "f.yaml:1:3: found the character U+202E, expected printable text, tabs and line ends",
    ),
    "not utf-8": (GOOD + b"# \xff\n", "f.yaml:6:3: found the byte 0xff, which is not UTF-8, expected UTF-8 text"),
    "cut utf-8": (b"a\n\xc3", "f.yaml:2:1: found the byte 0xc3, which is not UTF-8, expected UTF-8 text"),
    "too large": (b"#" * (256 * 1024 + 1), "f.yaml:1:1: found a file of 262145 bytes, expected at most 256 KiB"),
}


def messages(data: bytes) -> list[str]:
    return [str(problem) for problem in load([Blob("f.yaml", "id", data)]).problems]


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_not_read(name: str) -> None:
    data, message = BYTES[name]
    assert messages(data) == [message]


BOMBS: Mapping[str, bytes] = {
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("j"))),
    "self": b"a: &x [*x]\n",
    "deep flow": b"[" * 100_000,
    "deep flow maps": b"{a: " * 60_000,
    "deep block": b"".join(b" " * depth + b"a:\n" for depth in range(700)),
    "deep lists": b"- " * 100_000,
    "complex keys": b"? " * 100_000,
    "many documents": b"---\n" * 60_000,
    "many broken documents": b"---\n@\n" * 40_000,
    "many values": b"- a\n" * 60_000,
    "many keys": b"".join(b"k%d: v\n" % index for index in range(25_000)),
    "one key many times": b"a: b\n" * 50_000,
    "one long scalar": b"a: " + b"x" * 250_000,
    "one long unclosed quote": b'a: "' + b"x\n" * 120_000,
    "many colons": b"a:" * 120_000,
    "many tags": b"- !a b\n" * 30_000,
    "many aliases": b"a: &a b\nl: [" + b"*a," * 60_000 + b"]",
    "one long number": GOOD.replace(b"spec: {}", b"spec: {interval: " + b"9" * 100_000 + b"s}"),
    "many unknown fields": GOOD.replace(
        b"spec: {}", b"spec:\n" + b"".join(b"  intervaq%d: x\n" % i for i in range(9_000))
    ),
    "one long word": GOOD.replace(b"kind: Site", b"kind: " + b"Sit" * 80_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_a_problem_of_bounded_size(name: str) -> None:
    """Work follows what is kept: the values of a file and its documents are bounded (`make fuzz` measures the time)."""
    loaded = load([Blob("f.yaml", "id", BOMBS[name])])
    assert loaded.problems
    assert len(loaded.problems) <= MAX_NODES + MAX_DOCUMENTS
    assert sum(len(str(problem)) for problem in loaded.problems) < 20_000_000
    assert len(loaded.objects) + len(loaded.drafts) <= MAX_DOCUMENTS + 1


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_is_judged(text: str) -> None:
    loaded = load([Blob("f.yaml", "id", text.encode("utf-8", "surrogatepass"))])
    check(loaded.objects, drafts=loaded.drafts)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_judged(data: bytes) -> None:
    messages(data)


KEYS = st.sampled_from(
    ["apiVersion", "kind", "metadata", "spec", "name", "host", "ssh", "mac", "jails", "<<", "a\nb", "ü"]
)
LEAVES = st.one_of(st.text(max_size=8), st.sampled_from(["jailops/v1", *KINDS, "1.2.3.4", "~", ""]))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=12,
)


def flow(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    escaped = "".join(f"\\U{ord(sign):08x}" if sign in '\\"' or not sign.isalnum() else sign for sign in str(tree))
    return f'"{escaped}"' if tree else ""


@given(st.sampled_from(sorted(KINDS)), TREES, TREES)
@settings(max_examples=100, deadline=None)
def test_any_tree_is_judged_in_single_lines(kind: str, metadata: object, spec: object) -> None:
    text = f"apiVersion: jailops/v1\nkind: {kind}\nmetadata: {flow(metadata)}\nspec: {flow(spec)}\n"
    for message in messages(text.encode("utf-8", "surrogatepass")):
        assert message.startswith("f.yaml:")
        assert message.replace("…", "").isascii()
        assert message.isprintable()


def test_null_words_are_nothing_and_quoted_ones_are_text() -> None:
    name = "found nothing, expected a name"
    for word in (b"", b"~", b"null"):
        assert name in messages(GOOD.replace(b"name: good", b"name: " + word))[0]
    assert messages(GOOD.replace(b"name: good", b"name: 'null'")) == []
