"""What a revision may take away: by itself, within a day, and with somebody's word for it. Git and the store are real."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller import revision
from controller.model import Record
from controller.removal import DAY, Limits, Removal, removal, too_much
from controller.revision import Revisions, Wanted
from controller.source import GitSettings, GitSource
from controller.starter import write_site
from controller.store import Store

NOW = 1_000_000.0
LIMITS = Limits(removed=2, removed_percent=10.0, removed_per_day=5)

CASES: Mapping[str, tuple[int, int, list[float], str]] = {
    "nothing goes": (0, 10, [NOW] * 9, ""),
    "as many as one revision may": (2, 10, [], ""),
    "one more": (3, 10, [], "it removes 3 of 10 objects at once, 2 are allowed: a00, a01, a02"),
    "a tenth of many": (4, 40, [], ""),
    "the last of the day": (2, 10, [NOW - 5] * 3, ""),
    "one more than a day allows": (
        2, 10, [NOW - 5] * 4, "it removes 2 objects after 4 in the last 24 hours, 5 a day are allowed: a00, a01"
    ),
    "what was removed yesterday does not count": (2, 10, [NOW - DAY] * 50, ""),
    "a revision may not take what no day allows": (
        6, 100, [], "it removes 6 objects after 0 in the last 24 hours, 5 a day are allowed: a00, a01, a02, a03, a04, a05"
    ),
    "a long list is cut": (
        11, 100, [], "it removes 11 of 100 objects at once, 10 are allowed: " + ", ".join(f"a{n:02}" for n in range(10)) + " …"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_too_much(case: str) -> None:
    going, of, earlier, why = CASES[case]
    names = [f"a{number:02}" for number in range(of)]
    assert too_much(removal(dict(zip(names, names, strict=True)), names[going:]), earlier, LIMITS, NOW) == why


def test_a_removal_is_named_by_its_objects_alone() -> None:
    assert removal({"b": "b", "a": "a", "c": "c"}, {"c", "d"}) == Removal(("a", "b"), 3)
    assert Removal(("a", "b"), 3).plan == Removal(("a", "b"), 9).plan != Removal(("ab",), 3).plan


@dataclass
class Site:
    """A repository with a file of many jails, and the one who reads it."""

    work: Path
    store: Store
    revisions: Revisions

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main")
        return subprocess.run(["git", *who, *words], cwd=self.work, check=True, capture_output=True, text=True).stdout

    def push(self, jails: int, message: str) -> str:
        text = "---\n".join(
            "apiVersion: jailops/v1\nkind: Jail\nmetadata:\n"
            f"  name: extra{number:02}\nspec:\n  host: jailbox2\n  addresses: [198.51.100.{100 + number}]\n"
            for number in range(jails)
        )
        (self.work / "jails" / "extra.yaml").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    async def look(self) -> Wanted:
        """As a pass does."""
        wanted = await self.revisions.wanted()
        record = Record(wanted.revision, "", "", "push", 0.0, 0.0, "", "converged", ())
        await self.revisions.applied(wanted, record)
        return wanted


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write_site(tmp_path / "site")
    work = tmp_path / "site" / "repo"
    settings = GitSettings(url=str(work), mirror=tmp_path / "mirror", allow_local=True)
    store = Store(tmp_path / "jailops.sqlite")
    site = Site(work, store, Revisions(GitSource(settings), store, LIMITS, notes=False))
    site.git("init", "-q")
    return site


async def test_D2_one_jail_a_commit_is_held_by_the_budget_of_the_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [NOW]
    monkeypatch.setattr(revision, "time", lambda: clock[0])
    monkeypatch.setattr(revision, "monotonic", lambda: clock[0])
    site.push(12, "Twelve jails")
    await site.look()
    for left in range(11, 6, -1):
        clock[0] += 60
        tip = site.push(left, "One goes")
        assert (await site.look()).revision == tip
    held = site.push(6, "And one more")
    for _ in range(2):
        wanted = await site.look()
        assert wanted.revision == tip
        assert wanted.refused[0].startswith(
            f"cannot apply {held[:12]}: it removes 1 object after 5 in the last 24 hours, 5 a day are allowed: "
            "Jail/jailbox2/extra06 (what you can do: push them back, or if this is meant: jailops approve "
        )
    clock[0] = NOW + 61 + DAY  # the first one counts no more
    assert (await site.look()).revision == held


async def test_what_is_allowed_by_name_is_not_counted(site: Site) -> None:
    site.push(12, "Twelve jails")
    await site.look()
    site.push(2, "Ten go")
    refused = (await site.look()).refused[0]
    plan = site.store.get("approvable")
    assert plan in refused
    site.git("commit", "-q", "--allow-empty", "-m", f"They may\n\nAllow-Delete: {plan[:-1]}")
    assert plan in (await site.look()).refused[0], "another name"
    site.git("commit", "-q", "--allow-empty", "-m", f"They may, says Allow-Delete: {plan} in the middle of a line")
    assert plan in (await site.look()).refused[0], "no trailer"
    site.git("commit", "-q", "--allow-empty", "-m", f"They may\n\nAllow-Delete: {plan}")
    tip = site.git("rev-parse", "HEAD").strip()
    assert (await site.look()).revision == tip
    assert site.store.removed_at(NOW) == []


async def test_an_approval_for_what_was_replaced_meanwhile_is_gone(site: Site) -> None:
    site.push(12, "Twelve jails")
    await site.look()
    site.push(2, "Ten go")
    await site.look()
    plan = site.store.get("approvable")
    site.store.request("approve", plan, NOW)
    site.push(12, "They stay")
    await site.look()
    site.push(2, "Ten go again")
    assert plan in (await site.look()).refused[0]


def rename(site: Site, old: str, new: str, say: str = "", unsay: str = "") -> None:
    """The second host of the example gets another name, and a line in its spec."""
    host, jails = site.work / "hosts" / "jailbox2.yaml", site.work / "jails" / "jailbox2.yaml"
    text = host.read_text().replace(unsay, "").replace(f"\n  name: {old}\n", f"\n  name: {new}\n")
    host.write_text(text.replace("\nspec:\n", f"\nspec:\n{say}"))
    jails.write_text(jails.read_text().replace(f"host: {old}\n", f"host: {new}\n"))


def commit(site: Site, message: str) -> str:
    site.git("commit", "-q", "-a", "-m", message)
    return site.git("rev-parse", "HEAD").strip()


async def test_M8_a_rename_by_previous_passes_the_budget_and_one_without_is_asked_about(site: Site) -> None:
    first = site.push(0, "As it is")
    await site.look()
    rename(site, "jailbox2", "newbox")
    commit(site, "Another name")
    wanted = await site.look()
    assert wanted.revision == first
    assert "it removes 4 of 10 objects at once, 2 are allowed: Host/jailbox2, Jail/jailbox2/" in wanted.refused[0]
    assert "what you can do: Host/newbox has the MAC address of Host/jailbox2, which is gone: if it was renamed, say previous: jailbox2" in wanted.refused[0]  # fmt: skip # noqa: E501
    rename(site, "newbox", "newbox", "  previous: jailbox2\n")
    tip = commit(site, "It was renamed")
    wanted = await site.look()
    assert (wanted.revision, wanted.counted, wanted.questions) == (tip, (), ())


async def test_M8_previous_stays_for_as_long_as_there_is_the_host(site: Site) -> None:
    rename(site, "jailbox2", "newbox", say := "  previous: jailbox2\n")
    tip = site.push(0, "As it is")
    await site.look()
    rename(site, "newbox", "newbox", unsay=say)
    bad = commit(site, "The line looked old")
    wanted = await site.look()
    assert wanted.revision == tip
    assert wanted.refused == (
        f"cannot apply {bad[:12]}: Host/newbox (hosts/jailbox2.yaml:11:3): its disk is kept under the name jailbox2, and it "
        "must say previous: jailbox2 as before (what you can do: under another name a host gets an empty disk; to begin anew "
        "with one, remove the host first)",
    )
    assert site.store.get("approvable") == ""


async def test_what_is_protected_goes_in_two_steps_and_by_no_approval(site: Site) -> None:
    site.push(2, "Two jails")
    file = site.work / "jails" / "extra.yaml"
    file.write_text(file.read_text().replace("extra01\nspec:\n", "extra01\nspec:\n  protect: true\n"))
    tip = commit(site, "Nobody may remove the second")
    await site.look()
    gone = removal({"": "Jail/jailbox2/extra01"}, ()).plan
    site.store.request("approve", gone, NOW)
    site.push(1, f"It goes all the same\n\nAllow-Delete: {gone}")
    wanted = await site.look()
    assert wanted.revision == tip
    assert (
        "it removes what is protected: Jail/jailbox2/extra01 (what you can do: push protect: false for it first"
        in (wanted.refused[0])
    )
    tip = site.push(2, "It stays, and may go")
    assert (await site.look()).revision == tip
    tip = site.push(1, "It goes")
    assert (await site.look()).revision == tip
