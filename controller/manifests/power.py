"""Host `spec.power`: who switches the machine on and off when it does not answer. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import model_validator

from controller.manifests.base import FileRef, Model, SecretRef, doc
from controller.manifests.network import Broadcast, HttpsText, IPv4
from controller.manifests.scalar import NAME, Refused, Scalar, text, wrong
from controller.manifests.words import Port, Word

Switch: TypeAlias = Literal["wakeOnLan", "ipmi", "redfish"]

SWITCHES: Final[tuple[Switch, ...]] = ("wakeOnLan", "ipmi", "redfish")

IpmiUser: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9][A-Za-z0-9._@-]{0,15}",
        "an IPMI user of at most 16 letters, digits, '.', '_', '@' and '-'",
        "jailops",
    ),
]
SystemId: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9][A-Za-z0-9._~:-]{0,62}",
        "a system's id as Redfish lists it below /redfish/v1/Systems",
        "System.Embedded.1",
        base=NAME,
    ),
]

_DIGITS: Final = r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}"
_fingerprint = text(
    _DIGITS,
    "a SHA-256 fingerprint: 64 hexadecimal digits, or 32 pairs with ':' as openssl prints them",
    ":".join(["0A"] * 32),
    base=NAME,
)


def _digits(value: str) -> str:
    digits = str(_fingerprint.parse(value)).replace(":", "").lower()
    if digits == "0" * 64:
        raise Refused("the fingerprint of a certificate, not zeros")
    return digits


Fingerprint: TypeAlias = Annotated[
    str, Scalar(_fingerprint.expected, _digits, _fingerprint.schema, _fingerprint.examples)
]
"""64 hexadecimal digits in lower case."""


class WakeOnLan(Model):
    """A magic packet to spec.mac. It switches on and can do nothing else."""

    broadcast: Broadcast = doc("The broadcast address of the network that the controller sends it to.")
    port: Port = doc("The UDP port.", default=9)


class Ipmi(Model):
    """A BMC that speaks IPMI 2.0 over LAN."""

    address: IPv4 = doc("The BMC's IPv4 address.")
    port: Port = doc("Its UDP port.", 623, default=623)
    user: IpmiUser = doc("Who logs in; operator is enough.")
    password: SecretRef = doc("A file that holds the password: at most 20 characters.")


class Redfish(Model):
    """A BMC that speaks Redfish. Its certificate is believed by fingerprint or by a CA, never without."""

    url: HttpsText = doc("Where it answers.")
    system: SystemId = doc("Which of its systems is this host.")
    user: Word = doc("Who logs in.", "jailops")
    password: SecretRef = doc("A file that holds the password.")
    fingerprint: Fingerprint | None = doc("The SHA-256 fingerprint of the one certificate it may show.", default=None)
    ca: FileRef | None = doc(
        "A file of PEM certificates: one of them has signed the BMC's, which names the host of the url.", default=None
    )

    @model_validator(mode="after")
    def _believed(self) -> Redfish:
        if (self.fingerprint is None) == (self.ca is None):
            found = "neither" if self.ca is None else "both"
            raise wrong("exactly one of fingerprint and ca: how its certificate is believed", found=found)
        return self


class Power(Model):
    """Exactly one way to switch the host."""

    wake_on_lan: WakeOnLan | None = doc("A magic packet: it can only be switched on.", default=None)
    ipmi: Ipmi | None = doc("A BMC that speaks IPMI.", default=None)
    redfish: Redfish | None = doc("A BMC that speaks Redfish.", default=None)

    @property
    def switch(self) -> Switch:
        given = {"wakeOnLan": self.wake_on_lan, "ipmi": self.ipmi, "redfish": self.redfish}
        return next(name for name in SWITCHES if given[name] is not None)

    @model_validator(mode="after")
    def _exactly_one(self) -> Power:
        given = {"wakeOnLan": self.wake_on_lan, "ipmi": self.ipmi, "redfish": self.redfish}
        there = [name for name in SWITCHES if given[name] is not None]
        if len(there) != 1:
            raise wrong(f"exactly one of {', '.join(SWITCHES)}", found=" and ".join(there) or "none of them")
        return self
