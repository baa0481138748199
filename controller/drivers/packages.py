"""Packages, installed on top of a world. Minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from controller.drivers.inputs import Inputs, inputs
from controller.drivers.layers import Layers, owner
from controller.drivers.recipe import build_place
from controller.drivers.recipe_packages import STAGES, packages_script
from controller.encode.space import Needs
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.model import Ref, Script


class Packages(Layers):
    kind: ClassVar[str] = "packages"
    first_bytes: ClassVar[int] = 2**30
    inodes: ClassVar[int] = 40_000

    def _key(self, made_of: Inputs) -> str:
        return made_of.packages_key

    def _needs(self, desired: Desired, image: str, made_of: Inputs) -> tuple[Ref, ...]:
        del made_of
        return (Ref("world", owner(desired, image, lambda one: one.world_key)),)

    def _stages(self, spec: ImageSpec) -> Mapping[str, float]:
        del spec
        return STAGES

    def _script(self, desired: Desired, image: str, needs: Needs | None) -> Script:
        return packages_script(desired.images[image].spec, build_place(desired, image, needs), inputs(desired, image))
