"""The process that reads one revision's blobs: see `controller.reader`. Exit 3: an object is missing or damaged."""

from __future__ import annotations

import json
import resource
import sys

import git

from controller.reader import wire, yamltree
from controller.reader.blobs import contents

DAMAGED = 3
_MEMORY = 512 * 1024 * 1024


def main() -> int:
    """{"repo": path, "ids": [...], "limit": bytes} on stdin; on stdout a line for each id, in that order."""
    asked = json.load(sys.stdin.buffer)
    try:
        found = contents(asked["repo"], asked["ids"], asked["limit"])
    except (git.GitError, ValueError, OSError) as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return DAMAGED
    lock_down()
    for blob_id in asked["ids"]:
        data = found[blob_id]
        print(wire.line(data if isinstance(data, wire.Unreadable) else yamltree.read("", data)))
    return 0


def lock_down() -> None:
    """From here on nothing can be opened, so nothing connected, started or loaded either; nothing can grow."""
    for limit, most in (
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _MEMORY),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most) if hard == resource.RLIM_INFINITY else (min(most, hard),) * 2)


if __name__ == "__main__":
    sys.exit(main())
