"""The process that reads Git objects and YAML: what it cannot do, how it may end, and that nobody else reads them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from controller.errors import Stall
from controller.model import Record
from controller.reader import wire, yamltree
from controller.removal import Limits
from controller.revision import Revisions
from controller.source import GitSettings, GitSource, reading
from controller.source.child import Limits as ChildLimits
from controller.source.child import run
from controller.starter import write_site
from controller.store import Store
from controller.trees import Trees
from tests.manifests.test_manifest_yaml import BOMBS
from tests.source.remotes import Person, git, processes_naming, said

MEBIBYTE = 2**20


# ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(alphabet="ab: -[]{}\n'\"#&*!|>?,%@\té\u2028", max_size=200))
@hypothesis_settings(max_examples=300, deadline=None)
def test_what_was_read_comes_over_whole(text: str) -> None:
    there = yamltree.read("f.yaml", text.encode())
    assert wire.read(wire.line(there), "f.yaml") == there


def test_manifests_come_over_whole() -> None:
    for path in Path("examples").rglob("*.yaml"):
        there = yamltree.read(str(path), path.read_bytes())
        assert there.documents
        assert wire.read(wire.line(there), str(path)) == there


NONSENSE = (
    "",
    "[]",
    "null",
    "{}",
    "{",
    '{"unreadable": 1}',
    '{"unreadable": "x", "lost": true}',
    '{"documents": {}, "problems": [], "lost": 0}',
    '{"documents": [["a", [1, 1, 1], true]], "problems": [], "lost": false}',
    '{"documents": [["a", [1, 1, 1, 1, 1], true]], "problems": [], "lost": false}',
    '{"documents": [["a", [1, 1, 1, true], true]], "problems": [], "lost": false}',
    '{"documents": [["a", [1, 1, 1, 0], true]], "problems": [], "lost": false}',
    '{"documents": [[7, [1, 1, 1, 1], true]], "problems": [], "lost": false}',
    '{"documents": [["a", [1, 1, 1, 1]]], "problems": [], "lost": false}',
    '{"documents": [], "problems": [[1, 1, "x"]], "lost": false}',
    '{"documents": [], "problems": [[1, 1, "x", null]], "lost": false}',
    '{"documents": ' + "[" * 50_000,
    '{"documents": ' + "[" * 50_000 + "]" * 50_000 + ', "problems": [], "lost": false}',
    json.dumps(
        {"documents": [[[[[[[[[[[[[[[[[[[[[[["a"]]]]]]]]]]]]]]]]]]]]], [1] * 100, True]], "problems": [], "lost": False}
    ),
)


@pytest.mark.parametrize("text", NONSENSE, ids=range(len(NONSENSE)))
def test_what_was_not_agreed_on_is_not_believed(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        wire.read(text, "f.yaml")


# ── what it cannot do ────────────────────────────────────────────────────────────────────────────────────────────────

ATTEMPTS = """
import os, socket, sys
from controller.reader.__main__ import lock_down
key = sys.argv[1]
assert open(key).read() == "a key"
lock_down()
def tried(act):
    try: act()
    except OSError as error: return error.strerror
    return "done"
print(tried(lambda: open(key)), tried(socket.socket), tried(os.pipe), sep="; ", flush=True)
os.execv("/bin/cat", ["cat", key])
"""


def test_nothing_can_be_opened_once_it_parses(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a key")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ATTEMPTS, str(tmp_path / "key")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "Too many open files; Too many open files; Too many open files\n", done.stderr
    assert "cannot open shared object file" in done.stderr, "not even another program"


async def test_there_is_no_network_but_its_own_loopback() -> None:
    done = await run(
        ("cat", "/proc/net/dev"), {"PATH": os.environ["PATH"]}, ChildLimits(0, 2**30), deadline=20, alone=True
    )
    assert [line.split(":")[0].strip() for line in done.text.splitlines()[2:]] == ["lo"]


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Something else in the reader's place."""
    path = tmp_path / "stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


async def test_it_is_told_of_no_key_and_no_token(
    person: Person, settings: GitSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    revision = person.publish({"site.yaml": "kind: Site\n"})
    source = GitSource(settings)
    await source.fetch()
    stand_in(tmp_path, monkeypatch, f"(env; echo \"$@\"; cat) > {tmp_path}/told; echo '{{}}'")
    with pytest.raises(Stall):
        await said(source, revision)
    *names, _, asked = (tmp_path / "told").read_text().splitlines()
    assert sorted(
        one.partition("=")[0] for one in names if not one.startswith(("PWD", "OLDPWD", "_=", "SHLVL"))
    ) == sorted([*reading._ENV, "GIT_DIR", "GIT_OBJECT_DIRECTORY"])
    assert json.loads(asked).keys() == {"repo", "ids", "limit"}


# ── how it may end ───────────────────────────────────────────────────────────────────────────────────────────────────

ENDS = {
    "crash": ("kill -SEGV $$", "it ended with signal 11"),
    "killed": ("kill -KILL $$", "it ended with signal 9"),
    "status": ("echo MemoryError >&2; exit 1", "it ended with status 1 (MemoryError)"),
    "silence": ("exit 0", "it answered what nobody understands"),
    "nonsense": ("echo '[1, 2]'", "it answered what nobody understands"),
    "flood": ("exec yes", "there is more in it than manifests can hold"),
    "hang": ("exec cat /dev/zero", "it was not done after 1 s"),
}


class Site:
    """The example as a repository with a controller before it."""

    def __init__(self, base: Path) -> None:
        write_site(base / "site")
        self.work = base / "site" / "repo"
        self.mirror = base / "mirror"
        git(self.work, "init", "--quiet", "--initial-branch=main")
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--message", "The site")
        self.store = Store(base / "jailops.sqlite")
        settings = GitSettings(url=str(self.work), mirror=self.mirror, allow_local=True)
        self.revisions = Revisions(GitSource(settings), self.store, Limits(2, 10.0, 10, frozenset()), notes=False)

    def push(self, text: str) -> str:
        with (self.work / "site.yaml").open("a") as file:
            file.write(text)
        git(self.work, "commit", "--quiet", "--all", "--message", "More")
        return git(self.work, "rev-parse", "HEAD")

    async def look(self) -> tuple[str, tuple[str, ...]]:
        wanted = await self.revisions.wanted()
        await self.revisions.applied(wanted, Record(wanted.revision, "", "", "push", 0.0, 0.0, "", "converged", ()))
        return wanted.revision, wanted.refused


@pytest.mark.parametrize("how", ENDS)
async def test_M1_a_reader_that_does_not_come_back_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The last good revision stays in force, the same is not read again at once, and the next revision is read as ever."""
    site = Site(tmp_path)
    good, _ = await site.look()
    bad = site.push("# more\n")
    script, says = ENDS[how]
    if how == "hang":
        monkeypatch.setattr(reading, "_DEADLINE", 1.0)
        script = "exec sleep 300"
    with monkeypatch.context() as patched:
        stand_in(tmp_path, patched, f"echo >> {tmp_path}/asked; {script}")
        for _ in range(2):
            revision, refused = await site.look()
            assert revision == good
            assert refused[0].startswith(
                "cannot read the files of this revision: the process that reads them was asked, and "
            )
            assert says in refused[0]
    assert (tmp_path / "asked").read_text() == "\n"
    assert site.store.get("revision") == good != bad
    assert processes_naming(str(tmp_path / "stand-in")) == []
    assert await site.look() == (good, refused)
    monkeypatch.setattr(reading, "_DEADLINE", 60.0)
    better = site.push("# and more\n")
    assert await site.look() == (better, ())


async def test_a_pass_without_changes_has_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    first = await site.look()
    stand_in(tmp_path, monkeypatch, f"echo >> {tmp_path}/asked; exit 1")
    for _ in range(3):
        assert await site.look() == first
    assert not (tmp_path / "asked").exists()


# ── what it may use ──────────────────────────────────────────────────────────────────────────────────────────────────


MEASURED = """
import sys
from controller.reader.__main__ import main
status = open("/proc/self/status")
main()
print(status.read(), file=sys.stderr)
"""


def test_M1_memory_of_every_bomb_at_once(person: Person) -> None:
    """All of them in one revision, read by the process that reads revisions."""
    person.commit({f"{name.replace(' ', '-')}.yaml": data for name, data in BOMBS.items()})
    listing = git(person.work, "ls-tree", "-r", "HEAD").splitlines()
    ids = [line.split()[2] for line in listing]
    assert len(ids) == len(BOMBS)
    asked = json.dumps({"repo": str(person.work / ".git"), "ids": ids, "limit": 256 * 1024}).encode()
    env = {**reading._ENV, "GIT_DIR": str(person.work / ".git")}
    done = subprocess.run([sys.executable, "-I", "-c", MEASURED], env=env, input=asked, capture_output=True, check=True)
    answers = [wire.read(one, "f.yaml") for one in done.stdout.decode().splitlines()]
    assert len(answers) == len(ids)
    assert all(isinstance(one, Trees) and (one.problems or one.documents) for one in answers)
    peak = re.search(rb"VmHWM:\s+(\d+) kB", done.stderr)
    assert peak
    assert int(peak[1]) * 1024 < 200 * MEBIBYTE


# ── who reads ────────────────────────────────────────────────────────────────────────────────────────────────────────

ACTING = """
import asyncio, sys
from pathlib import Path
from controller import app, settings
async def main():
    async with app.build(settings.load(Path(sys.argv[1]))) as built:
        record = await app.once(built, "test")
        print(len(record.statuses))
        assert record.statuses
asyncio.run(main())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"git", "gitdb", "yaml", "_yaml", "asyncssh"}))
"""
MACHINES = ("san", "build-vm", "boot-server", "disklessfreebsdbox", "jailbox2")
SETTINGS = """
[git]
url = "{work}"
allow_local = true
notes = false
[ssh]
key_file = "{key}"
look_timeout = 2
via = {{ {via} }}
[store]
directory = "store"
[secrets]
directory = "."
"""


def test_the_process_that_holds_the_key_imports_neither_git_nor_yaml(tmp_path: Path) -> None:
    """A whole pass of the real parts, over machines that refuse."""
    site = Site(tmp_path)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "jailops.toml").write_text(
        SETTINGS.format(work=site.work, key=key, via=", ".join(f'{one} = "127.0.0.1:1"' for one in MACHINES))
    )
    done = subprocess.run(
        [sys.executable, "-c", ACTING, str(tmp_path / "jailops.toml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['asyncssh']"


async def test_G6_too_much_altogether_is_not_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    good, _ = await site.look()
    (site.work / "more").mkdir()
    for number in range(70):
        (site.work / "more" / f"{number}.yaml").write_text(f"# {number}\n" + "#" * 250_000)
    git(site.work, "add", "--all")
    site.push("# more\n")
    stand_in(tmp_path, monkeypatch, f"echo >> {tmp_path}/asked")
    revision, refused = await site.look()
    assert revision == good
    assert re.search(r"bytes of manifests, 2500\d\d of them here, expected at most 16 MiB altogether", refused[0])
    assert not (tmp_path / "asked").exists()
