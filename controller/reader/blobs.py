"""Reading blobs by id, through GitPython's wrapper of ``git cat-file --batch``: ids in, contents out.

`git.Repo` is not used, because it looks for its repository in the environment too. Nothing here writes, uses a reference
name, or reaches a network. Raises ValueError, OSError and git.GitError for an object that is missing or damaged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, cast

import git

from controller.reader.wire import Unreadable

_LFS: Final = b"version https://git-lfs.github.com/spec/"


def contents(repo: str, ids: Iterable[str], limit: int) -> dict[str, bytes | Unreadable]:
    """Each checked against its id. What is over `limit` bytes is never read into memory."""
    wrapper = git.Git(repo)
    try:
        return {blob_id: _content(wrapper, blob_id, limit) for blob_id in ids}
    finally:
        wrapper.clear_cache()


def _content(repo: git.Git, blob_id: str, limit: int) -> bytes | Unreadable:
    # GitPython 3.2 says str and gives bytes.
    _, kind, size = cast("tuple[bytes, bytes, int]", repo.get_object_header(blob_id))
    if kind != b"blob":
        raise ValueError(f"{blob_id} is a {kind.decode('ascii', 'replace')}, not a blob")
    if size > limit:
        return Unreadable(f"is {size} bytes long; a manifest file may have {limit}: split it")
    data = _verified(blob_id, repo.get_object_data(blob_id)[3])
    if data.startswith(_LFS):
        return Unreadable("is a Git LFS pointer, not the file: take it out of LFS (git lfs untrack)")
    return data


def _verified(blob_id: str, data: bytes) -> bytes:
    whole = b"blob %d\0%s" % (len(data), data)
    digest = hashlib.sha1(whole, usedforsecurity=False) if len(blob_id) == 40 else hashlib.sha256(whole)
    if digest.hexdigest() != blob_id:
        raise ValueError(f"the content of blob {blob_id} does not match its id")
    return data
