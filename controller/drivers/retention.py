"""Old generations, and layers that nothing names, leave the share; boot files of generations that are gone leave the TFTP root.

What goes is decided in `retain`, from one look; this only asks and acts. A few directories at a time, each in one script that
renames, proves that nothing is mounted there, removes and looks; what was cut short is finished first. It runs in the SAN's
second shell, so that a slow disk hides none of the SAN's facts. Only names that jailops gives, with its manifest inside, are
ever touched.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Final

from controller.drivers.base import Base, Explanation, World, answered, checked, last_words, parsed
from controller.drivers.generations import complete_generations
from controller.drivers.inputs import inputs
from controller.drivers.retain import KIND, Decision, Shelf, decide, entries_unseen, named
from controller.encode import shelf
from controller.encode.sh import sh
from controller.encode.shelf import Entry
from controller.encode.space import size
from controller.encode.text import GrammarError
from controller.errors import ControllerError, Retry, Stall
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Seen, Steps, Unseen

MOST: Final = 4
"""Directories of one action: while it runs, nothing else is done on its machine."""
_TOLD: Final = ("finished", "world", "packages", "bytes")
"""What is remembered of a manifest."""


class Retention(Base):
    """The share of a SAN. Facts: path -> complete, building or removing; wanted is that some are not there."""

    kind: ClassVar[str] = KIND

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, san in sorted(desired.sans.items()):
            # An export of what goes is withdrawn first: mountd drops a client's whole line for a directory that is not there.
            yield Resource(Ref(self.kind, name), name, Shelf(san.spec), (Ref("exports", name),), san.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (Probe(resource.host, shelf.shelf_script(resource.spec.root)),)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        entries = _read(answered(answers)[0], resource)
        others = [f"{one.path} on {resource.host}" for one in entries if one.state == "foreign"]
        detail = {"shelf": tuple(_short(one) for one in entries), "unmanaged": others}
        return Seen({one.path: one.state for one in entries if one.state != "foreign"}, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        return dict.fromkeys(islice(decide(world, resource.ref.name).goes, MOST))

    def told(self, resource: Resource, world: World) -> Facts:
        decision = decide(world, resource.ref.name)
        return {"goes": decision.goes, "stays": decision.stays, "says": _says(decision)}

    def explain(self, change: Change) -> Explanation:
        paths = list(change.want or {})
        left = len(change.detail["goes"]) - len(paths)
        goes = [f"{path}: {change.detail['goes'][path]}" for path in paths]
        more = [f"{left} more after these"] if left else []
        reason = "; ".join([*goes, *more, *_staying(change.detail["stays"])])
        return Explanation(f"remove {', '.join(paths)} from {change.ref.name}", reason)

    def steps(self, change: Change, world: World) -> Steps:
        resource, freed = change.resource, 0
        hidden: list[Entry] = []
        failed: list[ControllerError] = []
        # All are hidden at once, while the look is fresh: removing them takes long, and Git may want one again meanwhile.
        for entry in (one for one in change.detail["shelf"] if one.path in (change.want or {})):
            try:
                yield from _hide(resource, entry, world)
                hidden.append(entry)
            except ControllerError as error:
                failed.append(error)
        for entry in hidden:
            try:
                freed += yield from _clear(resource, entry)
            except ControllerError as error:
                failed.append(error)
        look = yield Run(f"look again: {size(freed)} freed", shelf.shelf_script(resource.spec.root), writes=False)
        left = {one.path for one in _read(look, resource)}.intersection(change.want or {})
        if failed:
            raise failed[0]
        if left:
            raise Retry(f"cannot remove {', '.join(sorted(left))} from {resource.host}: it is there still")


def _hide(resource: Resource, one: Entry, world: World) -> Steps:
    if one.state == "removing":
        return
    where = f"cannot remove {one.path} from {resource.host}"
    if one.state == "building":
        yield from _free_on_build_vms(one, world, where)
    script = shelf.hide_script(f"{resource.spec.root}/{one.place}", one)
    _done((yield Run(f"hide {one.path}", script)), where, resource)


def _clear(resource: Resource, one: Entry) -> Generator[Run, Answer, int]:
    """Bytes that were freed."""
    where = f"cannot remove {one.path} from {resource.host}"
    script = shelf.clear_script(f"{resource.spec.root}/{one.place}", one)
    answer = yield Run(f"remove {one.path}", script, lane="disk", timeout=3600)
    _done(answer, where, resource)
    try:
        return shelf.parse_freed(answer.out) if answer.exit == 0 else 0
    except GrammarError as error:
        raise Retry(f"{where}: {error}") from error


def _done(answer: Answer, where: str, resource: Resource) -> None:
    """Raises unless a script did what it should, or found that there is nothing any more."""
    match answer.exit:
        case 0 | shelf.GONE:
            return
        case shelf.UNKNOWN:
            raise Retry(f"{where}: {last_words(answer)}")
        case shelf.NOT_OURS:
            raise Stall(f"{where}: it is not what the look saw: no directory of ours", hint="look at it by hand")
        case shelf.MOUNTED:
            raise Stall(f"{where}: {last_words(answer)}", hint="unmount that by hand; it goes by itself then")
    raise Stall(
        f"{where}: {last_words(answer)}",
        hint="is a file there immutable (ls -lo)? Its flag was set by hand and holds in every generation that shares the file: "
        f"clear it with chflags noschg on {resource.host}, and the rest goes by itself",
    )


def _free_on_build_vms(one: Entry, world: World, where: str) -> Steps:
    """A build that was cut short may have left a devfs mounted in it, on the VM."""
    desired = world.desired
    left = {one.build_vm} & desired.build_vms.keys()
    for name in sorted({image.spec.build_vm for image in desired.images.values()} | left):
        vm = world.seen(Ref("buildvm", name))
        if vm is not None and vm.detail.get("atRest"):
            continue  # Off: nothing is mounted there.
        script = shelf.free_script(f"{desired.build_vms[name].spec.share}/{one.path}")
        answer = yield Run(f"see that nothing is mounted in {one.path}", script, host=name, writes=False)
        if answer.exit not in (0, shelf.GONE):
            raise Stall(f"{where}: {last_words(answer)} on {name}", hint=f"unmount it on {name}, or restart {name}")


def _read(answer: Answer, resource: Resource) -> tuple[Entry, ...]:
    """Raises Retry for what is no listing of the share."""
    if answer.exit != 0:
        raise Retry(f"cannot see what lies on the share of {resource.host}: {last_words(answer)}")
    return parsed("what lies on the share", resource.host, shelf.parse_shelf, answer.out)


def _short(one: Entry) -> Entry:
    told = {name: value for name, value in (one.manifest or {}).items() if name in _TOLD}
    return replace(one, manifest=told) if one.manifest is not None else one


def _says(decision: Decision) -> str:
    """What stays among the generations and why, what goes, and what is not known."""
    parts = [*decision.held, *_staying(decision.stays)]
    return "; ".join([*parts, *([f"goes: {', '.join(decision.goes)}"] if decision.goes else [])])


def _staying(stays: Mapping[str, str]) -> list[str]:
    told = [f"{path.removeprefix('images/')} ({why})" for path, why in stays.items() if path.startswith("images/")]
    return [f"stays: {', '.join(told)}"] if told else []


@dataclass(frozen=True)
class OldTftp:
    root: str
    images: tuple[str, ...]


class OldBootFiles(Base):
    """The TFTP root of a boot server. Facts: IMAGE/GENERATION -> there; wanted is that some are not there."""

    kind: ClassVar[str] = "bootretention"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, server in sorted(desired.boot_servers.items()):
            spec = OldTftp(server.spec.tftp.root, tuple(sorted(desired.images)))
            yield Resource(Ref(self.kind, name), name, spec, (), server.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        """One line ``IMAGE/GENERATION`` for each that holds a boot file of ours, or nothing at all."""
        script = sh(
            """cd {root} || exit 75
for i in {images}; do
  for d in "$i"/*; do
    case ${{d##*/}} in *[!0-9a-f]*) continue ;; esac
    test -d "$d" && test ! -L "$d" && test ! -L "$d/boot" || continue
    if test -f "$d/boot/pxeboot" || test -f "$d/boot/loader.efi" || test -z "$(find "$d" ! -type d)"; then echo "$d"; fi
  done
done""",
            root=resource.spec.root,
            images=resource.spec.images,
        )
        return (Probe(resource.host, script),)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer = answered(answers)[0]
        what = f"cannot see which boot files lie in {resource.spec.root}"
        if answer.exit != 0:
            raise Retry(f"{what}: {last_words(answer)}")
        wrong = [line for line in answer.out.splitlines() if not re.fullmatch(r"[a-z0-9.-]+/[0-9a-f]+", line)]
        if wrong:
            raise Retry(f"{what}: {wrong[0]!r}")
        return Seen({line: "there" for line in answer.out.splitlines() if len(line.partition("/")[2]) == _KEY})

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        there = [tuple(path.split("/")) for path in (seen.facts or {} if seen else {})]
        if entries_unseen(world):
            return {}
        stays = {image: _needed(world, image) for image, _ in there}
        return {
            f"{image}/{one}": None for image, one in there if (need := stays[image]) is not None and one not in need
        }

    def explain(self, change: Change) -> Explanation:
        paths = ", ".join(change.want or {})
        return Explanation(f"remove boot files from {change.ref.name}: {paths}", "their generations are gone")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        for path in change.want or {}:
            image, _, generation = path.partition("/")
            script = sh(
                """cd {directory} 2>/dev/null || exit 0
test ! -L {one} && test ! -L {one}/boot || exit 3
for f in pxeboot loader.efi; do rm -f {one}/boot/"$f" {one}/boot/"$f.jailops-new" || exit 1; done
rmdir {one}/boot {one} 2>/dev/null
:""",
                directory=f"{change.resource.spec.root}/{image}",
                one=generation,
            )
            checked((yield Run(f"remove the boot files of {path}", script)), f"remove {path} from {change.ref.name}")


_KEY: Final = 12
"""Hex digits of a generation's name."""


def _needed(world: World, image: str) -> frozenset[str] | None:
    """The generations whose boot files stay; None while that is not known."""
    if world.seen(Ref("image", image)) is None or inputs(world.desired, image).missing:
        return None
    return frozenset({*complete_generations(world.observed, image), *named(world, image)})
