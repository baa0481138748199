"""The audit trail as Git notes: a paragraph per pass on the commit it applied, in the mirror and offered to the remote.

A note is a list of entries with a blank line between. Entries are only added, so two writers are reconciled entry by
entry: no local entry is ever lost, no remote one overwritten, and writing the same entry twice adds it once. A remote
may refuse notes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from controller.errors import ControllerError
from controller.source.mirror import Mirror
from controller.source.trouble import explain, printable
from controller.source.values import NotePush

_THEIRS = "refs/notes/jailops-remote"
_BEHIND = re.compile(
    r"\[rejected\]|fetch first|non-fast-forward|incorrect old value|cannot lock ref|failed to update ref"
)
_REFUSED = re.compile(r"\[remote rejected\] \((?P<why>.*)\)")
_ATTEMPTS = 3
_LIMIT = 128 * 1024
"""Bytes of one note. Beyond it the oldest entries leave the note and stay in its history."""
_CUT = "(older entries: git log -p {ref})"


def entries_of(note: str) -> tuple[str, ...]:
    """The paragraphs of a note."""
    return tuple(part.strip("\n") for part in re.split(r"\n[ \t]*\n", note) if part.strip())


def one_entry(text: str) -> str:
    """A text as one paragraph: without blank lines, control characters other than newline, and trailing blanks."""
    lines = (
        printable(line.rstrip(), 1000) if line[:1] != " " else "  " + printable(line, 1000)
        for line in text.splitlines()
    )
    return "\n".join(line for line in lines if line.strip())


def joined(first: tuple[str, ...], second: tuple[str, ...], ref: str) -> str:
    """Both lists, `first` first, every entry once, cut at the front to the size limit."""
    cut = _CUT.format(ref=ref)
    entries = [entry for entry in dict.fromkeys((*first, *second)) if entry != cut]
    was_cut = cut in first or cut in second
    while len(entries) > 1 and sum(len(entry.encode()) + 2 for entry in entries) > _LIMIT:
        entries.pop(0)
        was_cut = True
    return "\n\n".join([cut, *entries] if was_cut else entries) + "\n"


@dataclass(frozen=True, slots=True)
class Notes:
    """The notes of one ref in one mirror. The caller holds the mirror's lock."""

    mirror: Mirror
    url: str
    ref: str

    async def add(self, revision: str, text: str) -> None:
        """Add an entry to the commit's note. Does nothing when it is there already."""
        have = await self._note(self.ref, revision)
        entry = one_entry(text)
        if entry and entry not in have:
            await self._put(revision, joined(have, (entry,), self.ref))

    async def push(self) -> NotePush:
        """Offer our notes to the remote, joined with what others wrote there. Refusal is a result, not an error."""
        try:
            for _ in range(_ATTEMPTS):
                done = await self.mirror.remote(
                    "push the notes",
                    "push",
                    "--quiet",
                    "--porcelain",
                    "--no-verify",
                    "--",
                    self.url,
                    f"{self.ref}:{self.ref}",
                )
                if done.exit == 0:
                    return NotePush(True)
                said = f"{done.text}\n{done.stderr}"
                if not _BEHIND.search(said):
                    return NotePush(False, _refusal(said))
                await self._join_theirs()
        except ControllerError as exc:
            return NotePush(False, str(exc))
        return NotePush(False, "others write notes there all the time; the next pass offers ours again")

    async def _join_theirs(self) -> None:
        """Fetch the remote's notes and make ours contain them. Ours move forward only."""
        fetched = await self.mirror.remote(
            "fetch the notes", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
            "--", self.url, f"+{self.ref}:{_THEIRS}",
        )  # fmt: skip
        if fetched.exit:
            raise explain("fetch the notes", fetched.stderr)
        ours, theirs = await self._list(self.ref), await self._list(_THEIRS)
        both = {revision for revision in ours.keys() & theirs.keys() if ours[revision] != theirs[revision]}
        union = {r: joined(await self._note(_THEIRS, r), await self._note(self.ref, r), self.ref) for r in sorted(both)}
        await self.mirror.git("notes", f"--ref={self.ref}", "merge", "--quiet", "--strategy=ours", _THEIRS)
        for revision, text in union.items():
            await self._put(revision, text)

    async def _list(self, ref: str) -> dict[str, str]:
        """Note blob by annotated commit."""
        done = await self.mirror.git("notes", f"--ref={ref}", "list", max_output=64 * 1024 * 1024)
        pairs = (line.split() for line in done.text.splitlines())
        return {revision: blob for blob, revision in pairs}

    async def _note(self, ref: str, revision: str) -> tuple[str, ...]:
        found = await self.mirror.git("notes", f"--ref={ref}", "list", revision, may_fail=True)
        if found.exit:
            return ()
        return entries_of((await self.mirror.git("cat-file", "blob", found.text)).stdout.decode("utf-8", "replace"))

    async def _put(self, revision: str, text: str) -> None:
        blob = await self.mirror.git("hash-object", "-w", "--stdin", stdin=text.encode())
        await self.mirror.git("notes", f"--ref={self.ref}", "add", "--force", "-C", blob.text, revision)


def _refusal(said: str) -> str:
    refused = _REFUSED.search(said)
    return f"the remote refuses notes: {printable(refused['why'])}" if refused else str(explain("push the notes", said))
