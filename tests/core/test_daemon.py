"""The real daemon as a process, with machines that refuse every connection: what wakes it, and what it logs as JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from tests.core.daemons import Daemon, again, prepare, started


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


async def requests(port: int, number: int) -> int:
    """Ask for the metrics on one connection, as fast as it is answered. The bytes of it all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = 0
    for _ in range(number):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: jailops\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        got += len(await reader.readexactly(length))
    writer.close()
    return got


async def endless(port: int) -> bytes:
    """A head without end; what is said before the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\n")
    said = b""
    with suppress(ConnectionError):
        for _ in range(1000):
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()
        writer.write_eof()
    with suppress(ConnectionError):
        said = await reader.read()
    writer.close()
    return said


async def test_C9_a_flood_delays_no_pass_and_a_refused_manifest_makes_no_line(daemon: Daemon, tmp_path: Path) -> None:
    await daemon.says("pass")
    file = tmp_path / "work" / "site.yaml"
    huge = "x" * 5000
    file.write_text(f"{file.read_text()}---\napiVersion: jailops/v1\nkind: Jail\nmetadata:\n  name: {huge}\n")
    again(tmp_path / "work")
    flood = [asyncio.create_task(requests(daemon.port, 50)) for _ in range(20)]
    daemon.process.send_signal(signal.SIGHUP)
    refused = await daemon.says("pass")
    assert "revision refused: " in refused["said"]
    assert all(await asyncio.gather(*flood))
    assert {(await endless(daemon.port))[:12] for _ in range(3)} <= {b"HTTP/1.1 400", b""}
    assert huge[:200] not in await daemon.shows("jailops_revision_refused 1.0\n")
    assert await daemon.end() == 0


async def test_C9_more_connections_than_are_good_are_refused(daemon: Daemon) -> None:
    await daemon.says("pass")
    silent = [await asyncio.open_connection("127.0.0.1", daemon.port) for _ in range(120)]
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: jailops\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 503")
    daemon.process.send_signal(signal.SIGHUP)
    assert (await daemon.says("pass"))["trigger"] == "signal"
    for _, one in (*silent, (reader, writer)):
        one.close()
    await daemon.shows("jailops_build_info")
    assert await daemon.end() == 0


@dataclass
class Silent:
    """Takes every connection and never says a word."""

    port: int
    called: asyncio.Event


@pytest_asyncio.fixture
async def silent() -> AsyncIterator[Silent]:
    called, over = asyncio.Event(), asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield Silent(server.sockets[0].getsockname()[1], called)
        over.set()


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def test_C11_a_stop_while_a_fetch_hangs(tmp_path: Path, silent: Silent) -> None:
    """systemd gives it ten seconds; here its end is waited for, and what it started must have gone with it."""
    prepare(tmp_path)
    async with started(tmp_path, url=f"https://127.0.0.1:{silent.port}/site.git") as daemon:
        await asyncio.wait_for(silent.called.wait(), 60)
        git = children(daemon.process.pid)
        assert git
        assert await daemon.end() == 0
        assert alive(git) == []
        assert "stopped in the middle of a pass" in "".join(daemon.lines)


async def test_C11_a_stop_while_a_look_hangs(tmp_path: Path, silent: Silent) -> None:
    prepare(tmp_path)
    async with started(tmp_path, machines=silent.port) as daemon:
        await asyncio.wait_for(silent.called.wait(), 60)
        assert await daemon.end() == 0
        assert "stopped in the middle of a pass" in "".join(daemon.lines)
    async with started(tmp_path) as daemon:
        assert (await daemon.says("pass"))["trigger"] == "start", "the lock is free and the store is whole"
        assert await daemon.end() == 0


CHILD = """
import os, subprocess, sys
from ctypes import CDLL
from resource import RLIMIT_CORE, getrlimit
from controller.memory import shut, taken
shut()
assert (getrlimit(RLIMIT_CORE), CDLL(None).prctl(3, 0, 0, 0, 0)) == ((0, 0), 0)
with taken(os.environ, "JAILOPS_SECRET_") as variables:
    assert dict(variables) == {"JAILOPS_SECRET_A": "hunter2"}
    child = subprocess.run(["/bin/sh", "-c", "env; ulimit -c"], capture_output=True, text=True, check=True).stdout
assert "hunter2" not in child and child.endswith("\\n0\\n"), child
assert os.environ["JAILOPS_SECRET_A"] == "hunter2"
"""


def test_C8_no_dump_and_no_secret_in_a_childs_environment() -> None:
    environment = {"PATH": "/usr/bin:/bin", "JAILOPS_SECRET_A": "hunter2"}
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


async def test_C8_the_daemon_leaves_no_core(daemon: Daemon) -> None:
    await daemon.says("pass")
    limits = (await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/limits").read_text)).splitlines()
    assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]
    assert await daemon.end() == 0
