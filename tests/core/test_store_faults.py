"""A store that is locked, damaged, read-only, full or of another version: nothing is begun, all is said, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.errors import Stall, StoreUnusable
from controller.execute import Executor
from controller.model import Action as Act
from controller.model import Answer, Change, Lane, Outcome, Plan, PowerOp, Ref, Resource, Run, Script, Status, Steps
from controller.secret import Secret
from controller.store import Store, Trouble
from controller.store.sqlite import SCHEMA_VERSION
from tests.core.daemons import Daemon, prepare, started

OLD = Path(__file__).parent.parent / "cases" / "store"
REPLACE = "put a copy of it back, or begin with an empty one, which says what is lost: jailops store replace"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jailops.sqlite"


def action(name: str, host: str = "node1") -> Act:
    def steps() -> Steps:
        yield Run(name, Script(name))

    change = Change(Resource(Ref("jail", f"{host}/{name}"), host, None), {"running": True}, None, "new")
    return Act(change, name, "it is not there", "none", steps)


class Fleet:
    """Answers every script at once; `then` happens meanwhile."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.sent: list[str] = []
        self.then = then

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]:
        raise AssertionError(f"{host} {lane} {scripts} {timeout}")

    async def power(self, host: str, op: PowerOp, timeout: float) -> Answer:
        raise AssertionError(f"{host} {op} {timeout}")

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        del host, lane, timeout
        self.sent.append(script)
        self.then()
        return Answer(0, b"", b"")


class NoSecrets:
    def values(self, names: frozenset[str]) -> Mapping[str, Secret]:
        assert not names
        return {}


def fill(store: Store) -> None:
    """Not one page more."""
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnusable, match="database or disk is full"):
        store.put("filler", "x" * 100_000)


def make_room(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


def long(name: str) -> Act:
    """An action whose intent takes pages of its own."""
    return action(name + "x" * 50_000)


async def test_C5_no_act_begins_whose_intent_cannot_be_written(path: Path) -> None:
    fleet = Fleet()
    plan = Plan((long("first"), long("second"), long("elsewhere")))
    with Store(path) as store:
        fill(store)
        executor = Executor(fleet, store, NoSecrets(), None)
        with pytest.raises(StoreUnusable, match=r"cannot write the store .*: database or disk is full") as caught:
            await executor.perform(plan, asyncio.Event(), lambda _: "")
        assert (fleet.sent, store.unfinished(), executor.busy) == ([], [], {})
        assert caught.value.hint == "make room on its disk"
        make_room(store)
        outcomes = await executor.perform(plan, asyncio.Event(), lambda _: "")
        assert [one.result for one in outcomes] == ["done"] * 3


async def test_C5_an_end_that_cannot_be_written_is_an_open_entry(path: Path) -> None:
    """It was done, and the next look will see that; nothing further is begun."""
    with Store(path) as store:

        def lock() -> None:
            store._db.execute("PRAGMA query_only = 1")

        fleet = Fleet(lock)
        executor = Executor(fleet, store, NoSecrets(), None)
        with pytest.raises(StoreUnusable, match="cannot write the store"):
            await executor.perform(Plan((action("first"), action("second"))), asyncio.Event(), lambda _: "")
        assert (fleet.sent, store.unfinished()) == (["first"], [(Ref("jail", "node1/first"), "first")])


def full_of_everything(path: Path, rows: int = 300) -> None:
    """A store as it is after a while, written out to its file."""
    with Store(path) as store:
        for number in range(rows):
            ref = Ref("jail", f"node1/jail{number}")
            store.claim(ref, {"host": "node1", "number": number, "text": "x" * 200})
            store.trouble(Trouble(ref, "digest", 1, 100.0, "no", "help", 1.0))
            store.ended(store.intend(action(f"create{number}"), 1.0), Outcome(ref, "create", "new", "done"), 2.0)
        store.set_statuses([Status(Ref("jail", f"node1/jail{number}"), "Ready") for number in range(rows)], 1.0)
        store.request("pause", "freebsd13", 1.0)
        store.put("revision", "a" * 40)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")


def read_all(store: Store) -> None:
    store.get("revision")
    store.objects(), store.troubles(), store.unfinished(), store.passes(), store.statuses()
    store.requests("pause"), store.removed_at(1.0), store.last_build_seconds("world", "freebsd13")


def judged(path: Path) -> tuple[StoreUnusable | None, bool]:
    """What is said of a store, and whether it was opened before that was."""
    opened = False
    try:
        with Store(path, proved=True) as store:
            opened = True
            read_all(store)
    except StoreUnusable as error:
        return error, opened
    return None, opened


def test_C5_damaged_pages_are_found_or_do_not_matter(path: Path, tmp_path: Path) -> None:
    """One to eight bits of one page, 200 times. What is refused stays byte for byte as it was; and with a part of it found
    only by who reads it, nothing else than StoreUnusable is ever raised."""
    full_of_everything(path)
    seed = int(os.environ.get("JAILOPS_SEED", 0)) or random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, good, found = random.Random(seed), path.read_bytes(), 0
    size = 4096
    for number in range(int(os.environ.get("JAILOPS_PAGES", "200"))):
        damaged = bytearray(good)
        page = chance.randrange(len(good) // size)
        for _ in range(chance.randint(1, 8)):
            damaged[page * size + chance.randrange(size)] ^= 1 << chance.randrange(8)
        one = tmp_path / f"{number}.sqlite"
        one.write_bytes(damaged)
        refused, opened = judged(one)
        if refused is not None:
            found += 1
            assert (str(one) in str(refused), bool(refused.hint)) == (True, True)
            assert opened or one.read_bytes() == damaged, f"seed {seed}, number {number}: a refused store was changed"
        for rest in tmp_path.glob(f"{number}.sqlite*"):
            rest.unlink()
    assert found > 20, f"seed {seed}: hardly anything was found"


def renamed(path: Path) -> None:
    """One letter of the name of a table, as a bit that flipped would have it."""
    data = path.read_bytes()
    assert data.count(b"CREATE TABLE object ") == 1
    path.write_bytes(
        data.replace(b"tableobjectobject", b"tableobjecuobjecu").replace(b"TABLE object ", b"TABLE objecu ")
    )


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(renamed, id="another table"),
        pytest.param(lambda path: path.write_bytes(b"not a database at all" * 100), id="something else"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[: 4096 * 5]), id="cut off"),
        pytest.param(lambda path: changed(path, "UPDATE object SET memory = '{\"host'"), id="no JSON"),
        pytest.param(lambda path: changed(path, "UPDATE meta SET value = CAST(x'ff80' AS TEXT)"), id="no UTF-8"),
    ],
)
def test_C5_a_damaged_store_is_kept_and_replaced_at_a_persons_word(path: Path, spoil: Callable[[Path], object]) -> None:
    full_of_everything(path)
    spoil(path)
    damaged = path.read_bytes()
    with pytest.raises(StoreUnusable, match="it is damaged: ") as caught:
        Store(path, proved=True)
    assert (caught.value.damaged, caught.value.hint) == (True, REPLACE)
    done = Store.replace(path, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert done.aside == path.with_name("jailops.sqlite.damaged-20260102T030405")
    assert done.aside.read_bytes() == damaged
    with Store(path, proved=True) as store:
        assert (store.objects(), store.get("revision")) == ({}, "")
        assert store.requests("pause") == (["freebsd13"] if done.requests else [])


def changed(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement)


def test_C5_a_pause_survives_a_replaced_store(path: Path) -> None:
    full_of_everything(path)
    changed(path, "UPDATE object SET memory = 'nothing'")
    assert Store.replace(path, datetime.now(UTC)).requests == 1
    with Store(path) as store:
        assert store.requests("pause") == ["freebsd13"]


def test_C5_a_good_store_is_not_replaced(path: Path) -> None:
    full_of_everything(path)
    with pytest.raises(Stall, match="nothing is wrong with it"):
        Store.replace(path, datetime.now(UTC))
    with Store(path) as store:
        assert len(store.objects()) == 300
    assert list(path.parent.glob("*damaged*")) == []


def test_C5_a_newer_store_is_neither_used_nor_replaced_nor_changed(path: Path) -> None:
    full_of_everything(path)
    changed(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    for act in (lambda: Store(path), lambda: Store.replace(path, datetime.now(UTC))):
        with pytest.raises(StoreUnusable, match=r"written by a newer jailops \(schema 3, this one knows 2\)"):
            act()
    assert (path.read_bytes(), list(path.parent.glob("*damaged*"))) == (before, [])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody's sqlite3 in the middle of a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield


def test_C5_a_store_that_somebody_holds_names_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.store.sqlite._BUSY", 0.01)
    with Store(path) as store, locked(path), pytest.raises(StoreUnusable, match="database is locked") as caught:
        store.put("revision", "abc")
    assert caught.value.hint == "somebody holds it: end the sqlite3, backup or copy that has it open (fuser says who)"
    assert not caught.value.damaged


def old(path: Path) -> None:
    """A store of the first schema: an act was begun, a build runs, an earlier one has ended."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((OLD / "schema-1.sql").read_text())


def test_C12_a_store_of_an_earlier_version_with_work_under_way(path: Path) -> None:
    old(path)
    with Store(path, proved=True) as store:
        assert store.unfinished() == [(Ref("jail", "node1/web"), "create jail web on node1")]
        assert store.objects()[Ref("jail", "node1/web")].memory == {"host": "node1", "manager": "ezjail"}
        ((status, since),) = store.statuses()
        assert (status["state"], status["busy"]["stage"], since) == ("Changing", "buildworld", 1700000000.0)
        assert store.last_build_seconds("world", "freebsd13") == 3600.0
        store.settle_unfinished(store.last_entry(), 1700000100.0)
        assert store.unfinished() == []
        assert store.next_fence(5) == 1700000001, "the number only grows"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_C12_a_migration_that_is_kept_from_the_file_changes_nothing_and_comes_again(path: Path) -> None:
    old(path)
    before = path.read_bytes()
    with locked(path), pytest.MonkeyPatch.context() as patch:
        patch.setattr("controller.store.sqlite._BUSY", 0.01)
        with pytest.raises(StoreUnusable, match="database is locked"):
            Store(path)
    assert path.read_bytes() == before
    with Store(path) as store:
        assert store.last_build_seconds("world", "freebsd13") == 3600.0


# -- the daemon -----------------------------------------------------------------------------------------------------


async def degraded(daemon: Daemon, why: str, hint: str) -> None:
    """It lives, says why it does nothing, and is not ready."""
    told = await daemon.says("nothing is done: the store cannot be used")
    assert why in told["problem"]
    assert told["hint"] == hint
    assert await daemon.asked("/healthz") == "ok\n"
    ready = await daemon.asked("/readyz")
    assert why in ready
    assert hint in ready
    page = await daemon.shows("jailops_store_usable 0.0\n")
    assert 'jailops_passes_total{result="failed"}' in page


async def goes_on(daemon: Daemon) -> None:
    """After whatever was mended, a wake is enough."""
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.says("pass")
    assert await daemon.asked("/readyz") == "ok\n"
    await daemon.shows("jailops_store_usable 1.0\n")


async def test_C5_a_daemon_with_a_damaged_store_says_so_until_it_is_replaced(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "jailops.sqlite").write_bytes(b"not a database at all" * 100)
    async with started(tmp_path) as daemon:
        await degraded(daemon, "it is damaged: file is not a database", REPLACE)
        done = await asyncio.to_thread(daemon.command, "store", "replace")
        assert done.returncode == 0, done.stderr
        kept = next((tmp_path / "store").glob("jailops.sqlite.damaged-*"))
        assert done.stdout.startswith(f"the damaged store is kept as {kept}\nwhat the new store does not know:\n")
        assert done.stderr.startswith("jailops: paused rollouts, rollbacks and approvals could not be read: ")
        assert kept.read_bytes() == b"not a database at all" * 100
        await goes_on(daemon)
        again = await asyncio.to_thread(daemon.command, "store", "replace")
        assert again.returncode == 1
        assert "works with" in again.stderr, "a store in use is not replaced"
        assert await daemon.end() == 0


async def test_C5_a_daemon_with_a_newer_store_refuses_it_and_goes_on_to_answer(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "store").mkdir()
    file = tmp_path / "store" / "jailops.sqlite"
    changed(file, "PRAGMA user_version = 99")
    before = file.read_bytes()
    async with started(tmp_path) as daemon:
        await degraded(daemon, "by a newer jailops", "install that version again; nothing in the store was changed")
        assert await daemon.end() == 0
    assert file.read_bytes() == before


async def test_C5_a_disk_that_fills_up_while_it_runs_stops_acts_and_not_the_pages(tmp_path: Path) -> None:
    """No file of the daemon may grow: what a full disk is to it, without anybody else's being full."""
    prepare(tmp_path)
    async with started(tmp_path) as daemon:
        await daemon.says("pass")
        before = daemon.command("history", "--output", "json").stdout
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        daemon.process.send_signal(signal.SIGHUP)
        await degraded(daemon, "cannot write the store", "look at its disk: is it full, or failing?")
        assert json.loads(daemon.command("history", "--output", "json").stdout)[-len(json.loads(before)) :]
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await goes_on(daemon)
        assert await daemon.end() == 0


async def test_C5_a_daemon_whose_store_is_locked_waits_for_it(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with started(tmp_path) as daemon:
        await daemon.says("pass")
        with locked(daemon.database):
            daemon.process.send_signal(signal.SIGHUP)
            await degraded(
                daemon,
                "database is locked",
                "somebody holds it: end the sqlite3, backup or copy that has it open (fuser says who)",
            )
        await goes_on(daemon)
        assert await daemon.end() == 0


SMALL = 'mount -t tmpfs -o size=3m,{options} tmpfs {store} && exec "$@"'
"""A disk of the daemon's own, in a mount namespace of its own."""


def under(store: Path, options: str) -> tuple[str, ...]:
    store.mkdir()
    return ("unshare", "--mount", "sh", "-c", SMALL.format(store=store, options=options), "sh")


def pour(into: Path) -> None:
    """To the last byte."""
    with into.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.mark.lab
async def test_C5_a_full_disk_is_named(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with started(tmp_path, under=under(tmp_path / "store", "rw")) as daemon:
        await daemon.says("pass")
        filler = Path(f"/proc/{daemon.process.pid}/root{tmp_path}/store/filler")
        with pytest.raises(OSError, match="No space left"):
            pour(filler)
        daemon.process.send_signal(signal.SIGHUP)
        await degraded(daemon, "database or disk is full", "make room on its disk")
        os.unlink(filler)
        await goes_on(daemon)
        assert await daemon.end() == 0


@pytest.mark.lab
async def test_C5_a_read_only_disk_is_waited_for(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with started(tmp_path, under=under(tmp_path / "store", "ro")) as daemon:
        hint = "look at its owner, its disk and how that is mounted; jailops.toml names it under [store]"
        await degraded(daemon, f"cannot use the store's directory {tmp_path}/store: Read-only file system", hint)
        words = ("mount", "-o", "remount,rw", f"{tmp_path}/store")
        enter = await asyncio.create_subprocess_exec("nsenter", f"--mount=/proc/{daemon.process.pid}/ns/mnt", *words)
        assert await enter.wait() == 0
        await goes_on(daemon)
        assert await daemon.end() == 0
