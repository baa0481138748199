"""Row G1 in a pass: a remote that is away is asked later each time, and one that is silent holds nothing up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from controller import revision
from controller.errors import Retry
from controller.model import Record
from controller.removal import Limits
from controller.revision import Revisions, Wanted
from controller.source import GitSettings, GitSource, Head
from controller.starter import write_site
from controller.store import Store
from tests.source.remotes import git, processes_naming

LIMITS = Limits(2, 10.0, 10, frozenset())


class Moody(GitSource):
    """A real source whose remote can be away, or silent until it speaks again."""

    away = False
    asked = 0

    def __init__(self, settings: GitSettings) -> None:
        super().__init__(settings)
        self.speaks = asyncio.Event()
        self.speaks.set()

    async def fetch(self) -> Head:
        self.asked += 1
        await self.speaks.wait()
        if self.away:
            raise Retry("cannot fetch main: the host does not answer")
        return await super().fetch()


class Site:
    def __init__(self, base: Path) -> None:
        write_site(base / "site")
        self.work = base / "site" / "repo"
        git(self.work, "init", "--quiet", "--initial-branch=main")
        git(self.work, "add", "--all")
        self.good = self.commit()
        self.store = Store(base / "jailops.sqlite")
        self.settings = GitSettings(url=str(self.work), mirror=base / "mirror", allow_local=True)
        self.source = Moody(self.settings)
        self.revisions = Revisions(self.source, self.store, LIMITS, patience=0.05)

    def commit(self) -> str:
        git(self.work, "commit", "--quiet", "--allow-empty", "--message", "Work")
        return git(self.work, "rev-parse", "HEAD")

    async def look(self, *, at_once: bool = False, said: str = "converged") -> Wanted:
        wanted = await self.revisions.wanted(at_once=at_once)
        await self.revisions.applied(wanted, Record(wanted.revision, "", "", "", 0.0, 0.0, said, "converged", ()))
        return wanted

    async def speaks_again(self) -> None:
        self.source.speaks.set()
        assert self.revisions._fetching
        await asyncio.wait({self.revisions._fetching})

    def note(self, commit: str) -> str:
        return git(self.work, "notes", "--ref=jailops", "show", commit)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    site.revisions._patience = None
    assert (await site.look()).revision == site.good
    site.revisions._patience = 0.05
    yield site
    await site.revisions.close()


async def test_G1_a_silent_remote_holds_up_nothing(site: Site) -> None:
    site.source.speaks.clear()
    newer = site.commit()
    for _ in range(3):
        wanted = await site.look(at_once=True)
        assert wanted.revision == site.good
        assert wanted.git_error == "the remote has not answered within 0.05 s; it is waited for in the background"
        assert site.store.get("git_error") == wanted.git_error, "what `jailops status` tells"
    assert site.source.asked == 2, "one question is under way, and no other is asked beside it"
    await site.speaks_again()
    site.revisions._patience = None
    wanted = await site.look()
    assert (wanted.revision, wanted.git_error) == (newer, "")


async def test_G1_a_slow_remote_is_believed_one_look_later(site: Site) -> None:
    site.source.speaks.clear()
    newer = site.commit()
    await site.look()
    await site.speaks_again()
    site.source.speaks.clear()
    assert (await site.look()).revision == newer, "the answer that came meanwhile, while the next is waited for"
    assert site.source.asked == 3


async def test_G1_notes_wait_until_git_is_there(site: Site) -> None:
    first = site.note(site.good)
    site.source.away = True
    for said in ("one repaired", "another repaired"):
        site.store.put("told", "")
        await site.look(said=said)
    assert site.note(site.good) == first
    site.source.away = False
    site.revisions._patience = None
    site.store.put("told", "")
    await site.look(at_once=True, said="back again")
    entries = site.note(site.good).removeprefix(first).split("\n\n")
    assert [one.split(" [")[0] for one in entries if one] == ["one repaired", "another repaired", "back again"]
    assert site.store.get("untold") == "[]"


async def test_G1_asked_later_each_time_and_at_once_when_somebody_asks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(revision, "monotonic", lambda: clock[0])
    monkeypatch.setattr(revision, "uniform", lambda low, high: (low + high) / 2)
    site.revisions._patience = None
    site.source.away = True
    asked_at = []
    for second in range(1000):
        clock[0] = 1000.0 + second
        before = site.source.asked
        wanted = await site.revisions.wanted(at_once=False)
        assert (wanted.revision, wanted.git_error) == (site.good, "cannot fetch main: the host does not answer")
        asked_at += [second] * (site.source.asked - before)
    assert asked_at == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    before = site.source.asked
    await site.revisions.wanted()
    assert site.source.asked == before + 1, "somebody asked"
    site.source.away = False
    newer = site.commit()
    assert (await site.revisions.wanted(at_once=False)).revision == site.good
    assert (await site.revisions.wanted()).revision == newer
    site.source.away = True
    await site.revisions.wanted(at_once=False)
    clock[0] += 5
    before = site.source.asked
    await site.revisions.wanted(at_once=False)
    assert site.source.asked == before + 1, "it begins anew with a short pause"


async def test_G1_a_remote_that_takes_packets_and_says_nothing(tmp_path: Path, site: Site) -> None:
    """A real one, over which a real git hangs: the pass goes on, and nothing is left when the daemon ends."""
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        url = f"https://127.0.0.1:{mute.getsockname()[1]}/infra.git"
        source = GitSource(replace(site.settings, url=url))
        revisions = Revisions(source, site.store, LIMITS, notes=False, patience=0.05)
        for _ in range(2):
            assert (await revisions.wanted()).revision == site.good
        await revisions.close()
    assert processes_naming(str(tmp_path / "mirror")) == []
