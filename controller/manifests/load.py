"""Blobs of a Git tree in, manifests or every problem out. Pure; bad input is a `Problem`, never an exception.

`parse_blob` looks at one blob alone, so that its result may be kept while the blob's id and path stay the same. What
only several objects together can get wrong is `check`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

from pydantic import ValidationError

from controller.manifests.base import API_VERSION, Metadata
from controller.manifests.explain import Subject, explain
from controller.manifests.models import KINDS, JailSpec, Spec
from controller.manifests.problem import NOTHING, Problem, listed, nearest, shown
from controller.manifests.yamltree import Path, Place, Tree, read
from controller.model import Origin

MAX_TOTAL_BYTES: Final = 16 * 2**20

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
        while path not in self.places:
            path = path[:-1]
        place = self.places[path]
        return Origin(self.origin.path, *place.value)

    def says(self, *path: str | int) -> bool:
        """Whether the YAML itself has this field, rather than its default."""
        return path in self.places


AnyManifest: TypeAlias = Manifest[Spec]
Parsed: TypeAlias = tuple[tuple[AnyManifest, ...], tuple[Problem, ...]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """All valid objects and all problems of a tree, each in the order of the blobs."""

    objects: tuple[AnyManifest, ...]
    problems: tuple[Problem, ...]


def pick(objects: Iterable[AnyManifest], spec: type[S]) -> tuple[Manifest[S], ...]:
    """The objects of one kind: ``pick(loaded.objects, HostSpec)``."""
    return tuple(cast(Manifest[S], one) for one in objects if isinstance(one.spec, spec))


def wanted(path: str) -> bool:
    """Whether a file of the tree is a manifest: ``*.yaml`` or ``*.yml``, and no part of its path begins with a dot."""
    return path.endswith((".yaml", ".yml")) and not any(part.startswith(".") for part in path.split("/"))


def load(blobs: Iterable[Blob], parse: Callable[[Blob], Parsed] | None = None) -> Loaded:
    """All manifests of a tree. `parse` may be a `parse_blob` that remembers."""
    objects: list[AnyManifest] = []
    problems: list[Problem] = []
    total = 0
    for blob in blobs:
        total += len(blob.data)
        if total > MAX_TOTAL_BYTES:
            found = f"more than {MAX_TOTAL_BYTES // 2**20} MiB of manifests up to here"
            problems.append(Problem(Origin(blob.path), "", found, "less; this file and those after it were not read"))
            break
        some, wrong = (parse or parse_blob)(blob)
        objects += some
        problems += wrong
    return Loaded(tuple(objects), tuple(problems))


def parse_blob(blob: Blob) -> Parsed:
    """The manifests and problems of one file."""
    trees = read(blob.path, blob.data)
    problems = list(trees.problems)
    objects = []
    for tree in trees.documents:
        judged = _judge(blob.path, tree)
        if isinstance(judged, Manifest):
            objects.append(judged)
        else:
            problems += judged
    problems.sort(key=lambda problem: (problem.origin.line, problem.origin.column))
    return tuple(objects), tuple(problems)


def _judge(path: str, tree: Tree) -> AnyManifest | tuple[Problem, ...]:
    if not tree.whole:
        return ()
    envelope = _envelope(path, tree)
    if envelope:
        return envelope
    raw = cast(dict[str, Any], tree.value)
    kind = str(raw["kind"])
    try:
        document = KINDS[kind].model_validate(raw)
    except ValidationError as error:
        return explain(error, Subject(path, kind, _label(raw), tree))
    known = cast(Any, document)
    return Manifest(kind, known.metadata, known.spec, _begin(path, tree), tree.places)


def _envelope(path: str, tree: Tree) -> tuple[Problem, ...]:
    """What keeps a document from being judged by a model: then it has no other problems."""
    raw = tree.value
    if not isinstance(raw, dict):
        expected = "a mapping with apiVersion, kind, metadata, spec"
        return (Problem(_begin(path, tree), "", shown(raw), expected),)
    for field_name, known in (("apiVersion", [API_VERSION]), ("kind", list(KINDS))):
        value = raw.get(field_name, NOTHING)
        if value not in known:
            place = tree.places.get((field_name,))
            origin = Origin(path, *place.value) if place else _begin(path, tree)
            meant = nearest(value, known) if isinstance(value, str) else ""
            return (Problem(origin, field_name, shown(value), listed(known), meant, _label(raw)),)
    return ()


def _begin(path: str, tree: Tree) -> Origin:
    return Origin(path, *tree.places[()].value)


def _label(raw: Mapping[str, Any]) -> str:
    """``Kind/name`` or ``Jail/host/name`` as far as it can be shown; the values are not judged yet."""
    metadata, spec = raw.get("metadata"), raw.get("spec")
    host = spec.get("host") if raw.get("kind") == "Jail" and isinstance(spec, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    parts = [part for part in (raw.get("kind"), host, name) if isinstance(part, str)]
    return "/".join(part if part.isascii() and part.isprintable() else "?" for part in parts)[:150]
