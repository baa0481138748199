"""The command line: read arguments, call what does the work, choose the exit status. It decides nothing itself.

Exit status: 0 done, clean or converged; 1 problems or failures; 2 wrong usage; 3 nothing failed but not all is done yet.
"""

from __future__ import annotations

import asyncio
import getpass
import signal
import socket
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
from controller.buildlog import layer_named, read_log
from controller.drivers import changed_fields
from controller.errors import ControllerError, Misnamed, Stall
from controller.explain import Explained
from controller.explain import explain as explain_image
from controller.logs import configure
from controller.model import Record, Ref
from controller.pins import known_image, rollback_to
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
build = typer.Typer(help="Look at builds.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(build, name="build")
rollouts = typer.Typer(help="Stop rollouts of images and let them go on.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(rollouts, name="rollout")
stores = typer.Typer(help="See to a store that is damaged.", no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(stores, name="store")
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="The settings, jailops.toml.", envvar="JAILOPS_CONFIG", show_default=True)
]
_CONFIG = settings.DEFAULT_PATH
Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="For people or for programs.")]

_HEX = frozenset("0123456789abcdef")
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
    made = _finish(lambda: _plan(loaded, ref))
    if output == "json":
        out.print_json(data=show.plan_data(made), default=str)
    else:
        show.plan(out, made)


@cli.command(epilog="Example: jailops check examples/repo")
def check(
    what: Annotated[
        str, typer.Argument(help="A directory of manifests, or a revision of the repository in the settings.")
    ] = ".",
    config: Config = _CONFIG,
) -> None:
    """Print every problem of a set of manifests, each with its place. Exit status 0: clean; 1: problems; 2: usage."""
    directory, questions = Path(what), tuple[str, ...]()
    if directory.is_dir():
        addresses = map(str, _load(config).policy.addresses) if config.exists() else ()
        objects, problems = show.check_directory(directory, frozenset(addresses))
    elif directory.is_file():
        _fail(f"cannot check {what}: it is a file; give the directory of all manifests, they are judged together", 2)
    else:
        if not config.exists():
            _fail(f"cannot check {what}: no such directory, and no settings {config} to look a revision up in", 2)
        loaded = _load(config)
        try:
            objects, problems, questions = _finish(lambda: _check_revision(loaded, what))
        except Misnamed as error:
            _fail(f"cannot check {what}: no such directory, and no such revision: {_told(error)}", 2)
    for problem in problems:
        out.print(str(problem), markup=False)
    for question in questions:
        out.print(f"meant? {question}", markup=False)
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
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many passes.")] = 20,
    revision: Annotated[str, typer.Option("--revision", help="Only passes for this commit.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also passes that did nothing and came to the same as the one before.")
    ] = False,
) -> None:
    """Show what was done, newest first. The same stands on the commits: git log --notes=jailops."""
    if revision and (len(revision) < 4 or set(revision) - _HEX):
        _fail(f"cannot look for {revision}: give a commit id, or at least its first four digits", 2)
    with _store(_load(config)) as store:
        passes = store.passes(limit, revision, repeats=every)
    if revision and not passes:
        missing = f"no pass is known for a commit {revision}"
        _fail(f"{missing}: it was refused, a later one came with it, or it is not of this site", 1)
    if output == "json":
        out.print_json(data=[asdict(one) for one in passes], default=str)
        return
    for one in passes:
        when = datetime.fromtimestamp(one.started, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        out.print(f"{when} {one.revision[:12]} {one.said}", markup=False)


@cli.command(epilog="Example: jailops explain image/freebsd13")
def explain(
    what: Annotated[str, typer.Argument(help="The image: NAME or image/NAME.")],
    config: Config = _CONFIG,
    output: Output = "text",
) -> None:
    """Say which inputs make an image's generation another one than the newest before it, and which commit did each."""
    image = what.removeprefix("image/")
    if not image or "/" in image:
        _fail(f"cannot explain {what}: only images can be explained, NAME or image/NAME", 2)
    loaded = _load(config)
    found = _finish(lambda: _explain(loaded, image))
    if output == "json":
        out.print_json(data=asdict(found))
    else:
        show.explained(out, found)


@build.command(name="log", epilog="Example: jailops build log world/freebsd13 --follow")
def build_log(
    what: Annotated[
        str,
        typer.Argument(
            help="The layer, as status names it: world/NAME, packages/NAME or image/NAME; NAME alone for the only one so "
            "called, or the only one of them that is being built."
        ),
    ],
    config: Config = _CONFIG,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the build ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="An earlier try, by its number; a wrong one lists them.")
    ] = None,
) -> None:
    """Print the log of a layer's build from the build VM, from its beginning. With --follow, a build that fails is a failure."""
    if follow and attempt is not None:
        _fail(f"cannot follow attempt {attempt}: it is over", 2)
    loaded = _load(config)
    _finish(lambda: _build_log(loaded, what, follow=follow, attempt=attempt))


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
    what: Annotated[str, typer.Argument(help="What the refusal names: a full commit id, or the id of a removal.")],
    config: Config = _CONFIG,
) -> None:
    """Let exactly this through: a commit that rewrites history, or the removal of exactly these objects."""
    if len(what) not in (16, 40, 64) or set(what) - _HEX:
        _fail(f"cannot approve {what}: give the full id that the refusal names", 2)
    loaded = _load(config)
    with _store(loaded) as store:
        waiting = store.get("approvable")
    if what != waiting:
        now = f"what waits for one is {waiting}" if waiting else "nothing waits for one"
        _fail(f"cannot approve {what}: {now}, as of the last pass (jailops apply makes another)", 2)
    _request(loaded, "approve", what)


@cli.command(epilog='Example: jailops rollback host/node1 --reason "the new kernel drops packets"')
def rollback(
    what: Annotated[
        str, typer.Argument(help="A host, or an image for all of its hosts: NAME, host/NAME or image/NAME.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record on the commit. Must be given.")] = "",
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="The generation. Default: for a host what it proved last, if that was made before the wanted one; else the "
            "newest complete one before the wanted one that has failed on no host.",
        ),
    ] = "",
    config: Config = _CONFIG,
) -> None:
    """Have a host, or all hosts of an image, boot an earlier generation until a newer commit is in force.

    DHCP leads there with the next pass; the reboot is as the host's policy says.
    """
    if not reason.strip():
        example = f'jailops rollback {what} --reason "the new kernel drops packets"'
        _fail(f"cannot roll back {what}: say why, it stands in the record of every pass: {example}", 2)
    if not reason.isprintable():
        _fail(f"cannot roll back {what}: the reason stands in the record of every pass, so it is one line of text", 2)
    loaded = _load(config)
    with _store(loaded) as store:
        asked = rollback_to(store, what, to)
    if asked.warning:
        err.print(f"jailops: {asked.warning}", markup=False)
    _request(loaded, "rollback", asked.request(_actor(), reason), f"{what} to {asked.generation}")


@rollouts.command(epilog="Example: jailops rollout pause freebsd13")
def pause(
    image: Annotated[str, typer.Argument(help="The image: NAME or image/NAME.")],
    config: Config = _CONFIG,
) -> None:
    """Reboot no further host of an image until it is resumed. One that reboots already goes on."""
    loaded = _load(config)
    with _store(loaded) as store:
        image = known_image(store, image.removeprefix("image/"))
        paused = image in store.requests("pause")
    if paused:
        out.print(f"pause {image}: it is paused already", markup=False)
    else:
        _request(loaded, "pause", image)


@rollouts.command(epilog="Example: jailops rollout resume freebsd13")
def resume(
    image: Annotated[str, typer.Argument(help="The image: NAME or image/NAME.")],
    config: Config = _CONFIG,
) -> None:
    """Let the rollout of an image go on."""
    image = image.removeprefix("image/")
    loaded = _load(config)
    with Store(app.store_path(loaded)) as store:
        if image not in store.requests("pause"):
            _fail(f"cannot resume {image}: its rollout is not paused", 2)
        store.done_request("pause", [image])
    _woken(loaded, f"resume {image}")


_LOST = """\
what the new store does not know:
  which objects of ours left Git: they stay as they are, and are listed as unmanaged
  the revision in force: a history that was rewritten meanwhile is taken as it is, and so are removals
  what failed and is paused for it, what was put back, logins that BMCs refused, history
everything else is seen at the next look"""


@stores.command(name="replace", epilog="Example: jailops store replace")
def replace_store(config: Config = _CONFIG) -> None:
    """Put a damaged store aside, under a name with the time, and begin with an empty one. Says what is lost by that."""
    loaded = _load(config)
    with app.only_one(loaded):
        done = Store.replace(app.store_path(loaded), datetime.now(UTC))
    out.print(f"the damaged store is kept as {done.aside}\n{_LOST}", markup=False)
    if done.requests is None:
        lost = (
            "paused rollouts, rollbacks and approvals could not be read: ask for them again, reboots may begin at once"
        )
        err.print(f"jailops: {lost}", markup=False)


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


async def _plan(loaded: settings.Settings, ref: str) -> show.Planned:
    async with app.build(loaded, acts=False) as built:
        wanted = await built.revisions.named(ref)
        look = await built.controller.look(wanted.desired)
        before = await built.revisions.last()
        fields = changed_fields(before, wanted.desired) if before else ()
        return show.Planned(wanted, look, built.controller.plan(look), fields)


async def _explain(loaded: settings.Settings, image: str) -> Explained:
    async with app.build(loaded, acts=False) as built:
        return await explain_image(image, built.revisions, built.store)


async def _build_log(loaded: settings.Settings, what: str, *, follow: bool, attempt: int | None) -> None:
    async with app.build(loaded, acts=False) as built:
        desired = built.controller.known((await built.revisions.wanted()).desired)
        busy = [Ref(**one["ref"]) for one, _ in built.store.statuses() if one["busy"]]
        resource = layer_named(what, desired, busy)
        built.hands.know(desired)
        async for piece in read_log(resource, built.hands, say=_aside, follow=follow, attempt=attempt):
            sys.stdout.write(piece)
            sys.stdout.flush()


async def _check_revision(loaded: settings.Settings, ref: str) -> tuple[int, tuple[Any, ...], tuple[str, ...]]:
    async with app.build(loaded, acts=False) as built:
        judged = await built.revisions.judge_named(ref)
        return len(judged.objects), judged.problems, await built.revisions.questions(judged)


def _request(loaded: settings.Settings, verb: str, argument: str, shown: str = "") -> None:
    with Store(app.store_path(loaded)) as store:
        store.request(verb, argument, time())
    _woken(loaded, f"{verb} {shown or argument}")


def _woken(loaded: settings.Settings, what: str) -> None:
    out.print(
        f"{what}: noted; {'the daemon looks now' if app.wake(loaded) else 'the next pass takes it'}", markup=False
    )


def _actor() -> str:
    """Who types this, for the record."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


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
    except asyncio.CancelledError:
        # What SIGTERM does to a command that has to tidy up: it has.
        err.print("terminated")
        raise typer.Exit(143) from None
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


def _aside(message: str) -> None:
    """For who watches, beside what is printed."""
    err.print(f"jailops: {message}", markup=False)


def _fail(message: str, status: int) -> NoReturn:
    err.print(f"jailops: {message}", markup=False)
    sys.exit(status)
