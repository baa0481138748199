"""A network of our own: one switch, one namespace per machine, 198.51.100.0/24, and no way out.

The bridge lives in a namespace of its own, because the machine that runs the tests may itself live in a documentation
network. Namespaces have no names: each is held by a process and gone with it, so there is never one to remove.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from tests.lab.child import Holder, run

PREFIX = 24


@dataclass(frozen=True, slots=True)
class Port:
    """One machine's place in the network: a namespace with loopback and one interface."""

    name: str
    address: str
    interface: str
    mac: str
    pid: int
    """The process that holds the namespace."""

    @property
    def path(self) -> Path:
        """What `nsenter --net=` takes."""
        return Path(f"/proc/{self.pid}/ns/net")

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` run in this network, otherwise on the machine that runs the tests."""
        return ["nsenter", f"--net={self.path}", "--", *argv]


class Net:
    """The switch. Use `switched()` to make one."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._cables = count()
        self._pid = self._namespace()
        self._ip(
            self._pid,
            "link set lo up",
            "link add name br0 type bridge stp_state 0 forward_delay 0",
            "link set br0 up",
        )

    def plug(self, name: str, address: str, *, mac: str | None = None, interface: str = "eth0") -> Port:
        """A new machine on the switch. Without a MAC address the kernel makes one up; without an address it has none."""
        pid = self._namespace()
        cable = f"port{next(self._cables)}"
        wanted = f"address {mac}" if mac else ""
        self._ip(
            self._pid,
            f"link add {cable} type veth peer name {interface} {wanted} netns {pid}",
            f"link set {cable} master br0 up",
        )
        own = [f"address add {address}/{PREFIX} dev {interface}"] if address else []
        self._ip(pid, "link set lo up", *own, f"link set {interface} up")
        return Port(name, address, interface, mac or self._mac(pid, interface), pid)

    def move(self, port: Port, address: str) -> Port:
        """Give a machine this address instead of those it has, as its loader does with what DHCP said."""
        self._ip(
            port.pid,
            f"address flush dev {port.interface}",
            f"address add {address}/{PREFIX} dev {port.interface}",
        )
        return replace(port, address=address)

    def set_mac(self, port: Port, mac: str) -> Port:
        """Exchange a machine's network card."""
        self._ip(
            port.pid,
            f"link set {port.interface} down",
            f"link set {port.interface} address {mac}",
            f"link set {port.interface} up",
        )
        return replace(port, mac=mac)

    def _namespace(self) -> int:
        holder = Holder(["unshare", "--net", "--", "sh", "-c", "echo up; exec cat >/dev/null"])
        self._stack.callback(holder.close)
        return holder.pid

    def _ip(self, pid: int, *commands: str) -> None:
        run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-batch", "-"], input="\n".join(commands) + "\n")

    def _mac(self, pid: int, interface: str) -> str:
        return run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", "-br", "link", "show", interface]).split()[2]


@contextmanager
def switched() -> Iterator[Net]:
    """A network with nothing plugged in, removed at the end."""
    with ExitStack() as stack:
        yield Net(stack)
