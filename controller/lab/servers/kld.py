"""``kldstat -q -m NAME`` and ``kldload NAME`` of a build VM. What is loaded stays until it is switched on again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controller.lab.servers.kit import Box, uncovered

STATE: Final = "state/modules"


def is_loaded(box: Box, name: str) -> bool:
    return name in box.load(STATE, [])


def kldstat(argv: Sequence[str], box: Box) -> int:
    if list(argv[1:3]) != ["-q", "-m"] or len(argv) != 4:
        uncovered("anything but the question for one module")
    return 0 if is_loaded(box, argv[3]) else 1


def kldload(argv: Sequence[str], box: Box) -> int:
    """Silent when it works."""
    if len(argv) != 2 or is_loaded(box, argv[1]):
        uncovered("another form, or a module that is there")
    with box.edit(STATE, []) as modules:
        modules.append(argv[1])
    return 0
