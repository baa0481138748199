"""Asking the process that reads blobs: entries of a listing in, their trees out. The far side is `controller.reader`.

One short-lived child for each set of blobs that is new; a pass without changes has none. Crash, flood, hang and nonsense
are a Stall: this set cannot be read, and what is in force stays so. Raises Damaged when the mirror is at fault.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from controller.errors import Retry, Stall
from controller.reader import wire
from controller.source.child import DeadlinePassed, Limits, TooMuchOutput, run
from controller.source.trouble import Damaged, last_words, printable
from controller.source.values import TreeEntry
from controller.trees import Trees

_DAMAGED: Final = 3
_DEADLINE: Final = 60.0
_LIMITS: Final = Limits(file_bytes=1024 * 1024, memory_bytes=2 * 1024 * 1024 * 1024, cpu_seconds=30)
"""Address space, for git too, which maps packs; the reader itself takes less before it parses anything."""
_MAX_OUTPUT: Final = 128 * 1024 * 1024
_HINT: Final = "some file in it is made to break what reads it: find out who pushed it, and push a revision without it"

_ENV: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "core.packedGitLimit",
    "GIT_CONFIG_VALUE_0": "256m",
    "GIT_CONFIG_KEY_1": "core.packedGitWindowSize",
    "GIT_CONFIG_VALUE_1": "32m",
}


async def read_trees(
    repo: Path, entries: Iterable[TreeEntry], limit: int
) -> Mapping[TreeEntry, Trees | wire.Unreadable]:
    """What each file says. One over `limit` bytes, or an LFS pointer, is unreadable by itself and stops no other."""
    wanted = tuple(entries)
    ids = tuple(dict.fromkeys(one.blob_id for one in wanted))
    if not ids:
        return {}
    env = {**_ENV, "GIT_DIR": str(repo), "GIT_OBJECT_DIRECTORY": str(repo / "objects")}
    asked = json.dumps({"repo": str(repo), "ids": ids, "limit": limit}).encode()
    try:
        done = await run(
            (sys.executable, "-I", "-m", "controller.reader"), env, _LIMITS,
            deadline=_DEADLINE, stdin=asked, max_output=_MAX_OUTPUT, alone=True,
        )  # fmt: skip
    except DeadlinePassed:
        raise _unread(f"it was not done after {_DEADLINE:g} s") from None
    except TooMuchOutput:
        raise _unread("there is more in it than manifests can hold") from None
    except OSError as exc:
        raise Retry(f"cannot start the process that reads revisions: {exc.strerror}") from exc
    if done.exit == _DAMAGED:
        raise Damaged(last_words(done.stderr))
    if done.exit:
        why = f"signal {-done.exit}" if done.exit < 0 else f"status {done.exit}"
        raise _unread(f"it ended with {why} ({last_words(done.stderr) or 'without a word'})")
    lines = dict(zip(ids, done.stdout.decode("ascii", "replace").splitlines(), strict=False))
    try:
        return {one: wire.read(lines.get(one.blob_id, ""), one.path) for one in wanted}
    except ValueError as exc:
        raise _unread(f"it answered what nobody understands ({printable(str(exc))})") from None


def _unread(why: str) -> Stall:
    return Stall(
        f"cannot read the files of this revision: the process that reads them was asked, and {why}", hint=_HINT
    )
