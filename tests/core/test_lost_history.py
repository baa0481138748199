"""Row G4 when what was applied last is nowhere any more: the mirror is lost, and the remote was made anew."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.model import Record
from controller.removal import Limits
from controller.revision import Revisions, Wanted
from controller.source import GitSettings, GitSource
from controller.starter import write_site
from controller.store import Store

LIMITS = Limits(2, 10.0, 10, frozenset())


class Site:
    def __init__(self, base: Path) -> None:
        write_site(base / "site")
        self.work, self.mirror = base / "site" / "repo", base / "mirror"
        self.store = Store(base / "jailops.sqlite")
        self.revision = self.begin()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *who, *words], cwd=self.work, check=True, capture_output=True, text=True).stdout

    def begin(self) -> str:
        """A history that has nothing in common with any other."""
        shutil.rmtree(self.work / ".git", ignore_errors=True)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"Begun in {self.work.stat().st_mtime_ns}")
        return self.git("rev-parse", "HEAD").strip()

    def controller(self) -> Revisions:
        source = GitSource(GitSettings(url=str(self.work), mirror=self.mirror, allow_local=True))
        return Revisions(source, self.store, LIMITS, notes=False)

    async def look(self) -> Wanted:
        """As a pass does, of a controller that has just started."""
        revisions = self.controller()
        wanted = await revisions.wanted()
        await revisions.applied(wanted, Record(wanted.revision, "", "", "push", 0.0, 0.0, "", "converged", ()))
        return wanted


async def test_G4_only_the_full_id_lets_a_repository_through_that_was_made_anew(tmp_path: Path) -> None:
    site = Site(tmp_path)
    first = (await site.look()).revision
    shutil.rmtree(site.mirror)
    anew = site.begin()
    with pytest.raises(Stall) as caught:
        await site.look()
    assert str(caught.value) == (
        f"cannot go on: {first[:12]}, which is in force, is nowhere any more: HistoryRewritten: cannot apply {anew[:12]}: "
        f"the last applied revision {first[:12]} is not in the repository any more: nothing shows what is lost"
    )
    assert caught.value.hint == (
        f"push a commit that contains {first[:12]} (git merge, git revert); or, if this was meant: jailops approve {anew}"
    )
    assert site.store.get("approvable") == anew
    assert await site.controller().last() is None, "`jailops plan` has nothing to compare with"
    site.store.request("approve", anew, 1.0)
    assert (await site.look()).revision == anew
    assert (await site.look()).refused == ()


async def test_G4_nothing_is_known_while_the_mirror_is_lost_and_git_is_away(tmp_path: Path) -> None:
    site = Site(tmp_path)
    first = (await site.look()).revision
    shutil.rmtree(site.mirror)
    shutil.rmtree(site.work)
    with pytest.raises(
        Stall, match=rf"^cannot go on: {first[:12]}, which is in force, is nowhere any more: Git cannot be asked: "
    ):
        await site.look()
