"""One conversation with one BMC, in a process of its own: this file, run as a program.

In: one JSON object on standard input, password included. Out: JSON lines on standard output. ``{"sent": true}`` stands there
before a command may have left this process; the last line is ``{"state": …}`` or ``{"trouble": …, "text": …}``. The library
keeps threads, sockets and sessions for the life of a process and waits as long as it likes: this process is killed instead.
Never says the password, whatever the BMC or the library puts into an error.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, Protocol, TypeAlias

Trouble: TypeAlias = Literal["silent", "password", "certificate", "refused"]

PAUSE = 0.5
"""Seconds between two questions while a machine goes on or off."""

_WRONG_LOGIN = re.compile(
    r"incorrect password|unauthorized name|access denied|invalid role|insufficient privilege|unauthorized role", re.I
)
_LATER = re.compile(
    r"^(none|timeout)?$|no longer connected|disconnected|failed to initialize|not ready|unavailable|busy|temporar", re.I
)
"""What the library raises when the other side is silent or not up yet (measured, pyghmi 1.6.19)."""


class Failed(Exception):
    """The conversation ended without an answer."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble: Trouble = trouble


class Command(Protocol):
    """What both halves of the library offer."""

    def get_power(self) -> Mapping[str, str]: ...

    def set_power(self, powerstate: str) -> object: ...


def main() -> int:
    order = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_REAL, order["seconds"] + 1)  # ends this process even when its parent is gone
    try:
        state = _converse(order, time.monotonic() + order["seconds"])
        _say({"state": state})
    except Failed as failed:
        _say({"trouble": failed.trouble, "text": _plain(str(failed), order)})
    except Exception as error:
        _say({"trouble": _trouble(error), "text": _plain(str(error) or type(error).__name__, order)})
    return 0


def _converse(order: Mapping[str, Any], deadline: float) -> str:
    """Ask, or switch and ask until it is so. The last answer counts, also when it is not what was wanted."""
    with _redfish(order) if order["switch"] == "redfish" else _ipmi(order) as bmc:
        wanted = order["op"]
        state = _state(bmc)
        if wanted == "status" or state == wanted:
            return state
        _say({"sent": True})
        bmc.set_power(wanted)
        while (state := _state(bmc)) != wanted and time.monotonic() + PAUSE < deadline:
            time.sleep(PAUSE)
        return state


def _state(bmc: Command) -> str:
    """Anything but on and off, such as Redfish's PoweringOff, is neither."""
    return str(bmc.get_power()["powerstate"])


@contextmanager
def _ipmi(order: Mapping[str, Any]) -> Iterator[Command]:
    from pyghmi.ipmi.command import Command as Ipmi

    made = Ipmi(order["host"], order["user"], order["password"], port=order["port"], keepalive=False)
    try:
        yield made
    finally:
        with suppress(Exception):  # a BMC has few sessions; one that is not ended keeps its place for a minute
            made.ipmi_session.logout()


@contextmanager
def _redfish(order: Mapping[str, Any]) -> Iterator[Command]:
    from pyghmi.exceptions import RedfishError
    from pyghmi.redfish.command import Command as Library

    class Redfish(Library):  # type: ignore[misc]
        """With the password in each request: the library opens sessions and ends none, and BMCs have few."""

        def _get_session_token(self, wc: object) -> None:
            del wc

    check = _pinned(order["fingerprint"]) if order["fingerprint"] else None
    system = order["system"]
    login = (order["host"], order["user"], order["password"])
    try:
        made: Command = Redfish(*login, check, sysurl=f"/redfish/v1/Systems/{system}", port=order["port"])
        made.get_power()
    except RedfishError as error:
        raise Failed(_trouble(error), f"it shows no system {system} to this user ({error})") from error
    yield made


def _pinned(fingerprint: str) -> Callable[[bytes], bool]:
    """Called with the certificate of each connection before a byte is sent on it."""

    def check(certificate: bytes) -> bool:
        shown = hashlib.sha256(certificate).hexdigest()
        if shown != fingerprint:
            raise Failed("certificate", f"its certificate has the SHA-256 fingerprint {shown}")
        return True

    return check


def _trouble(error: Exception) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, OSError) or _LATER.search(str(error)):
        return "silent"
    return "password" if _WRONG_LOGIN.search(str(error)) else "refused"


def _plain(text: str, order: Mapping[str, Any]) -> str:
    """One short printable line; nothing where the library has only said that nobody answered."""
    text = "" if text in ("None", "timeout", "timed out") else text
    text = text.replace(order["password"], "…") if order["password"] else text
    return re.sub(r"[^ -~…]+", " ", text).strip()[:200]


def _say(line: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
