"""Git, the one place that says what should be: settings in, heads, snapshots and blobs out.

    fetch → Head → accept → proven → snapshot → read       write_note

Only `fetch`, `write_note` and `push_notes` use the network; everything else answers from the mirror, so the last good
revision stays readable while the remote is down. Raises Retry and Stall, never a foreign exception, and never with a
secret in it. The caller keeps the last applied revision in force whatever is raised, and asks again later.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from controller.errors import Misnamed, Retry, Stall
from controller.reader.wire import Unreadable
from controller.source.access import open_access
from controller.source.mirror import HEAD, Mirror
from controller.source.notes import Notes
from controller.source.reading import read_trees
from controller.source.signers import Signers
from controller.source.tree import BadListing, read_listing
from controller.source.trouble import Damaged, last_words, printable, smells_of_damage
from controller.source.values import Accepted, GitSettings, Head, NotePush, Proven, Refused, Snapshot, TreeEntry
from controller.trees import Trees

T = TypeVar("T")

_FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT = re.compile(r"[0-9a-f]{4,64}")
_HEAD_NAME = re.compile(r"HEAD((?:[~^][0-9]{0,4})*)")


class GitSource:
    """One branch of one remote. Raises Stall at once for settings that cannot work."""

    def __init__(self, settings: GitSettings) -> None:
        self._settings = settings
        self._access = open_access(settings)
        self._mirror = Mirror(settings, self._access)
        self._signers = Signers(settings, self._mirror)
        self._last: Snapshot | None = None

    async def fetch(self) -> Head:
        """Ask the remote for the branch. Raises Retry (down, slow, damaged) or Stall (refused, branch gone)."""
        async with self._mirror.locked():
            before = await self._tip()
            await self._mirror.fetch()
            tip = await self._tip()
            if tip is None:
                raise Retry(f"cannot fetch {self._settings.branch} from {self._access.url}: git brought no commit")
            if tip != before:
                await self._mirror.tidy()
        return await self._sound(lambda: self._head(tip))

    async def head(self) -> Head | None:
        """The branch as it was at the last successful fetch; None before the first. No network."""
        tip = await self._tip()
        return await self._sound(lambda: self._head(tip)) if tip else None

    async def resolve(self, name: str) -> str:
        """The full id for ``HEAD``, ``HEAD~2``, the branch's name or an (abbreviated) id. Raises Misnamed. No network."""
        found = await self._commit(self.meant(name))
        if not found:
            raise Misnamed(
                f"cannot find {name!r} in the mirror of {self._access.url}", hint="is it pushed to this branch?"
            )
        return found

    def meant(self, name: str) -> str:
        """What a name of a revision stands for in the mirror. Raises Misnamed when it is no such name."""
        head = _HEAD_NAME.fullmatch(name)
        if head:
            return HEAD + head[1]
        if name == self._settings.branch:
            return HEAD
        if _SHORT.fullmatch(name):
            return name
        raise Misnamed(f"cannot use {name!r} as a revision", hint="a commit id, HEAD, HEAD~1 or the branch's name")

    async def snapshot(self, revision: str) -> Snapshot:
        """The manifest files of a revision that is in the mirror (full id). The same revision is read once only."""
        if not self._last or self._last.revision != revision:
            await self._present(revision)
            self._last = await self._sound(lambda: self._snapshot(revision))
        return self._last

    async def history(self, revision: str, limit: int) -> list[str]:
        """Ids from a revision back along the branch, the newest first: a merge counts as one commit. No network."""
        await self._present(revision)
        done = await self._mirror.git("rev-list", "--first-parent", f"--max-count={limit:d}", _checked(revision), "--")
        return done.text.split()

    async def read(self, entries: Iterable[TreeEntry]) -> Mapping[TreeEntry, Trees | Unreadable]:
        """What files of a snapshot say, read by a process of its own; one that cannot be read stops no other.

        Raises Stall when that process does not come back with an answer.
        """
        wanted = tuple(entries)
        for one in wanted:
            _checked(one.blob_id)
        return await self._sound(lambda: read_trees(self._mirror.repo, wanted, self._settings.max_blob_bytes))

    async def accept(
        self, candidate: str, last_applied: str | None, acknowledged: frozenset[str] = frozenset()
    ) -> Accepted | Refused:
        """May `candidate` follow `last_applied`? Only forward, unless a person named exactly this commit."""
        await self._present(candidate)
        if last_applied is None or last_applied == candidate or candidate in acknowledged:
            return Accepted(candidate)
        _checked(last_applied)
        why = await self._sound(lambda: self._rewritten(candidate, last_applied))
        if not why:
            return Accepted(candidate)
        return Refused(
            candidate,
            "HistoryRewritten",
            f"cannot apply {candidate[:12]}: {why}",
            f"push a commit that contains {last_applied[:12]} (git merge, git revert); "
            f"or, if this was meant: jailops approve {candidate}",
        )

    async def has(self, revision: str) -> bool:
        """Whether a commit, by its full id, is in the mirror. No network."""
        return await self._sound(lambda: self._has_commit(_checked(revision)))

    @property
    def signatures(self) -> bool:
        """Whether the settings want every commit signed."""
        return self._signers.required

    async def proven(self, candidate: str, before: str | None) -> Proven | Refused:
        """Did somebody who may sign every commit since `before` (proven earlier) and the trusted one of the settings?

        Without either it is the whole history. What is not in the mirror any more excludes nothing. No network.
        """
        await self._present(candidate)
        settled = [_checked(one) for one in (before, self._settings.trusted_commit) if one]

        async def judge() -> Proven | Refused:
            there = [one for one in settled if await self._has_commit(one)]
            return await self._signers.judge(candidate, there)

        return await self._sound(judge)

    async def trailers(self, key: str, after: str, until: str) -> list[str]:
        """What the commits that `until` has and `after` has not say in a trailer (git-interpret-trailers(1)). No network."""
        await self._present(until)
        done = await self._mirror.git(
            "log", f"--format=%(trailers:key={key},valueonly)", f"{_checked(after)}..{_checked(until)}", "--"
        )
        return [line.strip() for line in done.text.splitlines() if line.strip()]

    async def write_note(self, revision: str, text: str, ref: str | None = None) -> NotePush:
        """Add `text` (one paragraph) to the commit's note and offer the notes to the remote.

        The note is in the mirror when this returns. Raises Retry or Stall only when not even that was possible.
        """
        notes = self._notes(ref)
        await self._present(revision)

        async def write() -> NotePush:
            async with self._mirror.locked():
                await notes.add(revision, text)
                return await notes.push()

        return await self._sound(write)

    async def push_notes(self, ref: str | None = None) -> NotePush:
        """Offer notes that an earlier pass could not push."""
        notes = self._notes(ref)

        async def push() -> NotePush:
            async with self._mirror.locked():
                return await notes.push()

        return await self._sound(push)

    def _notes(self, ref: str | None) -> Notes:
        name = ref or self._settings.notes_ref
        if not re.fullmatch(r"refs/notes/[A-Za-z0-9_-]+", name):
            raise Stall(f"cannot keep notes in {name!r}", hint="a name such as refs/notes/jailops")
        return Notes(self._mirror, self._settings.url, name)

    async def _tip(self) -> str | None:
        return await self._commit(HEAD)

    async def _commit(self, name: str) -> str | None:
        done = await self._mirror.git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", may_fail=True)
        return None if done.exit else done.text

    async def _present(self, revision: str) -> str:
        """The revision, if it is a full id and in the mirror. One that is missing is no damage."""
        if not await self._sound(lambda: self._has_commit(_checked(revision))):
            raise Stall(
                f"cannot find revision {revision[:12]} in the mirror of {self._access.url}",
                hint="the history was rewritten, or git.url changed; choose a revision that the branch contains",
            )
        return revision

    async def _snapshot(self, revision: str) -> Snapshot:
        head = await self._head(revision)
        listing = await self._mirror.git(
            "ls-tree", "-r", "-z", "-l", "--full-tree", revision, max_output=self._settings.max_listing_bytes
        )
        try:
            blobs, problems = read_listing(listing.stdout)
        except BadListing as exc:
            raise Damaged(f"the listing of {revision[:12]} holds {exc}") from exc
        return Snapshot(head.revision, head.author, head.email, head.subject, head.committed_at, blobs, problems)

    async def _rewritten(self, candidate: str, last: str) -> str:
        """Why the candidate is no continuation; empty when it is one."""
        if not await self._has_commit(last):
            return (
                f"the last applied revision {last[:12]} is not in the repository any more: nothing shows what is lost"
            )
        if await self._contains(candidate, last):
            return ""
        lost = (await self._mirror.git("rev-list", "--count", f"{candidate}..{last}", "--")).text
        if await self._contains(last, candidate):
            return f"the branch was set back to it, {lost} commit(s) behind the last applied revision {last[:12]}"
        return f"the history was rewritten and lacks {lost} commit(s), the last applied revision {last[:12]} among them"

    async def _head(self, revision: str) -> Head:
        """A commit's author and subject. Raises Damaged when it is not there."""
        form = "%H%x00%an%x00%ae%x00%ct%x00%s"
        done = await self._mirror.git("log", "--max-count=1", "--no-show-signature", f"--format={form}", revision, "--")
        try:
            name, author, email, committed, subject = done.text.split("\0")
            return Head(name, printable(author), printable(email), printable(subject), float(committed))
        except ValueError as exc:
            raise Damaged(f"commit {revision[:12]} has no author or no date") from exc

    async def _has_commit(self, revision: str) -> bool:
        """False too while there is no mirror yet."""
        if not self._mirror.repo.exists():
            return False
        done = await self._mirror.git("cat-file", "-t", revision, may_fail=True)
        if done.exit and smells_of_damage(done.stderr):
            raise Damaged(last_words(done.stderr))
        return done.text == "commit"

    async def _contains(self, new: str, old: str) -> bool:
        """True when `new` contains `old`, or is the same."""
        done = await self._mirror.git("merge-base", "--is-ancestor", old, new, may_fail=True)
        if done.exit > 1:
            raise Damaged(last_words(done.stderr))
        return done.exit == 0

    async def _sound(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask; if the mirror turns out damaged, replace it by a new clone and ask once more."""
        for attempt in range(3):
            try:
                return await question()
            except Damaged as exc:
                damage = exc
            if attempt == 1:  # once may be a reader that met the swap; twice is damage
                async with self._mirror.locked():
                    await self._mirror.replace()
        raise Retry(f"cannot read the mirror of {self._access.url}, not even cloned anew: {damage}") from damage


def _checked(object_id: str) -> str:
    if not _FULL.fullmatch(object_id):
        raise Stall(f"cannot use {object_id[:80]!r}: not a full commit or blob id", hint="40 hexadecimal digits")
    return object_id
