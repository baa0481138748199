"""Every error of ours, grouped by what must happen next.

ControllerError
├── Retry          the same thing may work later        (host down, deadline passed)       .after seconds
│   └── Indeterminate   it was sent, but nobody knows whether it ran: look before doing anything else
├── Wait           another object must come first       (image still building)             .on
└── Stall          a person must act                    (bad manifest, host key changed)   .hint
    ├── Misnamed        what a person named does not exist: wrong usage, where it came from the command line
    └── StoreUnusable   the controller's own store cannot be read or written: no act may begin

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
    """Another object must be ready first. `under_way`: that is being seen to, and worth looking at again soon."""

    def __init__(self, message: str, *, on: str, under_way: bool = False) -> None:
        super().__init__(message)
        self.on = on
        self.under_way = under_way


class Stall(ControllerError):
    """Nothing will change until a person acts. `hint` says what the person can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


FAULT = "this is a fault of jailops: please report it with the log"
"""What a person can do about an error that nobody foresaw."""


class Misnamed(Stall):
    """What a person named is not there, or is no name of such a thing."""


class StoreUnusable(Stall):
    """The store cannot be read or written. `damaged`: its content is lost, and only a new one helps."""

    def __init__(self, message: str, *, hint: str = "", damaged: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.damaged = damaged
