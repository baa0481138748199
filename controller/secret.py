"""A value that nobody may see: it prints as its name, and is neither written, compared, copied nor sent by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Only `reveal` gives the value, where it is about to be used."""

    __slots__ = ("_name", "_value")

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def reveal(self) -> str:
        """The value, for whoever hands it on at once."""
        return self._value

    def __repr__(self) -> str:
        return f"<secret {self._name}>"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} is neither copied nor pickled")
