"""What a SAN goes on exporting although no manifest asks for it any more: the roots that nodes run from. Pure.

A host that moved to another image runs from its old one until it is rebooted, one that left the manifests until somebody
shuts it down, and a root that is withdrawn below a running node leaves it hanging. What cannot be proved to be unused
stays, as far as it is exported now.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.drivers.base import World
from controller.drivers.bootstate import state_of
from controller.drivers.generations import complete_generations, image_of
from controller.model import Ref, Resource


def images_root(resource: Resource) -> str:
    """The directory of all images of the SAN, with a slash at the end."""
    return f"{resource.spec.spec.nfs.root}/images/"


def kept(resource: Resource, world: World) -> Iterator[tuple[str, str]]:
    """Path and address of every export below the images that a node of ours runs from now, or may run from because it
    or its image was not seen."""
    seen = world.seen(resource.ref)
    names = {world.desired.host_address(name): name for name in world.desired.hosts}
    for path, clients in ((seen.facts or {}).get("served", {}) if seen else {}).items():
        if path.startswith(images_root(resource)):
            image, _, generation = path.removeprefix(images_root(resource)).partition("/")
            for address in sorted(clients):
                if address in names:
                    stays = _may_run(world, names[address], image, generation, path)
                else:
                    stays = _left_running(world, address)
                if stays:
                    yield path, address


def _left_running(world: World, address: str) -> bool:
    """Whether a host that left the manifests is, or may be, still up: the SAN tells, for its disk is attached."""
    gone = [
        ref for ref in (*world.observed.seen, *world.observed.unknown, *world.observed.stalled) if ref.kind == "lun"
    ]
    for ref in gone:
        if ref.name in world.desired.hosts:
            continue
        seen = world.seen(ref)
        if seen is None or any(one.endswith(f" from {address}") for one in seen.detail.get("attached") or ()):
            return True
    return False


def _may_run(world: World, host: str, image: str, generation: str, path: str) -> bool:
    if image in world.desired.images:
        if world.seen(Ref("image", image)) is None:
            return True
        # mountd drops a client's whole line for one directory that is not there.
        if generation and generation not in complete_generations(world.observed, image):
            return False
    node = world.seen(Ref("node", host))
    if node is None:
        return True
    good = state_of(world.observed, host).good
    if good and image_of(world.desired, world.observed, host, good) == image and generation in ("", good):
        return True  # What it runs has not proved itself yet, and it may have to go back.
    booted = str(node.detail.get("rootPath", "")).partition(":")[2]
    return booted == path or booted.startswith(f"{path}/")
