"""The one place where foreign exceptions become ours.

In: whatever asyncssh or the operating system raised before a request was sent. Out: `Retry` when the same thing may
work later, `Stall` with a hint when a person must act. What is raised after sending is never translated here: that is
always `Indeterminate`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import asyncssh

from controller.errors import ControllerError, Retry, Stall
from controller.transport.endpoint import Endpoint

_KEY_HINT: Final = (
    "if {name} was rebuilt or its key was changed on purpose, put the new public host key into its manifest; "
    "otherwise something else answers at {where}: find out what before anything is sent to it"
)
_LOGIN_HINT: Final = (
    "put the public half of {key} into authorized_keys of {user} on {name}, and see that its sshd_config lets "
    "{user} log in with a key (PermitRootLogin prohibit-password)"
)
_ALGORITHM_HINT: Final = (
    "either the host key of {name} is of another type than the pinned one, or its sshd offers only ciphers that are "
    "refused; compare with: ssh -vv -p {port} {user}@{host}"
)
_NAME_HINT: Final = "correct the address of {name}, or the name server that this controller asks"

VERDICTS: Final[Mapping[type[Exception], str | None]] = {
    # None: the same thing may work later. A text: the hint for the person who must act.
    asyncssh.HostKeyNotVerifiable: _KEY_HINT,
    asyncssh.PermissionDenied: _LOGIN_HINT,
    asyncssh.IllegalUserName: _LOGIN_HINT,
    asyncssh.PasswordChangeRequired: _LOGIN_HINT,
    asyncssh.KeyExchangeFailed: _ALGORITHM_HINT,
    asyncssh.ProtocolNotSupported: _ALGORITHM_HINT,
    asyncssh.CompressionError: _ALGORITHM_HINT,
    asyncssh.ConnectionLost: None,
    asyncssh.ServiceNotAvailable: None,
    asyncssh.ProtocolError: None,
    asyncssh.MACError: None,
    asyncssh.DisconnectError: None,
    asyncssh.ChannelOpenError: None,
    asyncssh.Error: None,
    socket.gaierror: None,
    TimeoutError: None,
    OSError: None,
}


def before_sending(endpoint: Endpoint, exc: Exception, *, hung_up_again: bool = False) -> Retry | Stall:
    """What an exception means that came before anything was sent to the machine.

    OpenSSH hangs up without a word when no algorithm suits both, so a machine where two connections after each other end in the
    key exchange counts as one that refuses them. One alone may be the network.
    """
    if hung_up_again and isinstance(exc, (asyncssh.ConnectionLost, ConnectionError)):
        exc = asyncssh.KeyExchangeFailed(f"it hung up during the key exchange ({exc})")
    said = plain(str(exc)) or type(exc).__name__
    message = f"cannot connect to {endpoint.name} ({endpoint.where}): {said}"
    hint = _hint(exc)
    if hint is None:
        return Retry(message)
    return Stall(message, hint=hint.format_map(_names(endpoint)))


def again(error: ControllerError, after: float) -> Retry | Stall:
    """The same verdict once more, for a caller who comes while it still holds. `after` in seconds."""
    if isinstance(error, Stall):
        return Stall(str(error), hint=error.hint)
    return Retry(f"{error} (next try in {after:.0f} s)", after=after)


def plain(text: str, limit: int = 300) -> str:
    """What a foreign machine said, safe to print: one line, no control characters, at most `limit` characters."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[:limit] + "…"


def _hint(exc: Exception) -> str | None:
    if isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_NONAME:
        return _NAME_HINT
    return next((VERDICTS[kind] for kind in type(exc).__mro__ if kind in VERDICTS), None)


def _names(endpoint: Endpoint) -> dict[str, str]:
    return {
        "name": endpoint.name,
        "where": endpoint.where,
        "user": endpoint.user,
        "key": str(endpoint.client_key_file),
        "host": endpoint.connect_address or endpoint.address,
        "port": str(endpoint.connect_port or endpoint.port),
    }
