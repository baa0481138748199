"""`jailops demo` as somebody types it: the whole story comes true, and however it ends, nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.demo.story import _CHAPTERS
from tests.faults.play import PATIENCE
from tests.lab import reaper

pytestmark = pytest.mark.timeout(PATIENCE)

ROOT = Path(__file__).parents[2]


class Demo:
    """The demo in a home of its own, started by a process that inherits whatever it leaves."""

    def __init__(self, base: Path) -> None:
        self.home, self.temporary, self.ready = base / "home", base / "tmp", base / "ready"
        self.home.mkdir()
        self.temporary.mkdir()

    @asynccontextmanager
    async def played(self, sign: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """It is sent the signal as soon as the file `ready` is there; while it is not, it goes on to its end."""
        command = [sys.executable, "-m", "controller", "demo", *words]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, reaper.__file__, sign, str(self.ready), "0", *command),
            cwd=self.home,
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            self.ready.touch()
            await process.wait()

    def left(self) -> list[str]:
        """Files and mounts that it left."""
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.temporary) in line]
        return [*map(str, self.temporary.iterdir()), *map(str, self.home.iterdir()), *mounts]


async def test_the_story_is_told_and_true(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    async with demo.played("SIGTERM", "--script") as process:
        left, said = (text.decode() for text in await process.communicate())
    lines = said.splitlines()
    assert lines[-1] == "exit status 0", said
    titles = [title for title, _ in _CHAPTERS]
    assert len(titles) == 8
    assert [line for line in lines if line in titles] == titles
    assert sum(line.startswith("  true after ") for line in lines) == len(titles)
    assert lines[-2].startswith("Every step was verified on the machines themselves, ")
    assert (left, demo.left()) == ("", [])


@pytest.mark.parametrize(("sign", "status", "word"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
async def test_it_is_ended_in_the_middle(tmp_path: Path, sign: str, status: int, word: str) -> None:
    demo = Demo(tmp_path)
    async with demo.played(sign, "--script") as process, asyncio.timeout(PATIENCE):
        while not list(demo.temporary.glob("*/store/jailops.sqlite")):
            assert process.returncode is None
            await asyncio.sleep(0.02)
        demo.ready.touch()
        left, said = (text.decode() for text in await process.communicate())
    assert said.splitlines()[-2:] == [word, f"exit status {status}"], said
    assert "Traceback" not in said
    assert (left, demo.left()) == ("", [])
