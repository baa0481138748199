"""The store: what is written is there after a crash, and a file that cannot be used is said, never repaired silently."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.model import Action, Change, Outcome, PassResult, Record, Ref, Resource, Status, StepResult
from controller.store import Store, Trouble, record_of

REF = Ref("jail", "node1/web")
RESOURCE = Resource(REF, "node1", None)
CHANGE = Change(RESOURCE, {"running": True}, None, "new")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jailops.sqlite"


def action() -> Action:
    return Action(CHANGE, "create jail web", "it does not exist", "none", lambda: iter(()))  # type: ignore[arg-type, return-value]


def a_record(result: PassResult = "converged") -> Record:
    outcome = Outcome(REF, "create", "new", "done", steps=(StepResult("ezjail-admin create", "node1", 0, 1.5),))
    later = ("jail/node1/db: create jail db (new)",)
    return Record("a" * 40, "Ann", "a jail", "push", 10.0, 2.0, "converged: 1 done", result, (outcome,), later=later)


def test_a_claim_survives_a_crash_before_any_proof(path: Path) -> None:
    Store(path).claim(REF, {"host": "node1"})
    known = Store(path).objects()[REF]
    assert (known.memory, known.wanted, known.facts) == ({"host": "node1"}, None, None)


def test_a_proof_is_kept_until_it_is_forgotten(path: Path) -> None:
    with Store(path) as store:
        store.proved([(REF, {"host": "node1"}, "digest", {"running": True})], 5.0)
        assert store.objects()[REF].facts == {"running": True}
        store.claim(REF, {"host": "node2"})
        assert (store.objects()[REF].memory, store.objects()[REF].wanted) == ({"host": "node2"}, "digest")
        store.forget([REF])
        assert store.objects() == {}


def test_the_journal_knows_what_was_begun_and_not_ended(path: Path) -> None:
    with Store(path) as store:
        first, second = store.intend(action(), 1.0), store.intend(action(), 2.0)
        store.ended(first, Outcome(REF, "create", "new", "done"), 3.0)
    with Store(path) as store:
        assert store.unfinished() == [(REF, "create jail web")]
        assert store.last_entry() == second
        store.settle_unfinished(first, 4.0)
        assert store.unfinished() != []
        store.settle_unfinished(second, 4.0)
        assert store.unfinished() == []


def test_trouble_is_replaced_and_cleared(path: Path) -> None:
    with Store(path) as store:
        store.trouble(Trouble(REF, "digest", 1, 100.0, "no", "help", 1.0))
        store.trouble(Trouble(REF, "digest", 2, None, "still no", "help", 1.0))
        assert store.troubles() == {REF: Trouble(REF, "digest", 2, None, "still no", "help", 1.0)}
        store.clear_trouble([REF])
        assert store.troubles() == {}


def test_a_record_comes_back_as_it_was(path: Path) -> None:
    with Store(path) as store:
        store.record(a_record())
        store.record(a_record("failed"))
        newest, older = store.passes()
    assert (newest.result, older.result) == ("failed", "converged")
    assert record_of(older.record) == a_record()
    assert Store(path).passes(revision="aaaa")[0].id == newest.id
    assert Store(path).passes(revision="bbbb") == []


def a_quiet(said: str = "converged: nothing to do", revision: str = "a" * 40) -> Record:
    return Record(revision, "Ann", "a jail", "interval", 10.0, 2.0, said, "converged")


def test_passes_that_only_repeat_are_not_told_again_and_go_first(path: Path) -> None:
    with Store(path) as store:
        told = [
            store.record(one)
            for one in (
                a_record(),
                a_quiet(),
                a_quiet("held: nothing to do, 1 unknown"),
                a_quiet(),
                a_record(),
                a_record(),
            )
        ]
        assert [one.id for one in store.passes(repeats=False)] == told[::-1]
        repeats = [store.record(a_quiet("converged: 1 done")) for _ in range(3)]
        assert [one.id for one in store.passes(repeats=False)] == told[::-1]
        assert [one.id for one in store.passes(2)] == repeats[:0:-1]
        other = store.record(a_quiet("converged: 1 done", "b" * 40))
        assert [one.id for one in store.passes(1, "b", repeats=False)] == [other]
        kept = [store.record(a_quiet(), repeats=2) for _ in range(9)]
        assert [one.id for one in store.passes(5)] == [*kept[:-3:-1], kept[0], other, repeats[1]]
        last = store.record(a_quiet(), keep=3, repeats=2)
        assert [one.id for one in store.passes()] == [last, kept[-1], kept[0]]


def test_since_moves_only_with_the_state(path: Path) -> None:
    with Store(path) as store:
        store.set_statuses([Status(REF, "Waiting", "x")], 1.0)
        store.set_statuses([Status(REF, "Waiting", "y")], 2.0)
        assert [since for _, since in store.statuses()] == [1.0]
        store.set_statuses([Status(REF, "Ready")], 3.0)
        assert [(one["state"], since) for one, since in store.statuses()] == [("Ready", 3.0)]


def test_the_fence_only_grows(path: Path) -> None:
    with Store(path) as store:
        assert store.next_fence(100) == 100
        assert store.next_fence(50) == 101


def test_requests_wait_until_they_are_done(path: Path) -> None:
    with Store(path) as store:
        store.request("retry", "image/a", 1.0)
        store.request("retry", "image/b", 2.0)
        store.done_request("retry", ["image/a"])
        assert (store.requests("retry"), store.requests("approve")) == (["image/b"], [])


def test_an_ended_build_is_counted_once(path: Path) -> None:
    with Store(path) as store:
        assert store.build_ended("world", "freebsd13", "abc", "done", 10.0, 70.0, "")
        assert not store.build_ended("world", "freebsd13", "abc", "done", 10.0, 70.0, "")
        assert store.last_build_seconds("world", "freebsd13") == 60.0
        assert store.last_build_seconds("image", "freebsd13") is None
        assert store.last_build_seconds("world", "other") is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "file is not a database"),
        (lambda path: _newer(path), "written by a newer jailops"),
        (lambda path: path.mkdir(), "unable to open database file"),
    ],
)
def test_a_store_that_cannot_be_used_is_said(path: Path, spoil: object, message: str) -> None:
    spoil(path)  # type: ignore[operator]
    with pytest.raises(Stall, match=message) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def test_a_store_of_the_first_schema_is_brought_up_with_its_builds(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE build (image TEXT NOT NULL, generation TEXT NOT NULL, result TEXT NOT NULL, started REAL, "
            "finished REAL, message TEXT NOT NULL, PRIMARY KEY (image, generation, result, finished)) STRICT;"
            "INSERT INTO build VALUES ('freebsd13', 'abc', 'done', 10.0, 3610.0, '');"
            "PRAGMA user_version = 1;"
        )
    db.close()
    with Store(path) as store:
        assert store.last_build_seconds("world", "freebsd13") == 3600.0
        assert not store.build_ended("world", "freebsd13", "abc", "done", 10.0, 3610.0, "")
    with Store(path) as store:
        assert store.last_build_seconds("world", "freebsd13") == 3600.0


def test_a_reader_beside_the_writer(path: Path) -> None:
    with Store(path) as writer, Store(path, read_only=True) as reader:
        writer.put("revision", "abc")
        assert reader.get("revision") == "abc"
        with pytest.raises(Stall, match="cannot write the store"):
            reader.put("revision", "def")
