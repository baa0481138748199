"""Whole passes, many times: the memory, the open files, the tasks and the children of a controller stay as they were.

The sample of every test run is short; `make soak` makes 10,000 of them, and says what it measured.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from time import time_ns

import pytest
from prometheus_client import generate_latest

from controller import app, settings
from tests.core.daemons import MACHINES, SETTINGS, again, prepare

PASSES = int(os.environ.get("JAILOPS_PASSES", "150"))
BYTES = 8_000
"""A pass may leave behind so much at most: with one every 30 seconds that is a megabyte an hour."""
NOISE = 3_000_000
"""Bytes by which the memory of a process is more or less from one moment to the next."""


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    objects: int
    files: int
    tasks: int
    children: int
    resident: int

    @staticmethod
    def now() -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return Held(
            len(gc.get_objects()),
            len(os.listdir("/proc/self/fd")),
            len(asyncio.all_tasks()),
            len(children),
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


def push(work: Path) -> None:
    """Another revision: one file is another one."""
    file = work / "site.yaml"
    file.write_text(f"{file.read_text().partition('# soak')[0]}# soak {time_ns()}\n")
    again(work)


@pytest.mark.timeout(max(120, PASSES))
async def test_C6_passes_leave_nothing_behind(tmp_path: Path) -> None:
    """Git, store, refused connections, statuses and metrics are the real ones; every third pass brings a commit."""
    prepare(tmp_path)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        via = ", ".join(f'"{name}" = "127.0.0.1:{deaf.getsockname()[1]}"' for name in MACHINES)
        text = SETTINGS.format(work=tmp_path / "work", via=via, port=1, interval=1.0)
        (tmp_path / "jailops.toml").write_text(text)
        loaded = settings.load(tmp_path / "jailops.toml")
        with app.only_one(loaded):
            async with app.build(loaded, patience=1.0) as built:

                async def passes(number: int) -> None:
                    for nth in range(number):
                        if nth % 3 == 0:
                            push(tmp_path / "work")
                        record = await app.once(built, "soak")
                        assert record.result == "held"
                        generate_latest(built.metrics.registry)

                warm = PASSES // 2
                await passes(warm)
                before = Held.now()
                await passes(PASSES - warm)
                after = Held.now()
    print(f"\n{PASSES} passes, after {warm}: {before}\nat the end: {after}")
    made = PASSES - warm
    assert (after.files, after.tasks, after.children) == (before.files, before.tasks, before.children)
    assert after.objects - before.objects < 200 + made // 4
    assert after.resident - before.resident < NOISE + made * BYTES
