"""A mistake in a manifest, told so that a person can mend it: where, what was found, what is expected, what was meant.

Pure values and wording. Nothing from a file reaches a message unescaped, and key material never does.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.model import Origin

_PASSWORD: Final = re.compile(r"//[^/@\s]*@")
"""What a URL may carry before its host."""

_MOST: Final = 20
"""Words that a message lists."""

_LONGEST: Final = 60
"""Characters of a found value that a message shows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `field` is a dotted path such as ``spec.jails.directory``, empty for a whole document or file."""

    origin: Origin
    field: str
    found: str
    expected: str
    suggestion: str = ""
    object: str = ""
    """``Kind/name`` as far as it is known."""

    def __str__(self) -> str:
        subject = ": ".join(part for part in (str(self.origin), self.object, self.field) if part)
        hint = f"; did you mean {quoted(self.suggestion)}?" if self.suggestion not in ("", self.expected) else ""
        return f"{subject}: found {self.found}, expected {self.expected}{hint}"


class Nothing:
    """The value of a key after which nothing is written. It is not None, so that no model takes it for a choice."""


NOTHING: Final = Nothing()


def shown(value: object) -> str:
    """A found value in words: short, on one line, ASCII, and without a private key."""
    if value is NOTHING:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if not isinstance(value, str):
        return "a list"
    if "PRIVATE KEY" in value:
        return "a private key, which must never stand in a manifest"
    return quoted(_PASSWORD.sub("//***@", value))


def quoted(text: str) -> str:
    """Text between double quotes, cut after 60 characters, everything outside printable ASCII escaped."""
    cut = len(text) > _LONGEST
    escaped = json.dumps(text[: _LONGEST - 1] if cut else text)[1:-1].replace("\x7f", "\\u007f")
    return f'"{escaped}{"…" if cut else ""}"'


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, or nothing when none is."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower()[:200], by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else ""


def listed(words: Iterable[str]) -> str:
    """``a, b or c``; of many, the first ones."""
    some = list(words)
    if len(some) > _MOST:
        return f"one of {len(some)} words such as {', '.join(some[:5])}"
    *most, last = some
    return f"{', '.join(most)} or {last}" if most else last
