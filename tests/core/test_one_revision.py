"""A commit that comes while another is applied waits for the next pass: no record mixes acts of two revisions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from controller.graph import Desired
from controller.model import Record, Ref
from controller.reconcile import Look
from controller.revision import Wanted
from controller.store import Store
from tests.core.test_asked_once import Rounds

ACTS = (Ref("lun", "one"), Ref("dhcp", "server"), Ref("jail", "one/web"))


class Pushed:
    """A repository that somebody pushes to all the time: each question is answered with another commit."""

    def __init__(self) -> None:
        self.asked = 0
        self.applied_: list[str] = []

    async def wanted(self, *, at_once: bool = False) -> Wanted:
        del at_once
        self.asked += 1
        revision = f"{self.asked:040}"
        return Wanted(revision, "A", "B", 0.0, Desired(revision=revision))

    async def applied(self, wanted: Wanted, record: Record) -> None:
        assert wanted.revision == record.revision
        self.applied_.append(record.revision)


class Pass(Rounds):
    """It notes the revision by which each round is decided."""

    def __init__(self, store: Store, acts: Sequence[Ref], pushed: Pushed) -> None:
        super().__init__(store, acts)
        self._revisions = cast(Any, pushed)
        self.revisions: list[str] = []

    async def look(self, desired: Desired, retry: frozenset[Ref] = frozenset()) -> Look:
        self.revisions.append(desired.revision)
        return await super().look(desired, retry)


async def test_D4_a_pass_keeps_its_revision_and_the_next_one_takes_the_new_commit(tmp_path: Path) -> None:
    with Store(tmp_path / "jailops.sqlite") as store:
        pushed = Pushed()
        controller = Pass(store, ACTS, pushed)
        first = await controller.tick("push")
        rounds = len(ACTS) + 1
        assert controller.revisions == [first.revision] * rounds
        assert [one.ref for one in first.outcomes] == list(ACTS)
        second = await controller.tick("push")
        assert controller.revisions[rounds:] == [second.revision]
        assert pushed.applied_ == [first.revision, second.revision]
        assert first.revision != second.revision
        assert [one.revision for one in store.passes(2)] == [second.revision, first.revision]
