"""What becomes of one host's boots, from one look to the next: transitions that no folder of cases can tell."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.drivers import DRIVERS, World, asks, hops, rollout
from controller.drivers.boot import Node
from controller.drivers.bootstate import Asked, BootState, Failed, of_facts
from controller.errors import Stall, Wait
from controller.graph import Pin
from controller.model import Answer, Change, Observed, Ref, Resource, Run, Seen, Unseen

from .scene import IMAGE, REVISION, manifests

HOST, OTHER = "disklessfreebsdbox", "jailbox2"
_SPEC = f"hosts/{HOST}.yaml: \\nspec:\\n => \\nspec:\\n"
IPMI = [f"{_SPEC}  power:\\n    ipmi: {{address: 198.51.100.90, user: a, password: {{file: b}}}}\\n"]
NEW, OLD, PINNED = "aaaaaaaaaaaa", "0123456789ab", "bbbbbbbbbbbb"
NOW = 100_000.0
BAD = Failed(REVISION, 5.0, "it did not come up")


def world(
    state: BootState,
    *,
    runs: str = "",
    up: float = 10.0,
    published: str = NEW,
    edits: list[str] | None = None,
    jail: Mapping[str, Any] | None = None,
    **more: Any,
) -> World:
    """A look at one host. `runs` empty: it does not answer."""
    node = Node(runs, f"/export/jailops/images/{IMAGE}/{runs}", up, ()) if runs else None
    detail = {"image": IMAGE, "now": NOW, "away": None if runs else Unseen("no route"), "node": node}
    complete = {name: {"hosts": {HOST: name, OTHER: name}, "finished": 1} for name in (OLD, PINNED, NEW)}
    seen = {
        Ref("boot", HOST): Seen(state.facts(), detail=detail),
        Ref("image", IMAGE): Seen(None, detail={"generations": complete}),
    }
    if runs:
        seen[Ref("node", HOST)] = Seen({"generation": runs})
        seen[Ref("session", HOST)] = Seen({"state": "Connected", "file": "another than a push wants"})
        seen[Ref("filesystem", HOST)] = Seen({"label": True, "mounted": "/dev/ufs/jails"})
        seen[Ref("jail", f"{HOST}/example")] = Seen(jail or {"running": True, "config": "another than a push wants"})
    ready = frozenset({Ref("dhcp", "boot-server")})
    made = World(
        manifests(edits or []), Observed(seen, {}), generations={HOST: published, OTHER: published}, ready=ready
    )
    return replace(made, **more)


def resource(at: World) -> Resource:
    return next(one for one in DRIVERS["boot"].resources(at.desired) if one.ref.name == HOST)


def after(at: World) -> BootState:
    return of_facts(DRIVERS["boot"].want(resource(at), at))


def trial(generation: str = NEW, *, since: float, **more: Any) -> BootState:
    return BootState(
        OLD, Asked(generation, NOW - since, more.pop("back", False), more.pop("tries", 1)), jails=("example",), **more
    )


def test_a_push_during_a_trial_convicts_nobody() -> None:
    """Session and jail differ from what the manifests want by now; what counts is that they are there."""
    assert after(world(trial(since=60), runs=NEW)).good == NEW


def test_a_jail_that_does_not_run_does() -> None:
    at = world(trial(since=1300), runs=NEW, up=700, jail={"running": False})
    assert after(at).failed[NEW].why == "not proved within 600 s: jail example does not run"


def test_a_pinned_generation_that_failed_is_left_again() -> None:
    state = BootState(OLD, returning=True, failed={PINNED: BAD})
    at = world(state, published=OLD, edits=IPMI)
    at = replace(at, desired=replace(at.desired, pins={HOST: Pin(PINNED, "a", "b")}))
    assert after(at).asked == Asked(OLD, 0, True)
    back = world(replace(state, asked=Asked(OLD, NOW - 60, True)), runs=OLD, published=OLD)
    assert after(back).good == OLD
    settled = world(BootState(OLD), runs=OLD, published=OLD)
    settled = replace(settled, desired=replace(settled.desired, pins={HOST: Pin(PINNED, "a", "b")}))
    with pytest.raises(Stall, match=f"pinned to {PINNED} by a: b: that generation is not there"):
        after(settled)


def test_an_order_that_was_lost_is_given_again_and_convicts_nobody() -> None:
    assert after(world(trial(since=700), runs=OLD, up=5000)).asked == Asked(NEW, 0, False, 2)
    given_up = after(world(trial(since=700, tries=3), runs=OLD, up=5000))
    assert (given_up.asked, given_up.failed, given_up.returning) == (None, {}, False)


def test_a_controller_that_has_just_begun_judges_nothing() -> None:
    with pytest.raises(Wait, match="it does not answer"):
        after(world(trial(since=5000), young=True))
    assert after(world(trial(since=5000))).returning


def test_a_clock_that_was_set_back_is_waited_by_anew() -> None:
    at = world(trial(since=-3600), runs=NEW)
    again = after(at)
    assert again.asked == Asked(NEW, 0, False)
    change = Change(
        resource(at), again.facts(), trial(since=-3600).facts(), "drift", at.observed.seen[Ref("boot", HOST)].detail
    )
    assert not asks(change), "it is only written down anew"


def test_a_node_that_came_late_has_its_time_but_not_for_ever() -> None:
    with pytest.raises(Wait):
        after(world(trial(since=700), runs=NEW, up=60, jail={"running": False}))
    assert after(world(trial(since=2000), runs=NEW, up=60, jail={"running": False})).returning


def test_what_proved_itself_before_is_never_marked() -> None:
    """After three tries a person is asked; and when it comes up all the same, it is believed."""
    state = trial(OLD, since=700, back=True, tries=3, returning=True, failed={NEW: BAD})
    with pytest.raises(Stall, match=f"neither {NEW} nor {OLD}, which proved itself before"):
        after(world(state, published=OLD, edits=IPMI))
    assert after(world(state, runs=OLD, published=OLD)).good == OLD
    assert after(world(replace(state, asked=Asked(OLD, NOW - 700, True, 1)), published=OLD, edits=IPMI)).asked == Asked(
        OLD, 0, True, 2
    )


def test_a_newer_commit_does_not_lead_a_host_that_is_up_past_its_policy() -> None:
    state = BootState(OLD, returning=True, failed={PINNED: Failed("2" * 40, 5.0, "x")})
    at = world(state, runs=PINNED)
    with pytest.raises(Wait, match="RebootPending: reboot it when it suits"):
        after(replace(at, reboots=rollout(at)))


def test_a_mark_outlives_its_commit_but_not_its_generation() -> None:
    """A newer commit lets it be booted again; it is still nothing to roll back to."""
    before = Failed("2" * 40, 5.0, "it did not come up")
    state = BootState(OLD, failed={PINNED: before, "gone": before})
    at = world(state, runs=OLD, reboots={HOST: ""})
    assert after(at).asked == Asked(NEW, 0, False)
    assert after(at).failed == {PINNED: before}
    assert hops(at.desired, at.observed)[0].failed == ()
    assert hops(at.desired, at.observed)[0].marked == (PINNED, "gone")
    unseen = {ref: seen for ref, seen in at.observed.seen.items() if ref.kind != "image"}
    assert after(replace(at, observed=Observed(unseen, {}))).failed == state.failed, (
        "an image that is not seen is not gone"
    )
    proved = world(replace(after(at), asked=Asked(NEW, NOW - 60, False)), runs=NEW)
    assert after(proved) == BootState(NEW, failed={PINNED: before}, tried=after(at).tried)


def test_an_older_mark_takes_nothing_from_a_new_one() -> None:
    """What failed is marked and told, also when the same failed before; and a retry is for what failed now."""
    before = Failed("2" * 40, 5.0, "it did not come up")
    for state in (trial(since=1300, failed={OLD: before}), trial(since=1300, failed={NEW: before})):
        at = world(state)
        change = Change(
            resource(at), after(at).facts(), state.facts(), "drift", at.observed.seen[Ref("boot", HOST)].detail
        )
        told = DRIVERS["boot"].explain(change)
        assert told.summary == f"mark {NEW} as bad for {HOST}"
        assert told.reason.startswith("not proved within 600 s")
    retried = world(trial(since=60, failed={OLD: before}), runs=NEW, retry=frozenset({Ref("boot", HOST)}))
    assert after(retried).good == NEW, "its trial goes on"


def test_policy_never_holds_for_what_is_under_way_too() -> None:
    """A push may say so while a host is on trial or being led back."""
    never = [*IPMI, f"hosts/{HOST}.yaml: \\n  power:\\n => \\n  reboot: {{policy: never}}\\n  power:\\n"]
    led_back = world(BootState(OLD, returning=True, failed={NEW: BAD}), published=OLD, edits=never)
    with pytest.raises(Stall, match=f"cannot lead {HOST} back to {OLD}: jailops never reboots it"):
        after(led_back)
    lost = after(world(trial(since=700), runs=OLD, up=5000, edits=never))
    assert (lost.asked, lost.failed) == (None, {})
    with pytest.raises(Stall, match=f"neither {NEW} nor {OLD}"):
        after(world(trial(OLD, since=700, back=True, returning=True, failed={NEW: BAD}), published=OLD, edits=never))


def test_a_slow_look_hides_nothing_of_the_boot() -> None:
    """The mark is written 30 s after the SAN said what time it is; the node asked DHCP 10 s after it was told to reboot."""
    state = trial(since=700)
    at = world(state)
    change = Change(resource(at), after(at).facts(), state.facts(), "drift", at.observed.seen[Ref("boot", HOST)].detail)
    earlier, asked = (datetime.fromtimestamp(NOW - ago, UTC).isoformat() for ago in (800, 690))
    log = (
        f"now {NOW + 30:.0f} +0000\n= journal\n< {earlier} x y: z\n? dhcp\n? tftp\n"
        f"> {asked} b dhcpd[1]: DHCPDISCOVER from {at.desired.hosts[HOST].spec.mac} via eth0\nend\n"
    )
    told = {
        "what time is it?": f"{NOW + 30:.0f}\n",
        f"how far did {HOST} come, by boot-server?": log,
        f"how far did {HOST} come, by san?": f"now {NOW + 30:.0f} +0000\n? nfs\nend\n",
    }
    written, steps = "", DRIVERS["boot"].steps(change, at)
    with suppress(StopIteration):
        step = next(steps)
        while True:
            assert isinstance(step, Run)
            written = step.script
            step = steps.send(Answer(0, told.get(step.label, "").encode(), b""))
    assert "it asked DHCP for an address at" in written


def test_the_same_wish_is_the_same_at_every_look() -> None:
    """Or a failure would never be given a pause."""
    led_back = world(BootState(OLD, returning=True, failed={NEW: BAD}), published=OLD, edits=IPMI)
    for at in (led_back, world(trial(since=5000))):
        seen = at.observed.seen[Ref("boot", HOST)]
        later = replace(
            at,
            observed=Observed(
                {**at.observed.seen, Ref("boot", HOST): replace(seen, detail={**seen.detail, "now": NOW + 7})}, {}
            ),
        )
        assert after(at) == after(later)


def test_a_reboot_that_never_began_was_not_tried_with_anything() -> None:
    """Or its host would be said to have been rebooted in vain."""
    assert BootState(OLD, Asked(NEW, NOW, False, 3), tried="0123456789ab").withdrawing() == BootState(OLD)
