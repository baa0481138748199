"""Nobody else gets to see what this process holds: no core dump, no debugger, and no secret in the environment of a child."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from resource import RLIMIT_CORE, setrlimit
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def shut() -> None:
    """For the rest of this process: what it holds is written to no file, and other processes of its user cannot read it.

    Children have no core dumps either. The second half is Linux's; FreeBSD's is security.bsd.unprivileged_proc_debug=0.
    """
    setrlimit(RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def taken(environment: MutableMapping[str, str], prefix: str) -> Iterator[Mapping[str, str]]:
    """The variables that begin with `prefix`, which no child gets while they are taken."""
    found = {name: value for name, value in environment.items() if name.startswith(prefix)}
    for name in found:
        del environment[name]
    try:
        yield found
    finally:
        environment.update(found)
