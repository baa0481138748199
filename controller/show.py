"""What the commands print: plans, records, statuses, as text for people and as data for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from controller.drivers import Changed
from controller.explain import Explained
from controller.manifests import Blob, Problem, load, together, unread, wanted
from controller.metrics import HOPS
from controller.model import Action, Difference, Origin, Plan, Record
from controller.reconcile import Look
from controller.revision import Wanted, judge_all
from controller.said import grouped
from controller.store import Store

_COLOURS = {
    "Ready": "green",
    "Retired": "dim",
    "Changing": "cyan",
    "Waiting": "yellow",
    "Drifted": "yellow",
    "Unknown": "magenta",
    "Failed": "red",
    "Stalled": "red",
    "NotConverging": "red",
    "Contested": "red",
}
_BAR = 24


def check_directory(directory: Path, addresses: frozenset[str]) -> tuple[int, tuple[Problem, ...]]:
    """Load and check a directory of manifests as a revision would be; a link is a problem there, too."""
    names = {path: path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*"))}
    files = {path: name for path, name in names.items() if wanted(name) and (path.is_file() or path.is_symlink())}
    links = [
        unread(Problem(Origin(name), "", "a symbolic link", "the file itself: links are never followed"))
        for path, name in files.items()
        if path.is_symlink()
    ]
    loaded = load([Blob(name, "", path.read_bytes()) for path, name in files.items() if not path.is_symlink()])
    problems = judge_all(together([loaded, *links]), addresses)
    if not loaded.objects and not problems:
        return 0, (Problem(Origin(str(directory)), "", "no manifest at all", "*.yaml files with manifests"),)
    return len(loaded.objects), problems


@dataclass(frozen=True)
class Planned:
    """What `jailops plan` has found out."""

    wanted: Wanted
    look: Look
    plan: Plan
    fields: tuple[Changed, ...] = ()
    """What the revision changes in the manifests of hosts and jails, against the one that was applied last."""


def plan(console: Console, made: Planned) -> None:
    """What would be done, in order, and what not; first of all, whether it is for the newest revision, and what that changes."""
    wanted, look, planned = made.wanted, made.look, made.plan
    for message in (*wanted.refused, *([f"Git cannot be asked: {wanted.git_error}"] if wanted.git_error else [])):
        console.print("[red]refused[/]" if message in wanted.refused else "[red]stale[/]", end=" ")
        console.print(f"{message}; this is the plan for {wanted.revision[:12]}", markup=False)
    for question in wanted.questions:
        console.print("[yellow]meant?[/]", end=" ")
        console.print(question, markup=False)
    for changed in made.fields:
        console.print(f"[cyan]~[/] [bold]{changed.name}[/]", end=" ")
        console.print(f"changed in {changed.origin}", markup=False)
        _differences(console, changed.fields)
    ready = len(look.verdict.ready)
    if not planned.actions and not planned.later and not planned.held:
        console.print(f"nothing to do: {ready} objects are as the manifests want them")
        return
    for action in planned.actions:
        _action(console, action, "+")
    for action in planned.later:
        _action(console, action, "then")
    for why, names, message, hint in grouped(planned.held):
        console.print(f"[yellow]-[/] {names}: [yellow]{why}[/]", end=" ")
        console.print(message, markup=False)
        if hint:
            console.print(f"    what you can do: {hint}", markup=False)
    console.print(
        f"{len(planned.actions)} now, {len(planned.later)} after those, {len(planned.held)} held, {ready} ready"
    )


def _action(console: Console, action: Action, sign: str) -> None:
    risk = "" if action.risk == "none" else f" [red]({action.risk})[/]"
    console.print(f"[green]{sign}[/] [bold]{action.change.ref}[/]{risk}", end=" ")
    console.print(action.summary, markup=False)
    where = action.change.resource.origin
    place = f", {where}" if where.path else ""
    console.print(f"    {action.change.cause}: {action.reason}{place}", markup=False)
    _differences(console, action.inputs)


def _differences(console: Console, found: Sequence[Difference]) -> None:
    for one in found:
        what = f"{one.input}: {one.before or '(nothing)'} -> {one.after or '(nothing)'}"
        console.print(f"      {what} [{one.effect.says}]", markup=False)


def plan_data(made: Planned) -> dict[str, Any]:
    wanted, look, planned = made.wanted, made.look, made.plan

    def told(actions: Sequence[Action]) -> list[dict[str, Any]]:
        return [
            {
                "object": str(one.change.ref),
                "summary": one.summary,
                "reason": one.reason,
                "risk": one.risk,
                "cause": one.change.cause,
                "origin": str(origin) if (origin := one.change.resource.origin).path else "",
                "inputs": _difference_data(one.inputs),
            }
            for one in actions
        ]

    return {
        "revision": wanted.revision,
        "refused": list(wanted.refused),
        "gitError": wanted.git_error,
        "questions": list(wanted.questions),
        "changed": [
            {"object": one.name, "origin": str(one.origin), "fields": _difference_data(one.fields)}
            for one in made.fields
        ],
        "now": told(planned.actions),
        "later": told(planned.later),
        "held": [asdict(hold) | {"ref": str(hold.ref)} for hold in planned.held],
        "ready": sorted(str(ref) for ref in look.verdict.ready),
    }


def _difference_data(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [one._asdict() | {"effect": one.effect._asdict()} for one in found]


def record(console: Console, made: Record) -> None:
    """One pass, for somebody who asked for it."""
    for outcome in made.outcomes:
        colour = "green" if outcome.result == "done" else "red"
        console.print(f"[{colour}]{outcome.result:<6}[/] [bold]{outcome.ref}[/]", end=" ")
        console.print(f"{outcome.summary} ({outcome.seconds:.1f} s)", markup=False)
        if outcome.message:
            console.print(f"       {outcome.message}", markup=False)
        if outcome.hint:
            console.print(f"       what you can do: {outcome.hint}", markup=False)
    for message in made.refused:
        console.print("[red]refused[/]", end=" ")
        console.print(message, markup=False)
    for why, names, message, hint in grouped(made.held):
        console.print(f"[yellow]{why:<7}[/] {names}:", end=" ")
        console.print(message, markup=False)
        if hint:
            console.print(f"       what you can do: {hint}", markup=False)
    console.print(made.said, markup=False)


def status(console: Console, store: Store, now: float) -> None:
    """A table of all objects, a bar for what is under way, the last pass, and Git when it cannot be asked."""
    for line in status_lines(store, now):
        console.print(line)


@contextmanager
def bars(console: Console) -> Iterator[Callable[[Store], int]]:
    """A function that shows a bar for everything under way and says how much that is. Silent where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def update(store: Store) -> int:
            busy = {
                f"{one['ref']['kind']}/{one['ref']['name']}": one["busy"] for one, _ in store.statuses() if one["busy"]
            }
            for name, each in busy.items():
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=1.0)
                progress.update(tasks[name], completed=each["ratio"] or 0.0, description=f"{name} {each['stage']}")
            return len(busy)

        yield update


def status_lines(store: Store, now: float) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False)
    for heading in ("object", "state", "since", "what"):
        table.add_column(heading, overflow="fold")
    for one, since in store.statuses():
        busy = one.get("busy")
        what = _bar(busy, now) if busy else _what(one)
        colour = _COLOURS.get(one["state"], "white")
        name = f"{one['ref']['kind']}/{one['ref']['name']}"
        table.add_row(name, f"[{colour}]{one['state']}[/]", _ago(now - since), escape(what))
    last = [
        Text(f"not ours, left alone: {', '.join(one.record['unmanaged'])}")
        for one in store.passes(1)
        if one.record["unmanaged"]
    ] + [Text(f"last pass {_ago(now - one.started)} ago, {one.revision[:12]}: {one.said}") for one in store.passes(1)]
    git = store.get("git_error")
    return [*_hosts(store), table, *last, *([Text(f"Git cannot be asked: {git}")] if git else [])]


def _hosts(store: Store) -> list[RenderableType]:
    """Every host at a glance: how far it is from what is declared to what it has proved."""
    hosts = [one for last in store.passes(1) for one in last.record.get("hosts", ())]
    if not hosts:
        return []
    table = Table(box=None, pad_edge=False)
    for heading in ("host", "declared", *HOPS, "failed"):
        table.add_column(heading)
    for one in hosts:
        hops = [_hop(one[hop], one["declared"]) for hop in HOPS]
        table.add_row(
            one["host"], one["declared"] or "?", *hops, ", ".join(one["failed"] or ["?"][one["failed"] == [] :])
        )
    pinned = [Text(f"pinned: {text}") for last in store.passes(1) for text in last.record.get("pinned", ())]
    paused = [Text(f"paused: the rollout of {image}") for image in store.requests("pause")]
    return [table, *pinned, *paused, Text("")]


def _hop(generation: str | None, declared: str) -> str:
    if generation is None:
        return "[magenta]?[/]"
    if not generation:
        return "[yellow]no[/]"
    return "[green]yes[/]" if generation == declared else f"[yellow]{generation}[/]"


def status_data(store: Store) -> list[dict[str, Any]]:
    return [
        dict(one) | {"object": f"{one['ref']['kind']}/{one['ref']['name']}", "since": since}
        for one, since in store.statuses()
    ]


def _what(one: Any) -> str:
    text = one["message"] + (f" (what you can do: {one['hint']})" if one["hint"] else "")
    return str(text or one["detail"].get("rootPath", ""))


def explained(console: Console, found: Explained) -> None:
    """Every input that differs, with what it was, what it is, and the commit that made it so."""
    for message in found.refused:
        console.print(f"the newest commit is not in force, this is about the one that is: {message}", markup=False)
    state = "complete" if found.complete else "not complete yet"
    console.print(f"image/{found.image}: generation {found.wanted}, {state}")
    if not found.before:
        console.print("there is no other generation to compare it with")
    elif not found.known:
        console.print(f"generation {found.before} does not say what it was made of: an older jailops made it")
    elif not found.reasons:
        console.print(f"made of the same as {found.before}")
    else:
        console.print(f"differs from generation {found.before} in")
    for one in found.reasons:
        console.print(f"  {one.field}: {one.before or '(nothing)'} -> {one.after or '(nothing)'}", markup=False)
        who = f"{one.revision[:12]} {one.author}: {one.subject}" if one.revision else one.why
        console.print(f"      {who}", markup=False)


def _bar(busy: Any, now: float) -> str:
    """Progress of long work: bar, share, stage, time so far and time to go as far as they are known."""
    ratio, started, eta = busy.get("ratio"), busy.get("started"), busy.get("eta")
    done = round(_BAR * (ratio or 0.0))
    bar = f"{'━' * done}{'╌' * (_BAR - done)} {100 * (ratio or 0.0):3.0f} % " if ratio is not None else ""
    so_far = f", {_ago(now - started)} so far" if started else ""
    to_go = f", about {_ago(eta)} to go" if eta else ""
    return f"{bar}{busy['stage']}{so_far}{to_go}"


def _ago(seconds: float) -> str:
    seconds = max(seconds, 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
