"""The real daemon as a process, with machines that refuse every connection: what wakes it, and what it logs as JSON."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest_asyncio

from controller.starter import repository

SETTINGS = """\
[git]
url = "{work}"
allow_local = true
[ssh]
key_file = "id_ed25519"
via = {{ {via} }}
[secrets]
directory = "secrets"
[store]
directory = "store"
[schedule]
interval = 3600.0
[web]
listen = "127.0.0.1:{port}"
[log]
format = "json"
"""
MACHINES = ("build-vm", "san", "boot-server", "disklessfreebsdbox", "jailbox2")
SOON = 60.0
"""Seconds, on a busy machine: far less than the interval, so a pass within them was woken."""


class Daemon:
    """The process, and every line that it wrote."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.lines: list[str] = []

    async def says(self, event: str) -> Any:
        """The next line about an event, parsed. Lines in between are kept, too."""
        assert self.process.stderr
        while text := (await asyncio.wait_for(self.process.stderr.readline(), SOON)).decode():
            self.lines.append(text)
            with suppress(ValueError):
                line = json.loads(text)
                if line["event"] == event:
                    return line
        raise AssertionError(f"it ended without {event}:\n{''.join(self.lines)}")

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def nonsense(self) -> None:
        """Send what is no HTTP: uvicorn says so through Python's own logger. Returns when it has answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            while connection.recv(4096):
                pass

    async def end(self) -> int:
        assert self.process.stderr
        self.process.send_signal(signal.SIGTERM)
        self.lines += (await asyncio.wait_for(self.process.stderr.read(), SOON)).decode().splitlines()
        return await self.process.wait()


def commit(work: Path) -> None:
    """A repository with the example."""
    for name, text in repository().items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*who, "commit", "-q", "-m", "The site")):
        subprocess.run(["git", *words], cwd=work, check=True)


@pytest_asyncio.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """With the example's manifests; its machines lie behind a port that is taken and never answers."""
    work = tmp_path / "work"
    commit(work)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id_ed25519")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        via = ", ".join(f'"{name}" = "127.0.0.1:{deaf.getsockname()[1]}"' for name in MACHINES)
        (tmp_path / "jailops.toml").write_text(SETTINGS.format(work=work, via=via, port=port))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller", "run", "--config", str(tmp_path / "jailops.toml")),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield Daemon(process, port)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


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
