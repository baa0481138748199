"""Server machines of the real lab: Debian's own daemons in a container with its own /etc, /var and network. Of syslog there is
a part (`tests/lab/debian/syslogd`), so that what the daemons say stands in /var/log/syslog.

What they serve is put in their files from outside; the daemons are started and tested inside, by a `service` command
that behaves as Debian's, which is also what the controller finds there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from controller.lab.machine import Layout, Machine
from controller.lab.servers.furnish import RUN
from tests.lab.net import Port

COMMANDS = MappingProxyType(
    {
        "/usr/sbin/service": Path(__file__).with_name("debian").joinpath("service").read_text(),
        "/usr/bin/systemctl": Path(__file__).with_name("debian").joinpath("systemctl").read_text(),
        "/usr/sbin/syslogd": Path(__file__).with_name("debian").joinpath("syslogd").read_text(),
        "/usr/bin/journalctl": Path(__file__).with_name("debian").joinpath("journalctl").read_text(),
        **{f"/usr/bin/{name}": RUN for name in ("systemctl-units", "systemd-run", "journalctl-units")},
    }
)
COPIED = (
    "alternatives",
    "dbus-1",
    "debian_version",
    "group",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "login.defs",
    "machine-id",
    "netconfig",
    "nsswitch.conf",
    "passwd",
    "perl",
    "protocols",
    "rpc",
    "services",
    "shells",
)
"""What the daemons need of this computer's /etc; everything else there is written by the lab."""
MADE = (
    "/etc/default",
    "/etc/dhcp",
    "/etc/exports.d",
    "/etc/ganesha",
    "/etc/kea",
    "/etc/ssh",
    "/etc/tgt/conf.d",
    "/export",
    "/srv/tftp",
    "/srv/volumes",
    "/var/lib/dhcp",
    "/var/lib/kea",
    "/var/lib/nfs/ganesha",
    "/var/log/ganesha",
    "/var/log/kea",
)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command inside a machine did."""

    exit: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Server:
    """One server machine that is switched on."""

    machine: Machine
    port: Port

    def run(self, script: str, *, timeout: float = 30.0) -> Done:
        """Run a script inside as root."""
        argv = self.machine.argv(["/bin/sh", "-s"])
        done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=timeout, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def service(self, name: str, action: str) -> Done:
        return self.run(f"service {name} {action}")

    def must(self, script: str) -> str:
        """The standard output of a script that has to succeed."""
        done = self.run(script)
        assert done.exit == 0, f"{script!r} on {self.port.name} ended with {done.exit}: {done.out}{done.err}"
        return done.out

    def write(self, path: str, content: str | bytes) -> None:
        """Put a file on the machine, as its administrator would with an editor."""
        place = self.machine.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    @contextmanager
    def frozen(self, pidfile: str) -> Iterator[None]:
        """A daemon that is there and does not answer: SIGSTOP, and SIGCONT at the end."""
        pid = self.pid(pidfile)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def pid(self, pidfile: str) -> int:
        """The process of a daemon, as seen from outside: for signals."""
        inside = int(self.must(f"cat {pidfile}"))
        for status in Path("/proc").glob("[0-9]*/status"):
            if _same_process(status, inside, self.machine.pid):
                return int(status.parent.name)
        raise LookupError(f"no process has the number {inside} on {self.port.name}")


def _same_process(status: Path, inside: int, first: int) -> bool:
    """Whether this is process `inside` of the process namespace whose first process is `first` outside."""
    try:
        numbers = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()[1:]
        same_namespace = (status.parent / "ns/pid").readlink() == Path(f"/proc/{first}/ns/pid").readlink()
    except (OSError, StopIteration):
        return False
    return same_namespace and int(numbers[-1]) == inside


@contextmanager
def server(directory: Path, port: Port, *, binds: Mapping[str, Path] | None = None) -> Iterator[Server]:
    """A Debian machine on the given port, with no service started yet; `binds` are directories shared with others."""
    machine = Machine(
        directory, port.name, Layout("linux", commands=COMMANDS, binds=dict(binds or {})), netns=port.path
    )
    fill(machine, port)
    fresh_run(machine)
    asyncio.run(machine.power_on())
    try:
        one = Server(machine, port)
        one.must("service rsyslog start")
        yield one
    finally:
        asyncio.run(machine.power_off())


def fresh_run(machine: Machine) -> None:
    """Empty /run before power on. It is no memory file system here, so that a node can reach the SAN's control socket."""
    shutil.rmtree(machine.path("/run"), ignore_errors=True)
    machine.path("/run").mkdir()


def fill(machine: Machine, port: Port) -> None:
    """Write what Debian and its packages would have put below /etc and /var."""
    for directory in MADE:
        machine.path(directory).mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source, target = Path("/etc", name), machine.path(f"/etc/{name}")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    machine.path("/etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    for inside, link in {"/var/run": "/run", "/etc/mtab": "/proc/self/mounts"}.items():
        machine.path(inside).unlink(missing_ok=True)
        machine.path(inside).symlink_to(link)
    machine.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{port.address} {port.name}\n")
    machine.path("/etc/tgt/targets.conf").write_text("include /etc/tgt/conf.d/*.conf\n")
