"""Worlds: what is compiled, and installed into a root of its own that nobody boots. Hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from controller.drivers.inputs import Inputs, inputs
from controller.drivers.layers import Layers
from controller.drivers.recipe import build_place
from controller.drivers.recipe_world import COMPILED, UNPACKED, world_script
from controller.encode.space import Needs
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.model import Ref, Script


class Worlds(Layers):
    kind: ClassVar[str] = "world"
    first_bytes: ClassVar[int] = 2 * 2**30
    inodes: ClassVar[int] = 60_000

    def _key(self, made_of: Inputs) -> str:
        return made_of.world_key

    def _needs(self, desired: Desired, image: str, made_of: Inputs) -> tuple[Ref, ...]:
        del made_of
        spec = desired.images[image].spec
        return Ref("exports", spec.san), Ref("buildvm", spec.build_vm)

    def _stages(self, spec: ImageSpec) -> Mapping[str, float]:
        return UNPACKED if spec.source.dist is not None else COMPILED

    def _script(self, desired: Desired, image: str, needs: Needs | None) -> Script:
        return world_script(desired.images[image].spec, build_place(desired, image, needs), inputs(desired, image))
