"""The store on SQLite: WAL, ``synchronous=FULL``, short transactions.

A write is on the disk when its method returns. Reading commands (`status`, `history`) open the file beside the daemon.
Raises Stall when the file cannot be used, naming it and what to do; it never repairs silently.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from controller.errors import Stall
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
    Resource,
    Status,
    StepResult,
)

SCHEMA_VERSION = 2
KEPT = 24 * 3600.0
"""Seconds that what was put back is remembered."""


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


class Store:
    """All that one controller remembers. Use as a context manager."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._db = _open(path, read_only)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    # -- small facts about the controller itself --------------------------------------------------------------

    def get(self, key: str, default: str = "") -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else str(row[0])

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
        rows = self._db.execute("SELECT kind, name, memory, wanted, facts FROM object").fetchall()
        return {
            Ref(kind, name): Remembered(
                Ref(kind, name), json.loads(memory), wanted, json.loads(facts) if facts else None
            )
            for kind, name, memory, wanted, facts in rows
        }

    def claim(self, resource: Resource, memory: Mapping[str, Any]) -> None:
        """Ours, from before the first step: a crash must not orphan what it made."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO object (kind, name, memory) VALUES (?, ?, ?) "
                "ON CONFLICT (kind, name) DO UPDATE SET memory = excluded.memory",
                (resource.ref.kind, resource.ref.name, _json(memory)),
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
        rows = self._db.execute(
            "SELECT kind, name, wanted, tries, next_try, message, hint, since FROM trouble"
        ).fetchall()
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
        rows = self._db.execute("SELECT kind, name, summary FROM journal WHERE ended_at IS NULL").fetchall()
        return [(Ref(kind, name), summary) for kind, name, summary in rows]

    def settle_unfinished(self, before: float, now: float) -> None:
        """After a look: the world has been seen, so entries left open by a crash before `before` tell nothing more."""
        with self._writing() as db:
            db.execute(
                "UPDATE journal SET ended_at = ?, result = 'indeterminate', message = 'the controller was stopped' "
                "WHERE ended_at IS NULL AND intended_at < ?",
                (now, before),
            )

    # -- passes and statuses --------------------------------------------------------------------------------------

    def record(self, record: Record, keep: int = 10_000) -> int:
        """Keep a pass, without its statuses: those of the last one have a table of their own."""
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
            db.execute("DELETE FROM pass WHERE id <= ?", (number - keep,))
            db.execute("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?", (keep,))
        return number

    def passes(self, limit: int = 20, revision: str = "") -> list[PastPass]:
        """The newest first."""
        where, values = ("WHERE revision LIKE ?", (f"{revision}%", limit)) if revision else ("", (limit,))
        rows = self._db.execute(
            f"SELECT id, revision, result, started, seconds, said, record FROM pass {where} ORDER BY id DESC LIMIT ?",
            values,
        ).fetchall()
        return [PastPass(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6])) for row in rows]

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
        rows = self._db.execute("SELECT status, since FROM status ORDER BY kind, name").fetchall()
        return [(json.loads(status), since) for status, since in rows]

    # -- requests of an operator ------------------------------------------------------------------------------

    def request(self, verb: str, argument: str, now: float) -> None:
        with self._writing() as db:
            db.execute("INSERT INTO request (verb, argument, at) VALUES (?, ?, ?)", (verb, argument, now))

    def requests(self, verb: str) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT argument FROM request WHERE verb = ? ORDER BY id", (verb,))]

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

    def removed_at(self) -> list[float]:
        return [row[0] for row in self._db.execute("SELECT at FROM removal")]

    # -- what was put back --------------------------------------------------------------------------------------

    def put_back(self, ref: Ref, what: str, now: float) -> None:
        """Something found changed by hand was brought back. What is older than `KEPT` seconds goes."""
        with self._writing() as db:
            db.execute("DELETE FROM putback WHERE at < ?", (now - KEPT,))
            db.execute("INSERT INTO putback VALUES (?, ?, ?, ?)", (ref.kind, ref.name, what, now))

    def times_put_back(self, ref: Ref, what: str, since: float) -> int:
        query = "SELECT count(*) FROM putback WHERE kind = ? AND name = ? AND what = ? AND at > ?"
        return int(self._db.execute(query, (ref.kind, ref.name, what, since)).fetchone()[0])

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
        row = self._db.execute(
            "SELECT finished - started FROM build WHERE layer = ? AND image = ? AND result = 'done' AND started IS NOT NULL "
            "ORDER BY finished DESC LIMIT 1",
            (layer, image),
        ).fetchone()
        return None if row is None else float(row[0])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise Stall(
                f"cannot write the store {self._path}: {error}",
                hint="nothing is done without a journal; check the disk and the file's owner",
            ) from error


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


def _open(path: Path, read_only: bool) -> sqlite3.Connection:
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0)
        db.execute("PRAGMA busy_timeout = 10000")
        if not read_only:
            _prepare(db)
    except (sqlite3.Error, OSError) as error:
        raise Stall(
            f"cannot open the store {path}: {error}",
            hint="check the directory's owner and free space; jailops.toml names it under [store]",
        ) from error
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError(
            f"it was written by a newer jailops (schema {version}, this one knows {SCHEMA_VERSION})"
        )
    for step in _STEPS[version:] if version else ():
        db.executescript(f"BEGIN IMMEDIATE; {step} COMMIT;")
    db.executescript(files("controller.store").joinpath("schema.sql").read_text())
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _tuple(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def record_of(data: Mapping[str, Any]) -> Record:
    """A record read back from the store, without its statuses."""
    outcomes = tuple(
        Outcome(**{**one, "ref": Ref(**one["ref"]), "steps": tuple(StepResult(**step) for step in one["steps"])})
        for one in data["outcomes"]
    )
    held = tuple(Hold(**{**one, "ref": Ref(**one["ref"])}) for one in data["held"])
    plain = {name: tuple(data.get(name, ())) for name in ("refused", "unmanaged", "pinned")}
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
