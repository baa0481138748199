"""Which generations and layers go, which stay, and why. Pure.

A generation goes when it is older than the newest `keep` complete ones of its image and nobody can need it: it is not wanted,
no DHCP entry names it or named it last, no node runs it, no host proved it last, and no operator keeps it. What cannot be
seen may need anything: an unseen host may have been booted by hand into whatever its entry ever named. So nothing goes of its
image, nor of an image that is not seen itself, nor of anything while exports or a boot server cannot be seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.drivers.base import World
from controller.drivers.generations import image_of, named_by
from controller.drivers.inputs import inputs
from controller.drivers.kept import images_root, kept
from controller.encode.shelf import Entry
from controller.manifests import SanSpec
from controller.model import Ref, Resource

KIND: Final = "retention"


class Reasons(Mapping[str, str]):
    """Generation -> why it stays: words, and for each the hosts that it is about."""

    def __init__(self) -> None:
        self._found: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)

    def add(self, generation: str, words: str, host: str = "") -> None:
        hosts = self._found[generation].setdefault(words, [])
        if host and host not in hosts:
            hosts.append(host)

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __getitem__(self, generation: str) -> str:
        if generation not in self._found:
            raise KeyError(generation)
        return ", ".join(f"{words} {' and '.join(hosts)}".strip() for words, hosts in self._found[generation].items())


@dataclass(frozen=True)
class Shelf:
    """One SAN's share."""

    spec: SanSpec

    @property
    def root(self) -> str:
        return str(self.spec.nfs.root)


@dataclass(frozen=True)
class Decision:
    goes: Mapping[str, str]
    """Path below the share's root -> why it goes, in order."""
    stays: Mapping[str, str]
    """The same for what stays."""
    held: tuple[str, ...] = ()
    """Why nothing goes of something."""


def decide(world: World, san: str) -> Decision:
    """What is to become of everything on one SAN's share. Nothing goes of a share that was not seen."""
    seen = world.seen(Ref(KIND, san))
    if seen is None:
        return Decision({}, {})
    entries: tuple[Entry, ...] = seen.detail["shelf"]
    goes = {one.path: "its removal was cut short" for one in entries if one.state == "removing"}
    blind = _blind(world, san)
    if blind:
        stays = {one.path: "may be needed" for one in entries if one.state == "complete"}
        return Decision(goes, stays, (f"nothing is removed: {blind}",))
    stays, held = {}, []
    images: dict[str, dict[str, float]] = {}
    for one in entries:
        if one.image and one.state == "complete":
            images.setdefault(one.image, {})[one.name] = float((one.manifest or {}).get("finished", 0))
    for image, found in sorted(images.items()):
        out, stay, why = _generations(world, san, image, found)
        goes |= {f"images/{image}/{name}": reason for name, reason in out.items()}
        stays |= {f"images/{image}/{name}": reason for name, reason in stay.items()}
        held += [f"nothing of {image} is removed: {why}"] if why else []
    out, stay, why = _rest(world, san, entries)
    return Decision(goes | out, stays | stay, (*held, *([f"no layer is removed: {why}"] if why else [])))


def named(world: World, image: str) -> Reasons:
    """Generations of an image that a host may boot next, or that somebody wants."""
    why = Reasons()
    if image in world.desired.images:
        why.add(inputs(world.desired, image).generation, "wanted")
    for owner, generation in sorted(world.kept):
        if owner == image:
            why.add(generation, "kept")
    for host, generation in sorted(world.generations.items()):
        if host in world.desired.hosts and image_of(world.desired, world.observed, host, generation) == image:
            why.add(generation, "to be booted by", host)
    now = {ref.name: seen.facts or {} for ref, seen in world.observed.seen.items() if ref.kind == "dhcp"}
    before = {ref.name: facts for ref, facts in world.applied.items() if ref.kind == "dhcp"}
    for said, servers in (("served to", now), ("last served to", before)):
        for facts in (facts for _, facts in sorted(servers.items())):
            for host, entry in sorted(facts.get("hosts", {}).items()):
                if one := named_by(entry, image):
                    why.add(one, said, host)
    return why


def entries_unseen(world: World) -> str:
    """Why it is not known what all boot servers say; empty when it is."""
    for name in sorted(world.desired.boot_servers):
        seen = world.seen(Ref("dhcp", name))
        facts = (seen.facts or {}) if seen else {}
        if seen is None:
            return f"the DHCP entries of {name} cannot be seen"
        if str(facts.get("file", "")).startswith("not ours") or facts.get("spoiled"):
            return f"the DHCP entries of {name} cannot be read"
    return ""


def _blind(world: World, san: str) -> str:
    if world.seen(Ref("exports", san)) is None:
        return f"the exports of {san} cannot be seen"
    return entries_unseen(world)


def _generations(
    world: World, san: str, image: str, found: Mapping[str, float]
) -> tuple[dict[str, str], dict[str, str], str]:
    """What goes and what stays of one image, or why nothing goes. `found`: generation -> when it was finished."""
    declared = world.desired.images.get(image)
    if declared is None or declared.spec.san != san:
        return {}, dict.fromkeys(found, "no manifest declares its image on this SAN"), ""
    why, unknown = _protected(world, san, image, found)
    if unknown:
        return {}, {name: why.get(name, "may be needed") for name in found}, unknown
    keep = declared.spec.keep
    by_age = sorted(found, key=lambda name: (found[name], name))
    for name in by_age[-keep:]:
        why.add(name, f"one of the newest {keep}")
    goes = {name: f"older than the newest {keep}, and nobody needs it" for name in by_age if name not in why}
    return goes, {name: why[name] for name in by_age if name in why}, ""


def _protected(world: World, san: str, image: str, found: Mapping[str, float]) -> tuple[Reasons, str]:
    """Why generations stay, and why no other one may go either; that is empty when all is known."""
    desired, why = world.desired, named(world, image)
    missing = inputs(desired, image).missing
    if missing:
        return why, f"it is not known yet which generation is wanted: {missing}"
    if world.seen(Ref("image", image)) is None:
        return why, f"image {image} cannot be seen"
    for host in sorted(desired.hosts):
        proved = str(world.applied.get(Ref("node", host), {}).get("generation", ""))
        node = world.seen(Ref("node", host))
        if proved:
            why.add(proved, "last proved by", host)
        if node is not None:
            running = named_by({"root-path": node.detail.get("rootPath", "")}, image)
            if running:
                why.add(running, "run by", host)
        elif proved in found or desired.hosts[host].spec.image == image:
            return why, f"{host} cannot be seen and may run any of them"
    return why, _left_behind(world, san, image)


def _left_behind(world: World, san: str, image: str) -> str:
    """Why an image may be run by a host that belongs to it no more."""
    exports = Resource(Ref("exports", san), san, Shelf(world.desired.sans[san].spec))
    names = {world.desired.host_address(name): name for name in world.desired.hosts}
    for path, address in kept(exports, world):
        host = names.get(address)
        if path.removeprefix(images_root(exports)).partition("/")[0] != image:
            continue
        if host is None:
            return f"a node at {address}, which no manifest declares any more, may run one"
        known = world.seen(Ref("node", host)) is not None or Ref("node", host) in world.applied
        if not known and world.desired.hosts[host].spec.image != image:
            return f"{host} cannot be seen and may run one still"
    return ""


def _rest(world: World, san: str, entries: tuple[Entry, ...]) -> tuple[dict[str, str], dict[str, str], str]:
    """Layers that nothing names, and what is left of builds that nobody wants."""
    layers = {one.path: one for one in entries if one.place == "layers" and one.state == "complete"}
    unfinished = [one for one in entries if one.state == "building"]
    running, unknown = _running(world, san, unfinished)
    if unknown:
        return {}, dict.fromkeys(layers, unknown), unknown
    wanted = dict(_wanted(world, san))
    goes = {
        one.path: "left by a build that nobody wants any more"
        for one in unfinished
        if (one.image in world.desired.images or not one.image)
        and not _being_made(one, world, wanted)
        and _job(one) not in running
    }
    if running:
        unknown = f"{', '.join(sorted(running))} is being built"
        return goes, dict.fromkeys(layers, unknown), unknown
    stays = {path: reason for path, one in layers.items() if (reason := _used(one, entries, wanted))}
    goes |= {path: "no manifest and no generation names it" for path in layers if path not in stays}
    return goes, stays, ""


def _being_made(one: Entry, world: World, wanted: Mapping[tuple[str, str], str]) -> bool:
    """Whether the build VM that left it will begin there anew."""
    image = wanted.get((one.place, one.name))
    return image is not None and world.desired.images[image].spec.build_vm == one.build_vm


def _running(world: World, san: str, unfinished: Iterable[Entry]) -> tuple[frozenset[str], str]:
    """The jobs of all build VMs that build for a SAN or have left something there, or why they are not known."""
    images = world.desired.images_of_san(san)
    jobs: set[str] = set()
    left = {one.build_vm for one in unfinished} & world.desired.build_vms.keys()
    for vm in sorted({image.spec.build_vm for image in images} | left):
        seen = world.seen(Ref("buildvm", vm))
        if seen is None:
            return frozenset(), f"it cannot be seen what {vm} builds"
        jobs |= set(seen.detail["running"])
    missing = [image.name for image in images if inputs(world.desired, image.name).missing]
    return frozenset(jobs), f"it is not known yet which layers {missing[0]} needs" if missing else ""


def _wanted(world: World, san: str) -> Iterator[tuple[tuple[str, str], str]]:
    """(place, name) -> the image that wants it; of several the first, which builds it, comes last."""
    for image in reversed(tuple(world.desired.images_of_san(san))):
        made_of = inputs(world.desired, image.name)
        yield ("layers", f"world-{made_of.world_key}"), image.name
        yield ("layers", f"packages-{made_of.packages_key}"), image.name
        yield (f"images/{image.name}", made_of.generation), image.name


def _used(layer: Entry, entries: tuple[Entry, ...], wanted: Mapping[tuple[str, str], str]) -> str:
    """Why a layer stays; empty when nothing names it."""
    if (layer.place, layer.name) in wanted:
        return f"wanted by {wanted[layer.place, layer.name]}"
    kind, _, key = layer.name.partition("-")
    above = [one.path for one in entries if one.image and (one.manifest or {}).get(kind) == key]
    return f"{', '.join(above)} is made of it" if above else ""


def _job(one: Entry) -> str:
    """What the build of it is called on its build VM."""
    return f"image-{one.image}-{one.name}" if one.image else one.name
