"""Rows G7 and G8 of the fault matrix: what a tree can hold besides manifests, and names meant to confuse."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from controller.errors import Stall
from controller.source import GitSettings, GitSource
from controller.source.tree import BadListing, read_listing
from tests.source.remotes import Person, git, said

CASES = Path(__file__).parent.parent / "cases" / "source"
BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def listing(*names: bytes, mode: str = "100644", kind: str = "blob") -> bytes:
    return b"".join(f"{mode} {kind} {BLOB}       7\t".encode() + name + b"\0" for name in names)


NAMES = json.loads((CASES / "names.json").read_text("ascii"))


@pytest.mark.parametrize(("name", "verdict"), NAMES, ids=[ascii(name) for name, _ in NAMES])
def test_G8_names(name: str, verdict: str) -> None:
    """Surrogates in the table stand for bytes that are not UTF-8."""
    entries, problems = read_listing(listing(name.encode("utf-8", "surrogateescape")))
    if verdict in ("manifest", "ignored"):
        assert [entry.path for entry in entries] == ([name] if verdict == "manifest" else [])
        assert problems == ()
    else:
        assert entries == ()
        assert [problem.message for problem in problems] == [verdict]
        assert problems[0].path.isprintable()


def test_G8_twins() -> None:
    entries, problems = read_listing(listing(b"a/Host.yaml", b"a/host.yaml", b"b/host.yaml"))
    assert [entry.path for entry in entries] == ["b/host.yaml"]
    assert [(p.path, p.message) for p in problems] == [
        ("a/Host.yaml", "differs only in case from a/host.yaml"),
        ("a/host.yaml", "differs only in case from a/Host.yaml"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"100644 blob e69de29\tshort-id.yaml\0",
        listing(b"x.yaml").replace(b"      7", b"    BAD"),
        b"\xff\xfe\0",
        b"100644 blob " + BLOB.encode() + b"       7\t\0",
    ],
)
def test_what_git_never_prints_is_damage(text: bytes) -> None:
    with pytest.raises(BadListing):
        read_listing(text)


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw), max_size=8))
@hypothesis_settings(max_examples=100)
def test_any_names_give_safe_paths_or_problems(names: list[bytes]) -> None:
    entries, problems = read_listing(listing(*(name + end for name in names for end in (b"", b".yaml"))))
    for entry in entries:
        assert entry.path.isascii()
        assert entry.path.isprintable()
        assert ".." not in entry.path.split("/")
    assert all(problem.path.isprintable() for problem in problems)


async def test_G8_names_in_a_real_tree(person: Person, source: GitSource) -> None:
    """Written as raw tree entries, as no work tree could hold them."""
    blob = git(person.work, "hash-object", "-w", "--stdin", stdin=b"kind: Site\n")
    names = [
        b"site.yaml",
        b"new\nline.yaml",
        b'quo"te.yaml',
        b"-rf.yaml",
        b"caf\xe9.yaml",
        b"caf\xc3\xa9.yaml",
        b"SITE.yaml",
    ]
    entries = b"".join(f"100644 blob {blob}\t".encode() + name + b"\0" for name in sorted(names))
    tree = git(person.work, "mktree", "-z", stdin=entries)
    revision = git(person.work, "commit-tree", "-m", "names", tree)
    git(person.work, "push", "--quiet", "origin", f"{revision}:refs/heads/main")
    snapshot = await source.snapshot((await source.fetch()).revision)
    assert [entry.path for entry in snapshot.blobs] == ["-rf.yaml"]
    assert sorted(problem.path for problem in snapshot.problems) == sorted(
        ["SITE.yaml", "site.yaml", 'quo"te.yaml', "new\\nline.yaml", "caf\\xe9.yaml", "café.yaml"]
    )


async def test_G7_nothing_is_followed_or_executed(person: Person, source: GitSource, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    shout = f"#!/bin/sh\ntouch {canary}\n"
    links = {"in.yaml": "site.yaml", "out.yaml": "/etc/passwd", "loop.yaml": "loop.yaml", "folder": "hosts"}
    for name, target in links.items():
        (person.work / name).symlink_to(target)
        git(person.work, "add", name)
    git(person.work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/more")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12\n"
    revision = person.publish(
        {
            "site.yaml": "kind: Site\n",
            "hosts/node1.yaml": "kind: Host\n",
            "lfs.yaml": pointer,
            "hooks/post-receive": shout,
            ".gitattributes": "*.yaml filter=evil\n",
            ".gitmodules": '[submodule "more"]\n\tpath = vendor/more\n\turl = https://example.org/more.git\n',
            ".github/workflows/ci.yml": "on: push\n",
        }
    )
    await source.fetch()
    for hook in ("reference-transaction", "post-checkout", "pre-auto-gc", "post-rewrite"):
        path = source._mirror.repo / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(shout)
        path.chmod(0o755)
    revision = person.publish({"site.yaml": "kind: Site # again\n"})
    assert (await source.fetch()).revision == revision
    await source.write_note(revision, "seen")
    snapshot = await source.snapshot(revision)
    assert [entry.path for entry in snapshot.blobs] == ["hosts/node1.yaml", "lfs.yaml", "site.yaml"]
    assert {(p.path, p.message.split(",")[0]) for p in snapshot.problems} == {
        *((name, "is a symbolic link") for name in links),
        ("vendor/more", "is a submodule"),
    }
    assert await said(source, revision) == {
        "site.yaml": [{"kind": "Site"}],
        "hosts/node1.yaml": [{"kind": "Host"}],
        "lfs.yaml": "is a Git LFS pointer, not the file: take it out of LFS (git lfs untrack)",
    }
    assert not canary.exists()


async def test_a_large_file_is_a_problem_of_its_own(person: Person, settings: GitSettings) -> None:
    source = GitSource(replace(settings, max_blob_bytes=1000))
    person.publish({"big.yaml": "#" * 1001, "fits.yaml": "#" * 1000})
    assert await said(source, (await source.fetch()).revision) == {
        "fits.yaml": [],
        "big.yaml": "is 1001 bytes long; a manifest file may have 1000: split it",
    }


async def test_too_many_files_are_refused_in_bounded_memory(person: Person, settings: GitSettings) -> None:
    source = GitSource(replace(settings, max_listing_bytes=1000))
    revision = person.publish({f"host{n}.yaml": f"# {n}\n" for n in range(20)})
    await source.fetch()
    with pytest.raises(Stall, match="cannot git ls-tree: the answer is longer than 1000 bytes"):
        await source.snapshot(revision)


async def test_snapshots_leak_nothing(person: Person, source: GitSource) -> None:
    first = person.publish({"a.yaml": "a: 1\n"})
    second = person.publish({"a.yaml": "a: 2\n"})
    await source.fetch()

    async def look(revision: str) -> None:
        await said(source, revision)

    await look(first)
    before = open_files(), children()
    for _ in range(5):
        await look(second)
        await look(first)
    assert (open_files(), children()) == before


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    """Of every thread."""
    return sorted(pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split())
