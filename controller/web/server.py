"""/metrics, /healthz and /readyz on one local address.

healthz says that the controller lives and its passes go on; readyz that it can use its store, has read a good revision and
ended a pass.
Neither tells anything about hosts: a sick host must not get the controller restarted. A flood of requests costs the passes
little: the page of metrics is made at most once a second, whoever asks, and a request that is too long or comes while many are
open is refused.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controller.errors import Stall

_FRESH = 1.0
"""Seconds for which a page of metrics is given to everybody who asks."""
_CONNECTIONS = 100
"""Open connections above which requests are answered with 503."""
_REQUEST = 16 * 1024
"""Bytes of a request's head above which it is refused."""


@dataclass
class Health:
    """Written by the loop, read by the pages. Times are those of the monotonic clock: the other one may be set."""

    started: float
    last_pass: float = 0.0
    """When a pass ended last, whatever came of it."""
    ready: bool = False
    """A good revision was read and a pass with it has ended."""
    stale_after: float = 900.0
    """Seconds without a pass after which the loop counts as stuck."""
    store: str = ""
    """Why the store cannot be used and nothing is done; empty when it can. The controller lives, but is not ready."""

    def problem(self, now: float) -> str:
        """Empty when the loop goes on."""
        silent = now - max(self.started, self.last_pass)
        return f"no pass has ended for {silent:.0f} seconds" if silent > self.stale_after else ""


def application(registry: CollectorRegistry, health: Health, clock: Callable[[], float] = monotonic) -> Starlette:
    """The pages as an ASGI application."""
    made_at, body = -_FRESH, b""

    async def metrics(_: Request) -> Response:
        nonlocal made_at, body
        if clock() - made_at >= _FRESH:
            made_at, body = clock(), generate_latest(registry)
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    async def healthz(_: Request) -> Response:
        problem = health.problem(clock())
        return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)

    async def readyz(_: Request) -> Response:
        why = health.store or ("" if health.ready else _waits(health))
        return PlainTextResponse(f"{why or 'ok'}\n", 503 if why else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


def _waits(health: Health) -> str:
    """Why no pass has made us ready yet: `last_pass` also moves with one that ended in an error."""
    return "no pass has gone well yet: the log says why" if health.last_pass else "no pass has ended yet"


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: stopping is the app's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(listen: str) -> socket.socket:
    """The socket of the pages. Raises Stall when the address cannot be used: asked first of all, before anything acts."""
    host, _, port = listen.rpartition(":")
    try:
        return socket.create_server((host, int(port)))
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        raise Stall(
            f"cannot listen on {listen}: {os.strerror(number) if number and number > 0 else error}",
            hint="is another jailops at work here? Stop what listens there, or choose another [web] listen",
        ) from error


async def serve(app: Starlette, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_config=None,
        lifespan="off",
        access_log=False,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_REQUEST,
    )
    server = Server(config)
    running = asyncio.create_task(server.serve([sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.cancel()
    await running
