"""Which revision is in force: fetch, judge, and keep the last good one whenever the new one must not be believed.

In: the Git source and the store. Out: `Wanted`, always a complete set of checked objects, with the reasons why a newer
commit was refused. An unreadable, invalid, emptied or rewritten revision removes nothing: the last applied one stays in
force and its drift is still repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

import structlog

from controller.errors import ControllerError, Retry, Stall
from controller.graph import Desired, resolve
from controller.manifests import DANGLING, Blob, Manifest, Problem, check, parse_blob
from controller.model import Origin, Record
from controller.source import GitSource, Refused, Snapshot
from controller.store import Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is in force for one pass."""

    revision: str
    author: str
    subject: str
    committed_at: float
    desired: Desired
    refused: tuple[str, ...] = ()
    """Why a newer commit is not in force, one message each."""
    hint: str = ""
    candidate: str = ""
    """The refused commit."""
    git_error: str = ""
    """Why Git could not be asked this time."""


@dataclass(frozen=True)
class Judged:
    """One revision, read and checked."""

    snapshot: Snapshot
    objects: tuple[Manifest[Any], ...]
    problems: tuple[Problem, ...]


@dataclass
class Limits:
    removed: int = 2
    removed_percent: float = 10.0
    addresses: frozenset[str] = field(default_factory=frozenset)


class Revisions:
    """The one reader of Git. Parsed files are cached by blob id, so a pass costs what changed."""

    def __init__(self, source: GitSource, store: Store, limits: Limits, *, notes: bool = True) -> None:
        self._source = source
        self._store = store
        self._limits = limits
        self._notes = notes
        self._parsed: dict[str, tuple[tuple[Manifest[Any], ...], tuple[Problem, ...]]] = {}
        self.git_error = ""
        self.fetched_at = 0.0
        self.committed_at = 0.0
        """Commit time of the revision in force."""

    async def wanted(self) -> Wanted:
        """Fetch and decide what is in force. Raises Retry or Stall only when no revision was ever good."""
        wanted = await self._wanted()
        self.committed_at = wanted.committed_at
        return wanted

    async def _wanted(self) -> Wanted:
        last = self._store.get("revision") or None
        candidate = await self._fetch()
        if candidate is None or candidate == last:
            return await self._in_force(last)
        try:
            judged = await self.judge(candidate)
            refused, hint = await self._objections(judged, last)
        except (Retry, Stall) as error:
            return await self._in_force(last, str(error), getattr(error, "hint", ""), candidate)
        if refused:
            return await self._in_force(last, refused, hint, candidate)
        return _wanted(judged)

    async def judge(self, revision: str) -> Judged:
        """Read and check one revision that is in the mirror."""
        snapshot = await self._source.snapshot(revision)
        objects, problems = await self._parse(snapshot)
        return Judged(snapshot, tuple(objects), judge_all(objects, problems, self._limits.addresses))

    async def judge_named(self, name: str) -> Judged:
        """Read and check a revision by any name, after asking the remote once."""
        await self._fetch()
        return await self.judge(await self._source.resolve(name or "HEAD"))

    async def named(self, name: str = "") -> Wanted:
        """What a revision asks for; without a name, what is in force now. Raises Stall for a bad one."""
        if not name:
            return await self.wanted()
        judged = await self.judge_named(name)
        if judged.problems:
            raise Stall(
                f"cannot use {name}: " + "; ".join(str(one) for one in judged.problems), hint=f"jailops check {name}"
            )
        return _wanted(judged)

    async def applied(self, wanted: Wanted, record: Record) -> None:
        """The pass has run: remember the revision, and put the record on its commit when there is something to tell."""
        from controller.said import note

        before = self._store.get("revision")
        self._store.put("revision", wanted.revision)
        self._store.done_request("approve", [wanted.revision])
        told = f"{wanted.revision} {wanted.candidate} {record.result} {' '.join(record.refused)}"
        acted = any(one.result != "waiting" for one in record.outcomes)
        news = acted or told != self._store.get("told") or before != wanted.revision
        if not self._notes or not news:
            return
        self._store.put("told", told)
        await self._write_note(wanted.candidate or wanted.revision, note(record))

    async def _tell_once(self, candidate: str, reasons: Sequence[str]) -> None:
        """Put the refusal of a very first revision on its commit, where there is no pass to record yet."""
        if self._notes and candidate and self._store.get("told") != f"first {candidate}":
            self._store.put("told", f"first {candidate}")
            await self._write_note(
                candidate, "\n".join(["refused: nothing is applied yet", *(f"  {one}" for one in reasons)])
            )

    async def _write_note(self, revision: str, text: str) -> None:
        try:
            push = await self._source.write_note(revision, text)
        except ControllerError as error:
            log.warning("note not written", revision=revision, reason=str(error))
            return
        if not push.pushed:
            log.info("note kept in the mirror only", revision=revision, reason=push.reason)

    async def _fetch(self) -> str | None:
        """The tip of the branch; None when Git cannot be asked now."""
        try:
            head = await self._source.fetch()
        except ControllerError as error:
            self._note_git(str(error))
            log.warning("git", problem=str(error))
            return None
        self._note_git("")
        self.fetched_at = time()
        return head.revision

    def _note_git(self, error: str) -> None:
        """Kept for `jailops status`, which reads the store alone."""
        self.git_error = error
        if error != self._store.get("git_error"):
            self._store.put("git_error", error)

    async def _in_force(
        self, last: str | None, refused: str | Sequence[str] = (), hint: str = "", candidate: str = ""
    ) -> Wanted:
        reasons = (refused,) if isinstance(refused, str) else tuple(refused)
        if last is None:
            await self._tell_once(candidate, reasons)
            raise Stall(
                "cannot begin: no revision is good enough to apply: " + ("; ".join(reasons) or self.git_error),
                hint=hint or "jailops check says what is wrong with the manifests",
            )
        kept = _wanted(await self.judge(last))
        return Wanted(
            kept.revision,
            kept.author,
            kept.subject,
            kept.committed_at,
            kept.desired,
            _with_hint(reasons, hint),
            hint,
            candidate,
            self.git_error,
        )

    async def _objections(self, judged: Judged, last: str | None) -> tuple[list[str], str]:
        """Why a revision must not be applied, and what a person can do."""
        revision = judged.snapshot.revision
        approved = frozenset(self._store.requests("approve"))
        forward = await self._source.accept(revision, last, approved)
        if isinstance(forward, Refused):
            return [f"{forward.reason}: {forward.message}"], forward.hint
        if judged.problems:
            return [str(problem) for problem in judged.problems], f"jailops check {revision[:12]} shows them all"
        if not judged.objects:
            return [f"cannot apply {revision[:12]}: it holds no manifest at all"], "push the manifests again"
        return await self._too_much_gone(judged, last, approved)

    async def _too_much_gone(self, judged: Judged, last: str | None, approved: frozenset[str]) -> tuple[list[str], str]:
        """One revision may not take away more than a few objects unless a person says so."""
        revision = judged.snapshot.revision
        if last is None or revision in approved:
            return [], ""
        before = resolve((await self.judge(last)).objects).names()
        gone = sorted(before - resolve(judged.objects).names())
        allowed = max(self._limits.removed, int(len(before) * self._limits.removed_percent / 100))
        if len(gone) <= allowed:
            return [], ""
        message = (
            f"cannot apply {revision[:12]}: it removes {len(gone)} of {len(before)} objects at once, "
            f"{allowed} are allowed: {', '.join(gone[:10])}{' …' if len(gone) > 10 else ''}"
        )
        return [message], f"push them back, or if this is meant: jailops approve {revision}"

    async def _parse(self, snapshot: Snapshot) -> tuple[list[Manifest[Any]], list[Problem]]:
        missing = [one for one in snapshot.blobs if _key(one.path, one.blob_id) not in self._parsed]
        blobs = await self._source.read_blobs({one.blob_id for one in missing})
        for one in missing:
            if one.blob_id in blobs.found:
                blob = Blob(one.path, one.blob_id, blobs.found[one.blob_id])
                self._parsed[_key(one.path, one.blob_id)] = parse_blob(blob)
        wanted = {_key(one.path, one.blob_id) for one in snapshot.blobs}
        objects = [manifest for key in sorted(wanted & self._parsed.keys()) for manifest in self._parsed[key][0]]
        problems = [problem for key in sorted(wanted & self._parsed.keys()) for problem in self._parsed[key][1]]
        problems += [_path_problem(one.path, one.message) for one in snapshot.problems]
        problems += [
            _path_problem(one.path, blobs.problems[one.blob_id]) for one in missing if one.blob_id in blobs.problems
        ]
        return objects, problems


def judge_all(
    objects: Sequence[Manifest[Any]], problems: Sequence[Problem], addresses: frozenset[str]
) -> tuple[Problem, ...]:
    """The problems of single files, and what the good objects get wrong among each other.

    While some could not be read, that a name leads nowhere says nothing: it may be one of theirs.
    """
    among = check(objects, addresses)
    return (*problems, *(one for one in among if not problems or not one.expected.startswith(DANGLING)))


def _wanted(judged: Judged) -> Wanted:
    one = judged.snapshot
    return Wanted(one.revision, one.author, one.subject, one.committed_at, resolve(judged.objects))


def _with_hint(reasons: tuple[str, ...], hint: str) -> tuple[str, ...]:
    """What a person can do stands behind the last reason: records, notes and `status` show nothing else."""
    return (*reasons[:-1], f"{reasons[-1]} (what you can do: {hint})") if reasons and hint else reasons


def _key(path: str, blob_id: str) -> str:
    """The same content at two paths gives objects with two origins."""
    return f"{path}\0{blob_id}"


def _path_problem(path: str, message: str) -> Problem:
    return Problem(Origin(path), "", message, "a regular manifest file")
