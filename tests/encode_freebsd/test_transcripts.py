"""Every answer of the real 13.2 node that a parser claims, against the value that was read in it."""

from __future__ import annotations

import json

import pytest

from tests.encode_freebsd.claims import CASES, CLAIMS, Claimed, claimed

PARSED = CASES / "parsed"
ALL = list(claimed())


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.name)
def test_an_answer_means_what_was_read_in_it(claim: Claimed) -> None:
    assert claim.result() == json.loads((PARSED / f"{claim.name}.json").read_text())


def test_every_expectation_belongs_to_an_answer() -> None:
    assert {path.stem for path in PARSED.glob("*.json")} == {claim.name for claim in ALL}


def test_every_parser_meets_a_real_answer() -> None:
    assert {claim.parser for claim in ALL} == {parser for _, parser in CLAIMS}


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.name)
def test_another_commands_answer_is_refused(claim: Claimed) -> None:
    """What the parser of one command would make of a shell's complaint: never an empty or a wrong answer."""
    stranger = Claimed(claim.name, claim.command, "sh: 1: nosuch: not found {\n", "", claim.parser)
    one_line = claim.parser.__name__ == "value"
    assert one_line != ("refused" in stranger.result())
