"""What is the same for every jail manager: which jails are its own, and what remains of one that left the manifests."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

from controller.drivers.base import Base
from controller.drivers.places import frozen
from controller.graph import Desired
from controller.model import Ref, Resource


class Jails(Base):
    """`spec_type` is a frozen dataclass of JSON-like values with at least `host`, `after` and `running`, so that a jail
    can be remembered and retired after its manifest is gone."""

    kind: ClassVar[str] = "jail"
    manager: ClassVar[str]
    stands_on: ClassVar[str]
    """The kind of object on the same host that must be ready before a jail is."""
    spec_type: ClassVar[type[Any]]

    @abstractmethod
    def spec_of(self, desired: Desired, host: str, name: str) -> Any:
        """One declared jail."""

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for (host, name), jail in sorted(desired.jails.items()):
            if desired.hosts[host].spec.jails.manager == self.manager:
                spec = self.spec_of(desired, host, name)
                after = (Ref(self.kind, f"{host}/{one}") for one in spec.after)
                needs = (Ref(self.stands_on, host), Ref("addresses", host), *after)
                yield Resource(Ref(self.kind, f"{host}/{name}"), host, spec, needs, jail.origin)

    def memory(self, resource: Resource) -> Mapping[str, Any]:
        return asdict(resource.spec)

    def retired(self, ref: Ref, memory: Mapping[str, Any], desired: Desired) -> Resource | None:
        """Stopped and not started at boot; its files stay. Without its host's manifest nothing can be reached."""
        host = str(memory["host"])
        if host not in desired.hosts:
            return None
        fields = {name: frozen(value) for name, value in memory.items()}
        spec = replace(self.spec_type(**fields), running=False, after=())
        return Resource(ref, host, spec, (Ref("filesystem", host),), retired=True)
