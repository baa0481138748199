"""Rows G3 and G6 of the fault matrix at their real sizes, or as near as is cheap. Memory is bounded by the kernel here:
git runs with less address space than what was pushed would fill. The sender, over HTTPS, has no such bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import ControllerError, Stall
from controller.source import GitSettings, GitSource
from tests.source.remotes import Person, git, leftovers, said

MEBIBYTE = 2**20
BOMB = 384 * MEBIBYTE
MEMORY = 256 * MEBIBYTE
SITE = {"site.yaml": "kind: Site\n"}


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def push_tree(person: Person, *entries: tuple[str, str, str], parent: str) -> str:
    """A commit of one folder: mode and kind, id, and name of each entry."""
    listing = "".join(f"{how} {one}\t{name}\0" for how, one, name in entries)
    tree = git(person.work, "mktree", "-z", stdin=listing.encode())
    commit = git(person.work, "commit-tree", "-p", parent, "-m", "large", tree)
    git(person.work, "push", "--quiet", "origin", f"{commit}:refs/heads/main")
    return commit


def import_files(person: Person, names: list[str]) -> str:
    """A commit of empty files, on top of what is there."""
    lines = ["blob", "mark :1", "data 0", "", "commit refs/heads/main", "committer A <a@example.org> 1700000000 +0000"]
    lines += ["data 4", "many", "from refs/heads/main^0", *(f"M 100644 :1 {name}" for name in names), "", ""]
    git(person.work, "fast-import", "--quiet", "--force", stdin="\n".join(lines).encode())
    person.push("--force", "origin", "refs/heads/main")
    return git(person.work, "rev-parse", "refs/heads/main")


async def test_G3_a_small_pack_that_unpacks_to_far_more(
    person: Person, https_settings: GitSettings, mirror: Path
) -> None:
    """A file is never unpacked into memory or onto the disk, and its length alone refuses it."""
    good = person.publish(SITE)
    site = git(person.work, "rev-parse", "HEAD:site.yaml")
    bomb = git(person.work, "hash-object", "-w", "--stdin", stdin=bytes(BOMB))
    source = GitSource(replace(https_settings, max_memory_bytes=MEMORY, deadline=100.0))
    tip = push_tree(person, ("100644 blob", bomb, "bomb.yaml"), ("100644 blob", site, "site.yaml"), parent=good)
    assert (await source.fetch()).revision == tip
    assert await said(source, tip) == {
        "bomb.yaml": f"is {BOMB} bytes long; a manifest file may have {https_settings.max_blob_bytes}: split it",
        "site.yaml": [{"kind": "Site"}],
    }
    assert size_of(mirror) < 4 * MEBIBYTE


async def test_G3_what_git_must_hold_in_memory_is_refused(
    person: Person, https_settings: GitSettings, mirror: Path
) -> None:
    """A commit cannot be read in pieces: git ends at its bound, and the last good revision stays readable."""
    good = person.publish(SITE)
    source = GitSource(replace(https_settings, max_memory_bytes=MEMORY, deadline=100.0))
    await source.fetch()
    text = git(person.work, "cat-file", "commit", good).encode() + b"\n" + b"a" * BOMB
    bomb = git(person.work, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
    git(person.work, "push", "--quiet", "--force", "origin", f"{bomb}:refs/heads/main")
    with pytest.raises(ControllerError, match=r"^cannot fetch main from .*(needs more memory than it may use|damaged)"):
        await source.fetch()
    head = await source.head()
    assert head
    assert head.revision == good
    assert await said(source, good) == {"site.yaml": [{"kind": "Site"}]}
    assert leftovers(mirror) == []
    assert size_of(mirror) < 4 * MEBIBYTE


async def test_G6_a_hundred_thousand_refs(person: Person, source: GitSource, mirror: Path) -> None:
    """Ours alone is fetched."""
    good = person.publish(SITE)
    with (person.remote / "packed-refs").open("w") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted \n")
        file.writelines(f"{good} refs/heads/x{number:06}\n" for number in range(100_000))
    assert (await source.fetch()).revision == good
    refs = git(mirror / "repo.git", "for-each-ref", "--format=%(refname)")
    assert refs == "refs/jailops/head"
    assert size_of(mirror) < 1 * MEBIBYTE


async def test_G6_a_path_of_four_kibibytes_in_folders_without_end(person: Person, source: GitSource) -> None:
    person.publish(SITE)
    tip = import_files(person, ["d/" * 2000 + "deep.yaml", "e" * 250 + "/" + "f" * 250 + ".yaml"])
    await source.fetch()
    snapshot = await source.snapshot(tip)
    assert [one.path for one in snapshot.blobs] == ["site.yaml"]
    assert [one.path[:3] for one in snapshot.problems] == ["d/d", "eee"]
    for one in snapshot.problems:
        assert len(one.path) <= 400
        assert one.message.endswith("(or over 400): rename it")
    assert await said(source, tip) == {"site.yaml": [{"kind": "Site"}]}


async def test_G6_more_files_than_are_listed(person: Person, settings: GitSettings) -> None:
    good = person.publish(SITE)
    source = GitSource(replace(settings, max_memory_bytes=MEMORY))
    await source.fetch()
    tip = import_files(person, [f"f{number // 1000}/{number:06}.yaml" for number in range(300_000)])
    await source.fetch()
    with pytest.raises(Stall, match="the answer is longer than 16777216 bytes") as caught:
        await source.snapshot(tip)
    assert "use one for manifests alone" in caught.value.hint
    assert await said(source, good) == {"site.yaml": [{"kind": "Site"}]}
