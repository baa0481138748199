"""Every case in tests/cases/manifests: a file of manifests, and beside it the exact messages that must follow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from controller.manifests.check import check
from controller.manifests.load import load
from controller.manifests.models import KINDS
from tests.manifests.support import CASES, CROSS, DRAFTS, EXAMPLES, SINGLE, blob, load_folder, name, told, verdict


@pytest.mark.parametrize("case", [*SINGLE, *CROSS, *DRAFTS], ids=name)
def test_a_case_brings_exactly_these_messages(case: Path) -> None:
    assert verdict(case) == case.with_suffix(".txt").read_text()


def test_every_kind_has_two_bad_inputs() -> None:
    bad = Counter(case.parent.name for case in SINGLE if case.with_suffix(".txt").read_text())
    assert all(bad[kind.lower()] >= 2 for kind in KINDS)


def test_the_base_of_the_cross_checks_is_clean() -> None:
    loaded = load([blob(CASES / "base.yaml", CASES)])
    assert (told(loaded.problems), told(check(loaded.objects))) == ("", "")


def test_a_bad_document_does_not_hide_the_good_ones_beside_it() -> None:
    loaded = load([blob(CASES / "yaml" / "broken-between-good.yaml", CASES)])
    assert [str(one) for one in loaded.objects] == ["Site/good", "Site/alsogood"]


def test_the_examples_are_clean_and_complete() -> None:
    loaded = load_folder(EXAMPLES)
    assert (told(loaded.problems), told(check(loaded.objects, frozenset({"198.51.100.9"})))) == ("", "")
    assert sorted(str(one) for one in loaded.objects) == [
        "BootServer/boot-server",
        "BuildVM/build-vm",
        "Host/disklessfreebsdbox",
        "Host/jailbox2",
        "Image/freebsd13",
        "Jail/disklessfreebsdbox/example",
        "Jail/jailbox2/build.example.org",
        "Jail/jailbox2/db",
        "Jail/jailbox2/web",
        "San/san",
        "Site/site",
    ]


def test_no_private_key_is_among_the_examples() -> None:
    assert not [path for path in EXAMPLES.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
