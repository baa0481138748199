"""All machines, by name: the only way in which jailops asks or changes anything on them.

In: POSIX sh scripts made by `controller.encode`. Out: an `Answer` for each whose end was seen, otherwise an error of
ours: `Retry` and `Stall` mean that nothing was sent, `Indeterminate` that it was. Machines and lanes do not wait for
each other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from controller.errors import Indeterminate, Stall
from controller.model import Answer, Lane
from controller.transport import fence as fences
from controller.transport.breaker import LONGEST_SECONDS
from controller.transport.endpoint import Endpoint
from controller.transport.fence import Fence
from controller.transport.frames import OUTPUT_CAP, Reply
from controller.transport.link import Link

STATE_DIR: Final = "/var/run/jailops"


class Fleet:
    """Connections to machines, opened when first needed. Use it as an async context manager."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        output_cap: int = OUTPUT_CAP,
        state_dir: str = STATE_DIR,
        clock: Callable[[], float] = time.monotonic,
        longest_pause: float = LONGEST_SECONDS,
    ) -> None:
        self._cap = output_cap
        self._state_dir = state_dir
        self._clock = clock
        self._longest_pause = longest_pause
        self._links: dict[str, Link] = {}
        self._leaving: list[Link] = []
        self.exchanges: Counter[str] = Counter()
        """Requests sent, by host. A request counts once, however many scripts it holds."""
        self.connects: Counter[str] = Counter()
        """Connections opened, by host."""
        self.last_seen: dict[str, float] = {}
        """Unix time of the last answer, by host."""
        self.overruled: set[str] = set()
        """Hosts whose last act was refused because a newer controller has been there."""
        self.update(endpoints)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in (*self._links.values(), *self._leaving):
            await link.close()

    def update(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Know these machines from now on. A connection whose endpoint changed or went is cut at once."""
        self._leaving = [link for link in self._leaving if not link.closed]
        for name, link in list(self._links.items()):
            if endpoints.get(name) != link.endpoint:
                link.cut()
                self._leaving.append(self._links.pop(name))
        for name, endpoint in endpoints.items():
            if name not in self._links:
                self._links[name] = Link(
                    endpoint,
                    cap=self._cap,
                    clock=self._clock,
                    connected=self._note_connect,
                    longest_pause=self._longest_pause,
                )

    async def ask(
        self, host: str, lane: Lane, scripts: Sequence[str], timeout: float, *, force: bool = False
    ) -> list[Answer]:
        """Every script's answer, or the first error. `timeout` in seconds covers waiting, connecting and running.

        Raises Retry or Stall when nothing was sent, Indeterminate when an end was not seen, Stall for a flood.
        """
        answers: list[Answer] = []
        for reply in await self.ask_each(host, lane, scripts, timeout, force=force):
            if not isinstance(reply, Answer):
                raise reply
            answers.append(reply)
        return answers

    async def ask_each(
        self, host: str, lane: Lane, scripts: Sequence[str], timeout: float, *, force: bool = False
    ) -> list[Reply]:
        """The same, but one script that hangs or floods does not hide the answers of those before it.

        Raises Retry or Stall only when nothing was sent. `force` tries a host whose hold-off has not passed.
        """
        return await self._exchange(host, lane, scripts, timeout, force=force)

    def at_work(self, host: str, lane: Lane) -> bool:
        """A request of this lane has not ended yet: another one would wait for it."""
        return host in self._links and self._links[host].at_work(lane)

    async def act(self, host: str, lane: Lane, script: str, timeout: float, fence: Fence) -> Answer:
        """Run a script that writes, if this controller is still the one that may.

        `timeout` in seconds covers waiting and connecting, and then once more the run, whose host ends it when it passes. Raises
        Stall when a newer controller has been there, Retry when an earlier act still runs on the host or this one was ended
        there, Indeterminate when the end was not seen: the script may then still run, under its lock.
        """
        token = fences.new_token()
        guarded = fences.guard(script, fence, lane=lane, seconds=timeout, state_dir=self._state_dir, token=token)
        (reply,) = await self._exchange(host, lane, [guarded], timeout, force=False, run=timeout + fences.ENDING)
        if not isinstance(reply, Answer):
            raise reply
        try:
            answer = fences.admitted(reply, host=host, token=token)
        except Stall:
            self.overruled.add(host)
            raise
        self.overruled.discard(host)
        return answer

    async def _exchange(
        self,
        host: str,
        lane: Lane,
        scripts: Sequence[str],
        timeout: float,
        *,
        force: bool,
        run: float | None = None,
    ) -> list[Reply]:
        if not scripts:
            return []
        link = self._link(host)

        def sent() -> None:
            self.exchanges[host] += 1

        replies = await link.ask(lane, scripts, timeout, sent=sent, force=force, run=run)
        if not isinstance(replies[0], Indeterminate):
            self.last_seen[host] = time.time()
        return replies

    def _link(self, host: str) -> Link:
        if host not in self._links:
            raise Stall(f"cannot ask {host}: no such machine is known", hint="no manifest names a machine so called")
        return self._links[host]

    def _note_connect(self, host: str) -> None:
        self.connects[host] += 1
