"""Every error of ours, grouped by what must happen next.

ControllerError
├── Retry          the same thing may work later        (host down, deadline passed)       .after seconds
│   └── Indeterminate   it was sent, but nobody knows whether it ran: look before doing anything else
├── Wait           another object must come first       (image still building)             .on
└── Stall          a person must act                    (bad manifest, host key changed)   .hint

Messages begin with what could not be done ("cannot …"), name the object, and never hold a secret.
"""

from __future__ import annotations


class ControllerError(Exception):
    """The root of the tree; never raised itself."""


class Retry(ControllerError):
    """The same thing may work later."""

    def __init__(self, message: str, *, after: float = 30.0) -> None:
        super().__init__(message)
        self.after = after


class Indeterminate(Retry):
    """A command was sent and its end was not seen. It may have run, may run still, or may never have started."""


class Wait(ControllerError):
    """Another object must be ready first."""

    def __init__(self, message: str, *, on: str) -> None:
        super().__init__(message)
        self.on = on


class Stall(ControllerError):
    """Nothing will change until a person acts. `hint` says what the person can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
