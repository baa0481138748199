"""The switches of the hosts: which one a host has, and what is done with it. Errors are grouped by remedy.

Never delays anybody: every act has a deadline, and what may block runs in a child or a thread. A login that a BMC refused is
remembered, by digest, and not offered again before something about it has changed or a person asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Protocol

import wakeonlan

from controller.encode.sh import secret
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.manifests import HostSpec, Ipmi, Power, Redfish, WakeOnLan
from controller.model import Answer, PowerOp
from controller.power.talk import DOING, LoginRefused, Talk
from controller.secret import Secret
from controller.vault import Vault


class Memory(Protocol):
    """Short texts that outlive the process."""

    def get(self, key: str) -> str:
        """Nothing when there is none."""
        ...

    def put(self, key: str, value: str) -> None: ...


class PowerControl:
    """Knows the switches of the hosts of one revision, and which logins their BMCs have refused."""

    def __init__(self, vault: Vault, memory: Memory) -> None:
        self._vault = vault
        self._memory = memory
        self._hosts: Mapping[str, HostSpec] = {}

    def know(self, desired: Desired) -> None:
        self._hosts = {name: host.spec for name, host in desired.hosts.items()}

    def offer_again(self, hosts: Iterable[str]) -> None:
        """A person says that these hosts' BMCs take the logins that they refused."""
        for host in hosts:
            self._remember(host, "")

    async def status(self, host: str, timeout: float = 20.0) -> str:
        """ "on" or "off", as the BMC says. Raises Retry when it does not answer or says anything else."""
        return (await self.do(host, "status", timeout)).out

    async def off(self, host: str, timeout: float = 60.0) -> None:
        """Pull the plug and wait until the BMC says off. Raises Indeterminate when that was not seen in time."""
        await self.do(host, "off", timeout)

    async def on(self, host: str, timeout: float = 60.0) -> None:
        """Switch on and wait until the BMC says on. Raises Indeterminate when that was not seen in time."""
        await self.do(host, "on", timeout)

    async def wake(self, host: str, timeout: float = 5.0) -> None:
        """Send a magic packet, which nobody answers."""
        await self.do(host, "wake", timeout)

    async def do(self, host: str, op: PowerOp, timeout: float) -> Answer:
        """Any of these, answered as a step is: "on", "off", or nothing for wake.

        Raises Retry: it was not sent. Indeterminate: it was, and its end was not seen. Stall: a person must act.
        """
        started = monotonic()
        spec, power = self._switch(host, op)
        said = ""
        if op == "wake":
            assert power.wake_on_lan is not None, "looked at by _switch"
            await _wake(host, spec.mac, power.wake_on_lan, timeout)
        else:
            bmc = power.ipmi or power.redfish
            assert bmc is not None, "one of the three is there: the manifest was checked"
            said = await self._talk(Talk(host, op, bmc, timeout), power)
        return Answer(0, said.encode(), b"", monotonic() - started)

    async def _talk(self, talk: Talk, power: Power) -> str:
        """Raises LoginRefused without a word to the BMC where it would hear what it has refused."""
        password, offered = self._password(talk.bmc), self._digest(talk.bmc, power)
        if self._memory.get(_refused(talk.host)) == offered:
            raise talk.refused(
                f"has refused the login of {talk.bmc.user}, and neither it nor its secret has changed since"
            )
        try:
            said = await talk.hold(password, self._certificates(talk.bmc))
        except LoginRefused:
            self._remember(talk.host, offered)
            raise
        self._remember(talk.host, "")
        return said

    def _digest(self, bmc: Ipmi | Redfish, power: Power) -> str:
        return self._vault.digest(f"{power.model_dump_json()}\n{secret(bmc.password.hole)}")

    def _remember(self, host: str, refused: str) -> None:
        if self._memory.get(_refused(host)) != refused:
            self._memory.put(_refused(host), refused)

    def _switch(self, host: str, op: PowerOp) -> tuple[HostSpec, Power]:
        cannot = f"cannot {DOING[op]} {host}"
        if host not in self._hosts:
            raise Stall(f"{cannot}: no such host is known", hint="no manifest names a host so called")
        spec = self._hosts[host]
        hint = "switch it at the machine itself, or describe its BMC in spec.power"
        if spec.power is None:
            raise Stall(f"{cannot}: its manifest has no spec.power", hint=hint)
        if op != "wake" and spec.power.wake_on_lan is not None:
            raise Stall(f"{cannot}: with spec.power.wakeOnLan it can only be woken", hint=hint)
        if op == "wake" and spec.power.wake_on_lan is None:
            raise Stall(f"{cannot}: its manifest has no spec.power.wakeOnLan", hint="switch it on through its BMC")
        return spec, spec.power

    def _password(self, bmc: Ipmi | Redfish) -> Secret:
        name = bmc.password.hole
        return self._vault.values(frozenset({name}))[name]

    def _certificates(self, bmc: Ipmi | Redfish) -> str:
        ca = bmc.ca if isinstance(bmc, Redfish) else None
        return str(self._vault.certificates(ca.file)) if ca is not None else ""


def _refused(host: str) -> str:
    return f"refused login of {host}"


async def _wake(host: str, mac: str, switch: WakeOnLan, timeout: float) -> None:
    where = f"{switch.broadcast}:{switch.port}"
    send = asyncio.to_thread(wakeonlan.wake, mac, host=str(switch.broadcast), port=switch.port)
    try:
        await asyncio.wait_for(send, timeout)
    except OSError as error:  # TimeoutError is one
        raise Retry(f"cannot wake {host}: no packet could be sent to {where}: {error.strerror or 'no end'}") from error
