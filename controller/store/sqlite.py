"""The store on SQLite: WAL, ``synchronous=FULL``, short transactions.

A write is on the disk when its method returns. Reading commands (`status`, `history`) open the file beside the daemon.
Every method raises StoreUnusable when the file cannot be used, naming it and what to do; nothing is repaired silently, and a
file that is refused stays as it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from controller.errors import Stall, StoreUnusable
from controller.model import (
    Action,
    Facts,
    Hold,
    Hops,
    Origin,
    Outcome,
    Progress,
    Record,
    Ref,
    Status,
    StepResult,
)

SCHEMA_VERSION = 2
_ERRORS = (sqlite3.Error, UnicodeError)
"""What a file can raise: in a damaged one even SQLite's own message may be no text."""
KEPT = 24 * 3600.0
"""Seconds that what was put back is remembered."""
_REPEATS = (
    "(json_array_length(pass.record, '$.outcomes') = 0 AND (pass.revision, pass.said) IS "
    "(SELECT before.revision, before.said FROM pass AS before WHERE before.id < pass.id ORDER BY before.id DESC LIMIT 1))"
)
"""A pass that did nothing and came to the very same as the one before it."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One object that we made or adopted."""

    ref: Ref
    memory: Mapping[str, Any]
    wanted: str | None
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an object is let alone: until `next_try` (Unix time), or, when that is None, until its input changes."""

    ref: Ref
    wanted: str
    tries: int
    next_try: float | None
    message: str
    hint: str
    since: float


@dataclass(frozen=True, slots=True)
class PastPass:
    id: int
    revision: str
    result: str
    started: float
    seconds: float
    said: str
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A store that was put aside: where it lies, and how many requests went over to the new one; None: unreadable."""

    aside: Path
    requests: int | None


class Store:
    """All that one controller remembers. Use as a context manager."""

    def __init__(self, path: Path, *, read_only: bool = False, proved: bool = False) -> None:
        """`proved`: read all of it first, and refuse it if anything is damaged. For those who act on what it says."""
        self._path = path
        self._db = _open(path, read_only, proved)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    @classmethod
    def replace(cls, path: Path, now: datetime) -> Replaced:
        """Put a damaged store aside and make an empty one. Raises Stall when nothing is wrong with it.

        The files are renamed, never removed: what the log beside it holds belongs to it. What operators asked for goes over
        to the new one if it can be read: a pause that is forgotten lets reboots begin.
        """
        try:
            with cls(path, proved=True):
                raise Stall(
                    f"cannot replace the store {path}: nothing is wrong with it", hint="jailops run uses it as it is"
                )
        except StoreUnusable as error:
            if not error.damaged:
                raise
        aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
        asked = _asked(path)
        if aside.exists():
            raise Stall(f"cannot put the store {path} aside: there is a {aside.name}", hint="try again in a second")
        try:
            for end in ("-wal", "-shm", ""):
                file = path.with_name(path.name + end)
                if file.exists():
                    file.rename(aside.with_name(aside.name + end))
        except OSError as error:
            raise _unusable(f"cannot put the store {path} aside", error) from error
        with cls(path) as store, store._writing() as db:
            db.executemany("INSERT INTO request (verb, argument, at) VALUES (?, ?, ?)", asked or ())
        return Replaced(aside, None if asked is None else len(asked))

    # -- small facts about the controller itself --------------------------------------------------------------

    def get(self, key: str, default: str = "") -> str:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else default

    def put(self, key: str, value: str) -> None:
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def next_fence(self, at_least: int) -> int:
        """A number larger than every one this store gave out, and than `at_least`: the hosts refuse smaller ones."""
        fence = max(int(self.get("fence", "0")) + 1, at_least)
        self.put("fence", str(fence))
        return fence

    # -- objects ------------------------------------------------------------------------------------------------

    def objects(self) -> dict[Ref, Remembered]:
        rows = self._rows("SELECT kind, name, memory, wanted, facts FROM object")
        return {
            Ref(kind, name): Remembered(
                Ref(kind, name), self._loaded(memory), wanted, self._loaded(facts) if facts else None
            )
            for kind, name, memory, wanted, facts in rows
        }

    def claim(self, ref: Ref, memory: Mapping[str, Any]) -> None:
        """Ours, from before the first step: a crash must not orphan what it made."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO object (kind, name, memory) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, name) DO UPDATE SET memory = excluded.memory",
                (ref.kind, ref.name, _json(memory)),
            )

    def proved(self, proofs: Sequence[tuple[Ref, Mapping[str, Any], str, Facts | None]], now: float) -> None:
        """These objects were seen as wanted: (ref, memory, digest of the wanted facts, the facts)."""
        if not proofs:
            return
        with self._writing() as db:
            db.executemany(
                "INSERT OR REPLACE INTO object (kind, name, memory, wanted, facts, proved_at) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (ref.kind, ref.name, _json(memory), wanted, _json(facts), now)
                    for ref, memory, wanted, facts in proofs
                ],
            )

    def forget(self, refs: Sequence[Ref]) -> None:
        if not refs:
            return
        with self._writing() as db:
            db.executemany("DELETE FROM object WHERE kind = ? AND name = ?", [(ref.kind, ref.name) for ref in refs])

    # -- trouble ------------------------------------------------------------------------------------------------

    def troubles(self) -> dict[Ref, Trouble]:
        rows = self._rows("SELECT kind, name, wanted, tries, next_try, message, hint, since FROM trouble")
        return {Ref(row[0], row[1]): Trouble(Ref(row[0], row[1]), *row[2:]) for row in rows}

    def trouble(self, trouble: Trouble) -> None:
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO trouble VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    trouble.ref.kind,
                    trouble.ref.name,
                    trouble.wanted,
                    trouble.tries,
                    trouble.next_try,
                    trouble.message,
                    trouble.hint,
                    trouble.since,
                ),
            )

    def clear_trouble(self, refs: Sequence[Ref]) -> None:
        if not refs:
            return
        with self._writing() as db:
            db.executemany("DELETE FROM trouble WHERE kind = ? AND name = ?", [(ref.kind, ref.name) for ref in refs])

    # -- journal ------------------------------------------------------------------------------------------------

    def intend(self, action: Action, now: float) -> int:
        """Written, and on the disk, before the first step of an action."""
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO journal (kind, name, summary, intended_at) VALUES (?, ?, ?, ?)",
                (action.change.ref.kind, action.change.ref.name, action.summary, now),
            )
        return int(cursor.lastrowid or 0)

    def ended(self, entry: int, outcome: Outcome, now: float) -> None:
        with self._writing() as db:
            db.execute(
                "UPDATE journal SET ended_at = ?, result = ?, message = ? WHERE id = ?",
                (now, outcome.result, outcome.message, entry),
            )

    def unfinished(self) -> list[tuple[Ref, str]]:
        """Acts that were begun and whose end was never written: a crash. What they did is for the next look to say."""
        rows = self._rows("SELECT kind, name, summary FROM journal WHERE ended_at IS NULL")
        return [(Ref(kind, name), summary) for kind, name, summary in rows]

    def last_entry(self) -> int:
        """The number of the newest entry: they grow, whatever the clock does. 0 when there is none."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM journal")[0][0])

    def settle_unfinished(self, last: int, now: float) -> None:
        """After a look: the world has been seen, so entries up to `last` that a crash left open tell nothing more."""
        with self._writing() as db:
            db.execute(
                "UPDATE journal SET ended_at = ?, result = 'indeterminate', message = 'the controller was stopped' "
                "WHERE ended_at IS NULL AND id <= ?",
                (now, last),
            )

    # -- passes and statuses --------------------------------------------------------------------------------------

    def record(self, record: Record, keep: int = 10_000, repeats: int = 1_000) -> int:
        """Keep a pass, without its statuses: those of the last one have a table of their own.

        Passes that only repeat the one before are kept for the last `repeats` numbers: they push out no act of last week.
        """
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO pass (revision, result, started, seconds, said, record) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    record.revision,
                    record.result,
                    record.started,
                    record.seconds,
                    record.said,
                    _json(_plain(replace(record, statuses=()))),
                ),
            )
            number = int(cursor.lastrowid or 0)
            db.execute(f"DELETE FROM pass WHERE id = ? AND {_REPEATS}", (number - repeats,))
            db.execute("DELETE FROM pass WHERE id <= (SELECT id FROM pass ORDER BY id DESC LIMIT 1 OFFSET ?)", (keep,))
            db.execute("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?", (keep,))
        return number

    def passes(self, limit: int = 20, revision: str = "", *, repeats: bool = True) -> list[PastPass]:
        """The newest first; without `repeats` none that did nothing and came to the same as the one before it."""
        rows = self._rows(
            "SELECT id, revision, result, started, seconds, said, record FROM pass "
            f"WHERE revision LIKE ? AND (? OR NOT {_REPEATS}) ORDER BY id DESC LIMIT ?",
            (f"{revision}%", repeats, limit),
        )
        return [PastPass(row[0], row[1], row[2], row[3], row[4], row[5], self._loaded(row[6])) for row in rows]

    def set_statuses(self, statuses: Sequence[Status], now: float) -> None:
        """Replace all statuses; `since` moves only when the state does."""
        with self._writing() as db:
            before = {
                (kind, name): (state, since)
                for kind, name, state, since in db.execute("SELECT kind, name, state, since FROM status")
            }
            db.execute("DELETE FROM status")
            rows = []
            for one in statuses:
                state, since = before.get((one.ref.kind, one.ref.name), (None, now))
                rows.append(
                    (
                        one.ref.kind,
                        one.ref.name,
                        one.state,
                        since if state == one.state else now,
                        _json(_plain(one)),
                    )
                )
            db.executemany("INSERT INTO status VALUES (?, ?, ?, ?, ?)", rows)

    def statuses(self) -> list[tuple[Mapping[str, Any], float]]:
        """Every status as it was written, with the time since when it is so."""
        rows = self._rows("SELECT status, since FROM status ORDER BY kind, name")
        return [(self._loaded(status), since) for status, since in rows]

    # -- requests of an operator ------------------------------------------------------------------------------

    def request(self, verb: str, argument: str, now: float) -> None:
        with self._writing() as db:
            db.execute("INSERT INTO request (verb, argument, at) VALUES (?, ?, ?)", (verb, argument, now))

    def requests(self, verb: str) -> list[str]:
        return [row[0] for row in self._rows("SELECT argument FROM request WHERE verb = ? ORDER BY id", (verb,))]

    def done_request(self, verb: str, arguments: Sequence[str]) -> None:
        if not arguments:
            return
        with self._writing() as db:
            db.executemany("DELETE FROM request WHERE verb = ? AND argument = ?", [(verb, one) for one in arguments])

    # -- what left Git ------------------------------------------------------------------------------------------

    def removed(self, names: Sequence[str], revision: str, now: float) -> None:
        """Objects that a revision took away by itself."""
        if not names:
            return
        with self._writing() as db:
            db.executemany("INSERT INTO removal VALUES (?, ?, ?)", [(name, revision, now) for name in names])

    def removed_at(self, now: float) -> list[float]:
        """When objects were removed. What was noted before the clock was set back counts from now on."""
        if self._rows("SELECT 1 FROM removal WHERE at > ? LIMIT 1", (now,)):
            with self._writing() as db:
                db.execute("UPDATE removal SET at = ? WHERE at > ?", (now, now))
        return [row[0] for row in self._rows("SELECT at FROM removal")]

    # -- what was put back --------------------------------------------------------------------------------------

    def put_back(self, ref: Ref, what: str, now: float) -> None:
        """Something found changed by hand was brought back. What is older than `KEPT` seconds goes, and what a clock noted
        that was set back since."""
        with self._writing() as db:
            db.execute("DELETE FROM putback WHERE at < ? OR at > ?", (now - KEPT, now))
            db.execute("INSERT INTO putback VALUES (?, ?, ?, ?)", (ref.kind, ref.name, what, now))

    def times_put_back(self, ref: Ref, what: str, since: float, now: float) -> int:
        query = "SELECT count(*) FROM putback WHERE kind = ? AND name = ? AND what = ? AND at > ? AND at <= ?"
        return int(self._rows(query, (ref.kind, ref.name, what, since, now))[0][0])

    def forget_put_back(self, refs: Collection[Ref]) -> None:
        if not refs:
            return
        with self._writing() as db:
            db.executemany("DELETE FROM putback WHERE kind = ? AND name = ?", [(ref.kind, ref.name) for ref in refs])

    # -- builds -------------------------------------------------------------------------------------------------

    def build_ended(
        self,
        layer: str,
        image: str,
        name: str,
        result: str,
        started: float | None,
        finished: float | None,
        message: str,
    ) -> bool:
        """Note an ended build. True when it was not known yet, so that it is counted once however often it is seen."""
        with self._writing() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO build VALUES (?, ?, ?, ?, ?, ?, ?)",
                (layer, image, name, result, started, finished or 0.0, message),
            )
        return cursor.rowcount > 0

    def last_build_seconds(self, layer: str, image: str) -> float | None:
        """How long the last good build of one layer of the image took, for an estimate."""
        rows = self._rows(
            "SELECT finished - started FROM build WHERE layer = ? AND image = ? AND result = 'done' AND started IS NOT NULL "
            "ORDER BY finished DESC LIMIT 1",
            (layer, image),
        )
        return float(rows[0][0]) if rows else None

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except _ERRORS as error:
            raise _unusable(f"cannot read the store {self._path}", error) from error

    def _loaded(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise _unusable(f"cannot read the store {self._path}", error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # What found no room may have been rolled back by SQLite itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except _ERRORS as error:
            raise _unusable(f"cannot write the store {self._path}", error) from error


_STEPS = (
    "",
    """CREATE TABLE build_2 (
        layer TEXT NOT NULL, image TEXT NOT NULL, name TEXT NOT NULL, result TEXT NOT NULL, started REAL, finished REAL,
        message TEXT NOT NULL, PRIMARY KEY (layer, image, name, result, finished)
    ) STRICT;
    INSERT INTO build_2 SELECT 'world', image, generation, result, started, finished, message FROM build;
    DROP TABLE build;
    ALTER TABLE build_2 RENAME TO build;
    PRAGMA user_version = 2;""",
)
"""What brings a store of each schema to the next one; there is no way down. Builds were of world and all the rest."""


_BUSY = 5.0
"""Seconds that somebody else may hold the file: commands write for a moment, and the pages are not answered meanwhile."""


def _open(path: Path, read_only: bool, proved: bool) -> sqlite3.Connection:
    cannot = f"cannot open the store {path}"
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)
    except (sqlite3.Error, OSError) as error:
        raise _unusable(cannot, error) from error
    try:
        _known(db, path)
        if proved:
            _prove(db)
        if not read_only:
            _prepare(db)
    except BaseException as error:
        db.close()
        if isinstance(error, _ERRORS):
            raise _unusable(cannot, error) from error
        raise
    return db


def _asked(path: Path) -> list[tuple[str, str, float]] | None:
    """What operators asked for, from a damaged store; None when that cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return db.execute("SELECT verb, argument, at FROM request ORDER BY id").fetchall()
    except _ERRORS:
        return None


def _known(db: sqlite3.Connection, path: Path) -> None:
    """Before anything is written: a newer store is left to who understands it."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"cannot open the store {path}: it was written by a newer jailops "
            f"(schema {version}, this one knows {SCHEMA_VERSION})",
            hint="install that version again; nothing in the store was changed",
        )


_TEXTS = (("object", "memory"), ("object", "facts"), ("pass", "record"), ("status", "status"))
"""Columns that hold JSON."""


def _prove(db: sqlite3.Connection) -> None:
    """SQLite's own examination, and every row read once: a value that was changed into another good one is not found."""
    found = db.execute("PRAGMA integrity_check(3)").fetchall()
    if found != [("ok",)]:
        raise _Damaged("; ".join(str(line).replace("\n", " ") for (line,) in found))
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
    for table in tables:
        for _ in db.execute(f'SELECT * FROM "{table}"'):
            pass
    for table, column in _TEXTS:
        unread = f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL AND NOT json_valid({column}) LIMIT 1"
        if table in tables and db.execute(unread).fetchone():
            raise _Damaged(f"a row of {table} cannot be read back")
    _prove_shape(db, db.execute("PRAGMA user_version").fetchone()[0])


_SHAPE = "SELECT one.name, field.name FROM sqlite_schema AS one, pragma_table_info(one.name) AS field WHERE one.type = 'table'"


def _prove_shape(db: sqlite3.Connection, version: int) -> None:
    """A table whose very name was damaged would be made anew, empty."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_schema())
        known = set(fresh.execute(_SHAPE))
    strange = sorted(set(db.execute(_SHAPE)) - known)
    if version == SCHEMA_VERSION and strange:
        raise _Damaged(f"a store has no {'.'.join(strange[0])}")


def _schema() -> str:
    return files("controller.store").joinpath("schema.sql").read_text()


def _prepare(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for step in _STEPS[version:] if version else ():
        db.executescript(f"BEGIN IMMEDIATE; {step} COMMIT;")
    db.executescript(_schema())
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")


class _Damaged(sqlite3.DatabaseError):
    """What an examination found."""


_UNREADABLE = 0
"""The code of errors that Python's own module raises: a text that is no UTF-8."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, _UNREADABLE)
_HINTS = {
    sqlite3.SQLITE_BUSY: "somebody holds it: end the sqlite3, backup or copy that has it open (fuser says who)",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_READONLY: "its file system is mounted read-only, or the file belongs to somebody else",
    sqlite3.SQLITE_IOERR: "look at its disk: is it full, or failing?",
}
_HINT = "check the directory's owner and free space; jailops.toml names it under [store]"


def _unusable(cannot: str, error: Exception) -> StoreUnusable:
    """The same for people, with what helps. Content that cannot be read back is damage, too."""
    code = getattr(error, "sqlite_errorcode", _UNREADABLE) & 0xFF
    if isinstance(error, _Damaged | ValueError) or (code in _DAMAGED and isinstance(error, sqlite3.Error)):
        hint = "put a copy of it back, or begin with an empty one, which says what is lost: jailops store replace"
        return StoreUnusable(f"{cannot}: it is damaged: {error}", hint=hint, damaged=True)
    return StoreUnusable(f"{cannot}: {error}", hint=_HINTS.get(code, _HINT))


def _tuple(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def record_of(data: Mapping[str, Any]) -> Record:
    """A record read back from the store, without its statuses."""
    outcomes = tuple(
        Outcome(**{**one, "ref": Ref(**one["ref"]), "steps": tuple(StepResult(**step) for step in one["steps"])})
        for one in data["outcomes"]
    )
    held = tuple(Hold(**{**one, "ref": Ref(**one["ref"])}) for one in data["held"])
    plain = {name: tuple(data.get(name, ())) for name in ("refused", "unmanaged", "pinned", "later")}
    hosts = tuple(
        Hops(**{**one, "failed": _tuple(one["failed"]), "marked": _tuple(one.get("marked"))})
        for one in data.get("hosts", ())
    )
    return Record(**{**data, **plain, "outcomes": outcomes, "held": held, "statuses": (), "hosts": hosts})


def status_of(data: Mapping[str, Any]) -> Status:
    """A status read back from the store."""
    busy = Progress(**data["busy"]) if data["busy"] else None
    return Status(**{**data, "ref": Ref(**data["ref"]), "origin": Origin(**data["origin"]), "busy": busy})


def _plain(value: Record | Status) -> dict[str, Any]:
    return asdict(value)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
