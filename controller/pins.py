"""What `jailops rollback` and `jailops rollout pause` ask for, checked against what the last pass saw. Reads the store only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from typing import Any

from controller.errors import Stall
from controller.store import Store

_SHOWN = 8

Hosts = Mapping[str, Mapping[str, Any]]
"""How far each host was in the last pass: `Hops`, as the store has them."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """What is asked for, and what is to be said about it."""

    target: str
    generation: str
    revision: str
    """The pin holds as long as this one is in force."""
    warning: str = ""

    def request(self, actor: str, reason: str) -> str:
        """As the store keeps it."""
        pin = {"target": self.target, "generation": self.generation, "revision": self.revision}
        return json.dumps(pin | {"actor": actor, "reason": reason}, sort_keys=True)


def rollback_to(store: Store, what: str, to: str) -> Rollback:
    """The pin. Raises Stall that says what there is.

    `what` is host/NAME or image/NAME, or a name that only one of the two has. Without `to` a host gets what it proved last, if
    that was made before the wanted one; else, as an image does, the newest one before the wanted one that has failed nowhere.
    """
    last = store.passes(1)
    if not last:
        raise Stall(f"cannot roll back {what}: no pass has looked at anything yet", hint="jailops apply makes one")
    hosts: Hosts = {one["host"]: one for one in last[0].record.get("hosts", ())}
    statuses = {(one["ref"]["kind"], one["ref"]["name"]): one for one, _ in store.statuses()}
    kind, name = _target(what, list(hosts), [name for kind, name in statuses if kind == "image"])
    image = name if kind == "image" else hosts[name]["image"]
    detail = statuses["image", image]["detail"]
    if detail.get("generations") is None:
        raise Stall(f"cannot roll back {what}: the last pass could not see the generations of {image}")
    host = hosts[name] if kind == "host" else None
    there = Choice(what, image, host, detail["generations"], detail.get("wanted", ""), hosts)
    return Rollback(f"{kind}/{name}", there.named(to) if to else there.default(), last[0].revision, there.warning(to))


@dataclass(frozen=True, slots=True)
class Choice:
    """What there is to go back to."""

    what: str
    """As the operator named it."""
    image: str
    host: Mapping[str, Any] | None
    """None: all hosts of the image."""
    complete: Mapping[str, Mapping[str, Any]]
    wanted: str
    hosts: Hosts

    def named(self, to: str) -> str:
        if to not in self.complete:
            there = _listed(self._earlier()) or "no earlier one"
            raise Stall(
                f"cannot roll back {self.what} to {to}: there is no such generation of {self.image}",
                hint=f"there is {there}",
            )
        if not self._is_made_for(to):
            raise Stall(
                f"cannot roll back {self.what} to {to}: it was made without {self.host and self.host['host']}, "
                "which would find nothing of its own in it"
            )
        return to

    def default(self) -> str:
        if self.host and self.host.get("marked") is None:
            raise Stall(
                f"cannot choose for {self.what}: the last pass could not see which generations failed on it",
                hint=f"name one with --to: {_listed(self._earlier())}" if self._earlier() else "",
            )
        earlier = self._earlier()
        if self.host and self.host["proved"] in earlier and self.host["proved"] not in self.host["marked"]:
            return str(self.host["proved"])
        good = next((one for one in earlier if not self._failed_on(one)), "")
        if not good and earlier:
            raise Stall(
                f"cannot choose for {self.what}: every complete generation of {self.image} before the wanted one has failed: "
                + "; ".join(f"{one} on {', '.join(self._failed_on(one))}" for one in earlier[:_SHOWN]),
                hint="name one with --to if it was not its fault",
            )
        if not good:
            others = [one for one in self._newest_first() if one != self.wanted]
            raise Stall(
                f"cannot roll back {self.what}: there is no complete generation of {self.image} before the wanted one",
                hint=f"name a newer one with --to: {_listed(others)}"
                if others
                else "push a revert: what it wants is built anew",
            )
        return good

    def warning(self, to: str) -> str:
        """About a generation that is named although it failed; empty when it did not."""
        failed = self._failed_on(to)
        if not failed:
            return ""
        here = [self.hosts[name] for name in failed if self.hosts[name]["image"] == self.image]
        now = [f"jailops retry boot/{one['host']}" for one in here if to in (one["failed"] or ())]
        then = f"it is booted only after: {', '.join(now)}" if now else "it is booted all the same"
        return f"{to} did not prove itself on {', '.join(failed)}; {then}"

    def _newest_first(self) -> list[str]:
        made = [one for one in self.complete if self._is_made_for(one)]
        return sorted(made, key=self._finished, reverse=True)

    def _earlier(self) -> list[str]:
        """Than the wanted one; than any when that is not complete yet. The newest first."""
        before = float(self.complete.get(self.wanted, {}).get("finished", inf))
        return [one for one in self._newest_first() if self._finished(one) < before]

    def _finished(self, generation: str) -> float:
        return float(self.complete[generation].get("finished", 0))

    def _is_made_for(self, generation: str) -> bool:
        """A host finds nothing of its own in what was made without it."""
        return self.host is None or (self.host.get("kept_as") or self.host["host"]) in self.complete[generation].get(
            "hosts", {}
        )

    def _failed_on(self, generation: str) -> list[str]:
        """A host whose memory was not seen says nothing here: it is not rebooted until it is."""
        return [name for name, one in self.hosts.items() if generation in (one.get("marked") or ())]


def _target(what: str, hosts: list[str], images: list[str]) -> tuple[str, str]:
    kind, slash, name = what.partition("/")
    if not slash:
        found = [kind for kind, names in (("host", hosts), ("image", images)) if what in names]
        if len(found) != 1:
            which = (
                f"host/{what} or image/{what}: there are both"
                if found
                else "a host or an image: there is none so called"
            )
            raise Stall(f"cannot roll back {what}: name {which}", hint="jailops status shows them")
        return found[0], what
    if kind not in ("host", "image"):
        raise Stall(f"cannot roll back {what}: only host/NAME and image/NAME can be", hint="jailops status shows them")
    if name not in (hosts if kind == "host" else images):
        raise _unknown(kind, name, hosts if kind == "host" else images)
    return kind, name


def known_image(store: Store, image: str) -> str:
    """Raises Stall when the last pass saw no such image."""
    known = [one["ref"]["name"] for one, _ in store.statuses() if one["ref"]["kind"] == "image"]
    if image not in known:
        raise _unknown("image", image, known)
    return image


def _unknown(kind: str, name: str, known: list[str]) -> Stall:
    near = "".join(f", did you mean {one}?" for one in get_close_matches(name, known, 1))
    there = f"there is {_listed(sorted(known))}" if known else "jailops status says what the last pass saw"
    return Stall(f"cannot use {kind} {name}: the last pass saw no such {kind}{near}", hint=there)


def _listed(generations: list[str]) -> str:
    return ", ".join(generations[:_SHOWN])
