"""One conversation with a BMC: an order in, what was heard until the deadline out, and what that means.

It runs in a child process, which is killed at its deadline: a BMC that hangs costs nobody else anything, and no thread, socket or
session stays behind. Messages name the host, the BMC and what comes next, never a password.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from controller.encode.sh import named
from controller.errors import ControllerError, Indeterminate, Retry, Stall
from controller.manifests import Ipmi, Redfish
from controller.power import child
from controller.secret import Secret

Op = Literal["status", "off", "on"]


class LoginRefused(Stall):
    """The BMC does not believe user and password. The same once more may lock the user out."""


DOING: Final[Mapping[str, str]] = {
    "status": "ask for the power of",
    "off": "switch off",
    "on": "switch on",
    "wake": "wake",
}
_NOWHERE: Final = "/nonexistent"
_MARGIN: Final = 2.0
"""The child stops asking so many seconds before it is killed, to say what it saw last and to log out."""


@dataclass(frozen=True, slots=True)
class Talk:
    """With whom, about what, and for how long."""

    host: str
    op: Op
    bmc: Ipmi | Redfish
    timeout: float

    async def hold(self, password: Secret, certificates: str) -> str:
        """What the BMC says the power is: "on" or "off", and for off and on just that.

        `certificates`: the file of spec.power.redfish.ca, or nothing. Raises as `controller.power` promises.
        """
        environment = {"SSL_CERT_FILE": certificates, "SSL_CERT_DIR": _NOWHERE} if certificates else {}
        heard = await _heard(self._order(password), environment, self.timeout)
        state = heard.get("state")
        if state not in ("on", "off") or self.op not in ("status", state):
            raise self._problem(heard)
        return str(state)

    def _order(self, password: Secret) -> dict[str, Any]:
        common = {
            "op": self.op,
            "user": self.bmc.user,
            "password": password.reveal(),
            "seconds": max(self.timeout - _MARGIN, self.timeout / 2),
        }
        if isinstance(self.bmc, Ipmi):
            return {**common, "switch": "ipmi", "host": str(self.bmc.address), "port": self.bmc.port}
        url, pin = self.bmc.url, self.bmc.fingerprint
        known = {"switch": "redfish", "host": url.host, "port": url.port, "system": self.bmc.system, "fingerprint": pin}
        return {**common, **known}

    # -- what a person is told ----------------------------------------------------------------------------------------

    def refused(self, why: str) -> LoginRefused:
        return LoginRefused(f"{self._cannot}: its BMC {self._where} {why}", hint=self._compare())

    def _problem(self, heard: Mapping[str, Any]) -> ControllerError:
        trouble, said = heard.get("trouble"), heard.get("text", "")
        if trouble == "password":
            return self.refused(f"refuses the login of {self.bmc.user}")
        if trouble == "certificate":
            return self._stall(f"cannot be believed: {said}", self._certificate())
        if trouble == "refused":
            hint = f"look at the BMC itself; its user {self.bmc.user} must be allowed to switch the power"
            return self._stall(f"refuses: {said}", hint)
        state = heard.get("state")
        silence = f"does not answer{f' ({said})' if said else ''}"
        if heard.get("sent"):
            end = f"says {state!r} still" if state else silence
            return Indeterminate(
                f"cannot see {self.host} {self.op}: its BMC {self._where} was told to switch it {self.op} and {end}; its power "
                "is asked for before anything else is done"
            )
        if state:
            return Retry(f"{self._cannot}: its BMC {self._where} says {state!r}, which is neither on nor off")
        return Retry(f"{self._cannot}: its BMC {self._where} {silence}")

    @property
    def _cannot(self) -> str:
        return f"cannot {DOING[self.op]} {self.host}"

    @property
    def _where(self) -> str:
        return str(self.bmc.url) if isinstance(self.bmc, Redfish) else f"{self.bmc.address}:{self.bmc.port}"

    @property
    def _field(self) -> str:
        return f"spec.power.{'redfish' if isinstance(self.bmc, Redfish) else 'ipmi'}"

    def _stall(self, why: str, hint: str) -> Stall:
        return Stall(f"{self._cannot}: its BMC {self._where} {why}", hint=hint)

    def _compare(self) -> str:
        return (
            f"compare {self._field}.user and the secret {named(self.bmc.password.hole)} with the BMC's own: "
            "it is not offered again, because many BMCs lock a user out after some wrong passwords, until the secret or "
            f"spec.power is another, or you say: jailops retry node/{self.host}"
        )

    def _certificate(self) -> str:
        field = "ca" if isinstance(self.bmc, Redfish) and self.bmc.ca else "fingerprint"
        return (
            f"compare the certificate at the BMC's console with {self._field}.{field}: a new one goes into the manifest; "
            "if it has none, something stands between. No password was sent"
        )


async def _heard(order: Mapping[str, Any], environment: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """All that the child said in time, later words over earlier ones. Raises Retry when no child can be started."""
    heard: dict[str, Any] = {}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", child.__file__, env=dict(environment), cwd="/",
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Retry(f"cannot talk to a BMC: no process can be started ({error.strerror})") from error
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(timeout):
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
            async for line in process.stdout:
                heard.update(_parsed(line))
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass  # what was heard until then counts
    finally:
        await _end(process)
    return heard


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of the child's; the library prints others, which mean nothing."""
    with suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict):
            return said
    return {}


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
