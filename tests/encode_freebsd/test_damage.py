"""Real answers, cut and damaged anywhere: a parser returns a value or refuses the text, and does nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode import buildlog
from tests.encode_freebsd.claims import CASES, Claimed, claimed

ALL = list(claimed())
LOGS = [path.read_text() for path in sorted((CASES / "transcripts" / "build").glob("*.log"))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL), st.floats(0, 1), st.integers(0, 40), st.text(max_size=12))
def test_a_damaged_answer_is_a_value_or_a_refusal(claim: Claimed, place: float, length: int, junk: str) -> None:
    start = int(place * len(claim.stdout))
    damaged = claim.stdout[:start] + junk + claim.stdout[start + length :]
    Claimed(claim.name, claim.command, damaged, "", claim.parser).result()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ALL), st.sampled_from(ALL))
def test_an_answer_to_another_question(claim: Claimed, other: Claimed) -> None:
    Claimed(claim.name, claim.command, other.stdout, "", claim.parser).result()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LOGS), st.floats(0, 1), st.floats(0, 1))
def test_any_piece_of_a_log_can_be_read(log: str, start: float, end: float) -> None:
    piece = log[int(start * len(log)) : int(end * len(log))]
    error = buildlog.first_error(piece)
    assert error is None or piece.split("\n")[error.line_number - 1].startswith(error.text)
    assert 0.0 <= buildlog.progress(piece).ratio <= 1.0
