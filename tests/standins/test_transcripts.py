"""Same command, same state, same bytes, same exit status as a real 13.2 node, file by file.

What cannot be the same (dates, sizes, random ids) is named per entry in cases/normal.json, with the reason.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.standins.sequence import TRANSCRIPTS, Turn, normal, replay

NORMAL = json.loads((Path(__file__).parent / "cases" / "normal.json").read_text())
NAMES = sorted(path.stem for path in TRANSCRIPTS.glob("*.json"))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Turn]]:
    return asyncio.run(replay(tmp_path_factory.mktemp("site")))


def rules(key: str) -> list[list[str]]:
    return [rule for name in NORMAL["entries"].get(key, []) for rule in NORMAL["rules"][name]["rules"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_stand_ins_print_what_a_real_machine_printed(name: str, played: dict[str, list[Turn]]) -> None:
    assert played[name]
    for turn in played[name]:
        own = rules(f"{name}:{turn.number}")
        want, have = (
            {
                key: normal(side[key], own) if isinstance(side[key], str) else side[key]
                for key in ("exit", "stdout", "stderr")
            }
            for side in (turn.want, turn.have)
        )
        assert have == want, f"{name}:{turn.number} $ {turn.command}"


def test_nothing_in_the_transcripts_is_uncovered(played: dict[str, list[Turn]]) -> None:
    assert [turn.command for turn in played["uncovered"]] == []


def test_the_list_of_exceptions_does_not_grow(played: dict[str, list[Turn]]) -> None:
    assert len(NAMES) == 12
    assert len(NORMAL["entries"]) <= 35
    needless = [
        f"{name}:{turn.number}"
        for name in NAMES
        for turn in played[name]
        if f"{name}:{turn.number}" in NORMAL["entries"]
        and all(turn.have[key] == turn.want[key] for key in ("exit", "stdout", "stderr"))
    ]
    assert needless == []
