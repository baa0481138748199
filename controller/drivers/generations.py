"""Which generations there are, which one each host is served, and which one it should boot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from controller.drivers.bootstate import KIND, state_of
from controller.drivers.inputs import inputs
from controller.graph import Desired
from controller.model import Facts, Hops, Observed, Ref


def choose(desired: Desired, observed: Observed, applied: Mapping[Ref, Facts]) -> dict[str, str]:
    """Host -> the generation it should boot: the wanted one once it is complete, until then the one it is served now.

    A host that boots keeps what it was told to: another one would be taken for a failure of that. A generation that failed on
    this host, or on another one before this one has booted it, is none to boot: the host gets what proved itself last. A host
    whose entry is lost gets the one that was last applied, else the newest that was made for it too: in an older one, a new host
    finds nothing of its own and hangs at boot. So does one whose entry names what somebody removed by hand, but for what proved
    itself on it, which comes first. A host that moved to another image may go back into what it proved of its old one.
    A host that has none of these is absent from the answer. An image, or a memory of boots, that could not be looked at changes
    nothing.
    """
    chosen: dict[str, str] = {}
    for name, host in desired.hosts.items():
        image = host.spec.image
        complete, bootable = complete_generations(observed, image), bootable_by(desired, observed, name)
        target, kept_as = wanted_generation(desired, name), desired.kept_as(name)
        if name in desired.pins and kept_as not in complete.get(target, {}).get("hosts", {kept_as: ""}):
            target = inputs(desired, image).generation  # It would find nothing of its own in what it is pinned to.
        served = _named(entry_now(observed, host.spec.boot_server, kept_as), image, bootable)
        before = _named(entry_before(applied, host.spec.boot_server, kept_as), image, bootable)
        asked = state_of(observed, name).asked
        if asked is not None and asked.generation in bootable:
            chosen[name] = asked.generation
        elif target in complete and _may_boot(desired, observed, name, target):
            chosen[name] = target
        elif target in complete and (way := _way_back(observed, name, bootable.keys() - {target})):
            chosen[name] = way
        elif served is not None and (_unread(observed, name) or not is_gone(desired, observed, name, served)):
            chosen[name] = served
        elif served is not None and (way := _way_back(observed, name, bootable.keys())):
            chosen[name] = way
        elif before is not None and (before in bootable or not complete):
            chosen[name] = before
        elif own := [one for one, manifest in complete.items() if kept_as in manifest.get("hosts", {})]:
            chosen[name] = max(own, key=lambda one: (complete[one].get("finished", 0), one))
    return chosen


def wanted_generation(desired: Desired, host: str) -> str:
    """What the manifests want a host to boot, or what an operator pinned it to."""
    pin = desired.pins.get(host)
    return pin.generation if pin else inputs(desired, desired.hosts[host].spec.image).generation


def hops(desired: Desired, observed: Observed) -> tuple[Hops, ...]:
    """How far each host is from what is declared to what it runs."""
    return tuple(_hops(desired, observed, name) for name in sorted(desired.hosts))


def _hops(desired: Desired, observed: Observed, host: str) -> Hops:
    spec, boots, declared = desired.hosts[host].spec, state_of(observed, host), wanted_generation(desired, host)
    kept_as, seen = desired.kept_as(host), Ref(KIND, host) in observed.seen
    entry = entry_now(observed, spec.boot_server, kept_as)
    served = (named_by(entry, image) for image in (spec.image, *sorted(desired.images)))
    built = declared if declared in complete_generations(observed, spec.image) else ""
    return Hops(
        host,
        spec.image,
        declared=declared,
        built=built if Ref("image", spec.image) in observed.seen else None,
        published=next(filter(None, served), "") if Ref("dhcp", spec.boot_server) in observed.seen else None,
        booted=running_now(observed, host) if Ref("node", host) in observed.seen else None,
        proved=boots.good if seen else None,
        failed=tuple(sorted(boots.bad(desired.revision))) if seen else None,
        marked=tuple(sorted(boots.failed)) if seen else None,
        kept_as=kept_as,
    )


def needed_again(desired: Desired, observed: Observed) -> frozenset[tuple[str, str]]:
    """(image, generation) of what hosts may have to go back to, or were told to boot: never to be removed."""
    found: set[tuple[str, str]] = set()
    for name in desired.hosts:
        boots, pin = state_of(observed, name), desired.pins.get(name)
        names = {boots.good, boots.asked.generation if boots.asked else "", pin.generation if pin else ""}
        if _unread(observed, name):
            names |= bootable_by(desired, observed, name).keys()
        found |= {(image_of(desired, observed, name, one), one) for one in names if one}
    return frozenset(found)


def failed_on(desired: Desired, observed: Observed, image: str, generation: str) -> list[str]:
    """The hosts on which a generation did not prove itself while this revision is in force."""
    hosts = (host.name for host in desired.hosts_of_image(image))
    return [name for name in hosts if generation in state_of(observed, name).bad(desired.revision)]


def running_now(observed: Observed, host: str) -> str:
    """The generation that a node runs; empty when it is not seen."""
    seen = observed.seen.get(Ref("node", host))
    return str((seen.facts or {}).get("generation", "")) if seen else ""


def _may_boot(desired: Desired, observed: Observed, host: str, generation: str) -> bool:
    """Not where it failed; and while it has failed elsewhere, only where it runs already."""
    if _unread(observed, host):
        return False
    failed = failed_on(desired, observed, desired.hosts[host].spec.image, generation)
    return not failed or (host not in failed and running_now(observed, host) == generation)


def _way_back(observed: Observed, host: str, complete: Set[str]) -> str:
    """What proved itself last, or at least runs; empty when there is nothing to go back to, or it is not known."""
    known = (state_of(observed, host).good, running_now(observed, host))
    return "" if _unread(observed, host) else next((one for one in known if one in complete), "")


def _unread(observed: Observed, host: str) -> bool:
    """Whether it cannot be known which generations failed on a host."""
    ref = Ref(KIND, host)
    return ref in observed.unknown or ref in observed.stalled


def complete_generations(observed: Observed, image: str) -> Mapping[str, Mapping[str, Any]]:
    """Generation -> its manifest, for those that are complete on the share. Empty also when it was not seen."""
    seen = observed.seen.get(Ref("image", image))
    found: Mapping[str, Mapping[str, Any]] = seen.detail.get("generations", {}) if seen else {}
    return found


def bootable_by(desired: Desired, observed: Observed, host: str) -> Mapping[str, Mapping[str, Any]]:
    """The complete generations of a host's image, and those of other images on its SAN that were made for it too: it came
    from there, and may have to go back. Each says its image."""
    spec, found = desired.hosts[host].spec, dict[str, Mapping[str, Any]]()
    others = [name for name, one in sorted(desired.images.items()) if one.spec.san == spec.san and name != spec.image]
    for image in (*others, spec.image):
        for name, manifest in complete_generations(observed, image).items():
            if image == spec.image or desired.kept_as(host) in manifest.get("hosts", {}):
                found[name] = {**manifest, "image": image}
    return found


def is_gone(desired: Desired, observed: Observed, host: str, generation: str) -> bool:
    """Whether no image on its SAN has a generation any more. False while one of them is not seen."""
    san = desired.hosts[host].spec.san
    seen = [observed.seen.get(Ref("image", name)) for name, image in desired.images.items() if image.spec.san == san]
    return all(one is not None and generation not in one.detail.get("generations", {generation: {}}) for one in seen)


def image_of(desired: Desired, observed: Observed, host: str, generation: str) -> str:
    """The image whose generation that is: the host's own if it has it, else the one that the host came from."""
    found = bootable_by(desired, observed, host).get(generation, {})
    return str(found.get("image", desired.hosts[host].spec.image))


def entry_now(observed: Observed, boot_server: str, kept_as: str) -> Facts | None:
    """What the boot server says to a host now, as the last look saw it; `kept_as` is the host's first name."""
    seen = observed.seen.get(Ref("dhcp", boot_server))
    found: Facts | None = ((seen.facts or {}).get("hosts", {}) if seen else {}).get(kept_as)
    return found


def entry_before(applied: Mapping[Ref, Facts], boot_server: str, kept_as: str) -> Facts | None:
    """What it said when it was last found as wanted: all that is known of an entry that somebody spoiled."""
    found: Facts | None = applied.get(Ref("dhcp", boot_server), {}).get("hosts", {}).get(kept_as)
    return found


def named_by(entry: Facts | None, image: str) -> str | None:
    """The generation that an entry names by the end of its root-path; None when it is one of another image."""
    parts = str((entry or {}).get("root-path", "")).rsplit("/", 2)
    return parts[2] if len(parts) == 3 and parts[1] == image else None


def _named(entry: Facts | None, image: str, bootable: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What an entry names: a generation of the host's image, or one that it can boot of the image that it came from."""
    others = {str(one["image"]) for one in bootable.values()} - {image}
    found = (one for other in sorted(others) if (one := named_by(entry, other)) in bootable)
    return named_by(entry, image) or next(found, None)


def same_for_host(generations: Mapping[str, Mapping[str, Any]], kept_as: str, one: str, other: str) -> bool:
    """Whether a host, by its first name, cannot tell two generations apart; those of two images it can."""
    if one == other:
        return True
    keys = [generations.get(name, {}).get("hosts", {}).get(kept_as) for name in (one, other)]
    images = {generations.get(name, {}).get("image") for name in (one, other)}
    return keys[0] is not None and keys[0] == keys[1] and len(images) == 1
