"""One kind, several kinds of software behind it: the resource's own spec says which driver speaks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.drivers.base import Driver, Explanation, World
from controller.graph import Desired
from controller.model import Answer, Change, Difference, Facts, Probe, Ref, Resource, Seen, Steps, Unseen


class ByBackend:
    """A driver made of drivers; ``resource.spec.backend`` chooses."""

    def __init__(self, kind: str, backends: Mapping[str, Driver]) -> None:
        self.kind = kind
        self._backends = backends

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for driver in self._backends.values():
            yield from driver.resources(desired)

    def retired(self, ref: Ref, memory: Mapping[str, Any], desired: Desired) -> Resource | None:
        driver = self._backends.get(str(memory.get("backend")))
        return driver.retired(ref, memory, desired) if driver else None

    def memory(self, resource: Resource) -> Mapping[str, Any]:
        return self._of(resource).memory(resource)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return self._of(resource).probes(resource)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        return self._of(resource).read(resource, answers, applied)

    def want(self, resource: Resource, world: World) -> Facts | None:
        return self._of(resource).want(resource, world)

    def told(self, resource: Resource, world: World) -> Facts:
        return self._of(resource).told(resource, world)

    def explain(self, change: Change) -> Explanation:
        return self._of(change.resource).explain(change)

    def differences(self, change: Change, world: World) -> Sequence[Difference]:
        return self._of(change.resource).differences(change, world)

    def steps(self, change: Change, world: World) -> Steps:
        return self._of(change.resource).steps(change, world)

    def _of(self, resource: Resource) -> Driver:
        return self._backends[resource.spec.backend]
