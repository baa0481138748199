"""OpenSSH on the machines of the real lab: its keys, its configuration, and a client's way in.

A server (Debian) keeps its keys in /etc/ssh and is started by its own `service ssh`. On a FreeBSD machine the real
sshd runs with that machine's own files, users and login shell, so that a generation that lacks a key or a login is
found out.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from controller.lab.machine import PATHS, Machine
from tests.lab.child import run
from tests.lab.net import Port
from tests.lab.server import Done, Server

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
DEBIAN_CONFIG = f"""\
HostKey {HOST_KEY}
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
"""


@dataclass(frozen=True, slots=True)
class Key:
    """An ed25519 key pair: the private half in OpenSSH's format, the public half as algorithm and base64."""

    private: str
    public: str


def new_key(directory: Path, name: str) -> Key:
    """A fresh key, also kept as files `name` and `name.pub` in the directory."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(directory / name)])
    return Key((directory / name).read_text(), " ".join((directory / f"{name}.pub").read_text().split()[:2]))


def prepare_server(server: Server, host_key: Key, client: Key) -> None:
    """Give a server its identity and let the client in as root; then `service ssh start` works."""
    server.write("/etc/ssh/sshd_config", DEBIAN_CONFIG)
    place_keys(server.machine, host_key, client)


def place_keys(machine: Machine, host_key: Key, client: Key) -> None:
    """Put a host key and root's authorized key among a machine's persistent files."""
    files = {HOST_KEY: (host_key.private, 0o600), "/root/.ssh/authorized_keys": (client.public + "\n", 0o600)}
    for inside, (text, mode) in files.items():
        place = machine.path(inside)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)


def freebsd_binds(directory: Path) -> dict[str, Path]:
    """What a FreeBSD machine's layout must bind for `start_on_freebsd`: the empty directory that this sshd was built for."""
    (directory / "empty").mkdir(mode=0o755, parents=True, exist_ok=True)
    return {"/run/sshd": directory / "empty"}


def start_on_freebsd(machine: Machine) -> None:
    """Start the real sshd inside a FreeBSD machine, as rc.d/sshd does there; it ends with the machine.

    Raises RuntimeError with sshd's own words when the machine's files do not make a working sshd.
    """
    own = (machine.root / "etc/ssh/sshd_config").exists()
    options = {"PidFile": "none", "UsePAM": "no", "UseDNS": "no", "MaxStartups": "100", "MaxSessions": "100"}
    options |= {"SetEnv": f"PATH={PATHS['freebsd']}"} | ({} if own else {"PermitRootLogin": "prohibit-password"})
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    config = "/etc/ssh/sshd_config" if own else "/dev/null"
    run(machine.argv(["/.machine/usr/sbin/sshd", "-f", config, "-E", "/lab/sshd.log", *settings]))


def ssh(port: Port, directory: Path, key: str, address: str, host_key: Key, command: str) -> Done:
    """Log in from a port of the lab with the key file `directory/key`, the host's key pinned, and run a command."""
    known = directory / f"known-{address}"
    known.write_text(f"{address} {host_key.public}\n")
    options = ["-F", "none", "-i", str(directory / key), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
    argv = ["ssh", *options, "-o", "StrictHostKeyChecking=yes", f"root@{address}", command]
    done = subprocess.run(port.command(argv), capture_output=True, text=True, timeout=20, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
