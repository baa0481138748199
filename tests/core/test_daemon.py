"""The real daemon as a process, with machines that refuse every connection: what wakes it, and what it logs as JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.core.daemons import Daemon, prepare, started


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    prepare(tmp_path)
    async with started(tmp_path) as daemon:
        yield daemon


async def test_a_signal_is_a_pass_at_once_and_every_line_is_json(daemon: Daemon, tmp_path: Path) -> None:
    assert (await daemon.says("pass"))["trigger"] == "start"
    assert [await asyncio.to_thread(daemon.page, path) for path in ("/healthz", "/readyz")] == ["ok\n", "ok\n"]
    daemon.process.send_signal(signal.SIGHUP)
    woken = await daemon.says("pass")
    assert woken["trigger"] == "signal"
    assert woken["said"].startswith("held: nothing to do, ")

    await asyncio.to_thread(daemon.nonsense)
    shutil.rmtree(tmp_path / "work")
    daemon.process.send_signal(signal.SIGHUP)
    git = await daemon.says("git")
    assert (git["level"], git["problem"].startswith("cannot fetch main from ")) == ("warning", True)
    assert (await daemon.says("pass"))["trigger"] == "signal"

    assert await daemon.end() == 0
    lines = [json.loads(line) for line in daemon.lines]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert [line["event"] for line in lines if line.get("logger") == "uvicorn.error"] == [
        "Invalid HTTP request received."
    ]
