"""Ways to restart a node, as steps: through its own sshd, or from outside. Pure; when one is due is not decided here.

That a node has restarted is proved by its `kern.boottime` alone, which whoever asks for a restart compares: a BMC may say off
of a machine that is on, and a shutdown may hang.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Literal, TypeAlias

from controller.drivers.base import checked
from controller.encode.sh import sh
from controller.errors import Stall
from controller.manifests import Power as Switches
from controller.model import Answer, Power, Run, Script, Step, Steps

Reach: TypeAlias = Literal["cycle", "wake", "none"]

ASKS: Final = 3
"""So often a BMC that has just said off is asked once more, each time in a new session."""
ASK: Final = 20.0
SWITCH: Final = 120.0
"""Seconds for one question, and for going on or off: a BMC with much to do takes a minute."""

REBOOT: Final[Script] = sh(
    """test "$(id -u)" = 0 || {{ echo 'not root' >&2; exit 1; }}
command -v shutdown >/dev/null || {{ echo 'no shutdown(8)' >&2; exit 1; }}
daemon -f /bin/sh -c {later}""",
    later="sleep 2; exec shutdown -r now",
)
"""Detached and two seconds late, so that our own answer and the connection's end go out before sshd is gone (freebsd.md
7.2: "the ssh session then drops"). shutdown(8) and not reboot(8): it runs rc.shutdown, which stops the jails."""


def reach(switches: Switches | None) -> Reach:
    """What can be done from outside: off and on, only on, or nothing."""
    if switches is None:
        return "none"
    return "wake" if switches.wake_on_lan is not None else "cycle"


def reboot_over_ssh(host: str) -> Steps:
    """Ask the node itself. It answers before it goes down; that it went and came back is for others to see."""
    answer = yield Run(f"reboot {host}", REBOOT, host=host)
    checked(answer, f"reboot {host}")


def off_then_on(host: str, switches: Switches | None) -> Steps:
    """Off, proven off, on, proven on. With Wake-on-LAN only a packet that wakes a node which is off (see `reach`).

    Begun anew after a crash at any point, it ends the same way. Raises Stall when only a person can.
    """
    yield from switched(host, switches, (yield from power_of(host, switches)))


def power_of(host: str, switches: Switches | None) -> Generator[Step, Answer, str]:
    """What the BMC says before anything is switched: one that is silent or refuses us is told nothing. "" with Wake-on-LAN."""
    can = reach(switches)
    if can == "none":
        raise Stall(
            f"cannot switch {host} off and on: its manifest has no spec.power",
            hint="a person must do it at the machine; or describe its BMC in spec.power",
        )
    if can == "wake":
        return ""
    return (yield Power(f"ask for the power of {host}", "status", host, ASK)).out


def switched(host: str, switches: Switches | None, found: str) -> Steps:
    """The rest of it, after what `power_of` found."""
    if reach(switches) == "wake":
        yield Power(f"wake {host}", "wake", host, timeout=5)
        return
    if found == "on":
        yield Power(f"switch {host} off", "off", host, SWITCH)
        yield from _proved_off(host)
    yield Power(f"switch {host} on", "on", host, SWITCH)
    if (yield Power(f"is {host} on?", "status", host, ASK)).out != "on":
        raise Stall(
            f"cannot keep {host} on: its BMC said on, and off when it was asked again",
            hint="look at its console and at the BMC's log: a power supply, or somebody else switches it",
        )


def _proved_off(host: str) -> Steps:
    """Asked again, because some BMCs say what they were told (xcat-core#3966)."""
    for ask in range(1, ASKS + 1):
        if (yield Power(f"is {host} off? ({ask} of {ASKS})", "status", host, ASK)).out == "off":
            return
    raise Stall(
        f"cannot prove {host} off: its BMC said off, and on each of the {ASKS} times it was asked again",
        hint="look at its console: it is not switched on again by itself. Somebody else may switch it, or the BMC's "
        "policy for a lost power is on",
    )
