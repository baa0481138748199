"""Images: a configuration on top of packages makes a generation, the root file system that nodes boot. Seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from controller.drivers.base import World
from controller.drivers.effects import what_a_reboot_would_change
from controller.drivers.inputs import Inputs, flat, inputs
from controller.drivers.layers import Layer, Layers, layer, owner
from controller.drivers.recipe import build_place
from controller.drivers.recipe_image import STAGES, image_script
from controller.encode.space import Needs
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.model import Change, Difference, Ref, Script


class Images(Layers):
    kind: ClassVar[str] = "image"
    fact: ClassVar[str] = "generation"
    all_of_them: ClassVar[str] = "generations"
    first_bytes: ClassVar[int] = 256 * 2**20
    inodes: ClassVar[int] = 20_000

    def _key(self, made_of: Inputs) -> str:
        return made_of.generation

    def _layer(self, desired: Desired, image: str, made_of: Inputs) -> Layer:
        name = made_of.generation
        stages = self._stages(desired.images[image].spec)
        return layer(desired, image, made_of, f"images/{image}", name, f"image-{image}-{name}", stages)

    def _stages(self, spec: ImageSpec) -> Mapping[str, float]:
        del spec
        return STAGES

    def _stands_for(self, desired: Desired, image: str) -> bool:
        """Two images with equal inputs have a generation each: hosts boot them by the image's name."""
        del desired, image
        return True

    def _needs(self, desired: Desired, image: str, made_of: Inputs) -> tuple[Ref, ...]:
        if made_of.packages_key:
            return (Ref("packages", owner(desired, image, lambda one: one.packages_key)),)
        return (Ref("world", owner(desired, image, lambda one: one.world_key)),)

    def _script(self, desired: Desired, image: str, needs: Needs | None) -> Script:
        return image_script(desired, image, build_place(desired, image, needs), inputs(desired, image))

    def _pattern(self) -> Script:
        return Script("*")

    def _called(self, spec: Layer) -> str:
        return spec.image

    def _as(self, spec: Layer) -> str:
        return f"generation {spec.name}"

    def _reason(self, change: Change) -> str:
        del change
        return "no generation has these inputs yet"

    def differences(self, change: Change, world: World) -> Sequence[Difference]:
        """Against the generation that most of its hosts would boot now; none when it does not say what it was made of."""
        image, complete = change.ref.name, change.detail.get(self.all_of_them, {})
        hosts = (host.name for host in world.desired.hosts_of_image(image))
        served = [world.generations[host] for host in hosts if host in world.generations]
        before = complete.get(max(served, key=served.count, default=""), {}).get("inputs")
        after = flat(inputs(world.desired, image))
        return what_a_reboot_would_change(before, after) if before is not None else ()
