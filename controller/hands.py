"""The controller's hands: the fleet, with the fence in every act, and the machines that the manifests name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from controller.errors import ControllerError, Retry
from controller.graph import Desired, hypervisor
from controller.manifests import HostSsh, Ssh
from controller.model import Answer, Lane, PowerOp
from controller.power import PowerControl
from controller.transport import Endpoint, Fence, Fleet


class Hands:
    """A fleet that knows who acts, and the switches of its machines."""

    def __init__(
        self, fleet: Fleet, fence: Fence, key_file: Path, via: Mapping[str, str], switches: PowerControl
    ) -> None:
        self._fleet = fleet
        self._fence = fence
        self._key_file = key_file
        self._via = via
        self._switches = switches

    def know(self, desired: Desired) -> None:
        """Reach exactly the machines of these manifests. Unchanged ones keep their connections."""
        self._fleet.update(endpoints(desired, self._key_file, self._via))
        self._switches.know(desired)

    async def ask_each(
        self, host: str, lane: Lane, scripts: Sequence[str], timeout: float
    ) -> Sequence[Answer | ControllerError]:
        """A look. Passes come one after the other, so a lane that is not free runs an act that outlived its pass, and
        nobody waits for that."""
        if self._fleet.at_work(host, lane):
            raise Retry(f"cannot look at {host} now: an act that takes long still runs in its {lane} lane", after=1)
        return await self._fleet.ask_each(host, lane, scripts, timeout)

    async def ask(self, host: str, lane: Lane, scripts: Sequence[str], timeout: float) -> list[Answer]:
        return await self._fleet.ask(host, lane, scripts, timeout)

    async def act(self, host: str, lane: Lane, script: str, timeout: float) -> Answer:
        return await self._fleet.act(host, lane, script, timeout, self._fence)

    async def power(self, host: str, op: PowerOp, timeout: float) -> Answer:
        return await self._switches.do(host, op, timeout)

    def offer_again(self, hosts: Iterable[str]) -> None:
        """Logins that these hosts' BMCs refused may be tried once more."""
        self._switches.offer_again(hosts)

    @property
    def overruled(self) -> Collection[str]:
        """Hosts where a newer controller acts."""
        return self._fleet.overruled

    @property
    def last_seen(self) -> Mapping[str, float]:
        return self._fleet.last_seen


def endpoints(desired: Desired, key_file: Path, via: Mapping[str, str]) -> dict[str, Endpoint]:
    """Every machine by name, with its pinned key."""
    found: dict[str, Endpoint] = {}
    machines: list[tuple[str, Ssh]] = [
        *(
            (hypervisor(desired, name), one.spec.vm.hypervisor.ssh)
            for name, one in desired.build_vms.items()
            if one.spec.vm is not None
        ),
        *((name, one.spec.ssh) for name, one in desired.build_vms.items()),
        *((name, one.spec.ssh) for name, one in desired.sans.items()),
        *((name, one.spec.ssh) for name, one in desired.boot_servers.items()),
    ]
    for name, ssh in machines:
        found[name] = _endpoint(name, str(ssh.address), ssh, key_file, via)
    for name, host in desired.hosts.items():
        found[name] = _endpoint(name, desired.host_address(name), host.spec.ssh, key_file, via)
    return found


def _endpoint(name: str, address: str, ssh: HostSsh, key_file: Path, via: Mapping[str, str]) -> Endpoint:
    elsewhere, _, port = via.get(name, "").partition(":")
    return Endpoint(
        name=name,
        address=str(address),
        host_key=ssh.host_key,
        client_key_file=key_file,
        port=ssh.port,
        user=ssh.user,
        connect_address=elsewhere,
        connect_port=int(port or 0),
    )
