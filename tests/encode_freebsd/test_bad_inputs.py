"""Texts that a parser must refuse, each with the exact message: ../cases/GRAMMAR/bad/FUNCTION.WHAT.txt and .message."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from controller.encode.text import GrammarError
from tests.encode_freebsd.claims import CASES

GRAMMARS = ("rcconf", "fstab", "mounts", "iscsi", "ezjail", "jailconf", "jls", "ifconfig", "kernel", "srcconf")
BAD = [path for grammar in GRAMMARS for path in sorted((CASES / grammar / "bad").glob("*.txt"))]


@pytest.mark.parametrize("path", BAD, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_a_bad_text_is_refused_in_these_words(path: Path) -> None:
    parser = getattr(import_module(f"controller.encode.{path.parent.parent.name}"), path.stem.split(".")[0])
    with pytest.raises(GrammarError) as refusal:
        parser(path.read_bytes().decode())
    assert str(refusal.value) == path.with_suffix(".message").read_text().rstrip("\n")


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_grammar_has_at_least_two(grammar: str) -> None:
    assert sum(path.parent.parent.name == grammar for path in BAD) >= 2
