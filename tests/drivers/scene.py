"""One folder of tests/cases/drivers as values: the manifests with its edits, what the machines said, what steps are told.

The language of the files is explained in tests/cases/drivers/README.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from controller.diff import digest_of
from controller.drivers import DRIVERS, World, choose, resources_of, rollout
from controller.drivers.inputs import inputs
from controller.encode.sh import fill_text, holes
from controller.errors import ControllerError, Stall
from controller.graph import Desired, resolve
from controller.manifests import Blob, check, load
from controller.model import Answer, Observed, Ref, Resource, Seen, Unseen
from controller.secret import Secret

CASES = Path(__file__).parent.parent / "cases"
EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "repo"
IMAGE = "freebsd13"
COMPILER = "cc 1.0 on amd64"
REVISION = "1" * 40
_PLACEHOLDER = re.compile(r"\{(generation|world|packages|want:[^}\n]+)\}")


@dataclass(frozen=True)
class Section:
    """A part of a file that begins with ``## title``; every block of its begins with ``$ ``."""

    title: str
    blocks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Scene:
    """Everything that a driver is told about one object."""

    ref: Ref
    resource: Resource | None
    world: World
    known: Mapping[Ref, str]
    answers: Mapping[str, Answer]
    """What a step is told, by its label; any other step ends well and says nothing."""


def sections(text: str) -> tuple[list[str], list[Section]]:
    """The lines before the first section, and the sections. An empty line before a ``##`` or ``$`` belongs to nobody."""
    head, *rest = re.split(r"(?m)^## ", re.sub(r"\n+(?=## |\$ |\Z)", "\n", f"\n{text}"))
    found = []
    for part in rest:
        title, _, body = part.partition("\n")
        blocks = [tuple(block.splitlines()) for block in re.split(r"(?m)^\$ ", body)[1:]]
        found.append(Section(title.strip(), tuple(blocks)))
    return [line for line in head.splitlines() if line and not line.startswith("#")], found


def edited(edits: Sequence[str]) -> dict[str, str]:
    """The files of examples/repo with a case's edits: ``FILE: old => new``, or ``FILE: removed``."""
    files = {str(path.relative_to(EXAMPLES)): path.read_text() for path in sorted(EXAMPLES.rglob("*.yaml"))}
    for edit in edits:
        name, _, what = edit.partition(": ")
        if what == "removed":
            del files[name]
            continue
        old, new = (part.replace("\\n", "\n") for part in what.split(" => "))
        assert files[name].count(old) == 1, f"{name} holds {old!r} {files[name].count(old)} times"
        files[name] = files[name].replace(old, new)
    return files


def manifests(edits: Sequence[str]) -> Desired:
    """What they ask for."""
    files = edited(edits)
    loaded = load(Blob(name, name, text.encode()) for name, text in files.items())
    assert not loaded.problems, loaded.problems
    assert not check(loaded.objects), check(loaded.objects)
    desired = resolve(loaded.objects)
    return replace(desired, toolchains=dict.fromkeys(desired.build_vms, COMPILER), revision=REVISION)


def digest(text: str) -> str:
    """As the vault does it, with secrets that everybody may know."""
    return hashlib.sha256(
        fill_text(text, {name: Secret(name, f"the secret {name}") for name in holes(text)}).encode()
    ).hexdigest()


@dataclass
class Stage:
    """Reads one section after the other; each may use what the ones before it showed."""

    desired: Desired
    before: Desired
    directives: Mapping[str, str]
    seen: dict[Ref, Seen] = field(default_factory=dict)
    unknown: dict[Ref, str] = field(default_factory=dict)
    stalled: dict[Ref, tuple[str, str]] = field(default_factory=dict)

    def world(self, ref: Ref) -> World:
        observed = Observed(dict(self.seen), dict(self.unknown), dict(self.stalled))
        applied = (
            {ref: json.loads(self.filled(self.directives["applied"], None))} if "applied" in self.directives else {}
        )
        applied |= {
            Ref(*name.split("/", 1)): facts
            for name, facts in json.loads(self.filled(self.directives.get("remembered", "{}"), None)).items()
        }
        world = World(self.desired, observed, applied, digest, generations=choose(self.desired, observed, applied))
        ready = frozenset(Ref(*one.split("/", 1)) for one in self.directives.get("ready", "").split())
        kept = frozenset((one.split("/")[0], one.split("/")[1]) for one in self.directives.get("kept", "").split())
        retry = frozenset({ref} if "retry" in self.directives else ())
        world = replace(world, ready=ready, kept=kept, retry=retry)
        return replace(world, reboots=rollout(world))

    def resource(self, ref: Ref) -> Resource | None:
        """As declared now; else as it was declared before the edits, remembered as JSON and retired."""
        driver = DRIVERS[ref.kind]
        declared = {one.ref: one for one in resources_of(self.desired)}
        if ref in declared:
            return declared[ref]
        memory = json.loads(json.dumps(driver.memory({one.ref: one for one in resources_of(self.before)}[ref])))
        return driver.retired(ref, memory, self.desired)

    def look(self, section: Section) -> None:
        """Read twice: what an object is wanted to be may depend on how it looks."""
        ref = Ref(*section.title.split("/", 1))
        resource = self.resource(ref)
        if resource is None:
            return
        with suppress(ControllerError, ValueError):
            self.seen[ref] = self.read(section, resource, None)
        try:
            self.seen[ref] = self.read(section, resource, resource)
        except Stall as error:
            self.stalled[ref] = (str(error), error.hint)
        except ControllerError as error:
            self.unknown[ref] = str(error)
        if ref in self.stalled or ref in self.unknown:
            self.seen.pop(ref, None)

    def read(self, section: Section, resource: Resource, known: Resource | None) -> Seen:
        driver = DRIVERS[resource.ref.kind]
        asked = len(driver.probes(resource))
        assert asked == len(section.blocks), f"{resource.ref} asks {asked} questions"
        answers = [self.answer(block, known) for block in section.blocks]
        return driver.read(resource, answers, self.world(resource.ref).applied.get(resource.ref))

    def answer(self, block: Sequence[str], resource: Resource | None) -> Answer | Unseen:
        status, _, rest = block[0].partition(" ")
        if status == "unseen":
            reason, _, hint = rest.partition(" | ")
            return Unseen(reason, hint)
        whole, out, err, name = b"", b"", b"", ""
        for line in [*([rest] if rest else []), *block[1:]]:
            match line[:2]:
                case "< ":
                    recorded = _recorded(line[2:])
                    out, err = out + recorded.stdout, err + recorded.stderr
                case "s ":
                    old, _, new = line[2:].partition(" => ")
                    assert old.encode() in out, f"nothing to replace: {old!r}"
                    out = out.replace(old.encode(), self.filled(new, resource).encode())
                case "! ":
                    err += f"{line[2:]}\n".encode()
                case "@ ":
                    whole, out, name = whole + _listed(name, out), b"", line[2:]
                case _:
                    out += f"{self.filled(line, resource)}\n".encode()
        return Answer(int(status), whole + _listed(name, out), err)

    def filled(self, line: str, resource: Resource | None) -> str:
        """Keys are those of the image's wanted layers; ``{want:FACT}`` is what the object's own driver wants there."""

        def value(found: re.Match[str]) -> str:
            if found[1] in names(self.desired, IMAGE):
                return names(self.desired, IMAGE)[found[1]]
            if resource is None:
                return "0" * 64
            try:
                want = DRIVERS[resource.ref.kind].want(resource, self.world(resource.ref)) if resource else None
            except ControllerError:
                want = None
            return str(want[found[1].removeprefix("want:")]).removesuffix("\n") if want else found[0]

        return _PLACEHOLDER.sub(value, line)


def scene(folder: Path) -> Scene:
    """Read a case. The last section of ``observed.txt`` is the object in question."""
    head, parts = sections((folder / "observed.txt").read_text())
    directives = {line.partition(" ")[0]: line.partition(" ")[2] for line in head}
    assert directives.keys() <= {"known", "ready", "applied", "remembered", "kept", "retry", "unseen"}, directives
    before, now = edits_of(folder / "manifests.txt")
    desired = manifests([*before, *now])
    stage = Stage(replace(desired, toolchains={}) if "unseen" in directives else desired, manifests(before), directives)
    for part in parts:
        stage.look(part)
    ref = Ref(*parts[-1].title.split("/", 1))
    resource = stage.resource(ref)
    world = stage.world(ref)
    return Scene(ref, resource, world, _known(stage, resource, world), _answers(folder, stage, resource))


def edits_of(path: Path) -> tuple[list[str], list[str]]:
    """Those above a line ``---`` were applied long ago, those below came with this revision."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"] if path.exists() else []
    if "---" not in lines:
        return lines, []
    return lines[: lines.index("---")], lines[lines.index("---") + 1 :]


def _known(stage: Stage, resource: Resource | None, world: World) -> dict[Ref, str]:
    match stage.directives.get("known"):
        case None:
            return {}
        case "as wanted" if resource is not None:
            return {resource.ref: digest_of(DRIVERS[resource.ref.kind].want(resource, world))}
        case "otherwise" if resource is not None:
            return {resource.ref: "another digest"}
        case other:
            raise AssertionError(f"known {other}")


def _answers(folder: Path, stage: Stage, resource: Resource | None) -> dict[str, Answer]:
    path = folder / "answers.txt"
    found: dict[str, Answer] = {}
    for part in sections(path.read_text())[1] if path.exists() else []:
        answer = stage.answer(part.blocks[0], resource)
        assert isinstance(answer, Answer)
        found[stage.filled(part.title, resource)] = answer
    return found


def _listed(name: str, data: bytes) -> bytes:
    """As `looks.files_below` prints a file; without a name it is plain text."""
    return f"{name}\0{len(data)}\0".encode() + data if name else data


@cache
def _recorded(source: str) -> Answer:
    """A file of tests/cases as it is, or one answer of a transcript: ``transcripts/….json NUMBER``."""
    name, _, number = source.partition(" ")
    text = (CASES / name).read_text()
    if not number:
        return Answer(0, text.encode(), b"")
    one = json.loads(text)[int(number)]
    return Answer(one["exit"], one["stdout"].encode(), one["stderr"].encode())


def names(desired: Desired, image: str) -> dict[str, str]:
    """The placeholders of an image's layers, and what they stand for."""
    made_of = inputs(desired, image)
    found = {"generation": made_of.generation, "packages": made_of.packages_key, "world": made_of.world_key}
    return {word: name for word, name in found.items() if name}


def folders() -> Iterator[Path]:
    yield from sorted(path.parent for path in (CASES / "drivers").glob("*/*/observed.txt"))


def masked(text: str, desired: Desired) -> str:
    """What changes with every edit of an example or a recipe is no part of an expectation."""
    for image in desired.images:
        for word, name in names(desired, image).items():
            text = text.replace(name, f"{{{word}}}")
    return re.sub(r"\b(?!0{64})[0-9a-f]{64}\b", "{sha256}", text)
