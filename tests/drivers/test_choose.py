"""Which generation a host should boot, by what is remembered of its boots and of those of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from controller.drivers import choose, hops, needed_again
from controller.drivers.bootstate import Asked, BootState, Failed
from controller.drivers.generations import image_of
from controller.drivers.inputs import inputs
from controller.graph import Desired, Pin
from controller.model import Observed, Ref, Seen

from .scene import IMAGE, REVISION, manifests

ONE, TWO = "disklessfreebsdbox", "jailbox2"
DESIRED = manifests(())
NEW, OLD, OLDER = inputs(DESIRED, IMAGE).generation, "0123456789ab", "000000000000"
BAD = {NEW: Failed(REVISION, 5.0, "it did not come up")}
COMPLETE = {name: {"finished": at, "hosts": {ONE: name, TWO: name}} for at, name in enumerate((OLDER, OLD, NEW))}


def observed(
    boots: Mapping[str, BootState | None], runs: Mapping[str, str], served: str = NEW, gone: str = ""
) -> Observed:
    """`boots` None: its memory could not be read. `gone`: a generation that somebody removed."""
    entry = {"root-path": f"198.51.100.10:/export/jailops/images/{IMAGE}/{served}"}
    seen: dict[Ref, Seen] = {
        Ref("image", IMAGE): Seen(
            None, detail={"generations": {name: one for name, one in COMPLETE.items() if name != gone}}
        ),
        Ref("dhcp", "boot-server"): Seen({"hosts": {ONE: entry, TWO: entry}}),
        **{Ref("node", host): Seen({"generation": one}) for host, one in runs.items()},
        **{Ref("boot", host): Seen(one.facts()) for host, one in boots.items() if one is not None},
    }
    return Observed(seen, {Ref("boot", host): "garbled" for host, one in boots.items() if one is None})


CASES: Mapping[str, tuple[Observed, str, str]] = {
    "nothing is remembered": (observed({}, {}), NEW, NEW),
    "it failed here, and another has not tried it": (
        observed({ONE: BootState(OLD, failed=BAD), TWO: BootState(OLD)}, {ONE: NEW, TWO: OLD}), OLD, OLD
    ),
    "it failed here, and another runs it well": (
        observed({ONE: BootState(OLD, failed=BAD), TWO: BootState(NEW)}, {ONE: OLD, TWO: NEW}), OLD, NEW
    ),
    "it failed under another commit": (
        observed({ONE: BootState(OLD, failed={NEW: Failed("2" * 40, 5.0, "x")}), TWO: BootState(OLD)}, {}), NEW, NEW
    ),
    "it failed, and what proved itself is gone: what runs": (
        observed({ONE: BootState("gone", failed=BAD), TWO: BootState()}, {ONE: OLDER, TWO: OLD}), OLDER, OLD
    ),
    "it failed, and there is nothing to go back to: what is served": (
        observed({ONE: BootState("gone", failed=BAD)}, {}, served=OLDER), OLDER, OLDER
    ),
    "a host on trial keeps what it was told to boot": (
        observed({ONE: BootState(OLDER, Asked(OLD, 1.0, False)), TWO: BootState(OLDER)}, {ONE: OLDER}), OLD, NEW
    ),
    "a memory that cannot be read changes nothing": (
        observed({ONE: None, TWO: BootState(OLD)}, {ONE: OLD, TWO: OLD}, served=OLDER), OLDER, NEW
    ),
    "what is served was removed by hand: what proved itself, else the newest": (
        observed({ONE: BootState(OLDER), TWO: BootState()}, {ONE: NEW, TWO: NEW}, gone=NEW), OLDER, OLD
    ),
    "what is served was removed, and what failed is not known": (
        observed({ONE: None, TWO: BootState(NEW)}, {}, gone=NEW), NEW, OLD
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_host_should_boot(case: str) -> None:
    looked, one, two = CASES[case]
    assert choose(DESIRED, looked, {}) == {ONE: one, TWO: two}


def test_how_far_a_host_is_or_that_nobody_can_see_it() -> None:
    looked = observed({ONE: BootState(OLD)}, {ONE: OLD}, gone=NEW, served=OLD)
    there, away = hops(DESIRED, looked)
    assert (there.built, there.published, there.booted, there.proved, there.failed) == ("", OLD, OLD, OLD, ())
    assert (away.built, away.published, away.booted, away.proved, away.failed) == ("", OLD, None, None, None)
    nothing = hops(DESIRED, Observed({}, {}))[0]
    assert (nothing.built, nothing.published) == (None, None)


def pinned(**pins: Any) -> Desired:
    return replace(DESIRED, pins={host: Pin(generation, "alice@ctl", "x") for host, generation in pins.items()})


def test_a_pin_holds_for_its_host_alone() -> None:
    desired = pinned(**{ONE: OLDER})
    assert choose(desired, observed({}, {}), {}) == {ONE: OLDER, TWO: NEW}
    assert (IMAGE, OLDER) in needed_again(desired, observed({}, {}))


def test_what_hosts_may_go_back_to_is_needed() -> None:
    looked = observed({ONE: BootState(OLD, Asked(NEW, 1.0, False)), TWO: BootState(OLDER)}, {})
    assert needed_again(DESIRED, looked) == {(IMAGE, OLD), (IMAGE, NEW), (IMAGE, OLDER)}
    assert needed_again(DESIRED, observed({ONE: None}, {})) == {(IMAGE, one) for one in COMPLETE}


OTHER = "other"


def moved(made_for: Mapping[str, str]) -> tuple[Desired, Observed]:
    """The first host moved to another image and failed there; `made_for`: the hosts of what it had proved before."""
    image, host = DESIRED.images[IMAGE], DESIRED.hosts[ONE]
    there = replace(host, spec=host.spec.model_copy(update={"image": OTHER}))
    desired = replace(
        DESIRED,
        images={**DESIRED.images, OTHER: replace(image, metadata=image.metadata.model_copy(update={"name": OTHER}))},
        hosts={**DESIRED.hosts, ONE: there},
    )
    new = inputs(desired, OTHER).generation
    looked = observed(
        {ONE: BootState(OLD, failed={new: BAD[NEW]}), TWO: BootState(OLD)}, {ONE: new, TWO: OLD}, served=OLD
    )
    images = {
        Ref("image", IMAGE): Seen(None, detail={"generations": {OLD: {"finished": 1, "hosts": made_for}}}),
        Ref("image", OTHER): Seen(None, detail={"generations": {new: {"finished": 2, "hosts": {ONE: new}}}}),
    }
    return desired, replace(looked, seen={**looked.seen, **images})


def test_a_host_that_moved_goes_back_into_what_it_had() -> None:
    desired, looked = moved({ONE: "a", TWO: "a"})
    assert choose(desired, looked, {})[ONE] == OLD
    assert image_of(desired, looked, ONE, OLD) == IMAGE
    assert (IMAGE, OLD) in needed_again(desired, looked)


def test_and_stays_there_until_something_newer_of_its_image_is_complete() -> None:
    """Not into what failed before, which a newer commit has forgiven."""
    desired, looked = moved({ONE: "a", TWO: "a"})
    newer = replace(desired, revision="2" * 40, toolchains=dict.fromkeys(desired.build_vms, "cc 2.0 on amd64"))
    assert inputs(newer, OTHER).generation not in (inputs(desired, OTHER).generation, OLD)
    assert choose(newer, looked, {})[ONE] == OLD


def test_and_never_into_what_was_not_made_for_it() -> None:
    desired, looked = moved({TWO: "a"})
    assert choose(desired, looked, {})[ONE] == inputs(desired, OTHER).generation, "there is nothing to go back to"
