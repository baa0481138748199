"""Builds everything once, runs it, and stops it in order. The only place that knows all parts.

One controller per store: the lock on its directory is held for as long as it is in use. A daemon whose store cannot be used
does nothing but say so, on its pages and in its log, and tries again: ending would only have it started again. One that is told
to stop begins no further act, lets running ones end for up to seven seconds, and leaves builds to the build VM.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, time

import structlog

from controller import watchdog
from controller.drivers import at_rest, ended_builds
from controller.errors import ControllerError, Retry, StoreUnusable
from controller.graph import Desired
from controller.hands import Hands
from controller.memory import shut, taken
from controller.metrics import Metrics, pending_since
from controller.model import Record
from controller.power import PowerControl
from controller.reconcile import Controller
from controller.removal import Limits
from controller.revision import Revisions
from controller.schedule import Wake
from controller.settings import Settings
from controller.source import GitSettings, GitSource
from controller.store import Store, record_of, status_of
from controller.transport import Fence, Fleet
from controller.vault import PREFIX, Vault
from controller.web.server import Health, application, listening, serve

log = structlog.get_logger(__name__)

_PATIENCE = 15.0
"""Seconds that a pass of the daemon waits for its acts before it looks after the other machines."""
_SKEW = 60.0
"""Seconds by which a machine's clock may differ from ours."""
_AGAIN = 60.0
"""Seconds after which a store that could not be used is tried again, at the latest."""
_GIT_PATIENCE = 10.0
"""Seconds that a pass of the daemon waits for the remote before it goes on with the revision in force."""
_LAST_PATIENCE = 7.0
"""Seconds that running acts get to end when the daemon is told to stop: it must be gone within ten."""


@dataclass
class App:
    """The parts of one controller."""

    settings: Settings
    store: Store
    fleet: Fleet
    hands: Hands
    revisions: Revisions
    controller: Controller
    metrics: Metrics
    off: set[str] = field(default_factory=set)
    """Hosts whose clock was off at the last look."""


def store_path(settings: Settings) -> Path:
    return settings.store.directory / "jailops.sqlite"


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    patience: float | None = None,
    acts: bool = True,
    metrics: Metrics | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[App]:
    """All parts, in the order in which they need each other. `patience` and `stop`: see `Controller`.

    Without `acts` the hosts would refuse every act: who only looks takes no fence number from who acts,
    and writes no note.
    """
    with Store(store_path(settings), proved=acts) as store, taken(os.environ, PREFIX) as variables:
        async with Fleet({}, longest_pause=min(60.0, settings.schedule.interval)) as fleet:
            # Grows over restarts and over controllers with other stores, so that the one that came last acts.
            number = store.next_fence(int(time())) if acts else 0
            fence = Fence(number, f"{socket.gethostname()[:40]}-{os.getpid()}")
            vault = Vault(settings.secrets.directory, settings.secrets.age_identity_file, variables)
            hands = Hands(fleet, fence, settings.ssh.key_file, settings.ssh.via, PowerControl(vault, store))
            revisions = Revisions(
                source(settings),
                store,
                _limits(settings),
                notes=settings.git.notes and acts,
                patience=None if patience is None else _GIT_PATIENCE,
            )
            look_timeout = settings.ssh.look_timeout
            controller = Controller(
                store, hands, revisions, vault, look_timeout=look_timeout, patience=patience, stop=stop
            )
            try:
                yield App(settings, store, fleet, hands, revisions, controller, metrics or Metrics())
            finally:
                await revisions.close()


def source(settings: Settings) -> GitSource:
    git = settings.git
    return GitSource(
        GitSettings(
            url=git.url,
            mirror=settings.store.directory / "mirror",
            branch=git.branch,
            token_file=git.token_file,
            ca_file=git.ca_file,
            ssh_key_file=git.key_file,
            host_keys=git.host_keys,
            allow_local=git.allow_local,
            deadline=git.timeout,
            signers_file=git.signers_file,
            revoked_file=git.revoked_file,
            gpg_keys_file=git.gpg_keys_file,
            trusted_commit=git.trusted_commit,
        )
    )


def _limits(settings: Settings) -> Limits:
    policy = settings.policy
    addresses = frozenset(map(str, policy.addresses))
    return Limits(policy.max_removed, policy.max_removed_percent, policy.max_removed_per_day, addresses)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the store's lock. Raises StoreUnusable that names the process that holds it, or says why there can be no lock."""
    try:
        settings.store.directory.mkdir(parents=True, exist_ok=True)
        file = lock_file(settings).open("a+")
    except OSError as error:
        raise _no_lock(settings, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _taken(settings) from error
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except OSError as error:
            raise _no_lock(settings, error) from error
        yield


def _no_lock(settings: Settings, error: OSError) -> StoreUnusable:
    return StoreUnusable(
        f"cannot use the store's directory {settings.store.directory}: {error.strerror}",
        hint="look at its owner, its disk and how that is mounted; jailops.toml names it under [store]",
    )


def _taken(settings: Settings) -> StoreUnusable:
    return StoreUnusable(
        f"cannot start: another jailops (process {_reader(settings)}) works with {settings.store.directory}",
        hint="ask it for a pass with: jailops apply; or stop it first",
    )


def lock_file(settings: Settings) -> Path:
    return settings.store.directory / "lock"


def holder(settings: Settings) -> int | None:
    """The process that holds the lock, or None when nobody does."""
    try:
        with lock_file(settings).open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def _reader(settings: Settings) -> str:
    try:
        return lock_file(settings).read_text().strip()
    except OSError:
        return "unknown"


def wake(settings: Settings) -> bool:
    """Have the daemon look now. False when none runs."""
    pid = holder(settings)
    if pid is None:
        return False
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGHUP)
        return True
    return False


async def follow(settings: Settings, pid: int) -> Record:
    """Wake the daemon and wait for the pass that begins after this moment. Raises Retry when it ends instead."""
    with Store(store_path(settings), read_only=True) as store:
        before = store.passes(1)
        asked = time()
        if not wake(settings):
            raise Retry(f"cannot wake the daemon (process {pid}): it is gone or not ours")
        while True:
            for one in store.passes(1):
                newer = one.id - (before[0].id if before else 0)
                # The second one began after this moment, even if a clock was set back.
                if newer > 1 or (newer and one.started >= asked):
                    statuses = tuple(status_of(status) for status, _ in store.statuses())
                    return replace(record_of(one.record), statuses=statuses)
            if holder(settings) is None:
                raise Retry("cannot follow the pass: the daemon ended")
            await asyncio.sleep(0.1)


async def run(settings: Settings) -> None:
    """The daemon: look when something wakes it, until a signal ends it."""
    shut()
    if holder(settings) is not None:
        raise _taken(settings)
    with listening(settings.web.listen) as sock:
        metrics, stop = Metrics(), asyncio.Event()
        wake = Wake(settings.schedule.interval, settings.schedule.jitter)
        health = Health(started=monotonic(), stale_after=max(900.0, 5 * settings.schedule.interval))
        _signals(wake, stop)
        wake.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(serve(application(metrics.registry, health), sock, stop), name="web")
                tasks.create_task(watchdog.tell(lambda: not health.problem(monotonic()), stop), name="watchdog")
                tasks.create_task(_passes(settings, metrics, wake, health, stop), name="passes")
        finally:
            wake.stop()


async def _passes(settings: Settings, metrics: Metrics, wake: Wake, health: Health, stop: asyncio.Event) -> None:
    """Passes for as long as the store can be used; while it cannot, no act begins, and it is tried again now and then."""
    while not stop.is_set():
        try:
            with only_one(settings):
                async with build(settings, patience=_PATIENCE, metrics=metrics, stop=stop) as app:
                    metrics.store("")
                    health.store = ""
                    wake.poke("start")
                    try:
                        await _loop(app, wake, health)
                    finally:
                        await app.controller.executor.finish(0.5 if stop.is_set() else _LAST_PATIENCE)
        except StoreUnusable as error:
            log.error("nothing is done: the store cannot be used", problem=str(error), hint=error.hint)
            metrics.store(str(error))
            metrics.crashed(time())
            health.store = f"{error} (what you can do: {error.hint})"
            health.last_pass = monotonic()
            await wake.wait(min(_AGAIN, settings.schedule.interval))


async def once(app: App, trigger: str, *, insist: bool = False) -> Record:
    """One pass with its metrics."""
    try:
        record = await app.controller.tick(trigger, insist=insist)
    except ControllerError:
        _git_metrics(app, refused=1)
        raise
    try:
        _measure(app, record)
    except ControllerError:
        raise
    except Exception:
        # The pass is done and recorded; what it did must not look like a failure of it.
        log.exception("metrics not brought up to date: this is a fault of jailops")
    return record


def _measure(app: App, record: Record) -> None:
    look = app.controller.last
    if look is not None:
        # A build VM that is off as it should be is no machine that is away.
        asked, resting = look.world.observed.hosts, at_rest(look.world.observed)
        up = {host: problem is None for host, problem in asked.items() if host not in resting}
        hosts = {one.ref: one.host for one in look.resources}
        app.metrics.passed(record, look.verdict.changes, _pending(app.store, record, look.world.desired), hosts)
        app.metrics.endpoints(up, app.hands.last_seen, look.world.observed.clocks, app.hands.overruled)
        _clocks(app, look.world.observed.clocks)
        for ended in ended_builds(look.world.observed):
            if app.store.build_ended(
                ended.layer, ended.image, ended.name, ended.result, ended.started, ended.finished, ended.message
            ):
                good = ended.result == "done"
                app.metrics.build_ended(ended.layer, ended.image, ended.seconds, ended.finished or time(), good=good)
    _git_metrics(app, refused=len(record.refused))


def _clocks(app: App, ahead: Mapping[str, float]) -> None:
    """Say once whose clock is off."""
    off = {host for host, seconds in ahead.items() if abs(seconds) > _SKEW}
    for host in sorted(off - app.off):
        log.warning("a clock is off: let NTP keep both", host=host, ahead=round(ahead[host]))
    app.off = off


def _pending(store: Store, record: Record, desired: Desired) -> dict[str, float]:
    """Since when each host waits for its reboot: kept over restarts."""
    before: dict[str, float] = json.loads(store.get("reboots", "{}"))
    never = [name for name, host in desired.hosts.items() if host.spec.reboot.policy == "never"]
    pending = pending_since(before, record, never)
    if pending != before:
        store.put("reboots", json.dumps(pending, sort_keys=True))
    return pending


def _git_metrics(app: App, *, refused: int) -> None:
    git = app.revisions
    app.metrics.git(
        git.git_error, git.fetched_at, git.committed_at, 0 if git.git_error and not git.committed_at else refused
    )


async def _loop(app: App, wake: Wake, health: Health) -> None:
    stop = app.controller.stop
    soon: float | None = None
    while not stop.is_set():
        trigger = await wake.wait(soon)
        if stop.is_set():
            return
        record = await _pass(app, trigger, stop)
        health.last_pass = monotonic()
        health.ready = health.ready or record is not None
        look = app.controller.last
        if look is not None:
            wake.every(min(app.settings.schedule.interval, float(look.world.desired.site.interval)))
        under_way = record is not None and any(one.state == "Changing" for one in record.statuses)
        soon = app.settings.schedule.progress if under_way else None


async def _pass(app: App, trigger: str, stop: asyncio.Event) -> Record | None:
    """One pass that cannot bring the daemon down, and that gives up its acts a while after `stop`."""
    task = asyncio.create_task(once(app, trigger))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=_LAST_PATIENCE)
            task.cancel()
        record = await task
        log.info(
            "pass", said=record.said, trigger=trigger, seconds=round(record.seconds, 2), revision=record.revision[:12]
        )
        return record
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.warning("stopped in the middle of a pass", trigger=trigger)
    except StoreUnusable:
        raise
    except ControllerError as error:
        log.error("pass failed", trigger=trigger, problem=str(error), hint=getattr(error, "hint", "") or None)
        app.metrics.crashed(time())
    except Exception:
        log.exception("pass failed: this is a fault of jailops", trigger=trigger)
        app.metrics.crashed(time())
    finally:
        # Also when something else brought the daemon down: nothing may go on while the parts below it close.
        stopping.cancel()
        task.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
    return None


def _signals(wake: Wake, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        wake.poke("stop")

    loop.add_signal_handler(signal.SIGHUP, wake.poke, "signal")
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, end)
