"""How far a node's network boot came: the events that boot server and SAN told, put together to a timeline of phases.

`Log`s come in, a `Timeline` goes out that names the last phase reached, when, and what should have come next, in words for a
person at night. What a log does not tell is said to be untold: "never asked for its boot file" is said only where a
request would have been seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from controller.encode.bootlog import PHASES, TELLER, Event, Log, Phase, Teller

SKEW: Final = 10.0
"""Seconds that two answers of one look may lie apart. What two clocks differ by more is skew, and taken away."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One node's network boots since a given time. All times are those of the boot server's clock (the SAN's without it)."""

    since: float
    now: float
    zone: int
    steps: tuple[Event, ...] = ()
    """The phases of the boot that came furthest, in order. A phase that nobody told may be missing before a later one."""
    refused: Event | None = None
    """What a server refused after the last of them."""
    boots: int = 0
    """How often the node began since then, as far as it is told: more than one is a node that tries again and again."""
    begun: float | None = None
    """When the latest began."""
    untold: frozenset[Teller] = frozenset()
    """Whose work after the last step the logs do not tell: that it was not seen proves nothing."""
    servers: tuple[str, str] = ("the boot server", "the SAN")

    @property
    def last_phase(self) -> Event | None:
        """The last phase reached; None when the node was not seen at all."""
        return self.steps[-1] if self.steps else None

    @property
    def told(self) -> str:
        """How far it came, and what should have come next."""
        last = self.last_phase
        reached = f"it {self._reached(last)}" if last else f"it was not seen since {self._time(self.since)}"
        return f"{reached}{self._missing(last.phase if last else None)}{self._again()}"

    def _reached(self, step: Event) -> str:
        words = _USED.get(step.phase) if step.used else None
        return (words or _REACHED[step.phase]).format(what=step.what, at=self._time(step.at)).replace("  ", " ")

    def _missing(self, phase: Phase | None) -> str:
        boot_server, san = self.servers
        if self.refused is not None:
            named = self.refused.what and f" {self.refused.what}"
            by = {"dhcp": f"DHCP on {boot_server}", "tftp": f"TFTP on {boot_server}", "nfs": f"NFS on {san}"}
            return f"; then {by[TELLER[self.refused.phase]]} refused it{named}: {self.refused.refused}"
        following = _NEXT[phase]
        if following is not None and TELLER[following] in self.untold:
            where = san if TELLER[following] == "nfs" else boot_server
            return f"; whether it then {_TRIED[following]} is not told by {where}: {_UNTOLD[TELLER[following]]}"
        return _MISSING[phase].format(boot_server=boot_server, san=san)

    def _again(self) -> str:
        if self.boots < 2 or self.begun is None:
            return ""
        return f" (it began {self.boots} times since {self._time(self.since)}, last at {self._time(self.begun)})"

    def _time(self, at: float) -> str:
        """As that machine's clock shows it; with the date when it was not today."""
        zone = timezone(timedelta(seconds=self.zone))
        then, today = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(self.now, zone).date()
        return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M:%S")


_REACHED: Final[dict[Phase, str]] = {
    "asked": "asked DHCP for an address at {at}",
    "offered": "was offered {what} by DHCP at {at}",
    "leased": "got its DHCP lease of {what} at {at}",
    "fetched": "asked TFTP for {what} at {at}",
    "loader": "started its loader, which asked DHCP again at {at}",
    "root": "mounted its root {what} at {at}",
    "share": "mounted its own share {what} at {at}",
}
_USED: Final[dict[Phase, str]] = {
    "root": "read from NFS, at {at} for the last time",
    "share": "read its own share {what}, at {at} for the last time",
}
_NEXT: Final[dict[Phase | None, Phase | None]] = {
    None: "asked", "asked": "offered", "offered": "leased", "leased": "fetched", "fetched": "loader", "loader": "root",
    "root": "share", "share": None,
}  # fmt: skip
_MISSING: Final[dict[Phase | None, str]] = {
    None: ", not even by DHCP: is it switched on, does it boot from its network card, and is its MAC the one of its manifest?",
    "asked": " and was offered nothing: has DHCP on {boot_server} an entry for its MAC?",
    "offered": " and did not take it: does another DHCP server answer in that network?",
    "leased": " and never asked for its boot file: is TFTP blocked or not running, or does next-server point elsewhere?",
    "fetched": ", and its loader never asked DHCP: did the transfer break off, or is it set to UEFI (pxeboot is for BIOS)?",
    "loader": " and never mounted its root: does {san} answer NFS version 3 over UDP, and does root-path point there?",
    "root": " and never mounted its own share: its console says whether kernel or network card are at fault",
    "share": ": all that servers can see of a boot; if its sshd does not answer, its console says why",
}
_TRIED: Final[dict[Phase, str]] = {
    "asked": "asked DHCP", "offered": "was offered an address", "leased": "took it", "fetched": "asked for its boot file",
    "loader": "started its loader", "root": "mounted its root", "share": "mounted its own share",
}  # fmt: skip
_UNTOLD: Final[dict[Teller, str]] = {
    "dhcp": "no log of dhcpd or Kea for that time was found there",
    "tftp": "no log of TFTP requests for that time was found there (tftpd-hpa needs --verbose twice in TFTP_OPTIONS, "
    "tftpd of FreeBSD -l)",
    "nfs": "no log of mounts for that time was found there (mountd of FreeBSD needs -l in mountd_flags)",
}


def timeline(boot: Log | None, san: Log | None, since: float, servers: tuple[str, str]) -> Timeline | None:
    """What both machines told of the time since `since`; None for a machine that did not answer, and None as the answer
    when what they told proves neither that the node began to boot nor that it did not."""
    clock = boot or san
    if clock is None:
        return None
    away = _away(clock, san)
    events = [*(boot.events("dhcp", "tftp") if boot else ())]
    events += [replace(event, at=event.at - away) for event in (san.events("nfs") if san else ())]
    events = sorted((event for event in events if event.at >= since), key=lambda event: event.at)
    walk = _Walk(blind="tftp" in _untold(boot, san, away, events[0].at if events else since))
    for event in events:
        walk.see(event)
    furthest = max(reversed(walk.boots), key=_Boot.rank, default=_Boot())
    steps = furthest.in_order()
    untold = _untold(boot, san, away, steps[-1].at if steps else since)
    if not steps and "dhcp" in untold:
        return None
    begun = walk.boots[-1].begun if walk.boots else None
    return Timeline(since, clock.now, clock.zone, steps, furthest.refused, len(walk.boots), begun, untold, servers)


def _away(clock: Log, san: Log | None) -> float:
    difference = san.now - clock.now if san is not None else 0.0
    return difference if abs(difference) > SKEW else 0.0


def _untold(boot: Log | None, san: Log | None, away: float, since: float) -> frozenset[Teller]:
    """Whose work after `since` would not be seen."""
    asked: tuple[tuple[Teller, Log | None, float], ...] = (("dhcp", boot, 0.0), ("tftp", boot, 0.0), ("nfs", san, away))
    return frozenset(teller for teller, log, shift in asked if log is None or not log.told(teller, since + shift))


@dataclass(slots=True)
class _Boot:
    """One boot as it is being put together."""

    begun: float = 0.0
    steps: dict[Phase, Event] = field(default_factory=dict)
    again: dict[Phase, Event] = field(default_factory=dict)
    """The loader's own exchange with DHCP."""
    refused: Event | None = None

    def rank(self) -> tuple[int, bool]:
        """How far it came; one that was refused went on to ask, so it came further than one that is about to."""
        return max((PHASES.index(phase) for phase in self.steps), default=-1), self.refused is not None

    def in_order(self) -> tuple[Event, ...]:
        return tuple(replace(self.steps[phase], phase=phase) for phase in PHASES if phase in self.steps)

    def reach(self, event: Event) -> None:
        """A phase that was reached ends every refusal before it."""
        self.steps.setdefault(event.phase, event)
        self.granted(event)

    def granted(self, event: Event) -> None:
        if self.refused is not None and PHASES.index(self.refused.phase) <= PHASES.index(event.phase):
            self.refused = None

    @property
    def left_dhcp(self) -> bool:
        return "root" in self.steps or "share" in self.steps or "leased" in self.again


class _Walk:
    """Tells boots apart. `blind`: TFTP requests are not told, so that a second exchange with DHCP is taken for the
    loader's; it may be the card's, trying again."""

    def __init__(self, *, blind: bool) -> None:
        self._blind = blind
        self.boots: list[_Boot] = []

    def see(self, event: Event) -> None:
        if event.used and not (self.boots and self.boots[-1].steps):
            return  # used by the system that went down, before the node began anew
        boot = self.boots[-1] if self.boots else self._begin(event.at)
        if event.phase == "asked":
            self._asked(boot, event)
        elif event.refused:
            boot.refused = event
            if event.phase == "fetched":
                boot.steps.pop("fetched", None)
        elif event.phase == "fetched":
            self._fetched(boot, event)
        elif event.phase in ("offered", "leased") and "loader" in boot.steps:
            boot.again.setdefault(event.phase, event)
            boot.granted(event)
        else:
            boot.reach(event)

    def _begin(self, at: float) -> _Boot:
        self.boots.append(_Boot(at))
        return self.boots[-1]

    def _asked(self, boot: _Boot, event: Event) -> None:
        fetched = "fetched" in boot.steps or (self._blind and "leased" in boot.steps)
        if boot.left_dhcp or ("leased" in boot.steps and not fetched):
            boot = self._begin(event.at)
            fetched = False
        if fetched:
            boot.steps.setdefault("loader", event)
            boot.again.setdefault("asked", event)
        else:
            boot.steps.setdefault("asked", event)
        if event.refused:
            boot.refused = event

    def _fetched(self, boot: _Boot, event: Event) -> None:
        """A request after a second exchange with DHCP: that was no loader, but the card once more."""
        if boot.left_dhcp or "loader" in boot.steps:
            exchange = boot.again if "root" not in boot.steps and "share" not in boot.steps else {}
            if exchange:
                boot.steps.pop("loader", None)
                boot.again = {}
            boot = self._begin(exchange["asked"].at if "asked" in exchange else event.at)
            boot.steps.update(exchange)
        boot.steps["fetched"] = event
        boot.granted(event)
