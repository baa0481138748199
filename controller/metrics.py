"""What Prometheus sees: one registry, filled from records and statuses, never from machines or the store's lock.

Labels come from closed sets only: kinds, states, results, and the names of objects that passed all checks. No commit
ids, error texts, paths or addresses. Series of objects that are gone are removed.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from controller import __version__
from controller.model import Change, Record, Status

_HOURS = (60, 300, 900, 1800, 3600, 7200, 10800, 14400, 21600, 28800)
_PASS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
STATES = ("ready", "changing", "waiting", "unknown", "stalled", "failed", "notconverging", "retired", "drifted")


class Metrics:
    """All metrics of one controller."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._pass_seconds = self._histogram("pass_duration_seconds", "How long passes take.", _PASS)
        self._passes = self._counter("passes", "Passes by result.", "result")
        self._last = self._gauge("pass_last_timestamp_seconds", "When the last pass ended.")
        self._last_good = self._gauge(
            "pass_last_success_timestamp_seconds", "When the last pass without failure ended."
        )
        self._objects = self._gauge("objects", "Objects by kind and state.", "kind", "state")
        self._drift = self._gauge(
            "drift", "Objects that differ: intent (Git changed) or hand (the world did).", "kind", "cause"
        )
        self._ready = self._gauge("object_ready", "1 when the object is as the manifests want it.", "kind", "name")
        self._actions = self._counter("actions", "Acts by kind, cause and result.", "kind", "cause", "result")
        self._up = self._gauge("endpoint_up", "1 when the machine answered the last look.", "host")
        self._seen = self._gauge("endpoint_last_seen_timestamp_seconds", "When the machine answered last.", "host")
        self._git_up = self._gauge("git_up", "1 when the last fetch worked.")
        self._fetches = self._counter("git_fetches", "Fetches by result.", "result")
        self._fetched = self._gauge("git_last_fetch_timestamp_seconds", "When the last good fetch ended.")
        self._applied = self._gauge("revision_applied_timestamp_seconds", "Commit time of the revision in force.")
        self._refused = self._gauge("revision_refused", "1 while a newer revision is refused.")
        self._problems = self._gauge("manifest_problems", "Problems of the refused revision.")
        self._building = self._gauge("build_running", "1 while the image is being built.", "image")
        self._build_started = self._gauge("build_started_timestamp_seconds", "When the running build began.", "image")
        self._build_ratio = self._gauge("build_progress_ratio", "How far the running build is, 0 to 1.", "image")
        self._build_seconds = self._histogram("build_duration_seconds", "How long good builds took.", _HOURS, "image")
        self._build_good = self._gauge(
            "build_last_success_timestamp_seconds", "When the last good build ended.", "image"
        )
        self._build_failures = self._counter("build_failures", "Failed builds.", "image")
        self._build_failed = self._gauge("build_failed", "1 while the wanted generation's build has failed.", "image")
        self._current = self._gauge("host_generation_current", "1 when the host runs the published generation.", "host")
        self._reboot = self._gauge(
            "host_reboot_pending_since_timestamp_seconds", "Since when a reboot is pending; 0 when none is.", "host"
        )
        self._stuck = self._gauge("not_converging", "1 for objects that acts do not bring right.", "kind", "name")
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

    def passed(self, record: Record, left: Iterable[Change], pending: Mapping[str, float]) -> None:
        """One pass has ended. `left`: what its last look still found; `pending`: host -> since when it waits for a reboot."""
        ended = record.started + record.seconds
        self._pass_seconds.observe(record.seconds)
        self._passes.labels(record.result).inc()
        self._last.set(ended)
        if record.result != "failed":
            self._last_good.set(ended)
        for outcome in record.outcomes:
            self._actions.labels(outcome.ref.kind, outcome.cause, outcome.result).inc()
        self._states(record.statuses)
        self._drifting(left, record.statuses)
        self._hosts(record.statuses, pending)

    def crashed(self, ended: float) -> None:
        """A pass ended in an error of its own, before it could make a record."""
        self._passes.labels("failed").inc()
        self._last.set(ended)

    def endpoints(self, up: Mapping[str, bool], last_seen: Mapping[str, float]) -> None:
        _only(self._up, {(host,): float(state) for host, state in up.items()})
        _only(self._seen, {(host,): last_seen.get(host, 0.0) for host in up})

    def build_ended(self, image: str, seconds: float | None, finished: float, *, good: bool) -> None:
        """Called once for every build that ended."""
        if not good:
            self._build_failures.labels(image).inc()
            return
        self._build_good.labels(image).set(finished)
        if seconds is not None:
            self._build_seconds.labels(image).observe(seconds)

    def _states(self, statuses: Iterable[Status]) -> None:
        statuses = list(statuses)
        counts = Tally((one.ref.kind, one.state.lower()) for one in statuses)
        kinds = {one.ref.kind for one in statuses}
        _only(self._objects, {(kind, state): float(counts[kind, state]) for kind in kinds for state in STATES})
        ready = {(one.ref.kind, one.ref.name): float(one.state in ("Ready", "Retired")) for one in statuses}
        _only(self._ready, ready)
        stuck = {(one.ref.kind, one.ref.name): 1.0 for one in statuses if one.state == "NotConverging"}
        _only(self._stuck, stuck)
        others = {(one.ref.kind, name) for one in statuses for name in one.detail.get("unmanaged", ())}
        unmanaged = Tally(kind for kind, _ in others)
        _only(self._unmanaged, {(kind,): float(unmanaged[kind]) for kind in kinds})
        images = [one for one in statuses if one.ref.kind == "image"]
        _only(self._building, {(one.ref.name,): float(one.busy is not None) for one in images})
        busy = {(one.ref.name,): one.busy for one in images if one.busy is not None}
        _only(self._build_started, {name: each.started or 0.0 for name, each in busy.items()})
        _only(self._build_ratio, {name: each.ratio or 0.0 for name, each in busy.items()})
        _only(self._build_failed, {(one.ref.name,): float(_build_failed(one)) for one in images})

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

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"jailops_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"jailops_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"jailops_{name}", text, labels, registry=self.registry, buckets=buckets)


def reboot_pending(status: Status) -> bool:
    return status.ref.kind == "node" and status.message.startswith("RebootPending")


def _build_failed(status: Status) -> bool:
    """Its job ended badly and nothing has replaced it: other troubles of an image are not the build's."""
    job = status.detail.get("job") or {}
    return status.state == "Stalled" and job.get("state") == "done" and job.get("exit") != 0


def _only(gauge: Gauge, values: Mapping[Any, float]) -> None:
    """Exactly these series: objects that are gone leave no line behind."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
