"""Which of several hosts that wait for a reboot in one look may be rebooted: never too many, never two of one `spread` group."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller.drivers import World, rollout
from controller.drivers.bootstate import Asked, BootState
from controller.model import Observed, Ref, Seen

from .scene import IMAGE, manifests

ONE, TWO = "disklessfreebsdbox", "jailbox2"
OLD, NEW = "0123456789ab", "aaaaaaaaaaaa"
SPEC = r"\nspec:\n => \nspec:\n"
IMMEDIATE = (
    rf"hosts/{ONE}.yaml: {SPEC}  reboot:\n    policy: immediate\n",
    f"hosts/{TWO}.yaml: policy: manual => policy: immediate",
)
MANY = rf"images/{IMAGE}.yaml: {SPEC}  rollout:\n    maxUnavailable: 5\n"
CANARY = rf"images/{IMAGE}.yaml: {SPEC}  rollout:\n    maxUnavailable: 5\n    canary: [{TWO}]\n"
SPREAD = tuple(
    rf"jails/{host}.yaml:   name: {jail}\n =>   name: {jail}\n  labels:\n    spread: front\n"
    for host, jail in ((ONE, "example"), (TWO, "web"))
)


def may(edits: Sequence[str], *, asked: str = "", away: str = "") -> list[str]:
    """The hosts that may be rebooted now, of two that run an old generation. One may be `asked` already, one be `away`."""
    desired = manifests(edits)
    manifest = {"hosts": dict.fromkeys((ONE, TWO), ""), "finished": 1}
    seen = {
        Ref("image", IMAGE): Seen(
            None,
            detail={
                "generations": {name: {**manifest, "hosts": dict.fromkeys((ONE, TWO), name)} for name in (OLD, NEW)}
            },
        )
    }
    ready = {Ref("dhcp", "boot-server")}
    for host in (ONE, TWO):
        state = BootState(OLD, Asked(NEW, 99_990.0, False)) if host == asked else BootState(OLD)
        seen[Ref("boot", host)] = Seen(state.facts(), detail={"now": 100_000.0})
        if host != away:
            seen[Ref("node", host)] = Seen({"generation": OLD})
            ready |= {Ref(kind, host) for kind in ("hostshare", "session", "filesystem")}
            ready |= {Ref("jail", f"{host}/{jail.name}") for jail in desired.jails_of(host)}
    unknown = {Ref("node", away): "no route"} if away else {}
    world = World(desired, Observed(seen, unknown), generations=dict.fromkeys((ONE, TWO), NEW), ready=frozenset(ready))
    return sorted(host for host, why in rollout(world).items() if not why)


@pytest.mark.parametrize(
    ("edits", "hosts"),
    [
        ((), []),
        (IMMEDIATE, [ONE]),
        ((*IMMEDIATE, MANY), [ONE, TWO]),
        ((*IMMEDIATE, MANY, *SPREAD), [ONE]),
        ((*IMMEDIATE, CANARY), [TWO]),
        ((IMMEDIATE[1], MANY), [TWO]),
    ],
    ids=["manual", "one at a time", "many at once", "one of a group", "the canary first", "as its own policy says"],
)
def test_of_two_hosts_that_wait(edits: Sequence[str], hosts: list[str]) -> None:
    assert may(edits) == hosts


@pytest.mark.parametrize(
    ("edits", "goes"),
    [(IMMEDIATE, False), ((*IMMEDIATE, MANY), True), ((*IMMEDIATE, MANY, *SPREAD), False)],
    ids=["one at a time", "many at once", "one of a group"],
)
@pytest.mark.parametrize("how", ["asked", "away"])
def test_another_one_that_is_down_counts(how: str, edits: Sequence[str], goes: bool) -> None:
    """One that is being rebooted, and one that nobody can see."""
    assert (ONE in may(edits, **{how: TWO})) is goes
