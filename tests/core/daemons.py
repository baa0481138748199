"""A real daemon as a process, with machines that refuse every connection, and every line that it writes as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh

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
interval = {interval}
jitter = 0.0
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

    def __init__(self, directory: Path, process: asyncio.subprocess.Process, port: int) -> None:
        self.directory = directory
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
        """What a page says, whatever its status is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as answer:
            return str(answer.read().decode())

    async def asked(self, path: str) -> str:
        return await asyncio.to_thread(self.page, path)

    async def shows(self, line: str) -> str:
        """The metrics with a line that they will have: a page is up to a second old."""
        while line not in (page := await self.asked("/metrics")):
            pass
        return page

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command with the daemon's settings."""
        words = (sys.executable, "-m", "controller", *words, "--config", str(self.directory / "jailops.toml"))
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    @property
    def database(self) -> Path:
        return self.directory / "store" / "jailops.sqlite"

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


def again(work: Path) -> None:
    """Another commit, of all that was changed."""
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, "commit", "-q", "-a", "-m", "Another"], cwd=work, check=True)


def prepare(directory: Path) -> None:
    """A repository and a key, to start a daemon with."""
    commit(directory / "work")
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(directory / "id_ed25519")


@asynccontextmanager
async def started(
    directory: Path,
    *,
    under: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    interval: float = 3600.0,
    url: str = "",
    machines: int = 0,
) -> AsyncIterator[Daemon]:
    """With the example's manifests, or those at `url`; its machines lie behind the port `machines`, or behind one that is
    taken and refuses everybody. `under`: what runs it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        via = ", ".join(f'"{name}" = "127.0.0.1:{machines or deaf.getsockname()[1]}"' for name in MACHINES)
        text = SETTINGS.format(work=url or directory / "work", via=via, port=port, interval=interval)
        (directory / "jailops.toml").write_text(text)
        process = await asyncio.create_subprocess_exec(
            *(*under, sys.executable, "-m", "controller", "run", "--config", str(directory / "jailops.toml")),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        try:
            yield Daemon(directory, process, port)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
