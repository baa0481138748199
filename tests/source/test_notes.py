"""The audit trail as Git notes: what `git log --notes=jailops` shows on the remote, and what never gets lost."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.source import GitSettings, GitSource, NotePush
from controller.source.notes import entries_of, joined, one_entry
from tests.source.remotes import Https, Person, flip, git, said

REF = "refs/notes/jailops"


def shown(person: Person, revision: str = "refs/heads/main") -> str:
    """What a person sees on the remote."""
    return git(person.remote, "log", "-1", "--notes=jailops", "--format=%N", revision)


async def test_a_note_is_seen_on_the_remote_over_every_transport(person: Person, any_settings: GitSettings) -> None:
    source = GitSource(any_settings)
    revision = person.publish({"site.yaml": "kind: Site\n"})
    await source.fetch()
    assert await source.write_note(revision, "converged: created jail/node1/example in 2.1 s") == NotePush(True)
    assert await source.write_note(revision, "repaired: started jail/node1/example\n  by hand stopped") == NotePush(
        True
    )
    assert shown(person) == (
        "converged: created jail/node1/example in 2.1 s\n\n"
        "repaired: started jail/node1/example\n  by hand stopped"
    )  # fmt: skip
    assert git(person.remote, "log", "-1", "--format=%an <%ae>", REF) == "jailops <jailops@localhost>"


async def test_the_same_entry_twice_is_there_once(person: Person, source: GitSource) -> None:
    revision = person.publish({})
    await source.fetch()
    for _ in range(2):
        assert await source.write_note(revision, "pass 1") == NotePush(True)
    assert shown(person) == "pass 1"
    assert git(person.remote, "rev-list", "--count", REF) == "1"


async def test_a_refused_push_keeps_the_note(person: Person, source: GitSource, mirror: Path) -> None:
    revision = person.publish({})
    await source.fetch()
    hook = person.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho notes are not welcome >&2\nexit 1\n")
    hook.chmod(0o755)
    refused = await source.write_note(revision, "pass 1")
    assert refused == NotePush(False, "the remote refuses notes: pre-receive hook declined")
    assert git(mirror / "repo.git", "notes", f"--ref={REF}", "show", revision) == "pass 1"
    hook.unlink()
    assert await source.push_notes() == NotePush(True)
    assert shown(person) == "pass 1"


async def test_remote_away_keeps_the_note(person: Person, https: Https, https_settings: GitSettings) -> None:
    source = GitSource(https_settings)
    revision = person.publish({})
    await source.fetch()
    https.status = 503
    pushed = await source.write_note(revision, "pass 1")
    assert not pushed.pushed
    assert pushed.reason.startswith("cannot push the notes: the host has trouble of its own")
    https.status = 0
    await source.write_note(revision, "pass 2")
    assert shown(person) == "pass 1\n\npass 2"


async def test_notes_of_others_are_joined(person: Person, source: GitSource) -> None:
    """Somebody writes notes on the same and on another commit between two of our passes."""
    first, second = person.publish({}, "first"), person.publish({}, "second")
    await source.fetch()
    await source.write_note(second, "ours 1")
    git(person.work, "fetch", "--quiet", "origin", f"{REF}:{REF}")
    git(person.work, "notes", f"--ref={REF}", "append", "-m", "theirs on second", second)
    git(person.work, "notes", f"--ref={REF}", "add", "-m", "theirs on first", first)
    git(person.work, "push", "--quiet", "origin", REF)
    assert await source.write_note(second, "ours 2") == NotePush(True)
    assert shown(person, second) == "ours 1\n\ntheirs on second\n\nours 2"
    assert shown(person, first) == "theirs on first"


async def test_a_new_mirror_joins_the_notes_of_its_earlier_life(
    person: Person, settings: GitSettings, mirror: Path
) -> None:
    revision = person.publish({})
    source = GitSource(settings)
    await source.fetch()
    await source.write_note(revision, "before")
    shutil.rmtree(mirror)
    again = GitSource(settings)
    await again.fetch()
    assert await again.write_note(revision, "after") == NotePush(True)
    assert shown(person) == "before\n\nafter"


async def test_two_controllers_lose_nothing(person: Person, settings: GitSettings, tmp_path: Path) -> None:
    revision = person.publish({})
    sources = [GitSource(replace(settings, mirror=tmp_path / name)) for name in ("one", "two")]
    for source in sources:
        await source.fetch()
    await asyncio.gather(
        *(source.write_note(revision, f"{n} of {i}") for i, source in enumerate(sources) for n in range(4))
    )
    for source in sources:
        await source.push_notes()
    assert sorted(entries_of(shown(person))) == sorted(f"{n} of {i}" for i in range(2) for n in range(4))


async def test_notes_survive_a_damaged_mirror(person: Person, source: GitSource, mirror: Path) -> None:
    revision = person.publish({"big.yaml": "# " + "x" * 5000})
    await source.fetch()
    hook = person.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert not (await source.write_note(revision, "never pushed")).pushed
    (pack,) = (mirror / "repo.git" / "objects" / "pack").glob("*.pack")
    flip(pack)
    assert await said(source, revision) == {"big.yaml": []}
    assert (mirror / "repo.corrupt").exists()
    hook.unlink()
    assert await source.push_notes() == NotePush(True)
    assert shown(person) == "never pushed"


async def test_only_on_a_commit_we_have(person: Person, source: GitSource) -> None:
    person.publish({})
    await source.fetch()
    with pytest.raises(Stall, match="cannot find revision 111111111111"):
        await source.write_note("1" * 40, "text")
    with pytest.raises(Stall, match="cannot use 'main'"):
        await source.write_note("main", "text")
    with pytest.raises(Stall, match="cannot keep notes in 'refs/heads/main'"):
        await source.write_note("1" * 40, "text", ref="refs/heads/main")


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("one line", "one line"),
        ("head\n\n  detail\n\n\n  more\n", "head\n  detail\n  more"),
        ("colour \x1b[31mred\x1b[0m and \u202e", "colour \ufffd[31mred\ufffd[0m and \ufffd"),
        ("  \n\n", ""),
    ],
)
def test_an_entry_is_one_printable_paragraph(text: str, entry: str) -> None:
    assert one_entry(text) == entry
    assert entries_of(entry) == ((entry,) if entry else ())


def test_a_long_note_loses_its_oldest_entries_and_says_so() -> None:
    old = tuple(f"pass {n} " + "x" * 1000 for n in range(200))
    note = joined(old, ("the newest",), REF)
    assert len(note.encode()) < 130 * 1024
    entries = entries_of(note)
    assert entries[0] == f"(older entries: git log -p {REF})"
    assert entries[-1] == "the newest"
    assert joined(entries, entries, REF) == note
