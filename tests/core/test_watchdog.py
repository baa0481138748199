"""What systemd is told, on a real socket: that it has begun, that passes go on, and that it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from controller.watchdog import tell


class Systemd:
    """Its end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    async def hears(self) -> str:
        return (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 100), 30)).decode()

    def drained(self) -> list[bytes]:
        """What was said and not heard yet."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(100))
        return found


@pytest_asyncio.fixture(params=["path", "abstract"])
async def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Systemd]:
    found = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@jailops-test{tmp_path.name}")
    yield found
    found.socket.close()


async def test_C7_a_hung_controller_falls_silent(systemd: Systemd) -> None:
    alive, stop = asyncio.Event(), asyncio.Event()
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "20000"}
    asked = asyncio.Semaphore(0)

    def going() -> bool:
        asked.release()
        return alive.is_set()

    task = asyncio.create_task(tell(going, stop, environ))
    assert await systemd.hears() == "READY=1"
    alive.set()
    assert [await systemd.hears() for _ in range(3)] == ["WATCHDOG=1"] * 3
    alive.clear()
    systemd.drained()
    while not asked.locked():
        await asked.acquire()
    for _ in range(10):
        await asyncio.wait_for(asked.acquire(), 30)
    assert systemd.drained() == []
    stop.set()
    assert await systemd.hears() == "STOPPING=1"
    await task


async def test_without_a_watchdog_it_only_begins_and_ends(systemd: Systemd) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(tell(lambda: True, stop, {"NOTIFY_SOCKET": systemd.address}))
    assert await systemd.hears() == "READY=1"
    stop.set()
    assert await systemd.hears() == "STOPPING=1"
    await task


async def test_nobody_is_told_where_nobody_asks() -> None:
    await tell(lambda: True, asyncio.Event(), {})


async def test_who_does_not_listen_ends_nothing(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    await tell(lambda: True, stop, {"NOTIFY_SOCKET": str(tmp_path / "gone")})
