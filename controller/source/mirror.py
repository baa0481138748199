"""The bare repository on our disk: made, filled by one fetch at a time, cleaned after a kill, replaced when damaged.

    <mirror>/repo.git      the mirror, with refs/jailops/head (the branch) and refs/notes/*
    <mirror>/repo.new      a replacement being cloned
    <mirror>/repo.corrupt  the last damaged mirror, kept for a person to look at
    <mirror>/lock          held by whoever runs a command that writes, in whichever process

There is no work tree, no index, no hook and no configured remote: nothing that was pushed is ever checked out or run.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from controller.errors import Retry, Stall
from controller.source.access import Access
from controller.source.child import DeadlinePassed, Done, Limits, TooMuchOutput, run
from controller.source.trouble import Damaged, explain, last_words, smells_of_damage
from controller.source.values import GitSettings

HEAD = "refs/jailops/head"
LOCAL_DEADLINE = 60.0
"""Seconds for a command that only touches our disk."""

_LEFTOVERS = ("**/*.lock", "objects/pack/tmp_*", "objects/??/tmp_obj_*", "objects/tmp_objdir-*", "gc.pid")


class Mirror:
    """Commands on the mirror. Those that write want `locked()` around them."""

    def __init__(self, settings: GitSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._limits = Limits(settings.max_file_bytes, settings.max_memory_bytes)
        base = settings.mirror.absolute()
        self.repo, self._fresh, self._corrupt = base / "repo.git", base / "repo.new", base / "repo.corrupt"
        self._lock_file = base / "lock"
        self._mine = asyncio.Lock()
        self._unclean = True
        """A git command may have left files behind: one of an earlier life, or one that failed."""

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One writer at a time: in this process and, by a lock on a file, in all. Raises Retry at the deadline."""
        async with self._mine:
            try:
                with self._lock_file.open("a") as file:
                    await _flock(file.fileno(), self._settings.deadline)
                    self._sweep()
                    await self._ensure()
                    try:
                        yield
                    finally:
                        self._sweep()
            except OSError as exc:
                raise Retry(f"cannot write the Git mirror {self.repo}: {exc.strerror}") from exc

    async def fetch(self) -> None:
        """Bring the branch and all it needs. A damaged mirror is replaced on the way. Raises Retry, Stall."""
        try:
            await self._fetch_into(self.repo)
        except Damaged as exc:
            if not await self._is_damaged():
                where = f"{self._settings.branch} from {self._access.url}"
                raise Retry(f"cannot fetch {where}: the remote sent damaged or incomplete data ({exc})") from exc
            await self.replace()

    async def replace(self) -> None:
        """Clone anew beside the damaged mirror, then swap. Until that has worked, the damaged one stays in use."""
        shutil.rmtree(self._fresh, ignore_errors=True)
        await self._init(self._fresh)
        try:
            await self._fetch_into(self._fresh)
        except Damaged as exc:
            raise Retry(f"cannot replace the damaged mirror: {self._access.url} sent damaged data too ({exc})") from exc
        await self._rescue()
        shutil.rmtree(self._corrupt, ignore_errors=True)
        self.repo.rename(self._corrupt)
        self._fresh.rename(self.repo)

    async def tidy(self) -> None:
        """Pack when many loose objects have gathered. Never removes an object; failing costs nothing but space."""
        try:
            await self.git("gc", "--auto", "--quiet")
        except (Damaged, Retry, Stall):
            return

    async def git(
        self,
        *words: str,
        stdin: bytes = b"",
        max_output: int = 1024 * 1024,
        may_fail: bool = False,
        options: tuple[str, ...] = (),
    ) -> Done:
        """A command on our disk only. Raises Damaged if it failed because of what it read, Retry or Stall otherwise."""
        done = await self._run(self.repo, words, "git " + words[0], LOCAL_DEADLINE, stdin, max_output, options)
        if done.exit and not may_fail:
            if smells_of_damage(done.stderr):
                raise Damaged(last_words(done.stderr))
            raise explain(f"run git {words[0]} in {self.repo}", done.stderr)
        return done

    async def tool(self, *words: str, stdin: bytes) -> Done:
        """Another program than git, under the same limits and in the same environment. Raises Retry, Stall."""
        return await self._child(words, words[0], LOCAL_DEADLINE, stdin)

    async def remote(self, action: str, *words: str, repo: Path | None = None) -> Done:
        """A command that talks to the remote; its result is returned whatever its exit status, stderr redacted."""
        self._access.ready()
        done = await self._run(repo or self.repo, words, action, self._settings.deadline)
        return Done(done.exit, done.stdout, self._access.redacted(done.stderr))

    async def _fetch_into(self, repo: Path) -> None:
        settings = self._settings
        action = f"fetch {settings.branch} from {self._access.url}"
        done = await self.remote(
            action, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--no-recurse-submodules",
            "--", settings.url, f"+refs/heads/{settings.branch}:{HEAD}", repo=repo,
        )  # fmt: skip
        if done.exit and smells_of_damage(done.stderr):
            raise Damaged(last_words(done.stderr))
        if done.exit:
            raise explain(action, done.stderr or f"git ended with status {done.exit}")

    async def _run(
        self,
        repo: Path,
        words: tuple[str, ...],
        action: str,
        deadline: float,
        stdin: bytes = b"",
        max_output: int = 1024 * 1024,
        options: tuple[str, ...] = (),
    ) -> Done:
        argv = ("git", *self._access.options, *options, f"--git-dir={repo}", *words)
        clean = False
        try:
            done = await self._child(argv, action, deadline, stdin, max_output)
            clean = done.exit == 0
            return done
        finally:
            if not clean:
                self._unclean = True

    async def _child(
        self,
        argv: tuple[str, ...],
        action: str,
        deadline: float,
        stdin: bytes = b"",
        max_output: int = 1024 * 1024,
    ) -> Done:
        """What a command said, whatever its exit status."""
        try:
            return await run(
                argv, self._access.env, self._limits, deadline=deadline, stdin=stdin, max_output=max_output
            )
        except DeadlinePassed:
            raise Retry(f"cannot {action}: not done after {deadline:g} s, so it was ended") from None
        except TooMuchOutput:
            raise Stall(
                f"cannot {action}: the answer is longer than {max_output} bytes",
                hint="this repository holds far more files than manifests need; use one for manifests alone",
            ) from None
        except OSError as exc:
            raise Stall(f"cannot {action}: cannot start {argv[0]}: {exc.strerror}", hint=f"install {argv[0]}") from exc

    async def _ensure(self) -> None:
        """A mirror that can be used, also after a power cut at any instant."""
        if not self.repo.exists() and self._fresh.exists() and self._corrupt.exists():
            self._fresh.rename(self.repo)
        if not self.repo.exists():
            shutil.rmtree(self._fresh, ignore_errors=True)
            await self._init(self._fresh)
            self._fresh.rename(self.repo)

    async def _init(self, repo: Path) -> None:
        words = ("init", "--bare", "--quiet", "--template=", "--initial-branch=main")
        done = await self._run(repo, words, f"make the mirror {repo}", LOCAL_DEADLINE)
        if done.exit:
            raise explain(f"make the mirror {repo}", done.stderr)

    async def _is_damaged(self) -> bool:
        words = ("fsck", "--no-dangling", "--no-progress", "--connectivity-only")
        for check in (words, words[:-1]):
            try:
                if (await self._run(self.repo, check, "check the mirror", LOCAL_DEADLINE)).exit:
                    return True
            except Retry:
                return True  # not provably sound: a new clone beside it can do no harm
        return False

    async def _rescue(self) -> None:
        """Notes never pushed and history the remote dropped live in the damaged mirror only. Bring what can be read.

        Not by a fetch: that reads every reference of the other side, and dies of the first damaged one.
        """
        listed = await self._try(self.repo, "for-each-ref", "--format=%(objectname) %(refname)", "refs/notes", HEAD)
        for line in listed.decode("utf-8", "replace").splitlines():
            name, _, ref = line.partition(" ")
            pack = await self._try(
                self.repo, "pack-objects", "--revs", "--stdout", "--quiet", stdin=f"{name}\n".encode()
            )
            await self._try(self._fresh, "unpack-objects", "-q", "--strict", stdin=pack)
            await self._try(self._fresh, "update-ref", "refs/jailops/before" if ref == HEAD else ref, name)

    async def _try(self, repo: Path, *words: str, stdin: bytes = b"") -> bytes:
        """What a command prints, or nothing: half a rescue is better than none, and git takes no broken half."""
        try:
            done = await self._run(repo, words, f"git {words[0]}", LOCAL_DEADLINE, stdin, 64 * 1024 * 1024)
        except (Retry, Stall):
            return b""
        return b"" if done.exit else done.stdout

    def _sweep(self) -> None:
        """Remove what a killed git leaves behind. Only the holder of the lock runs writing commands, and they ended."""
        if not self._unclean:
            return
        self._unclean = False
        for repo in (self.repo, self._fresh):
            for pattern in _LEFTOVERS:
                for path in repo.glob(pattern):
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


async def _flock(fd: int, deadline: float) -> None:
    until = monotonic() + deadline
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if monotonic() > until:
                raise Retry(
                    "cannot use the Git mirror: another jailops process has been using it all the time"
                ) from None
        await asyncio.sleep(0.05)
