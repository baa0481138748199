"""Which revision is in force: fetch, judge, and keep the last good one whenever the new one must not be believed.

In: the Git source and the store. Out: `Wanted`, always a complete set of checked objects, with the reasons why a newer
commit was refused. An unreadable, invalid, emptied or rewritten revision removes nothing: the last applied one stays in
force and its drift is still repaired.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from random import uniform
from time import monotonic, time
from typing import Any

import structlog

from controller.errors import FAULT, ControllerError, Misnamed, Retry, Stall, StoreUnusable
from controller.graph import Desired, resolve
from controller.manifests import MAX_TOTAL_BYTES, Loaded, Manifest, Problem, check, judged, together, unread
from controller.model import Origin, Record
from controller.reader.wire import Unreadable
from controller.removal import Limits, lost_disks, protected, removal, renamed, too_much
from controller.source import GitSource, Head, Refused, Snapshot, TreeEntry
from controller.store import Store
from controller.trees import Trees

log = structlog.get_logger(__name__)


TRAILER = "Allow-Delete"
"""The line at the end of a commit message that lets one removal through."""

_REVISIONS = 3
"""How many revisions' files stay parsed, at least."""

_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
"""Seconds before Git is asked again that could not be, doubled each time; give or take a fifth: many do not ask at once."""

_NOTES_KEPT = 100
"""Notes that wait for Git to be there again; the store has all of them as records."""

_READ_AGAIN = 600.0
"""Seconds before a revision is read again that could not be."""

_GIT_HINT = "check [git] in jailops.toml, url and key_file or token_file, and the network from here to that host"


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
    questions: tuple[str, ...] = ()
    """What a person may not have meant, although it is allowed."""
    counted: tuple[str, ...] = ()
    """The objects that this revision removes within the budget of the day."""
    signer: str = ""
    """Who signed the revision, where signatures are asked for."""


@dataclass(frozen=True)
class Judged:
    """One revision, read and checked."""

    snapshot: Snapshot
    objects: tuple[Manifest[Any], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Objection:
    """What speaks against a revision, if anything does."""

    reasons: tuple[str, ...] = ()
    hint: str = ""
    approvable: str = ""
    """What a person names to lift it: the commit, or the removal. Empty when nobody can."""


class Revisions:
    """The one reader of Git. Parsed files are cached by blob id, so a pass costs what changed."""

    def __init__(
        self, source: GitSource, store: Store, limits: Limits, *, notes: bool = True, patience: float | None = None
    ) -> None:
        """`patience`: seconds that a pass waits for the remote while a revision is in force; None: until it answers."""
        self._patience = patience
        self._fetching: asyncio.Task[Head] | None = None
        self._failures = 0
        self._ask_again = 0.0
        self._source = source
        self._store = store
        self._limits = limits
        self._notes = notes
        self._parsed: dict[str, Loaded] = {}
        self._born = time() - monotonic()
        self._unread: dict[str, tuple[float, Stall]] = {}
        self.git_error = ""
        self._git_hint = ""
        self.fetched_at = 0.0
        self.committed_at = 0.0
        """Commit time of the revision in force."""

    async def close(self) -> None:
        """Ends what still waits for the remote."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    async def wanted(self, *, at_once: bool = True) -> Wanted:
        """Fetch and decide what is in force. Raises Retry or Stall only when no revision was ever good.

        Without `at_once` a remote that could not be asked is left alone for a while.
        """
        wanted = await self._wanted(at_once)
        self.committed_at = wanted.committed_at
        return wanted

    async def _wanted(self, at_once: bool) -> Wanted:
        last = self._store.get("revision") or None
        candidate = await self._fetch(at_once, self._patience if last else None)
        if candidate is None or candidate == last:
            if candidate:
                self._approvable("")
            return await self._in_force(last)
        try:
            objection = await self._distrusted(candidate, last)
            if not objection.reasons:
                judged = await self.judge(candidate)
                objection, counted = await self._objections(judged, last)
            self._approvable(objection.approvable)
        except StoreUnusable:
            raise
        except (Retry, Stall) as error:
            return await self._in_force(last, str(error), getattr(error, "hint", ""), candidate)
        except Exception as error:
            log.exception("revision cannot be judged", revision=candidate)
            why = f"cannot judge {candidate[:12]}: {type(error).__name__}"
            return await self._in_force(last, why, FAULT, candidate)
        if objection.reasons:
            return await self._in_force(last, objection.reasons, objection.hint, candidate)
        return replace(
            _wanted(judged),
            counted=counted,
            signer=self._signer(candidate),
            questions=await self.questions(judged),
        )

    async def judge(self, revision: str) -> Judged:
        """Read and check one revision that is in the mirror."""
        snapshot = await self._source.snapshot(revision)
        loaded = await self._parse(snapshot)
        return Judged(snapshot, loaded.objects, judge_all(loaded, self._limits.addresses))

    async def judge_named(self, name: str) -> Judged:
        """Read and check a revision by any name, after asking the remote once. Raises Misnamed when there is none."""
        self._source.meant(name)
        asked = await self._fetch(True, None) is not None
        try:
            revision = await self._source.resolve(name)
        except Misnamed as error:
            if asked:
                raise
            # It may be there: only the mirror was read.
            raise Stall(f"{error}, and Git cannot be asked: {self.git_error}", hint=self._git_hint) from error
        return await self.judge(revision)

    async def history(self, newest: str, limit: int) -> AsyncIterator[tuple[Snapshot, tuple[Manifest[Any], ...]]]:
        """The revisions of the branch that could have been in force, from `newest` on back."""
        for revision in await self._source.history(newest, limit):
            judged = await self.judge(revision)
            if judged.objects and not judged.problems:
                yield judged.snapshot, judged.objects

    async def named(self, name: str = "") -> Wanted:
        """What a revision asks for; without a name, what is in force now. Raises Stall for a bad one."""
        if not name:
            return await self.wanted()
        judged = await self.judge_named(name)
        if judged.problems:
            raise Stall(
                f"cannot use {name}: " + "; ".join(str(one) for one in judged.problems), hint=f"jailops check {name}"
            )
        return replace(_wanted(judged), questions=await self.questions(judged))

    async def questions(self, judged: Judged) -> tuple[str, ...]:
        """What a person may not have meant by a revision, compared with what is applied now."""
        before = await self.last()
        return tuple(renamed(before, resolve(judged.objects))) if before else ()

    async def _desired(self, revision: str) -> Desired:
        return resolve((await self.judge(revision)).objects)

    async def last(self) -> Desired | None:
        """What the last pass brought the machines to; None before the first one, or when it is nowhere any more."""
        revision = self._store.get("revision")
        return await self._desired(revision) if revision and await self._source.has(revision) else None

    async def applied(self, wanted: Wanted, record: Record) -> None:
        """The pass has run: remember the revision, and put the record on its commit when there is something to tell."""
        from controller.said import note

        before = self._store.get("revision")
        if before != wanted.revision:
            self._store.removed(wanted.counted, wanted.revision, self._now())
        self._store.put("revision", wanted.revision)
        if before != wanted.revision:
            # Also those for a push that somebody replaced meanwhile: an approval is for what was refused then.
            self._store.done_request("approve", self._store.requests("approve"))
        told = f"{wanted.revision} {wanted.candidate} {record.result} {' '.join((*record.refused, *record.pinned))}"
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
        """Notes are written when Git is there: a remote that does not answer must not hold up a pass."""
        waiting: list[tuple[str, str]] = [*json.loads(self._store.get("untold", "[]")), (revision, text)]
        away = self._fetching is not None or bool(self.git_error)
        self._store.put("untold", json.dumps(waiting[-_NOTES_KEPT:] if away else []))
        for one in () if away else waiting:
            await self._put_note(*one)

    async def _put_note(self, revision: str, text: str) -> None:
        try:
            push = await self._source.write_note(revision, text)
        except ControllerError as error:
            log.warning("note not written", revision=revision, reason=str(error))
            return
        except Exception:
            log.exception("note not written", revision=revision)
            return
        if not push.pushed:
            log.info("note kept in the mirror only", revision=revision, reason=push.reason)

    async def _fetch(self, at_once: bool, patience: float | None) -> str | None:
        """The tip of the branch; None when Git cannot be asked now.

        A remote that does not answer is waited for in the background: drift is repaired meanwhile.
        """
        earlier = None
        if self._fetching is not None:
            if not await self._answered(patience):
                return None
            earlier = self._taken()  # it may be older than the push that this look is about
        if not at_once and monotonic() < self._ask_again:
            return earlier
        self._fetching = asyncio.create_task(self._source.fetch(), name="fetch")
        return self._taken() if await self._answered(patience) else earlier

    async def _answered(self, patience: float | None) -> bool:
        assert self._fetching is not None
        if not (await asyncio.wait({self._fetching}, timeout=patience))[0]:
            self._git_hint = _GIT_HINT
            self._note_git(f"the remote has not answered within {patience:g} s; it is waited for in the background")
            return False
        return True

    def _taken(self) -> str | None:
        """What the fetch that has ended brought."""
        assert self._fetching is not None
        fetched, self._fetching = self._fetching, None
        try:
            head = fetched.result()
        except ControllerError as error:
            pause = min(_PAUSE * 2.0**self._failures, _LONGEST_PAUSE)
            self._failures += 1
            self._ask_again = monotonic() + pause * uniform(0.8, 1.2)
            self._git_hint = getattr(error, "hint", "") or _GIT_HINT
            self._note_git(str(error))
            log.warning("git", problem=str(error), asked_again_in=round(pause))
            return None
        except Exception as error:
            self._git_hint = FAULT
            self._note_git(f"cannot fetch: {type(error).__name__}")
            log.exception("git")
            return None
        self._failures, self._ask_again = 0, 0.0
        self._note_git("")
        self.fetched_at = time()
        return head.revision

    def _note_git(self, error: str) -> None:
        """Kept for `jailops status`, which reads the store alone."""
        self.git_error = error
        if error != self._store.get("git_error"):
            self._store.put("git_error", error)

    def _approvable(self, revision: str) -> None:
        """Which commit or removal an operator may let through now: `jailops approve` reads it from the store."""
        if revision != self._store.get("approvable"):
            self._store.put("approvable", revision)

    async def _in_force(
        self, last: str | None, refused: str | Sequence[str] = (), hint: str = "", candidate: str = ""
    ) -> Wanted:
        reasons = (refused,) if isinstance(refused, str) else tuple(refused)
        if last is None and not candidate:
            raise Stall(f"cannot begin: no revision was ever read: {self.git_error}", hint=self._git_hint)
        if last is None:
            await self._tell_once(candidate, reasons)
            raise Stall(
                "cannot begin: no revision is good enough to apply: " + "; ".join(reasons),
                hint=hint or "jailops check says what is wrong with the manifests",
            )
        return replace(
            await self._kept(last, reasons, hint),
            refused=_with_hint(reasons, hint),
            hint=hint,
            candidate=candidate,
            git_error=self.git_error,
            signer=self._signer(last),
        )

    async def _kept(self, last: str, reasons: Sequence[str], hint: str) -> Wanted:
        """The revision in force. It may be nowhere any more, when the remote and the mirror were both made anew."""
        try:
            return _wanted(await self.judge(last))
        except Stall as error:
            if await self._source.has(last):
                raise
            why = "; ".join(reasons) or f"Git cannot be asked: {self.git_error}"
            gone = f"cannot go on: {last[:12]}, which is in force, is nowhere any more"
            raise Stall(f"{gone}: {why}", hint=hint or self._git_hint or error.hint) from error

    async def _distrusted(self, candidate: str, last: str | None) -> Objection:
        """What speaks against a commit before anything in it is read: where it stands in the history, and who signed."""
        forward = await self._source.accept(candidate, last, frozenset(self._store.requests("approve")))
        if isinstance(forward, Refused):
            return Objection((f"{forward.reason}: {forward.message}",), forward.hint, candidate)
        before, _, _ = self._store.get("signed").partition(" ")
        if not self._source.signatures or before == candidate:
            return Objection()
        proven = await self._source.proven(candidate, before or None)
        if isinstance(proven, Refused):
            return Objection((f"{proven.reason}: {proven.message}",), proven.hint)
        self._store.put("signed", f"{candidate} {proven.signer}")
        return Objection()

    def _signer(self, revision: str) -> str:
        """Who signed a revision that was proven last."""
        proven, _, signer = self._store.get("signed").partition(" ")
        return signer if proven == revision and self._source.signatures else ""

    async def _objections(self, judged: Judged, last: str | None) -> tuple[Objection, tuple[str, ...]]:
        """Why what a revision says must not be applied; and what it removes that counts against the day's budget."""
        revision = judged.snapshot.revision
        if judged.problems:
            told = tuple(str(problem) for problem in judged.problems)
            return Objection(told, f"jailops check {revision[:12]} shows them all"), ()
        if not judged.objects:
            return Objection(
                (f"cannot apply {revision[:12]}: it holds no manifest at all",), "push the manifests again"
            ), ()
        return await self._removing(judged, last)

    async def _removing(self, judged: Judged, last: str | None) -> tuple[Objection, tuple[str, ...]]:
        """No disk may be lost by a name, nothing may go that is protected, and neither one revision nor many in a day may
        take away more than a few objects, unless a person named this removal."""
        if last is None or not await self._source.has(last):
            return Objection(), ()  # A person has let this very commit through: nothing shows what it lacks.
        revision = judged.snapshot.revision
        before, after = await self._desired(last), resolve(judged.objects)
        cannot = f"cannot apply {revision[:12]}"
        if lost := list(lost_disks(before, after)):
            hint = "under another name a host gets an empty disk; to begin anew with one, remove the host first"
            return Objection((f"{cannot}: {'; '.join(lost)}",), hint), ()
        gone = removal(before.names(), after.names())
        if kept := protected(gone, before):
            hint = "; ".join(
                [*renamed(before, after), "push protect: false for it first, and the removal when that is applied"]
            )
            return Objection((f"{cannot}: it removes what is protected: {', '.join(kept)}",), hint), ()
        now = self._now()
        why = too_much(gone, self._store.removed_at(now), self._limits, now)
        if not why:
            return Objection(), gone.names
        approved = {*self._store.requests("approve"), *await self._source.trailers(TRAILER, last, revision)}
        if gone.plan in approved:
            return Objection(), ()
        hint = "; ".join(
            (
                *renamed(before, after),
                f"push them back, or if this is meant: jailops approve {gone.plan}, "
                f"or push a commit whose message ends with the line {TRAILER}: {gone.plan}",
            )
        )
        return Objection((f"{cannot}: {why}",), hint, gone.plan), ()

    def _forget(self, used: Set[str]) -> None:
        """Of what was parsed stays what was used last, for a few revisions: a file is another one with every commit."""
        for key in sorted(used & self._parsed.keys()):
            self._parsed[key] = self._parsed.pop(key)
        for key in list(self._parsed)[: -_REVISIONS * max(len(used), 10)]:
            del self._parsed[key]

    def _now(self) -> float:
        """The time of day by which the budget goes: setting the clock forward makes no new day."""
        return min(time(), self._born + monotonic())

    async def _parse(self, snapshot: Snapshot) -> Loaded:
        missing = [one for one in snapshot.blobs if _key(one.path, one.blob_id) not in self._parsed]
        total = sum(one.size for one in snapshot.blobs)
        if total > MAX_TOTAL_BYTES:
            found, expected = f"{total} bytes of manifests", f"at most {MAX_TOTAL_BYTES // 2**20} MiB altogether"
            largest = max(snapshot.blobs, key=lambda one: one.size)
            return unread(Problem(Origin(largest.path), "", f"{found}, {largest.size} of them here", expected))
        files = []
        for one, said in (await self._read(snapshot.revision, missing)).items():
            if isinstance(said, Unreadable):
                files.append(_not_read(one.path, said.message))
            else:
                self._parsed[_key(one.path, one.blob_id)] = judged(one.path, said)
        wanted = {_key(one.path, one.blob_id) for one in snapshot.blobs}
        files += [self._parsed[key] for key in sorted(wanted & self._parsed.keys())]
        self._forget(wanted)
        files += [_not_read(one.path, one.message) for one in snapshot.problems]
        return together(files)

    async def _read(self, revision: str, entries: Sequence[TreeEntry]) -> Mapping[TreeEntry, Trees | Unreadable]:
        """What breaks its reader is not given to it in every pass; but what is in force is always asked for."""
        until, error = self._unread.get(revision, (0.0, None))
        if error and monotonic() < until and revision != self._store.get("revision"):
            raise error
        try:
            return await self._source.read(entries)
        except Stall as stall:
            self._unread = {revision: (monotonic() + _READ_AGAIN, stall)}
            raise


def judge_all(loaded: Loaded, addresses: frozenset[str]) -> tuple[Problem, ...]:
    """The problems of single files, and what their objects get wrong among each other."""
    return (*loaded.problems, *check(loaded.objects, addresses, loaded.drafts))


def _wanted(judged: Judged) -> Wanted:
    one = judged.snapshot
    desired = replace(resolve(judged.objects), revision=one.revision)
    return Wanted(one.revision, one.author, one.subject, one.committed_at, desired)


def _with_hint(reasons: tuple[str, ...], hint: str) -> tuple[str, ...]:
    """What a person can do stands behind the last reason: records, notes and `status` show nothing else."""
    return (*reasons[:-1], f"{reasons[-1]} (what you can do: {hint})") if reasons and hint else reasons


def _key(path: str, blob_id: str) -> str:
    """The same content at two paths gives objects with two origins."""
    return f"{path}\0{blob_id}"


def _not_read(path: str, message: str) -> Loaded:
    return unread(Problem(Origin(path), "", f"a file that {message}", "a regular manifest file"))
