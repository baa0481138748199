"""A stage with the questions that tests ask: the site itself, the store, the log, and the command line.

Waiting is always for something that can be seen, with a deadline in seconds, and fails with what was seen instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from controller.demo.stage import Stage
from controller.errors import StoreUnusable
from controller.starter import repository
from controller.store import PastPass, Store
from tests.faults.leaks import found, kept, plant
from tests.lab.loop.stage import staged
from tests.lab.site import RealSite

FIRST: Final = "disklessfreebsdbox"
SECOND: Final = "jailbox2"
NODES: Final = (FIRST, SECOND)
PATIENCE: Final = 300
"""Seconds that one test may take with its stage, on a computer that does much else. Idle, a stage takes eight."""
SIMULATED: Final = "simulated"
LABS: Final = (SIMULATED, pytest.param("real", marks=pytest.mark.lab))
"""For tests that hold in both labs."""
INCLUDE: Final = "/etc/dhcp/jailops.conf"
RUNNING: Final = {FIRST: {"example"}, SECOND: {"db", "web"}}
"""The example's jails that run."""


@dataclass(frozen=True)
class Said:
    """One command line that ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


class Play:
    """One stage in use."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    # -- what is true -------------------------------------------------------------------------------------------

    def look(self, name: str) -> dict[str, Any]:
        return self.stage.site.look(name)

    def jails(self, node: str) -> dict[str, int]:
        """Running jails of a node and their numbers, as its kernel has them: a restarted jail has another one."""
        return {name: int(jail["jid"]) for name, jail in self.look(node)["jails"].items()}

    def everywhere(self) -> dict[str, dict[str, int]]:
        return {node: self.jails(node) for node in NODES}

    def made(self, target: str = "buildworld") -> int:
        """How often the build VM's make was asked for a target."""
        return int(self.look("build-vm")["counters"].get(target, 0))

    @property
    def real(self) -> bool:
        """Whether the daemons are real ones."""
        return isinstance(self.stage.site, RealSite)

    def dhcp_file(self) -> str:
        """The boot server's file of ours; empty before the first entry."""
        file = self.stage.site.computers["boot-server"].machine.path(INCLUDE)
        return file.read_text() if file.exists() else ""

    async def leases(self) -> list[Any]:
        """What the boot server says to each node's card now."""
        site = self.stage.site
        if isinstance(site, RealSite):
            return [await asyncio.to_thread(site.lease, node) for node in NODES]
        return [self.look("boot-server")["dhcp"][node] for node in NODES]

    async def on(self, machine: str, script: str) -> str:
        """What a script prints at a machine's console; it must succeed."""
        status, out, err = await self.stage.site.computers[machine].machine.run(script)
        assert status == 0, f"{script!r} on {machine}: {out}{err}"
        return out

    def build(self, **how: Any) -> None:
        """How builds go from now on: seconds=…, fail=…"""
        lab = self.stage.site.computers["build-vm"].machine.directory / "lab"
        (lab / "build.json").write_text(json.dumps(how))

    def tree(self, below: str, host: str = SECOND) -> dict[str, str]:
        """Every file on a host's simulated disk below a directory: mode, owner, group, and what it holds or leads to."""
        files = self.stage.site.computers["san"].machine.path(f"/srv/iscsi/jailops/{host}.ufs")
        found = {}
        for path in sorted((files / below).rglob("*")):
            stat = path.lstat()
            holds = os.readlink(path) if path.is_symlink() else ""
            holds = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not holds else holds
            found[str(path.relative_to(files))] = f"{stat.st_mode:o} {stat.st_uid} {stat.st_gid} {holds}"
        assert found
        return found

    # -- what the controller says -------------------------------------------------------------------------------

    @property
    def database(self) -> Path:
        return self.stage.directory / "store" / "jailops.sqlite"

    def passes(self, limit: int = 1) -> list[PastPass]:
        """The newest first; none before the first one ended."""
        if not self.database.exists():
            return []
        try:
            with Store(self.database, read_only=True) as store:
                return store.passes(limit)
        except StoreUnusable:
            return []  # the store is just being made

    @property
    def said(self) -> str:
        return "".join(one.said for one in self.passes(1))

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as db:
            found = db.execute(query).fetchall()
        db.close()
        return found

    def statuses(self) -> dict[str, Mapping[str, Any]]:
        with Store(self.database, read_only=True) as store:
            return {f"{one['ref']['kind']}/{one['ref']['name']}": one for one, _ in store.statuses()}

    def state(self, name: str) -> str:
        return str(self.statuses().get(name, {}).get("state", ""))

    def acts(self, since: int) -> list[str]:
        """Every act that was begun after a number of `last_act`, oldest first."""
        return [row[0] for row in self.rows(f"SELECT summary FROM journal WHERE id > {since} ORDER BY id")]

    def last_act(self) -> int:
        return int(self.rows("SELECT coalesce(max(id), 0) FROM journal")[0][0])

    @property
    def log(self) -> str:
        return self.stage.log.read_text()

    async def metrics(self) -> dict[str, float]:
        """The metrics page, by series."""
        rows = (line.rpartition(" ") for line in (await self.page("/metrics")).splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    async def page(self, path: str) -> str:
        """A page of the controller's web server."""
        return await asyncio.to_thread(self._page, path)

    def _page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.stage.listen}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    # -- waiting ------------------------------------------------------------------------------------------------

    async def until(self, what: str, true: Callable[[], Any], within: float = 60.0) -> float:
        """Wait until something is true; the seconds that it took."""
        begun = time.monotonic()
        while not true():
            waited = time.monotonic() - begun
            assert waited < within, f"{what}: not within {within:g} s\n{self._so_far()}"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun

    def _so_far(self) -> str:
        """For who reads why a test failed: what is not as it should be, and what was done last."""
        told = [
            f"{name} {one['state']}: {one['message']}"
            for name, one in self.statuses().items()
            if one["state"] != "Ready"
        ]
        return "\n".join(
            [f"last pass: {self.said}", *told, "last acts:", *self.acts(0)[-20:], "log:", self.log[-2000:]]
        )

    async def next_pass(self, within: float = 60.0) -> PastPass:
        """A pass that began after this moment and has ended."""
        now = time.time()
        await self.until("another pass", lambda: [one for one in self.passes() if one.started >= now], within)
        return self.passes()[0]

    async def converged(self, within: float = 150.0) -> PastPass:
        """A pass that began after this moment and found everything as it should be."""
        now = time.time()

        def found() -> bool:
            return any(one.started >= now and one.result == "converged" for one in self.passes(1))

        await self.until("converged", found, within)
        return self.passes()[0]

    async def refused(self) -> PastPass:
        now = time.time()
        await self.until("refused", lambda: any(one.started >= now and one.record["refused"] for one in self.passes(1)))
        return self.passes()[0]

    # -- the controller as a process ----------------------------------------------------------------------------

    async def kill(self) -> None:
        await self.stage.stop_controller(signal.SIGKILL)

    async def stop(self) -> float:
        """SIGTERM; seconds until the daemon had ended by itself."""
        begun = time.monotonic()
        process = self.stage._controller
        await self.stage.stop_controller()
        assert process is not None
        assert process.returncode == 0, f"exit status {process.returncode}\n{self.log[-2000:]}"
        return time.monotonic() - begun

    async def start(self) -> None:
        await self.stage.start_controller()

    async def jailops(self, *words: str, settings: bool = True, within: float = 60.0) -> Said:
        """Run the command line as a person would, on this stage's settings."""
        config = ["--config", str(self.stage.settings)] if settings else []
        process = await asyncio.create_subprocess_exec(
            *self.stage.placed([sys.executable, "-m", "controller", *words, *config]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1"},
        )
        out, err = await asyncio.wait_for(process.communicate(), within)
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def played(
    directory: Path, example: Mapping[str, str] | None = None, *, lab: str = SIMULATED
) -> AsyncIterator[Play]:
    """A running stage in one of the labs; `example` replaces some of its files.

    When all has gone well, nothing that the controller wrote in its life may hold a secret, and no stand-in may have been
    asked what the reference does not cover.
    """
    manifests = {**repository(), **(example or {})}
    entered = Stage(directory, manifests) if lab == SIMULATED else staged(example=manifests)
    async with entered as stage:
        plant(stage)
        yield Play(stage)
        assert stage.site.uncovered() == []
        assert found(stage, await kept(stage)) == []
