"""A BMC for a simulated machine: IPMI on loopback, whose power button is the site's.

In: who may log in, and what reads and switches the power. Out: a UDP port on 127.0.0.1 that real IPMI clients talk to. The
protocol is pyghmi's, whose servers live as long as their process: each BMC is a child, which asks its parent by lines
(``status``, ``off``, ``on``) and reads the power as one. An unkind BMC is a parent that answers otherwise, late, or never.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

ADDRESS: Final = "127.0.0.1"
HMAC_SHA1: Final = 1
NO_CIPHER_SUITE: Final = 0x11
"""Numbers of IPMI 2.0, tables 13-17 and 13-15."""


class Switch(Protocol):
    """What a BMC does to its machine."""

    async def status(self) -> str:
        """ "on" or "off"."""

    async def off(self) -> None:
        """Pull the plug; may end later."""

    async def on(self) -> None:
        """Press the button; may end later."""


@dataclass(slots=True)
class Bmc:
    """`async with Bmc(switch, user, password) as bmc`: it answers at `bmc.port` until the end."""

    switch: Switch
    user: str = "jailops"
    password: str = "simulated"
    port: int = 0
    _process: Process | None = None
    _serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", __file__, stdin=PIPE, stdout=PIPE, cwd="/", start_new_session=True
        )
        assert self._process.stdout
        await self._tell(json.dumps({"user": self.user, "password": self.password, "address": ADDRESS}))
        self.port = int(await self._process.stdout.readline())
        self._serving = asyncio.create_task(self._serve(), name=f"bmc {self.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._serving
        assert self._process
        self._serving.cancel()
        with suppress(asyncio.CancelledError):
            await self._serving
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()

    async def _serve(self) -> None:
        assert self._process
        assert self._process.stdout
        async for line in self._process.stdout:
            asked = line.decode().strip()
            if asked == "off":
                await self.switch.off()
            elif asked == "on":
                await self.switch.on()
            await self._tell(await self.switch.status())

    async def _tell(self, text: str) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{text}\n".encode())
        await self._process.stdin.drain()


def main() -> None:
    """The child."""
    from pyghmi.ipmi.bmc import Bmc as Library
    from pyghmi.ipmi.private.serversession import ServerSession

    accept = ServerSession.create_open_session_response

    def answer(session: Any, request: bytearray) -> bytearray:
        """The library's server speaks cipher suite 3 whatever was proposed; a BMC refuses what it does not speak."""
        if request[12] == HMAC_SHA1:
            accepted: bytearray = accept(session, request)
            return accepted
        session.clientsessionid = request[4:8]
        return bytearray([request[0], NO_CIPHER_SUITE, 0, 0]) + request[4:8]

    ServerSession.create_open_session_response = answer

    def ask(what: str) -> str:
        sys.stdout.write(f"{what}\n")
        sys.stdout.flush()
        return sys.stdin.readline().strip() or sys.exit()

    class Server(Library):  # type: ignore[misc]
        def get_power_state(self) -> str:
            return ask("status")

        def power_off(self) -> None:
            ask("off")

        def power_on(self) -> None:
            ask("on")

    told = json.loads(sys.stdin.readline())
    server = Server({told["user"]: told["password"]}, port=0, address=told["address"])
    server.port = server.serversocket.getsockname()[1]
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.listen()


Wake = Callable[[], None]


class Card(asyncio.DatagramProtocol):
    """A network card that waits for its magic packet: six times 0xff and sixteen times its MAC address."""

    def __init__(self, mac: str, wake: Wake) -> None:
        self._magic = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16
        self._wake = wake

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        if self._magic in data:
            self._wake()


if __name__ == "__main__":
    main()
