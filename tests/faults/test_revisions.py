"""Revisions that must not be believed: emptied, deleted, hidden, broken, set back, rewritten, and a remote that is gone.

Each is pushed over a converged site. Whatever it says, nothing is removed and nothing is done for it; the last good
revision stays in force and its drift is repaired while the bad one is at the tip.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle

import pytest
import pytest_asyncio

from tests.faults.play import PATIENCE, RUNNING, SECOND, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

ADDRESSES = cycle(["198.51.100.71", "198.51.100.72", "198.51.100.73"])
"""What is taken away by hand, one after the other: the same five times would be a fight, and let be."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("revisions") / "stage") as play:
        await play.converged()
        play.stage.edit("jails/jailbox2.yaml", "owner: the web team", "owner: the web people")
        await play.stage.push("An annotation, so that there is a commit before the last one")
        await play.converged()
        yield play


@dataclass(frozen=True)
class Shape:
    """One bad revision: how it comes to be, and what the refusal must be, with {new} and {old} as short commit ids."""

    name: str
    make: Callable[[Play], Awaitable[None]]
    message: str
    hint: str


async def empty(play: Play) -> None:
    await play.stage.git("rm", "-rq", ".")
    await play.stage.git("commit", "-q", "--allow-empty", "-m", "Empty")


async def one_left(play: Play) -> None:
    for path in play.stage.work.rglob("*.yaml"):
        if path.name != "site.yaml":
            path.unlink()
    await play.stage.git("commit", "-q", "-a", "-m", "One file left")


async def most_gone(play: Play) -> None:
    """Nine of ten files go: hosts, jails, image and build VM; the SAN stays."""
    for path in play.stage.work.rglob("*"):
        if path.is_file() and ".git" not in path.parts and path.name != "san.yaml":
            path.unlink()
    await play.stage.git("commit", "-q", "-a", "-m", "Most files gone")


async def hidden(play: Play) -> None:
    (play.stage.work / ".old").mkdir()
    for name in sorted(path.name for path in play.stage.work.iterdir() if not path.name.startswith(".")):
        await play.stage.git("mv", name, f".old/{name}")
    await play.stage.git("commit", "-q", "-m", "Put away")


async def invalid(play: Play) -> None:
    for path in play.stage.work.rglob("*.yaml"):
        path.write_text("<<<<<<< HEAD\n" + path.read_text())
    await play.stage.git("commit", "-q", "-a", "-m", "A merge gone wrong")


async def another_suffix(play: Play) -> None:
    for path in play.stage.work.rglob("*.yaml"):
        path.rename(path.with_suffix(".txt"))
    await play.stage.git("add", "-A")
    await play.stage.git("commit", "-q", "-m", "An editor's idea")


async def links(play: Play) -> None:
    for path in play.stage.work.rglob("*.yaml"):
        path.unlink()
        path.symlink_to("/etc/passwd")
    await play.stage.git("commit", "-q", "-a", "-m", "Only links")


async def pointers(play: Play) -> None:
    """The Git host has put every file away and serves what stands for it."""
    for path in play.stage.work.rglob("*.yaml"):
        path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n")
    await play.stage.git("commit", "-q", "-a", "-m", "Only pointers")


async def one_broken(play: Play) -> None:
    """Most files go, and one that stays cannot be read: what it held is not known, so nothing is counted."""
    await most_gone(play)
    (play.stage.work / "infrastructure" / "san.yaml").write_text("kind: [San\n")
    await play.stage.git("commit", "-q", "-a", "--amend", "--no-edit")


async def set_back(play: Play) -> None:
    await play.stage.git("reset", "-q", "--hard", "HEAD~1")


async def rewritten(play: Play) -> None:
    await play.stage.git("commit", "-q", "--amend", "-m", "The same, told otherwise")


GONE = "cannot fetch main from {}: there is no such repository, or we are not allowed to see it (git says: fatal: "
NOTHING = "the branch does not exist there (deleted, renamed, or nothing was pushed yet) (git says: fatal: "
BUDGET = "push them back, or if this is meant: jailops approve "
HISTORY = "push a commit that contains {old} (git merge, git revert); or, if this was meant: jailops approve {full}"
NOTHING_LEFT = ("cannot apply {new}: it holds no manifest at all", "push the manifests again")
CHECK = "jailops check {new} shows them all"
SHAPES = (
    Shape("empty tree", empty, *NOTHING_LEFT),
    Shape("put away in a dot-folder", hidden, *NOTHING_LEFT),
    Shape("one file left", one_left, "cannot apply {new}: it removes 10 of 10 objects at once, 2 are allowed: ", BUDGET),
    Shape("nine of ten files gone", most_gone, "cannot apply {new}: it removes 9 of 10 objects at once, 2 are allowed: ", BUDGET),
    Shape("every file invalid", invalid, "hosts/disklessfreebsdbox.yaml:", CHECK),
    Shape("every file under another suffix", another_suffix, *NOTHING_LEFT),
    Shape("every file a link", links, "hosts/disklessfreebsdbox.yaml:1:1: found a file that is a symbolic link", CHECK),
    Shape("every file a pointer", pointers, "hosts/disklessfreebsdbox.yaml:1:1: found a file that is a Git LFS pointer", CHECK),
    Shape("one broken, most gone", one_broken, "infrastructure/san.yaml:", CHECK),
    Shape(
        "set back", set_back,
        "HistoryRewritten: cannot apply {new}: the branch was set back to it, 1 commit(s) behind the last applied revision {old}",
        HISTORY,
    ),
    Shape(
        "rewritten", rewritten,
        "HistoryRewritten: cannot apply {new}: the history was rewritten and lacks 1 commit(s), "
        "the last applied revision {old} among them",
        HISTORY,
    ),
)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
async def test_a_revision_that_is_not_believed(play: Play, shape: Shape) -> None:
    good, address = (await play.stage.git("rev-parse", "HEAD")).strip(), next(ADDRESSES)
    before, act = play.everywhere(), play.last_act()
    await shape.make(play)
    bad = (await play.stage.git("rev-parse", "HEAD")).strip()
    words = {"new": bad[:12], "old": good[:12], "full": bad}
    try:
        await play.stage.git("push", "-q", "--force", "origin", "HEAD:main")
        done = await play.refused()
        assert done.revision == good
        assert done.record["refused"][0].startswith(shape.message.format(**words)), done.record["refused"]
        assert f"revision refused: {done.record['refused'][0]}" in done.said
        told = await play.jailops("apply")
        assert told.status == 1
        assert f"refused {done.record['refused'][0]}\n" in told.out
        assert f" (what you can do: {shape.hint.format(**words)}" in told.out
        planned = await play.jailops("plan")
        assert f"refused {done.record['refused'][0]}; this is the plan for {good[:12]}\n" in planned.out
        assert shape.message.format(**words) in await play.stage.note(bad)

        await play.on(SECOND, f"ifconfig em0 inet {address} -alias")
        await play.until("drift is repaired", lambda: address in str(play.look(SECOND)["addresses"]))
        assert play.acts(act) == [f"add {address} on em0 of {SECOND}"]
        assert play.everywhere() == before
    finally:
        await play.stage.git("reset", "-q", "--hard", good)
        await play.stage.git("clean", "-qfd")
        await play.stage.git("push", "-q", "--force", "origin", "HEAD:main")
    await play.converged()
    assert play.acts(act) == [f"add {address} on em0 of {SECOND}"]


async def test_an_approval_lets_exactly_that_removal_through(play: Play) -> None:
    good = (await play.stage.git("rev-parse", "HEAD")).strip()
    file = play.stage.work / "jails" / "jailbox2.yaml"
    text = file.read_text()
    file.unlink()
    bad = await play.stage.push("All three jails go")
    await play.refused()
    (refused,) = play.passes()[0].record["refused"]
    told = re.fullmatch(
        f"cannot apply {bad[:12]}: it removes 3 of 10 objects at once, 2 are allowed: "
        "Jail/jailbox2/build.example.org, Jail/jailbox2/db, Jail/jailbox2/web "
        r"\(what you can do: push them back, or if this is meant: jailops approve ([0-9a-f]{16}), "
        r"or push a commit whose message ends with the line Allow-Delete: ([0-9a-f]{16})\)",
        refused,
    )
    assert told is not None, refused
    plan = told[1]
    assert told[2] == plan
    said = await play.jailops("approve", good)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"jailops: cannot approve {good}: what waits for one is {plan}, ")
    said = await play.jailops("approve", plan)
    assert (said.status, said.out) == (0, f"approve {plan}: noted; the daemon looks now\n")
    await play.converged()
    assert play.passes()[0].revision == bad
    assert play.jails(SECOND) == {}
    roots = (await play.on(SECOND, "ls /iscsi/jails")).split()
    assert {"db", "web", "build.example.org"} <= set(roots), "retired, never wiped"
    states = {name: one["state"] for name, one in play.statuses().items() if name.startswith("jail/jailbox2/")}
    assert states == dict.fromkeys(
        ("jail/jailbox2/build.example.org", "jail/jailbox2/db", "jail/jailbox2/web"), "Retired"
    )

    # The next one is judged like any other: the approval was for that time alone.
    await play.stage.git("reset", "-q", "--hard", good)
    await play.stage.git("push", "-q", "--force", "origin", "HEAD:main")
    assert "set back" in (await play.refused()).said
    await play.stage.git("reset", "-q", "--hard", bad)
    file.write_text(text)
    await play.stage.push("They come back")
    await play.converged()
    assert set(play.jails(SECOND)) == RUNNING[SECOND]
    file.unlink()
    await play.stage.push("They go once more")
    assert f"jailops approve {plan}, " in (await play.refused()).record["refused"][0]

    # A commit may say so itself, also one below the tip.
    await play.stage.git("commit", "-q", "--allow-empty", "-m", f"They may go\n\nAllow-Delete: {plan}")
    await play.stage.git("commit", "-q", "--allow-empty", "-m", "Something else")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.converged()
    assert play.jails(SECOND) == {}
    file.write_text(text)
    await play.stage.push("They come back again")
    await play.converged()
    assert set(play.jails(SECOND)) == RUNNING[SECOND]


async def test_the_remote_is_gone(play: Play) -> None:
    act, before, address = play.last_act(), play.everywhere(), next(ADDRESSES)
    away = play.stage.repository.with_name("away.git")
    play.stage.repository.rename(away)
    try:
        await play.next_pass()
        await play.on(SECOND, f"ifconfig em0 inet {address} -alias")
        await play.until("drift is repaired", lambda: address in str(play.look(SECOND)["addresses"]))
        await play.next_pass()  # the page follows at the end of a pass
        metrics = await play.metrics()
        assert metrics["jailops_git_up"] == 0
        assert metrics['jailops_git_fetches_total{result="failed"}'] >= 1
        warned = [line for line in play.log.splitlines() if "[warning  ] git" in line]
        assert GONE.format(play.stage.repository) in warned[-1], warned[-1]
        told = await play.jailops("apply")
        assert told.status == 0
        status = await play.jailops("status")
        assert f"Git cannot be asked: {GONE.format(play.stage.repository)}" in status.out
    finally:
        away.rename(play.stage.repository)
    await play.jailops("apply")  # who asks is not kept waiting for the pause
    await play.converged()
    assert "Git cannot be asked" not in (await play.jailops("status")).out
    assert (await play.metrics())["jailops_git_up"] == 1
    assert play.acts(act) == [f"add {address} on em0 of {SECOND}"]
    assert play.everywhere() == before


async def test_a_remote_that_was_made_anew_and_empty(play: Play) -> None:
    """Somebody restores the Git host and the repository comes up without a commit: that is no wish to remove all."""
    act, before = play.last_act(), play.everywhere()
    away = play.stage.repository.with_name("away.git")
    play.stage.repository.rename(away)
    try:
        await play.stage.git("init", "-q", "--bare", str(play.stage.repository))
        await play.next_pass()
        assert (await play.next_pass()).result == "converged"
        status = await play.jailops("status")
        assert f"Git cannot be asked: cannot fetch main from {play.stage.repository}: {NOTHING}" in status.out
        assert play.everywhere() == before
        assert play.acts(act) == []
    finally:
        shutil.rmtree(play.stage.repository)
        away.rename(play.stage.repository)
    await play.converged()
