"""The layers of an image as one subject: which kinds there are, and which of their builds have ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.drivers.base import World
from controller.drivers.image import Images
from controller.drivers.layers import Layers, has_failed, is_complete
from controller.drivers.packages import Packages
from controller.drivers.world import Worlds
from controller.graph import Desired
from controller.model import Observed, Ref, Resource

LAYERS: Final[Mapping[str, Layers]] = {"world": Worlds(), "packages": Packages(), "image": Images()}
"""Kind -> driver, in the order in which they are built."""


@dataclass(frozen=True)
class EndedBuild:
    """A build that is over, as the look tells it every time until the next one begins."""

    layer: str
    image: str
    name: str
    result: str
    started: float | None
    finished: float | None
    message: str = ""

    @property
    def seconds(self) -> float | None:
        return self.finished - self.started if self.started and self.finished else None


def ended_builds(observed: Observed) -> Iterator[EndedBuild]:
    """Every layer whose wanted build's job has ended."""
    for ref, seen in observed.seen.items():
        job = seen.detail.get("job") or {}
        driver = LAYERS.get(ref.kind)
        if driver is None or job.get("state") not in ("done", "lost"):
            continue
        good = is_complete(driver, seen)
        if good or has_failed(driver, seen):
            yield EndedBuild(
                ref.kind,
                ref.name,
                seen.detail["wanted"],
                "done" if good else "failed",
                job["started"],
                job["finished"] or job["started"],
                "" if good else str(job.get("error", "")),
            )


def layers_on(desired: Desired, build_vm: str) -> Iterator[Resource]:
    """Every layer that is asked for on a build VM."""
    return (one for driver in LAYERS.values() for one in driver.resources(desired) if one.host == build_vm)


def wanted_jobs(desired: Desired, build_vm: str) -> frozenset[str] | None:
    """The jobs of every layer that is asked for on a build VM; None while one of them cannot be named."""
    specs = [resource.spec for resource in layers_on(desired, build_vm)]
    return None if any(spec.missing for spec in specs) else frozenset(spec.job for spec in specs)


def needs_build_vm(ref: Ref, world: World) -> bool | None:
    """Whether a layer has work for its build VM. None: that is not known, or there is no room for what it would make, or its
    build has failed: the VM, on which the log lies, is then left as it is until a person has looked."""
    if ref in world.ready:
        return False
    driver, seen = LAYERS[ref.kind], world.seen(ref)
    if seen is None:
        return None
    if seen.busy is not None:
        return True
    if is_complete(driver, seen):
        return False
    if seen.detail["lacks"] or (has_failed(driver, seen) and ref not in world.retry):
        return None
    removed_by_hand = world.applied.get(ref) == {driver.fact: seen.detail["wanted"]}
    return not removed_by_hand or world.drift_mode(ref) == "enforce"
