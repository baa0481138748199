"""What the pages promise about commands and refusals, against a real repository and a real store."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller import app, settings
from controller.cli import cli
from controller.model import Outcome, Record, Ref
from controller.revision import Revisions
from controller.starter import repository
from controller.store import Store

_SETTINGS = """\
[git]
url = "{work}"
allow_local = true
[ssh]
key_file = "id"
[store]
directory = "store"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a controller whose repository holds the example."""
    work = tmp_path / "work"
    for name, text in repository().items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    git(work, "init", "-q", "-b", "main")
    commit(work, "The site as it is")
    path = tmp_path / "jailops.toml"
    path.write_text(_SETTINGS.format(work=work))
    return path


@pytest.fixture
def store(config: Path) -> Iterator[Store]:
    with Store(app.store_path(settings.load(config))) as opened:
        yield opened


def git(work: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *who, *words], cwd=work, check=True, capture_output=True, text=True).stdout.strip()


def commit(work: Path, message: str) -> str:
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", message)
    return git(work, "rev-parse", "HEAD")


def revisions(config: Path, store: Store) -> Revisions:
    loaded = settings.load(config)
    return Revisions(app.source(loaded), store, app._limits(loaded))


async def test_a_refusal_tells_how_to_let_exactly_these_objects_go(config: Path, store: Store) -> None:
    """operating.md: "let exactly these objects go by the id that the refusal prints"."""
    ours = revisions(config, store)
    store.put("revision", (await ours.wanted()).revision)
    for file in (config.parent / "work" / "jails").iterdir():
        file.unlink()
    removing = commit(config.parent / "work", "No jails")
    refused = (await ours.wanted()).refused
    assert len(refused) == 1
    assert refused[0].startswith(f"cannot apply {removing[:12]}: it removes 4 of 10 objects at once, 2 are allowed: ")
    told = re.search(
        r"if this is meant: jailops approve ([0-9a-f]{16}), or push a commit .* Allow-Delete: (\1)\)$", refused[0]
    )
    assert told is not None

    assert CliRunner().invoke(cli, ["approve", told[1], "-c", str(config)]).exit_code == 0
    after = await ours.wanted()
    assert (after.revision, after.refused) == (removing, ())


async def test_a_pass_that_only_waits_is_noted_once(config: Path, store: Store) -> None:
    """operating.md: a disk that waits for its node does so for days."""
    ours = revisions(config, store)
    wanted = await ours.wanted()
    waiting = Outcome(Ref("lun", "jailbox2"), "grow it", "intent", "waiting", "it is attached")
    record = Record(wanted.revision, "A", "B", "interval", 0.0, 0.1, "1 waiting", "progressing", (waiting,))
    for trigger in ("start", "interval", "interval"):
        await ours.applied(wanted, replace(record, trigger=trigger))
    note = git(config.parent / "work", "notes", "--ref=jailops", "show", wanted.revision)
    assert note.count("1 waiting") == 1


def test_wake_has_the_running_controller_look_now(config: Path) -> None:
    """git.md: the post-receive hook types it."""
    woken: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: woken.append(number))
    try:
        with app.only_one(settings.load(config)):
            assert app.holder(settings.load(config)) == os.getpid()
            assert CliRunner().invoke(cli, ["wake", "-c", str(config)]).exit_code == 0
        assert woken == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_wake_says_when_nobody_listens(config: Path) -> None:
    done = CliRunner().invoke(cli, ["wake", "-c", str(config)])
    assert (done.exit_code, done.stderr) == (
        1,
        f"jailops: cannot wake the controller: none of ours works with {config.parent / 'store'}\n",
    )


def test_a_revision_that_is_not_there_is_wrong_usage(config: Path) -> None:
    """commands.md, of check: "2: usage"."""
    done = CliRunner().invoke(cli, ["check", "0123abc", "-c", str(config)])
    assert (done.exit_code, done.stdout) == (2, "")
    missing = (
        f"no such directory, and no such revision: cannot find '0123abc' in the mirror of {config.parent / 'work'}"
    )
    assert done.stderr == f"jailops: cannot check 0123abc: {missing}\n  what you can do: is it pushed to this branch?\n"
    assert CliRunner().invoke(cli, ["check", "HEAD", "-c", str(config)]).exit_code == 0
