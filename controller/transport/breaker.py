"""A host that could not be connected to is left alone for a while, longer each time.

In: what became of each attempt. Out: permission for the next, or the last attempt's verdict again. Keeps no timers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controller.errors import ControllerError
from controller.transport.translate import again

FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
"""Unless the fleet is told another limit: no longer than the time between two looks."""


class Breaker:
    """The hold-off of one host: 5 s after the first failure, doubling to 60 s, gone after a success."""

    def __init__(self, clock: Callable[[], float], longest: float = LONGEST_SECONDS) -> None:
        self._clock = clock
        self._longest = longest
        self._error: ControllerError | None = None
        self._until = 0.0
        self._seconds = min(FIRST_SECONDS, longest)

    def check(self) -> None:
        """Raises the last attempt's Retry or Stall while the hold-off lasts."""
        left = self._until - self._clock()
        if self._error is not None and left > 0:
            raise again(self._error, left)

    def failed(self, error: ControllerError) -> None:
        self._error = error
        self._until = self._clock() + self._seconds
        self._seconds = min(self._seconds * 2, self._longest)

    def succeeded(self) -> None:
        self._error = None
        self._seconds = min(FIRST_SECONDS, self._longest)
