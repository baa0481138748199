"""Row G5 in a pass: what is not signed by who may is not in force, and who signed is on record."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from controller.model import Record
from controller.removal import Limits
from controller.revision import Revisions, Wanted
from controller.said import note
from controller.source import GitSettings, GitSource
from controller.starter import write_site
from controller.store import Store

LIMITS = Limits(2, 10.0, 10, frozenset())


class Site:
    """A repository with one key that may sign and one that may not."""

    def __init__(self, base: Path) -> None:
        write_site(base / "site")
        self.work = base / "site" / "repo"
        for name in ("ann", "eve"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(base / name)]
            subprocess.run(words, check=True)
        (base / "signers").write_text("ann@example.org " + (base / "ann.pub").read_text())
        self.base = base
        self.store = Store(base / "jailops.sqlite")
        self.settings = GitSettings(url=str(self.work), mirror=base / "mirror", allow_local=True)
        self.git("init", "-q")
        self.git("add", "-A")

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *who, *words], cwd=self.work, check=True, capture_output=True, text=True).stdout

    def commit(self, key: str = "") -> str:
        """A commit that is signed with a key, or by nobody."""
        sign = ("-c", "gpg.format=ssh", "-c", f"user.signingKey={self.base / key}") if key else ()
        self.git(*sign, "commit", "-q", "--allow-empty", "-m", "Work", *["--gpg-sign"] * bool(key))
        return self.git("rev-parse", "HEAD").strip()

    async def look(self, *, signatures: bool = True) -> Wanted:
        """As a pass does, of a controller that has just started."""
        settings = replace(self.settings, signers_file=self.base / "signers") if signatures else self.settings
        revisions = Revisions(GitSource(settings), self.store, LIMITS, notes=False)
        wanted = await revisions.wanted()
        await revisions.applied(wanted, Record(wanted.revision, "", "", "push", 0.0, 0.0, "", "converged", ()))
        return wanted


async def test_G5_the_last_good_revision_stays_in_force(tmp_path: Path) -> None:
    site = Site(tmp_path)
    good = site.commit("ann")
    assert (await site.look()).revision == good
    bad = tip = site.commit("eve")
    site.store.request("approve", bad, 0.0)
    for _ in range(2):
        wanted = await site.look()
        assert wanted.revision == good
        assert wanted.signer.startswith("ann@example.org (SHA256:")
        assert wanted.candidate == tip
        (refused,) = wanted.refused
        assert refused.startswith(
            f"NotSigned: cannot apply {tip[:12]}: commit {bad[:12]} (Ann: Work) is signed by SHA256:"
        )
        assert ", who is not listed (what you can do: have somebody who is listed sign it anew" in refused
        assert site.store.get("approvable") == "", "nobody lets it through but who may write jailops.toml"
        tip = site.commit("ann")
    site.git("reset", "-q", "--hard", good)
    better = site.commit("ann")
    assert (await site.look()).revision == better


async def test_G5_what_was_in_force_before_there_was_a_policy(tmp_path: Path) -> None:
    """It stays, and is not what anything else is proven by."""
    site = Site(tmp_path)
    unsigned = site.commit()
    assert (await site.look(signatures=False)).signer == ""
    assert (await site.look()).revision == unsigned
    signed = site.commit("ann")
    assert f"commit {unsigned[:12]} (Ann: Work) is not signed" in (await site.look()).refused[0]
    site.settings = replace(site.settings, trusted_commit=unsigned)
    assert (await site.look()).revision == signed


async def test_G5_each_commit_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    asked: list[tuple[str, str | None]] = []
    proven = GitSource.proven

    async def counted(self: GitSource, candidate: str, before: str | None) -> object:
        asked.append((candidate, before))
        return await proven(self, candidate, before)

    monkeypatch.setattr(GitSource, "proven", counted)
    one = site.commit("ann")
    await site.look()
    two = site.commit("ann")
    for _ in range(2):
        await site.look()
    assert asked == [(one, None), (two, one)]


def test_G5_the_signer_is_in_the_note() -> None:
    record = Record(
        "0" * 40, "Ann", "Work", "push", 0.0, 1.0, "converged: 1 done", "converged", signer="ann (SHA256:x)"
    )
    assert note(record) == "converged: 1 done [push, 1.0 s]\n  signed by     ann (SHA256:x)"
