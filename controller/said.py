"""A pass in words: the record, its one sentence, and the text that goes on the commit as a Git note.

Pure. A record holds no facts of machines beyond what messages say, and never a secret.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from controller.diff import Verdict, held_status
from controller.encode.names import safename
from controller.graph import Desired
from controller.model import Hold, Outcome, PassResult, Plan, Record, State, Status
from controller.revision import Wanted


def record(
    wanted: Wanted,
    trigger: str,
    verdict: Verdict,
    plan: Plan,
    outcomes: Sequence[Outcome],
    started: float,
    seconds: float,
) -> Record:
    """Settle what the pass came to. `verdict` and `plan` are those of its last look."""
    statuses = dict(verdict.statuses)
    for hold in plan.held:
        statuses[hold.ref] = held_status(statuses[hold.ref], hold)
    result = _result(wanted, list(statuses.values()), outcomes)
    unmanaged = _unmanaged(list(statuses.values()), wanted.desired)
    return Record(
        revision=wanted.revision,
        author=wanted.author,
        subject=wanted.subject,
        trigger=trigger,
        started=started,
        seconds=seconds,
        said=sentence(result, statuses.values(), outcomes, wanted.refused),
        result=result,
        outcomes=tuple(outcomes),
        held=plan.held,
        refused=wanted.refused,
        unmanaged=unmanaged,
        statuses=tuple(_of_nobody(statuses[ref], unmanaged) for ref in sorted(statuses)),
        signer=wanted.signer,
        later=tuple(f"{one.change.ref}: {one.summary} ({one.change.cause})" for one in plan.later),
    )


def _unmanaged(statuses: Sequence[Status], desired: Desired) -> tuple[str, ...]:
    """What was seen and is nobody's of ours. Drivers name what is not their own object; what is another object's, retired
    ones too, is left out here."""
    found = {name for one in statuses for name in one.detail.get("unmanaged", ())}
    jails = (one.ref.name.partition("/") for one in statuses if one.ref.kind == "jail")
    ours = {f"jail {safename(name)} on {host}" for host, _, name in jails}
    hosts = {one.ref.name for one in statuses if one.ref.kind == "lun"} | {
        desired.kept_as(one) for one in desired.hosts
    }
    for kind, mark in (("target", ":"), ("volume", "/")):
        ends = tuple(f"{mark}{host}" for host in hosts)
        ours |= {name for name in found if name.startswith(f"{kind} ") and name.rpartition(" on ")[0].endswith(ends)}
    return tuple(sorted(found - ours))


def _of_nobody(status: Status, unmanaged: Sequence[str]) -> Status:
    """With what is nobody's of ours alone."""
    if "unmanaged" not in status.detail:
        return status
    seen = [name for name in status.detail["unmanaged"] if name in unmanaged]
    return replace(status, detail={**status.detail, "unmanaged": seen})


def _result(wanted: Wanted, statuses: Sequence[Status], outcomes: Sequence[Outcome]) -> PassResult:
    """The worst that holds: a refused revision stops nothing, and hides no failure."""
    states = {status.state for status in statuses}
    if states & {"Failed", "NotConverging", "Contested", "Stalled"} or any(
        one.result == "indeterminate" for one in outcomes
    ):
        return "failed"
    if wanted.refused:
        return "refused"
    if states & {"Unknown"}:
        return "held"
    if states - {"Ready", "Retired"}:
        return "progressing"
    return "converged"


def sentence(result: str, statuses: Iterable[Status], outcomes: Sequence[Outcome], refused: Sequence[str]) -> str:
    """The whole pass in one line."""
    done = [one for one in outcomes if one.result == "done"]
    failed = [one for one in outcomes if one.result in ("failed", "indeterminate")]
    parts = [f"{len(done)} done" if done else "nothing to do"]
    parts += [f"{len(failed)} failed ({first.ref}: {first.message})" for first in failed[:1]]
    counts = Counter(status.state for status in statuses)
    parts += [f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state]]
    parts += [f"revision refused: {first}" for first in refused[:1]]
    return f"{result}: {', '.join(parts)}"


_WORDS: Mapping[State, str] = {
    "Changing": "under way",
    "Waiting": "waiting",
    "Unknown": "unknown",
    "Stalled": "for a person to look at",
    "Failed": "failing",
    "NotConverging": "not converging",
    "Contested": "contested",
    "Drifted": "drifted",
}


def note(record: Record) -> str:
    """The audit entry for `git log --notes=jailops`: what was asked, done, planned for later, refused and left, with seconds."""
    lines = [f"{record.said} [{record.trigger}, {record.seconds:.1f} s]"]
    lines += [f"  signed by     {record.signer}"] * bool(record.signer)
    for one in record.outcomes:
        lines.append(f"  {one.result:<13} {one.ref}: {one.summary} ({one.cause}, {one.seconds:.1f} s)")
        lines += [f"                {one.message}"] * bool(one.message)
        for step in one.steps:
            status = "end not seen" if step.status is None else f"exit {step.status}"
            lines.append(f"    - {step.label} on {step.host}: {status}, {step.seconds:.1f} s")
    lines += [f"  then          {planned}" for planned in record.later]
    lines += [f"  refused       {message}" for message in record.refused]
    lines += [f"  pinned        {message}" for message in record.pinned]
    lines += [f"  {why:<13} {names}: {message}" for why, names, message, _ in grouped(record.held)]
    return "\n".join(lines)


def grouped(held: Iterable[Hold]) -> list[tuple[str, str, str, str]]:
    """Why, names, message, hint: objects that are held for one reason are told once, a silent host above all."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for hold in held:
        message = _NEXT_TRY.sub("", hold.message)
        why = "under way" if hold.why == "busy" else hold.why
        groups.setdefault((why, message, hold.hint), []).append(str(hold.ref))
    return [(why, _few(names), message, hint) for (why, message, hint), names in groups.items()]


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


_NEXT_TRY = re.compile(r" \(next try in \d+ s\)$")
