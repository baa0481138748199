"""The power goes while the store is written: its log is cut short at any byte, its database is half old and half new.

What a method of the store has returned for is there afterwards; of what was being written there is all or nothing.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.model import Action, Change, Ref, Resource
from controller.store import Store

HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
"""Bytes at the head of a log, at the head of each of its frames, and of a page (the file format of SQLite)."""
FRAME = FRAME_HEADER + PAGE
FIRST, SECOND = "create jail web", "create jail db"


@dataclass(frozen=True)
class Cut:
    """A store as it lay on the disk when the second intent had been written, and as long as the log was before that."""

    files: Path
    before: int
    after: int


def act(summary: str) -> Action:
    change = Change(Resource(Ref("jail", "node1/web"), "node1", None), {"running": True}, None, "new")
    return Action(change, summary, "it does not exist", "none", lambda: iter(()))  # type: ignore[arg-type, return-value]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    directory = tmp_path_factory.mktemp("torn")
    with Store(directory / "jailops.sqlite") as store:
        with closing(sqlite3.connect(directory / "jailops.sqlite")) as db:
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        store.intend(act(FIRST), 1.0)
        before = log(directory).stat().st_size
        store.intend(act(SECOND), 2.0)
        files = directory / "copy"
        files.mkdir()
        for one in (directory / "jailops.sqlite", log(directory)):
            shutil.copy(one, files)
        yield Cut(files, before, log(directory).stat().st_size)


def log(directory: Path) -> Path:
    return directory / "jailops.sqlite-wal"


def begun(directory: Path) -> list[str]:
    """What the next controller finds begun; it must start."""
    with Store(directory / "jailops.sqlite") as store:
        found = [summary for _, summary in store.unfinished()]
        store.settle_unfinished(1000, 11.0)
        assert store.unfinished() == [], "it can write too"
    return found


def offsets(cut: Cut) -> Iterator[int]:
    """Every byte of what is special, and some of each page."""
    for length in range(cut.before, cut.after + 1):
        inside = (length - HEADER) % FRAME
        if inside <= FRAME_HEADER or inside >= FRAME - 8 or inside % 61 == 0:
            yield length


def test_C2_a_log_cut_short_anywhere_loses_at_most_what_was_being_written(cut: Cut, tmp_path: Path) -> None:
    assert (cut.after - cut.before) % FRAME == 0
    outcomes = set()
    for number, length in enumerate(offsets(cut)):
        directory = tmp_path / str(number)
        shutil.copytree(cut.files, directory)
        with log(directory).open("r+b") as file:
            file.truncate(length)
        found = begun(directory)
        assert found == ([FIRST, SECOND] if length == cut.after else [FIRST]), f"cut at byte {length}"
        outcomes.add(len(found))
        shutil.rmtree(directory)
    assert outcomes == {1, 2}


def test_C2_a_log_whose_last_frame_is_rubbish_loses_at_most_what_was_being_written(cut: Cut, tmp_path: Path) -> None:
    """A file that got its length and not its bytes."""
    for number, length in enumerate(range(cut.before, cut.after, 509)):
        directory = tmp_path / str(number)
        shutil.copytree(cut.files, directory)
        whole = log(directory).read_bytes()
        log(directory).write_bytes(whole[:length] + bytes(cut.after - length))
        assert begun(directory) == [FIRST], f"zeros from byte {length}"
        shutil.rmtree(directory)


def test_C2_a_database_that_is_half_brought_up_to_its_log_loses_nothing(cut: Cut, tmp_path: Path) -> None:
    """The log is emptied only after the database is on the disk; until then every page in it may be half written."""
    shutil.copytree(cut.files, tmp_path / "done")
    with closing(sqlite3.connect(tmp_path / "done" / "jailops.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old = (cut.files / "jailops.sqlite").read_bytes()
    new = (tmp_path / "done" / "jailops.sqlite").read_bytes()
    changed = [at for at in range(0, len(new), PAGE) if new[at : at + PAGE] != old[at : at + PAGE]]
    assert changed
    for page in changed:
        for length in range(page, page + PAGE + 1, 127):
            directory = tmp_path / f"{page}-{length}"
            shutil.copytree(cut.files, directory)
            (directory / "jailops.sqlite").write_bytes(new[:length] + old[length:])
            assert begun(directory) == [FIRST, SECOND], f"torn at byte {length}"
            shutil.rmtree(directory)
