"""The command line: read arguments, call what does the work, choose the exit status. It decides nothing itself.

Exit status: 0 done, clean or converged; 1 problems or failures; 2 wrong usage; 3 nothing failed but not all is done yet.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from time import time
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import typer
from rich.console import Console

from controller import __version__, app, settings, show
from controller.errors import ControllerError, Stall
from controller.logs import configure
from controller.model import Record
from controller.starter import write_settings, write_site
from controller.store import Store

T = TypeVar("T")

cli = typer.Typer(
    name="jailops",
    help="GitOps for diskless FreeBSD jail servers: what the manifests in Git say, the build VM, the SAN, DHCP and the "
    "nodes become.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The settings, jailops.toml.", envvar="JAILOPS_CONFIG", show_default=True)
]
_CONFIG = settings.DEFAULT_PATH
Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="For people or for programs.")]

EXIT = {"converged": 0, "progressing": 3, "held": 3, "failed": 1, "refused": 1}


@cli.command(epilog="Example: jailops run --config /usr/local/etc/jailops/jailops.toml")
def run(config: Config = _CONFIG) -> None:
    """Run the controller until it is told to stop. SIGHUP makes it look at once; SIGTERM stops it within ten seconds."""
    loaded = _load(config, talks=True)
    _finish(lambda: app.run(loaded))


@cli.command(epilog="Example: jailops apply && echo converged")
def apply(
    config: Config = _CONFIG,
    output: Output = "text",
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until nothing is under way any more, such as a build.")
    ] = False,
) -> None:
    """Make one pass now. Exit status 0: converged; 3: nothing failed, something is still under way; 1: see the output.

    When the daemon runs, it is woken and its pass is waited for.
    """
    loaded = _load(config)
    record = _finish(lambda: _apply(loaded, wait=wait))
    if output == "json":
        out.print_json(data=asdict(record), default=str)
    else:
        show.record(out, record)
    raise typer.Exit(EXIT[record.result])


@cli.command(epilog="Example: jailops plan --ref HEAD~1 --output json")
def plan(
    config: Config = _CONFIG,
    output: Output = "text",
    ref: Annotated[str, typer.Option("--ref", help="A revision instead of the branch's newest one.")] = "",
) -> None:
    """Show what a pass would do, why, and at what risk. Looks at everything, changes nothing."""
    loaded = _load(config)
    wanted, look, planned = _finish(lambda: _plan(loaded, ref))
    if output == "json":
        out.print_json(data=show.plan_data(wanted, look, planned), default=str)
    else:
        show.plan(out, wanted, look, planned)


@cli.command(epilog="Example: jailops check examples/repo")
def check(
    what: Annotated[
        str, typer.Argument(help="A directory of manifests, or a revision of the repository in the settings.")
    ] = ".",
    config: Config = _CONFIG,
) -> None:
    """Print every problem of a set of manifests, each with its place. Exit status 0: clean; 1: problems; 2: usage."""
    directory = Path(what)
    if directory.is_dir():
        addresses = _load(config).policy.addresses if config.exists() else ()
        objects, problems = show.check_directory(directory, frozenset(addresses))
    else:
        if not config.exists():
            _fail(f"cannot check {what}: no such directory, and no settings {config} to look a revision up in", 2)
        loaded = _load(config)
        objects, problems = _finish(lambda: _check_revision(loaded, what))
    for problem in problems:
        out.print(str(problem), markup=False)
    out.print(f"{objects} objects, {len(problems)} problems" if problems else f"{objects} objects, no problems")
    raise typer.Exit(1 if problems else 0)


@cli.command(epilog="Example: jailops status --output json")
def status(config: Config = _CONFIG, output: Output = "text") -> None:
    """Show how every object stands, as of the last pass. Needs no daemon."""
    loaded = _load(config)
    with _store(loaded) as store:
        if output == "json":
            out.print_json(data=show.status_data(store), default=str)
        else:
            show.status(out, store, time())


@cli.command(epilog="Example: jailops history --limit 5")
def history(
    config: Config = _CONFIG,
    output: Output = "text",
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many passes.")] = 20,
    revision: Annotated[str, typer.Option("--revision", help="Only passes for this commit.")] = "",
) -> None:
    """Show what was done, newest first. The same stands on the commits: git log --notes=jailops."""
    with _store(_load(config)) as store:
        passes = store.passes(limit, revision)
    if output == "json":
        out.print_json(data=[asdict(one) for one in passes], default=str)
        return
    for one in passes:
        when = datetime.fromtimestamp(one.started, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        out.print(f"{when} {one.revision[:12]} {one.said}", markup=False)


@cli.command(epilog="Example: jailops retry image/freebsd13")
def retry(
    what: Annotated[str, typer.Argument(help="The object, as status names it: KIND/NAME.")], config: Config = _CONFIG
) -> None:
    """Forget an object's failure and try it again at once."""
    if "/" not in what:
        _fail(f"cannot retry {what}: name the object as status does, KIND/NAME", 2)
    loaded = _load(config)
    with _store(loaded) as store:
        known = [one["object"] for one in show.status_data(store)]
    if what not in known:
        near = "".join(f", did you mean {name}?" for name in get_close_matches(what, known, 1))
        _fail(f"cannot retry {what}: the last pass saw no such object{near}", 2)
    _request(loaded, "retry", what)


@cli.command(epilog="Example: jailops approve 4f5d…")
def approve(
    revision: Annotated[str, typer.Argument(help="The full id of the refused commit.")], config: Config = _CONFIG
) -> None:
    """Let exactly this commit through although it removes much or rewrites history."""
    if len(revision) not in (40, 64) or set(revision) - set("0123456789abcdef"):
        _fail(f"cannot approve {revision}: give the full commit id, as the refusal names it", 2)
    _request(_load(config), "approve", revision)


@cli.command(epilog="Example: ssh jailops@controller.example.org jailops wake")
def wake(config: Config = _CONFIG) -> None:
    """Have the running controller look now, as SIGHUP does: for hooks. Exit status 1: none runs here."""
    loaded = _load(config)
    if not app.wake(loaded):
        _fail(f"cannot wake the controller: none of ours works with {loaded.store.directory}", 1)


@cli.command(epilog="Example: jailops schema schemas/")
def schema(
    directory: Annotated[
        Path | None, typer.Argument(help="Write the files there instead of printing one index.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="Print this kind's schema.")] = "",
) -> None:
    """Print or write the JSON Schemas of the manifests, for editors."""
    from controller.manifests.schema import rendered

    files = rendered()
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text)
        out.print(f"{len(files)} schemas written to {directory}", markup=False)
        return
    wanted = f"{kind.lower()}.json"
    if kind and wanted not in files:
        _fail(
            f"cannot print the schema of {kind}: the kinds are {', '.join(name.removesuffix('.json') for name in files)}",
            2,
        )
    print(files[wanted] if kind else "\n".join(sorted(files)))


@cli.command(epilog="Example: jailops init mysite")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the manifests and jailops.toml go.")],
    settings_only: Annotated[
        bool, typer.Option("--settings", help="Only jailops.toml, with every setting explained.")
    ] = False,
) -> None:
    """Start a site: an example of manifests to change, their schemas, and jailops.toml with every setting explained."""
    written = write_settings(directory) if settings_only else write_site(directory)
    for path in written:
        out.print(f"wrote {path}", markup=False)
    out.print("next: change the manifests, then jailops check, git init, git push", markup=False)


@cli.command(epilog="Example: jailops demo --script")
def demo(
    script: Annotated[
        bool, typer.Option("--script", help="Play the whole story unattended and verify every step.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--directory", help="Where the simulated site lies; default: a temporary one.")
    ] = None,
) -> None:
    """Start a simulated site (build VM, SAN, boot server, two nodes), a repository and a controller, and try it out."""
    from controller.demo import play

    raise typer.Exit(_finish(lambda: play(out, directory, script=script)))


@cli.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


def main() -> None:
    """Run the command line; errors of ours end in one message and no traceback."""
    try:
        cli()
    except ControllerError as error:
        _fail(_told(error), 1)
    except (OSError, UnicodeDecodeError, sqlite3.Error) as error:
        # What a path given on the command line or a damaged file of ours can do.
        _fail(f"cannot go on: {error}", 1)


async def _apply(loaded: settings.Settings, *, wait: bool) -> Record:
    pid = app.holder(loaded)
    if pid is not None:
        return await _until_quiet(loaded, lambda: app.follow(loaded, pid), wait=wait)
    # A wake-up meant for the daemon must not end this: it looks anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with app.only_one(loaded):
        async with app.build(loaded) as built:
            return await _until_quiet(loaded, lambda: app.once(built, "apply", insist=True), wait=wait)


async def _until_quiet(loaded: settings.Settings, once: Callable[[], Awaitable[Record]], *, wait: bool) -> Record:
    """One pass, or as many as it takes until nothing is under way, with a bar when a terminal looks."""
    with show.bars(err) as progress:
        while True:
            record = await once()
            with _store(loaded) as store:
                under_way = progress(store)
            if not (wait and under_way):
                return record
            await asyncio.sleep(loaded.schedule.progress)


async def _plan(loaded: settings.Settings, ref: str) -> tuple[Any, Any, Any]:
    async with app.build(loaded, acts=False) as built:
        wanted = await built.revisions.named(ref)
        look = await built.controller.look(wanted.desired)
        return wanted, look, built.controller.plan(look)


async def _check_revision(loaded: settings.Settings, ref: str) -> tuple[int, tuple[Any, ...]]:
    async with app.build(loaded, acts=False) as built:
        judged = await built.revisions.judge_named(ref)
        return len(judged.objects), judged.problems


def _request(loaded: settings.Settings, verb: str, argument: str) -> None:
    with Store(app.store_path(loaded)) as store:
        store.request(verb, argument, time())
    woken = app.wake(loaded)
    out.print(
        f"{verb} {argument}: noted; {'the daemon looks now' if woken else 'the next pass takes it'}", markup=False
    )


def _load(path: Path, *, talks: bool = False) -> settings.Settings:
    """The settings. Only the daemon logs what it does; a command prints its result, and logs what is wrong."""
    try:
        loaded = settings.load(path)
    except Stall as error:
        _fail(_told(error), 2)
    configure(loaded.log.format, loaded.log.level if talks else "warning")
    return loaded


def _store(loaded: settings.Settings) -> Store:
    path = app.store_path(loaded)
    if not path.exists():
        raise Stall(
            f"cannot show anything yet: there is no store {path}", hint="start with: jailops apply, or jailops run"
        )
    return Store(path, read_only=True)


def _finish(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return asyncio.run(work())
    except KeyboardInterrupt:
        err.print("interrupted")
        raise typer.Exit(130) from None
    except BaseExceptionGroup as group:
        ours, rest = group.split(ControllerError)
        if ours is None or rest is not None:
            raise
        first = ours
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]  # type: ignore[assignment]
        raise first from None


def _told(error: ControllerError) -> str:
    hint = getattr(error, "hint", "")
    return f"{error}\n  what you can do: {hint}" if hint else str(error)


def _fail(message: str, status: int) -> NoReturn:
    err.print(f"jailops: {message}", markup=False)
    sys.exit(status)
