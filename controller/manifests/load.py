"""What files say in, manifests or every problem out. Pure; bad input is a `Problem`, never an exception.

`judged` looks at one blob alone, so that its result may be kept while the blob's id and path stay the same. What
only several objects together can get wrong is `check`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from pydantic import ValidationError

from controller.manifests.base import API_VERSION, Metadata
from controller.manifests.draft import Draft, draft
from controller.manifests.explain import Subject, dotted, explain
from controller.manifests.models import KINDS, JailSpec, Spec
from controller.model import Origin
from controller.problem import NOTHING, Problem, listed, nearest, quoted, shown
from controller.trees import Path, Place, Tree, Trees, place_of

MAX_TOTAL_BYTES: Final = 16 * 2**20

_VALUES: Final[Mapping[str, list[str]]] = {"apiVersion": [API_VERSION], "kind": list(KINDS)}
_FIELDS: Final = (*_VALUES, "metadata", "spec")

S_co = TypeVar("S_co", bound=Spec, covariant=True)
S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a tree."""

    path: str
    id: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Manifest(Generic[S_co]):
    """One object that is valid by itself."""

    kind: str
    metadata: Metadata
    spec: S_co
    origin: Origin
    """Where its document begins."""
    places: Mapping[Path, Place] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.metadata.name

    def __str__(self) -> str:
        """``Kind/name``, for a jail ``Jail/host/name``: no two valid objects have the same."""
        if isinstance(self.spec, JailSpec):
            return f"{self.kind}/{self.spec.host}/{self.name}"
        return f"{self.kind}/{self.name}"

    def at(self, *path: str | int) -> Origin:
        """Where a field stands, its keys as the YAML has them: ``at("spec", "users", 0, "name")``.

        A field that was left to its default has the origin of what would hold it.
        """
        return Origin(self.origin.path, *place_of(self.places, path).value)

    def says(self, *path: str | int) -> bool:
        """Whether the YAML itself has this field, rather than its default."""
        return path in self.places


AnyManifest: TypeAlias = Manifest[Spec]


@dataclass(frozen=True, slots=True)
class Loaded:
    """All valid objects, all problems, and the documents that are not valid: of a tree, or of one file."""

    objects: tuple[AnyManifest, ...]
    problems: tuple[Problem, ...]
    drafts: tuple[Draft, ...] = ()


def unread(problem: Problem) -> Loaded:
    """A file, or more, that could not be read: nobody knows what it declares."""
    return Loaded((), (problem,), (Draft(problem.origin),))


def pick(objects: Iterable[AnyManifest], spec: type[S]) -> tuple[Manifest[S], ...]:
    """The objects of one kind: ``pick(loaded.objects, HostSpec)``."""
    return tuple(cast(Manifest[S], one) for one in objects if isinstance(one.spec, spec))


def wanted(path: str) -> bool:
    """Whether a file of the tree is a manifest: ``*.yaml`` or ``*.yml``, and no part of its path begins with a dot."""
    return path.endswith((".yaml", ".yml")) and not any(part.startswith(".") for part in path.split("/"))


def load(blobs: Iterable[Blob], parse: Callable[[Blob], Loaded] | None = None) -> Loaded:
    """All manifests of a tree. `parse` may be a `parse_blob` that remembers."""
    files: list[Loaded] = []
    total = 0
    for blob in blobs:
        total += len(blob.data)
        if total > MAX_TOTAL_BYTES:
            found = f"more than {MAX_TOTAL_BYTES // 2**20} MiB of manifests up to here"
            expected = "less; this file and those after it were not read"
            files.append(unread(Problem(Origin(blob.path), "", found, expected)))
            break
        files.append((parse or parse_blob)(blob))
    return together(files)


def together(files: Iterable[Loaded]) -> Loaded:
    """What several files say, in their order."""
    given = tuple(files)
    return Loaded(
        tuple(one for file in given for one in file.objects),
        tuple(one for file in given for one in file.problems),
        tuple(one for file in given for one in file.drafts),
    )


def parse_blob(blob: Blob) -> Loaded:
    """The manifests and problems of one file, read in this very process: for one that holds no keys."""
    from controller.reader.yamltree import read

    return judged(blob.path, read(blob.path, blob.data))


def judged(path: str, trees: Trees) -> Loaded:
    """The manifests and problems of one file that was read already."""
    problems = list(trees.problems)
    objects: list[AnyManifest] = []
    drafts = [Draft(Origin(path))] if trees.lost else []
    for tree in trees.documents:
        one, wrong = _judge(path, tree)
        problems += wrong
        if isinstance(one, Draft):
            drafts.append(one)
        else:
            objects.append(one)
    problems.sort(key=lambda problem: (problem.origin.line, problem.origin.column))
    return Loaded(tuple(objects), tuple(problems), tuple(drafts))


def _judge(path: str, tree: Tree) -> tuple[AnyManifest | Draft, tuple[Problem, ...]]:
    raw, begin = tree.value, _begin(path, tree)
    if not isinstance(raw, dict):
        expected = "a mapping with apiVersion, kind, metadata, spec"
        return Draft(begin), (Problem(begin, "", shown(raw), expected),) if tree.whole else ()
    kind = next((known for known in KINDS if known == raw.get("kind")), "")
    label = _label(raw)
    problems = _envelope(path, tree, raw, kind)
    if kind and tree.whole:
        try:
            # There is one form of documents: whoever writes another, or none, means that.
            document = cast(Any, KINDS[kind].model_validate({**raw, "apiVersion": API_VERSION}))
            if not problems:
                return Manifest(kind, document.metadata, document.spec, begin, tree.places), ()
        except ValidationError as error:
            problems = (*problems, *explain(error, Subject(path, kind, label, tree)))
    # Of a document that is not whole, what is missing says nothing.
    return draft(begin, kind, label, tree), problems if tree.whole else ()


def _envelope(path: str, tree: Tree, raw: Mapping[str, Any], kind: str) -> tuple[Problem, ...]:
    """What is wrong with the outermost fields, as far as no model of the kind will say it."""

    def problem(field_name: str, found: str, expected: str, meant: str = "") -> Problem:
        place = tree.places.get((field_name,))
        at = place.key if place and field_name not in _VALUES else place.value if place else tree.places[()].value
        return Problem(Origin(path, *at), dotted((field_name,)), found, expected, meant, _label(raw))

    found = []
    for field_name, known in _VALUES.items():
        value = raw.get(field_name, NOTHING)
        if value not in known:
            # Where only one value is expected, to suggest it says it twice.
            meant = nearest(value, known) if isinstance(value, str) and len(known) > 1 else ""
            found.append(problem(field_name, shown(value), listed(known), meant))
    if not kind:
        for key in (one for one in raw if one not in _FIELDS):
            found.append(problem(key, f"the unknown field {quoted(key)}", listed(_FIELDS), nearest(key, _FIELDS)))
        for part in ("metadata", "spec"):
            if not isinstance(raw.get(part), dict):
                found.append(problem(part, shown(raw.get(part, NOTHING)), "a mapping"))
    return tuple(found)


def _begin(path: str, tree: Tree) -> Origin:
    return Origin(path, *tree.places[()].value)


def _label(raw: Mapping[str, Any]) -> str:
    """``Kind/name`` or ``Jail/host/name`` as far as it can be shown; the values are not judged yet."""
    metadata, spec = raw.get("metadata"), raw.get("spec")
    host = spec.get("host") if raw.get("kind") == "Jail" and isinstance(spec, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    parts = [part for part in (raw.get("kind"), host, name) if isinstance(part, str)]
    return "/".join(part if part.isascii() and part.isprintable() else "?" for part in parts)[:150]
