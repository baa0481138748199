"""A TCP proxy on loopback that lets through exactly as many bytes of one direction as it is told, and then cuts or holds."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from controller.transport import Endpoint

Way: TypeAlias = Literal["there", "back"]
How: TypeAlias = Literal["reset", "close", "nothing"]
"""RST to both ends; FIN to both; or both stay open and nothing comes through any more."""


@dataclass(frozen=True)
class Cut:
    way: Way
    after: int
    how: How


class Proxy:
    """Made by `proxy`. Counts what went through."""

    def __init__(self, port: int, cut: Cut | None) -> None:
        self._port = port
        self._cut = cut
        self._flows = asyncio.Event()
        self._flows.set()
        self._ends: list[asyncio.StreamWriter] = []
        self.pumps: list[asyncio.Task[None]] = []
        self.passed: Counter[Way] = Counter()
        self.reached = asyncio.Event()
        """The cut was made."""

    def cut(self, cut: Cut) -> None:
        """The next one, for connections that come from now on; counted from the beginning of all."""
        self._cut = cut
        self._flows.set()

    def go_on(self) -> None:
        """Let what was held back through."""
        self._cut = None
        self._flows.set()

    def abort(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):  # closed already
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends += [writer, far_writer]
        self.pumps += [
            asyncio.create_task(self._pump("there", reader, far_writer)),
            asyncio.create_task(self._pump("back", far_reader, writer)),
        ]

    async def _pump(self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                room = 65536
                if self._cut is not None and self._cut.way == way:
                    room = min(room, self._cut.after - self.passed[way])
                if not room:
                    self._make(self._cut)
                    room = 65536
                await self._flows.wait()
                data = await source.read(room)
                await self._flows.wait()
                if not data:
                    break
                sink.write(data)
                await sink.drain()
                self.passed[way] += len(data)
        sink.close()

    def _make(self, cut: Cut | None) -> None:
        self._cut = None
        self.reached.set()
        match cut:
            case Cut(how="reset"):
                self.abort()
            case Cut(how="close"):
                for end in self._ends:
                    end.close()
            case Cut(how="nothing"):
                self._flows.clear()


@contextlib.asynccontextmanager
async def proxy(endpoint: Endpoint, cut: Cut | None = None) -> AsyncIterator[tuple[Proxy, Endpoint]]:
    """A proxy before a machine, and the machine as it is reached through it."""
    it = Proxy(endpoint.port, cut)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    try:
        yield it, dataclasses.replace(endpoint, connect_port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        it.go_on()
        it.abort()
        await server.wait_closed()
        await asyncio.gather(*it.pumps)
