"""docs/manifests.md: its tables are the models', and its examples load."""

from __future__ import annotations

import re

from controller.manifests.check import check
from controller.manifests.load import Blob, load
from controller.manifests.models import KINDS
from tests.manifests.support import ROOT, told
from tests.manifests.tables import filled, tables_in

PAGE = (ROOT / "docs" / "manifests.md").read_text()


def test_the_tables_are_fresh_and_every_kind_has_one() -> None:
    assert tables_in(PAGE) == list(KINDS)
    assert filled(PAGE) == PAGE, "run: python -m tests.manifests.regenerate"


def test_the_examples_load_and_fit_together() -> None:
    texts = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    loaded = load(Blob(f"example-{index}.yaml", "1", text.encode()) for index, text in enumerate(texts))
    assert (told(loaded.problems), told(check(loaded.objects))) == ("", "")
    assert {one.kind for one in loaded.objects} == set(KINDS)
