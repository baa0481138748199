"""Telling systemd that the controller has started and that its passes go on (sd_notify(3)): one that hangs is killed and
started again (WatchdogSec of deploy/jailops.service). Elsewhere nobody asks, and nothing is said.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

log = structlog.get_logger(__name__)


async def tell(alive: Callable[[], bool], stop: asyncio.Event, environ: Mapping[str, str] = os.environ) -> None:
    """Until `stop` is set. A loop that hangs says nothing, and neither does one whose passes do not end any more."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    every = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 / 2 or None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.setblocking(False)
        _say(systemd, address, "READY=1")
        while not stop.is_set():
            if every and alive():
                _say(systemd, address, "WATCHDOG=1")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every)
        _say(systemd, address, "STOPPING=1")


def _say(systemd: socket.socket, address: str, word: str) -> None:
    """An address that begins with @ is in the abstract namespace (unix(7)). What cannot be said must not end anything."""
    try:
        systemd.sendto(word.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("systemd not told", word=word, problem=str(error))
