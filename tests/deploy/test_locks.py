"""What is installed is what was looked at: every version pinned by its hashes, and none below what we ask for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-test.lock": [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]],
}


def entries(lock: str) -> dict[str, tuple[str, int]]:
    """Name -> version, and how many hashes stand below it."""
    text = re.sub(r"(?m)^ *#.*\n", "", (ROOT / lock).read_text()).replace("\\\n", " ")
    found: dict[str, tuple[str, int]] = {}
    for line in filter(str.strip, text.splitlines()):
        one = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,]+\])?==(\S+)((?: +--hash=sha256:[0-9a-f]{64})*) *", line)
        assert one is not None, f"{lock}: {line[:100]}"
        found[canonicalize_name(one[1])] = (one[2], one[3].count("--hash="))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_C13_everything_is_pinned_by_hashes_and_within_its_bounds(lock: str) -> None:
    pinned = entries(lock)
    assert [name for name, (_, hashes) in pinned.items() if not hashes] == []
    for text in LOCKS[lock]:
        wanted = Requirement(text)
        version, _ = pinned[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{lock} has {wanted.name} {version}, pyproject.toml asks for {text}"


def test_C13_both_locks_agree() -> None:
    ours, tests = entries("requirements.lock"), entries("requirements-test.lock")
    assert {name: tests[name][0] for name in ours if name in tests} == {
        name: version for name, (version, _) in ours.items() if name in tests
    }
