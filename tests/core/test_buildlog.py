"""Which layer is meant by a name on the command line."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from controller.buildlog import layer_named
from controller.errors import Stall
from controller.model import Ref
from tests.drivers.scene import manifests

WORLD, IMAGE = Ref("world", "freebsd13"), Ref("image", "freebsd13")


@pytest.mark.parametrize(
    ("what", "busy", "meant"),
    [
        ("world/freebsd13", (), WORLD),
        ("image/freebsd13", (WORLD,), IMAGE),
        ("freebsd13", (WORLD,), WORLD),  # what is being built
        ("freebsd13", (Ref("world", "other"), IMAGE), IMAGE),
    ],
)
def test_which_layer_is_meant(what: str, busy: Collection[Ref], meant: Ref) -> None:
    assert layer_named(what, manifests(()), busy).ref == meant


@pytest.mark.parametrize(
    ("what", "busy", "message", "hint"),
    [
        ("freebsd13", (), "several layers are so called", "name one of {all}"),
        ("freebsd13", (WORLD, IMAGE), "several layers are so called", "name one of {all}"),
        ("nosuch", (), "there is no such layer", "there is {all}"),
        ("node/freebsd13", (), "there is no such layer", "there is {all}"),
    ],
)
def test_who_is_not_understood_is_told_what_there_is(what: str, busy: Collection[Ref], message: str, hint: str) -> None:
    with pytest.raises(Stall) as error:
        layer_named(what, manifests(()), busy)
    layers = "world/freebsd13, packages/freebsd13, image/freebsd13"
    assert (str(error.value), error.value.hint) == (
        f"cannot show the log of {what}: {message}", hint.format(all=layers)
    )  # fmt: skip
