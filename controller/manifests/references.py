"""Names lead somewhere: references resolve, the start order has no circle, what belongs together agrees.

Pure cross-checks. A name that may be that of a document which is not valid leads somewhere, too; and where the names in such
a document lead is judged as well, as far as they are good by themselves.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from controller.encode.names import safename
from controller.manifests.base import SPREAD
from controller.manifests.draft import LEADS
from controller.manifests.load import Manifest
from controller.manifests.models import HostSpec, ImageSpec, JailSpec
from controller.manifests.world import Declared, World, problem, taken
from controller.problem import Problem, nearest, quoted
from controller.trees import Path

ROOT_PATH_MAX = 127
"""Characters of a root-path that loader(8) keeps (FNAME_SIZE, dev_net.c)."""

GENERATION = "0" * 12
"""As long as every generation's name."""

_SHOWN = 8

_NUMBER = re.compile(r"\d+")


def references(world: World) -> Iterator[Problem]:
    yield from _names(world)
    for image in world.images:
        yield from _canaries(world, image)
    for host in world.hosts:
        yield from _host(world, host)
    here: dict[str, set[str]] = defaultdict(set)
    roots: dict[str, dict[str, str]] = defaultdict(dict)
    for jail in world.jails:
        here[jail.spec.host].add(jail.name)
        roots[jail.spec.host] |= {jail.name: jail.name, safename(jail.name): jail.name}
    for jail in world.jails:
        yield from _after(world, jail, jail.spec.host, enumerate(jail.spec.after), here[jail.spec.host])
        yield from _mounts(world, jail, roots[jail.spec.host])
    for draft in world.drafts:
        if draft.kind == "Jail" and draft.host:
            yield from _after(world, draft, draft.host, draft.listed("spec", "after"), here[draft.host])
    yield from _spread(world)
    yield from _circles(world)
    yield from _one_ezjail(world)
    yield from _one_checkout(world)


def _canaries(world: World, image: Manifest[ImageSpec]) -> Iterator[Problem]:
    """A canary boots this very image: one that does not would hold the rollout for ever."""
    boot_it = [host.name for host in world.hosts if host.spec.image == image.name]
    for index, name in enumerate(image.spec.rollout.canary):
        if name not in boot_it and (name in world.host or not world.may_exist("Host", name)):
            path = ("spec", "rollout", "canary", index)
            yield problem(image, path, quoted(name), f"a Host that boots {image.name}", nearest(name, boot_it))


def _one_checkout(world: World) -> Iterator[Problem]:
    """A BuildVM has one source directory, which is a git repository or a working copy of Subversion."""
    first: dict[str, Manifest[ImageSpec]] = {}
    for image in world.images:
        source = image.spec.source
        kind = "git" if source.git is not None else "svn" if source.svn is not None else ""
        if not kind:
            continue
        other = first.setdefault(image.spec.build_vm, image)
        theirs = "git" if other.spec.source.git is not None else "svn"
        if kind != theirs:
            expected = (
                f"{theirs}, as {other} has it ({other.origin}): both are built in the source directory of one BuildVM"
            )
            yield problem(image, ("spec", "source"), kind, expected)


def _one_ezjail(world: World) -> Iterator[Problem]:
    """ezjail.conf is part of the image: its hosts must mean the same by it."""
    first: dict[str, Manifest[HostSpec]] = {}
    for host in world.hosts:
        jails = host.spec.jails
        if jails.manager != "ezjail":
            continue
        other = first.setdefault(host.spec.image, host)
        where = f"as {other} has it ({other.origin}): both boot {host.spec.image}, whose ezjail.conf is one"
        if jails.directory != other.spec.jails.directory:
            expected = f"{quoted(other.spec.jails.directory)}, {where}"
            yield problem(host, ("spec", "jails", "directory"), quoted(jails.directory), expected)
        if jails.devfs_ruleset != other.spec.jails.devfs_ruleset:
            found, expected = _ruleset(jails.devfs_ruleset), f"{_ruleset(other.spec.jails.devfs_ruleset)}, {where}"
            yield problem(host, ("spec", "jails", "devfsRuleset"), found, expected)


def _ruleset(number: int | None) -> str:
    return "none" if number is None else str(number)


def _names(world: World) -> Iterator[Problem]:
    """The fields that name an object of another kind, also of documents that are not valid."""
    valid: dict[str, set[str]] = defaultdict(set)
    for one in (*world.servers, *world.images, *world.hosts):
        valid[one.kind].add(one.name)
    for declared, path, name, kind in _leads(world):
        known = {*valid[kind], *(draft.name for draft in world.drafts if draft.kind == kind and draft.name)}
        if name not in valid[kind] and _leads_nowhere(world, kind, name, known):
            there = f"there is {', '.join(sorted(known)[:_SHOWN])}" if known else "there is none"
            more = ", …" if len(known) > _SHOWN else ""
            expected = f"the name of an existing {kind} ({there}{more})"
            yield problem(declared, path, quoted(name), expected, nearest(name, known))


def _leads(world: World) -> Iterator[tuple[Declared, Path, str, str]]:
    """Who names, where, what name, of which kind."""
    for image in world.images:
        yield image, ("spec", "buildVM"), image.spec.build_vm, "BuildVM"
        yield image, ("spec", "san"), image.spec.san, "San"
    for host in world.hosts:
        yield host, ("spec", "image"), host.spec.image, "Image"
        yield host, ("spec", "bootServer"), host.spec.boot_server, "BootServer"
        yield host, ("spec", "san"), host.spec.san, "San"
    for jail in world.jails:
        yield jail, ("spec", "host"), jail.spec.host, "Host"
    for draft in world.drafts:
        for path, kind in LEADS.get(draft.kind, {}).items():
            if path in draft.said:
                yield draft, path, draft.said[path], kind


def _leads_nowhere(world: World, kind: str, name: str, known: Collection[str], host: str = "") -> bool:
    """Of a name that no valid object has. What could not be read may declare it, unless it is a known one mistyped."""
    if any(draft.may_be(kind, name, host) for draft in world.drafts if draft.kind or draft.name):
        return False
    return not world.may_exist(kind, name, host) or _mistyped(name, known)


def _mistyped(name: str, known: Collection[str]) -> bool:
    """Whether a name is one of `known` with a slip. Names that differ by their numbers alone are siblings."""
    meant = nearest(name, known)
    return bool(meant) and _NUMBER.sub("", meant) != _NUMBER.sub("", name)


def _host(world: World, host: Manifest[HostSpec]) -> Iterator[Problem]:
    spec = host.spec
    if spec.previous is not None and spec.previous in world.host:
        where = world.host[spec.previous].origin
        yield problem(
            host,
            ("spec", "previous"),
            quoted(spec.previous),
            f"a name that no host has any more (one stands at {where})",
        )
    yield from _root(world, host)


def _root(world: World, host: Manifest[HostSpec]) -> Iterator[Problem]:
    """The root comes from the San that the image is on, and its path fits into a DHCP answer."""
    image, san = world.image.get(host.spec.image), world.san.get(host.spec.san)
    if image is None or san is None:
        return
    kept = image.spec.san in world.san or world.may_exist("San", image.spec.san)
    if kept and image.spec.san != host.spec.san:
        expected = f"{quoted(image.spec.san)}, where {image} is kept ({image.at('spec', 'san')})"
        yield problem(host, ("spec", "san"), quoted(host.spec.san), expected)
    path = f"{san.spec.nfs.address}:{san.spec.nfs.root}/images/{image.name}/{GENERATION}"
    if len(path) > ROOT_PATH_MAX:
        found = f"a root-path of {len(path)} characters ({san.spec.nfs.root}/images/{image.name}/…)"
        expected = f"at most {ROOT_PATH_MAX}: a shorter nfs.root ({san.at('spec', 'nfs', 'root')}) or image name"
        yield problem(host, ("spec", "image"), found, expected)


def _after(
    world: World, jail: Declared, host: str, after: Iterable[tuple[int, str]], here: Collection[str]
) -> Iterator[Problem]:
    others = [other for other in here if other != jail.name]
    for index, name in after:
        if name not in here and _leads_nowhere(world, "Jail", name, others, host):
            expected = f"the name of another jail on {host}"
            yield problem(jail, ("spec", "after", index), quoted(name), expected, nearest(name, others))


def _mounts(world: World, jail: Manifest[JailSpec], roots: Mapping[str, str]) -> Iterator[Problem]:
    """A mount neither lies in another jail's root nor shows one. `roots`: directory name to jail, for this host."""
    host = world.host.get(jail.spec.host)
    if host is None:
        return
    directory = f"{host.spec.jails.directory}/"
    for index, mount in enumerate(jail.spec.mounts):
        path = ("spec", "mounts", index, "source")
        inside = mount.source.removeprefix(directory).split("/")[0] if mount.source.startswith(directory) else ""
        if roots.get(inside, jail.name) != jail.name:
            expected = f"a directory outside the root of Jail/{host.name}/{roots[inside]}"
            yield problem(jail, path, quoted(mount.source), expected)
        elif directory.startswith(f"{mount.source}/"):
            expected = f"a directory that does not show the jails' own ({host.spec.jails.directory})"
            yield problem(jail, path, quoted(mount.source), expected)


def _spread(world: World) -> Iterator[Problem]:
    """Two running jails that are never to be down together do not lie on one host, which takes both with it."""
    first: dict[tuple[str, str], Manifest[JailSpec]] = {}
    path = ("metadata", "labels", SPREAD)
    for jail in world.jails:
        group = jail.metadata.labels.get(SPREAD)
        if group is None or jail.spec.state != "running":
            continue
        other = first.setdefault((jail.spec.host, group), jail)
        if other is not jail:
            expected = f"another host for one of them: {taken(other, path)}, and both go down with {jail.spec.host}"
            yield problem(jail, path, quoted(group), expected)


def _circles(world: World) -> Iterator[Problem]:
    by_host: dict[str, dict[str, Manifest[JailSpec]]] = defaultdict(dict)
    for jail in world.jails:
        by_host[jail.spec.host].setdefault(jail.name, jail)
    for jails in by_host.values():
        after = {name: [other for other in jail.spec.after if other in jails] for name, jail in jails.items()}
        for circle in circles(after):
            jail = jails[circle[0]]
            shown = circle if len(circle) <= _SHOWN else [*circle[: _SHOWN - 1], "…", circle[-1]]
            found = f"the circle {' -> '.join(shown)}"
            yield problem(jail, ("spec", "after"), found, "an order in which each jail starts after the others")


def circles(after: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Each way back in a graph as a path that begins and ends with one name. Looks at every edge once."""
    done: set[str] = set()
    for start in after:
        if start in done:
            continue
        trail: dict[str, Iterator[str]] = {start: iter(after[start])}
        while trail:
            here, following = next(reversed(trail.items()))
            name = next(following, None)
            if name is None:
                del trail[here]
                done.add(here)
            elif name in trail:
                names = list(trail)
                yield [*names[names.index(name) :], name]
            elif name not in done:
                trail[name] = iter(after[name])
