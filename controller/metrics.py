"""What Prometheus sees: one registry, filled from records and statuses, never from machines or the store's lock.

Labels come from closed sets only: kinds, states, results, and the names of objects that passed all checks. No commit
ids, error texts, paths or addresses. Series of objects that are gone are removed.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from controller import __version__
from controller.drivers import LAYERS
from controller.model import Change, Record, Ref, Status

_HOURS = (60, 300, 900, 1800, 3600, 7200, 10800, 14400, 21600, 28800)
_PASS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_LAYER = ("image", "layer")
HOPS = ("built", "published", "booted", "proved")
STATES = ("ready", "changing", "waiting", "unknown", "stalled", "failed", "notconverging", "retired", "drifted")


class Metrics:
    """All metrics of one controller."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._pass_seconds = self._histogram("pass_duration_seconds", "How long passes take.", _PASS)
        self._passes = self._counter("passes", "Passes by result.", "result")
        self._last = self._gauge("pass_last_timestamp_seconds", "When the last pass ended.")
        self._last_good = self._gauge(
            "pass_last_success_timestamp_seconds",
            "When the last pass ended whose result was not failed. held (something could not be seen) and refused (a newer "
            "revision is not in force) count: endpoint_up, objects and revision_refused tell those.",
        )
        self._store = self._gauge("store_usable", "0 while the store cannot be used: nothing is done then.")
        self._objects = self._gauge("objects", "Objects by kind and state.", "kind", "state")
        self._drift = self._gauge(
            "drift", "Objects that differ: intent (Git changed) or hand (the world did).", "kind", "cause"
        )
        self._ready = self._gauge("object_ready", "1 when the object is as the manifests want it.", "kind", "name")
        self._actions = self._counter("actions", "Acts by kind, cause and result.", "kind", "cause", "result")
        self._up = self._gauge("endpoint_up", "1 when the machine answered the last look.", "host")
        self._seen = self._gauge("endpoint_last_seen_timestamp_seconds", "When the machine answered last.", "host")
        self._clock = self._gauge(
            "endpoint_clock_offset_seconds",
            "By how much at least the machine's clock is ahead of the controller's; negative when it is behind.",
            "host",
        )
        self._overruled = self._gauge(
            "endpoint_overruled",
            "1 when the machine refused an act because a newer controller has acted there.",
            "host",
        )
        self._git_up = self._gauge("git_up", "1 when the last fetch worked.")
        self._fetches = self._counter("git_fetches", "Fetches by result.", "result")
        self._fetched = self._gauge("git_last_fetch_timestamp_seconds", "When the last good fetch ended.")
        self._applied = self._gauge("revision_applied_timestamp_seconds", "Commit time of the revision in force.")
        self._refused = self._gauge("revision_refused", "1 while a newer revision is refused.")
        self._problems = self._gauge("manifest_problems", "Problems of the refused revision.")
        self._building = self._gauge("build_running", "1 while a layer of the image is being built.", *_LAYER)
        self._build_started = self._gauge("build_started_timestamp_seconds", "When the running build began.", *_LAYER)
        self._build_ratio = self._gauge("build_progress_ratio", "How far the running build is, 0 to 1.", *_LAYER)
        self._build_seconds = self._histogram("build_duration_seconds", "How long good builds took.", _HOURS, *_LAYER)
        self._build_good = self._gauge(
            "build_last_success_timestamp_seconds", "When the last good build ended.", *_LAYER
        )
        self._build_failures = self._counter("build_failures", "Failed builds.", *_LAYER)
        self._build_failed = self._gauge("build_failed", "1 while the wanted layer's build has failed.", *_LAYER)
        self._current = self._gauge("host_generation_current", "1 when the host runs the published generation.", "host")
        self._reboot = self._gauge(
            "host_reboot_pending_since_timestamp_seconds",
            "Since when a reboot is pending; 0 when none is, or the policy is never.",
            "host",
        )
        self._hops = self._gauge(
            "host_generation_hop",
            "1 when the declared generation of a host has come so far: built, published, booted, proved.",
            "host",
            "hop",
        )
        self._boot_failed = self._gauge(
            "host_boot_failed", "1 while a generation counts as bad for a host: it did not prove itself there.", "host"
        )
        self._stuck = self._gauge("not_converging", "1 for objects that acts do not bring right.", "kind", "name")
        self._contested = self._gauge("contested", "1 for objects that somebody else keeps changing.", "kind", "name")
        self._unknown = self._gauge(
            "object_unknown", "1 for objects that could not be looked at on their host.", "kind", "name", "host"
        )
        self._unmanaged = self._gauge("unmanaged", "Objects that are seen and not ours.", "kind")
        Info("jailops_build", "The controller's version.", registry=self.registry).info({"version": __version__})

    def git(self, error: str, fetched_at: float, committed_at: float, refused: int) -> None:
        """How asking Git went. `refused` counts the reasons why a newer revision is not in force."""
        self._git_up.set(0 if error else 1)
        self._fetches.labels("failed" if error else "ok").inc()
        if fetched_at:
            self._fetched.set(fetched_at)
        self._applied.set(committed_at)
        self._refused.set(1 if refused else 0)
        self._problems.set(refused)

    def passed(
        self, record: Record, left: Iterable[Change], pending: Mapping[str, float], hosts: Mapping[Ref, str]
    ) -> None:
        """One pass has ended. `left`: what its last look still found; `pending`: host -> since when it waits for a reboot;
        `hosts`: where each object lives."""
        ended = record.started + record.seconds
        self._pass_seconds.observe(record.seconds)
        self._passes.labels(record.result).inc()
        self._last.set(ended)
        if record.result != "failed":
            self._last_good.set(ended)
        for outcome in record.outcomes:
            self._actions.labels(outcome.ref.kind, outcome.cause, outcome.result).inc()
        self._states(record, hosts)
        self._drifting(left, record.statuses)
        self._hosts(record.statuses, pending)
        self._generations(record)

    def store(self, problem: str) -> None:
        """Whether the store can be used: `problem` is empty then."""
        self._store.set(0 if problem else 1)

    def crashed(self, ended: float) -> None:
        """A pass ended in an error of its own, before it could make a record."""
        self._passes.labels("failed").inc()
        self._last.set(ended)

    def endpoints(
        self,
        up: Mapping[str, bool],
        last_seen: Mapping[str, float],
        clocks: Mapping[str, float],
        overruled: Collection[str],
    ) -> None:
        _only(self._up, {(host,): float(state) for host, state in up.items()})
        _only(self._clock, {(host,): ahead for host, ahead in clocks.items()})
        _only(self._overruled, {(host,): float(host in overruled) for host in up})
        _only(self._seen, {(host,): last_seen.get(host, 0.0) for host in up})

    def build_ended(self, layer: str, image: str, seconds: float | None, finished: float, *, good: bool) -> None:
        """Called once for every build that ended."""
        if not good:
            self._build_failures.labels(image, layer).inc()
            return
        self._build_good.labels(image, layer).set(finished)
        if seconds is not None:
            self._build_seconds.labels(image, layer).observe(seconds)

    def _states(self, record: Record, hosts: Mapping[Ref, str]) -> None:
        statuses = record.statuses
        counts = Tally((one.ref.kind, one.state.lower()) for one in statuses)
        kinds = {one.ref.kind for one in statuses}
        _only(self._objects, {(kind, state): float(counts[kind, state]) for kind in kinds for state in STATES})
        ready = {(one.ref.kind, one.ref.name): float(one.state in ("Ready", "Retired")) for one in statuses}
        _only(self._ready, ready)
        stuck = {(one.ref.kind, one.ref.name): 1.0 for one in statuses if one.state == "NotConverging"}
        _only(self._stuck, stuck)
        contested = {(one.ref.kind, one.ref.name): 1.0 for one in statuses if one.state == "Contested"}
        _only(self._contested, contested)
        unknown = [one.ref for one in statuses if one.state == "Unknown"]
        _only(self._unknown, {(ref.kind, ref.name, hosts[ref]): 1.0 for ref in unknown})
        others = {(one.ref.kind, name) for one in statuses for name in one.detail.get("unmanaged", ())}
        unmanaged = Tally(kind for kind, _ in others)
        _only(self._unmanaged, {(kind,): float(unmanaged[kind]) for kind in kinds})
        layers = {(one.ref.name, one.ref.kind): one for one in statuses if one.ref.kind in LAYERS}
        _only(self._building, {name: float(one.busy is not None) for name, one in layers.items()})
        busy = {name: one.busy for name, one in layers.items() if one.busy is not None}
        _only(self._build_started, {name: each.started or 0.0 for name, each in busy.items()})
        _only(self._build_ratio, {name: each.ratio for name, each in busy.items() if each.ratio is not None})
        _only(self._build_failed, {name: float(_build_failed(one)) for name, one in layers.items()})

    def _drifting(self, left: Iterable[Change], statuses: Iterable[Status]) -> None:
        """What differs still, after all acts of the pass."""
        found = Tally((one.ref.kind, "hand" if one.cause == "drift" else "intent") for one in left)
        kinds = {one.ref.kind for one in statuses}
        _only(self._drift, {(kind, cause): float(found[kind, cause]) for kind in kinds for cause in ("intent", "hand")})

    def _hosts(self, statuses: Iterable[Status], pending: Mapping[str, float]) -> None:
        """A node that is not seen has no generation to compare, but its reboot is still pending if it was."""
        nodes = {one.ref.name: one for one in statuses if one.ref.kind == "node"}
        seen = {name: one for name, one in nodes.items() if one.state == "Ready" or reboot_pending(one)}
        _only(self._current, {(name,): float(one.state == "Ready") for name, one in seen.items()})
        _only(self._reboot, {(name,): pending.get(name, 0.0) for name in nodes})

    def _generations(self, record: Record) -> None:
        """A hop that is not known has no line: neither 1 nor 0 would be true."""
        values = {(one.host, hop): getattr(one, hop) for one in record.hosts for hop in HOPS}
        declared = {one.host: one.declared for one in record.hosts}
        known = {key: value for key, value in values.items() if value is not None}
        _only(self._hops, {key: float(value == declared[key[0]]) for key, value in known.items()})
        _only(
            self._boot_failed, {(one.host,): float(bool(one.failed)) for one in record.hosts if one.failed is not None}
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"jailops_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"jailops_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"jailops_{name}", text, labels, registry=self.registry, buckets=buckets)


def pending_since(before: Mapping[str, float], record: Record, never: Collection[str]) -> dict[str, float]:
    """Host -> since when it waits for its reboot, in Unix seconds; not those of which that is no fault, by policy never.
    `before`: the answer of the pass before, which holds while a host is not seen."""
    states = {one.ref.name: one for one in record.statuses if one.ref.kind == "node" and one.ref.name not in never}
    now = record.started + record.seconds
    names = {one.ref.name for one in record.statuses if reboot_pending(one)}
    pending = {name: before.get(name, now) for name in sorted(names - {*never})}
    return pending | {
        name: since for name, since in before.items() if name in states and states[name].state == "Unknown"
    }


def reboot_pending(status: Status) -> bool:
    return status.ref.kind in ("node", "bootconf") and status.message.startswith("RebootPending")


def _build_failed(status: Status) -> bool:
    """Its job ended badly and nothing has replaced it: other troubles of an image are not the build's."""
    job = status.detail.get("job") or {}
    return status.state == "Stalled" and bool(job.get("cause"))


def _only(gauge: Gauge, values: Mapping[Any, float]) -> None:
    """Exactly these series: objects that are gone leave no line behind."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
