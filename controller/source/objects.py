"""Reading the mirror's objects by id, through GitPython's wrapper of the git command and of ``git cat-file --batch``.

Ids in, commits and blobs out. Each call makes one wrapper, which starts at most one cat-file per kind of question, and
closes it before it returns, also at a deadline: wrappers left open keep children and file descriptors for ever.
`git.Repo` is not used, because it looks for its repository in our own environment too. Nothing here writes, uses a
reference name, or reaches a network.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import git

from controller.errors import Retry
from controller.source.trouble import printable
from controller.source.values import Blobs, Head

T = TypeVar("T")

_LFS = b"version https://git-lfs.github.com/spec/"
_FOREIGN = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_CONFIG_COUNT": "0",
    "GIT_NAMESPACE": "",
}
"""GitPython passes our own environment on; inside a hook it names another repository."""


class Damaged(Exception):
    """An object of the mirror cannot be read or is not what its id says."""


class Objects:
    """Read access to one bare repository."""

    def __init__(self, repo: Path, env: Mapping[str, str], deadline: float) -> None:
        self._path = repo
        self._env = {**env, **_FOREIGN, "GIT_DIR": str(repo), "GIT_OBJECT_DIRECTORY": str(repo / "objects")}
        self._deadline = deadline

    async def head(self, revision: str) -> Head:
        """A commit's author and subject. Raises Damaged when it is not there."""
        return await self._read(lambda repo: _head(repo, revision))

    async def has_commit(self, revision: str) -> bool:
        """False too while there is no mirror yet."""
        return self._path.exists() and await self._read(lambda repo: _has_commit(repo, revision))

    async def is_ancestor(self, old: str, new: str) -> bool:
        """True when `new` contains `old`, or is the same."""
        return await self._read(lambda repo: _is_ancestor(repo, old, new))

    async def count(self, excluded: str, included: str) -> int:
        """How many commits `included` contains that `excluded` does not."""
        return await self._read(lambda repo: int(repo.rev_list(f"{excluded}..{included}", count=True)))

    async def blobs(self, ids: Iterable[str], limit: int) -> Blobs:
        """Contents by id, each checked against its id. What is over `limit` bytes is never read into memory."""
        wanted = tuple(dict.fromkeys(ids))
        return await self._read(lambda repo: _blobs(repo, wanted, limit))

    async def _read(self, question: Callable[[git.Git], T]) -> T:
        repo = git.Git(str(self._path))
        repo.update_environment(**self._env)
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.to_thread(question, repo)
        except TimeoutError:
            raise Retry(f"cannot read the mirror {self._path}: no answer in {self._deadline:g} s") from None
        except (git.GitError, ValueError, OSError) as exc:
            raise Damaged(printable(f"{type(exc).__name__}: {exc}")) from exc
        finally:
            repo.clear_cache()


def _head(repo: git.Git, revision: str) -> Head:
    said = repo.log(revision, "--", max_count=1, format="%H%x00%an%x00%ae%x00%ct%x00%s")
    name, author, email, committed, subject = str(said).split("\0")
    return Head(name, printable(author), printable(email), printable(subject), float(committed))


def _has_commit(repo: git.Git, revision: str) -> bool:
    try:
        return _kind_and_size(repo, revision)[0] == "commit"
    except ValueError:
        return False


def _is_ancestor(repo: git.Git, old: str, new: str) -> bool:
    try:
        repo.merge_base(old, new, is_ancestor=True)
    except git.GitCommandError as exc:
        if exc.status == 1:
            return False
        raise
    return True


def _blobs(repo: git.Git, ids: tuple[str, ...], limit: int) -> Blobs:
    found: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    for blob_id in ids:
        kind, size = _kind_and_size(repo, blob_id)
        if kind != "blob":
            raise ValueError(f"{blob_id} is a {kind}, not a blob")
        if size > limit:
            problems[blob_id] = f"is {size} bytes long; a manifest file may have {limit}: split it"
            continue
        data = _verified(blob_id, repo.get_object_data(blob_id)[3])
        if data.startswith(_LFS):
            problems[blob_id] = "is a Git LFS pointer, not the file: take it out of LFS (git lfs untrack)"
        else:
            found[blob_id] = data
    return Blobs(found, problems)


def _kind_and_size(repo: git.Git, name: str) -> tuple[str, int]:
    """Raises ValueError when there is no such object. GitPython 3.2 says str and gives bytes."""
    _, kind, size = cast("tuple[bytes, bytes, int]", repo.get_object_header(name))
    return kind.decode("ascii"), size


def _verified(blob_id: str, data: bytes) -> bytes:
    whole = b"blob %d\0%s" % (len(data), data)
    digest = hashlib.sha1(whole, usedforsecurity=False) if len(blob_id) == 40 else hashlib.sha256(whole)
    if digest.hexdigest() != blob_id:
        raise ValueError(f"the content of blob {blob_id} does not match its id")
    return data
