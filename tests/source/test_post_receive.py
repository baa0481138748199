"""The hook that wakes the controller, installed in a real bare repository and set off by real pushes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from controller.source import GitSource
from tests.source.remotes import Person, git

HOOK = Path(__file__).parents[2] / "deploy" / "post-receive"


@pytest.fixture
def wakes(person: Person, tmp_path: Path) -> Callable[[], int]:
    """Install the hook with a wake command that leaves a line each time; return how to count them."""
    record = tmp_path / "wakes"
    record.touch()
    hook = person.remote / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(HOOK, hook)
    git(person.remote, "config", "jailops.wake", f"echo woken >> {record}")
    return lambda: len(record.read_text().splitlines())


def wait_for(condition: Callable[[], bool]) -> None:
    until = monotonic() + 10
    while not condition():
        assert monotonic() < until, "it did not happen"
        sleep(0.01)


def test_a_push_wakes(person: Person, wakes: Callable[[], int]) -> None:
    person.publish({"site.yaml": "kind: Site\n"})
    wait_for(lambda: wakes() == 1)


async def test_notes_of_jailops_wake_nobody(person: Person, source: GitSource, wakes: Callable[[], int]) -> None:
    revision = person.publish({})
    await asyncio.to_thread(wait_for, lambda: wakes() == 1)
    await source.fetch()
    assert (await source.write_note(revision, "pass 1")).pushed
    person.publish({}, "next")
    await asyncio.to_thread(wait_for, lambda: wakes() >= 2)
    assert wakes() == 2


def test_a_wake_that_hangs_or_fails_does_not_disturb_the_push(
    person: Person, wakes: Callable[[], int], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    git(person.remote, "config", "jailops.wake", f"echo $$ > {pid}; exec sleep 600")
    person.publish({})  # waiting for it would outlast this test's limit
    wait_for(lambda: pid.exists() and pid.read_text().strip() != "")
    os.kill(int(pid.read_text()), 15)
    git(person.remote, "config", "jailops.wake", "exit 7")
    person.publish({}, "next")
    assert wakes() == 0


def test_an_empty_command_switches_it_off(person: Person, wakes: Callable[[], int]) -> None:
    git(person.remote, "config", "jailops.wake", "")
    person.publish({})
    assert wakes() == 0


def test_without_configuration_it_reloads_the_service(person: Person, wakes: Callable[[], int], tmp_path: Path) -> None:
    """With a stand-in for systemctl first in PATH."""
    git(person.remote, "config", "--unset", "jailops.wake")
    record = tmp_path / "asked"
    command = tmp_path / "bin" / "systemctl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$*" > {record}.new && mv {record}.new {record}\n')
    command.chmod(0o755)
    hook = person.remote / "hooks" / "post-receive"
    hook.write_text(hook.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\nPATH={command.parent}:$PATH\n", 1))
    person.publish({})
    wait_for(record.exists)
    assert record.read_text() == "reload jailops.service\n"
    assert wakes() == 0
