"""Texts that a parser must refuse, each with the exact message: ../cases/GRAMMAR/bad/FUNCTION.WHAT.txt and .message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from inspect import getmembers, isfunction
from pathlib import Path
from pkgutil import iter_modules

import pytest

from controller import encode
from controller.encode.text import GrammarError
from tests.encode_freebsd.claims import CASES
from tests.encode_servers.test_bad import PARSERS as OTHERS

GRAMMARS = ("rcconf", "fstab", "mounts", "iscsi", "ezjail", "jailconf", "jls", "ifconfig", "kernel", "srcconf")
BAD = [path for grammar in GRAMMARS for path in sorted((CASES / grammar / "bad").glob("*.txt"))]


def parsers(module: str) -> dict[str, Callable[[str], object]]:
    """What of a module reads a text; of kernel.py, everything."""
    found = import_module(f"controller.encode.{module}")
    functions = getmembers(found, lambda one: isfunction(one) and one.__module__ == found.__name__)
    return {name: one for name, one in functions if name.startswith("parse") or (module == "kernel" and name[0] != "_")}


@pytest.mark.parametrize("path", BAD, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_a_bad_text_is_refused_in_these_words(path: Path) -> None:
    parser = parsers(path.parent.parent.name)[path.stem.split(".")[0]]
    with pytest.raises(GrammarError) as refusal:
        parser(path.read_bytes().decode())
    assert str(refusal.value) == path.with_suffix(".message").read_text().rstrip("\n")


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_parser_has_at_least_two(grammar: str) -> None:
    counted = Counter(path.stem.split(".")[0] for path in BAD if path.parent.parent.name == grammar)
    assert {name: counted[name] for name in parsers(grammar) if counted[name] < 2} == {}


def test_no_module_that_parses_is_forgotten() -> None:
    reading = {module.name for module in iter_modules(encode.__path__) if parsers(module.name)}
    assert reading - {*GRAMMARS} - {name.partition("/")[0] for name in OTHERS} == set()
