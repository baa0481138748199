"""The real sshd on both kinds of machines, and the login shell that it finds there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.lab.machine import Layout, Machine
from tests.lab.net import Net
from tests.lab.server import server
from tests.lab.sshd import freebsd_binds, new_key, place_keys, prepare_server, ssh, start_on_freebsd

pytestmark = pytest.mark.lab

PASSWD = """\
root:*:0:0:Charlie &:/root:/bin/csh
sshd:*:22:22:Secure Shell Daemon:/var/empty:/usr/sbin/nologin
"""


def test_a_server_lets_the_controller_in_and_nobody_else(net: Net, directory: Path) -> None:
    ctl = net.plug("ctl", "198.51.100.5")
    host_key, client = new_key(directory, "host"), new_key(directory, "client")
    new_key(directory, "stranger")
    with server(directory / "san", net.plug("san", "198.51.100.10")) as san:
        prepare_server(san, host_key, client)
        san.must("service ssh start")
        done = ssh(ctl, directory, "client", "198.51.100.10", host_key, "hostname; echo $0; exit 7")
        assert (done.exit, done.out) == (7, "san\nbash\n")
        assert ssh(ctl, directory, "client", "198.51.100.10", host_key, "command -v tgtadm service").exit == 0
        assert "Permission denied" in ssh(ctl, directory, "stranger", "198.51.100.10", host_key, "true").err
        assert "Host key verification failed" in ssh(ctl, directory, "client", "198.51.100.10", client, "true").err


def test_the_login_shell_of_a_freebsd_machine_is_csh(net: Net, directory: Path) -> None:
    ctl, port = net.plug("ctl", "198.51.100.5"), net.plug("node", "198.51.100.50", interface="em0")
    host_key, client = new_key(directory, "host"), new_key(directory, "client")
    machine = Machine(directory / "node", "node", Layout(binds=freebsd_binds(directory)), netns=port.path)
    place_keys(machine, host_key, client)
    machine.path("/etc/passwd").write_text(PASSWD)
    asyncio.run(machine.power_on())
    try:
        start_on_freebsd(machine)
        said = "set x = ( a b ); echo $x[2] $shell; echo $PATH"
        in_csh = ssh(ctl, directory, "client", "198.51.100.50", host_key, said)
        assert in_csh.out == "b /bin/csh\n/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/root/bin\n"
        framed = ssh(ctl, directory, "client", "198.51.100.50", host_key, "exec /bin/sh -c 'x=b; echo $x >&2; exit 3'")
        assert (framed.exit, framed.err) == (3, "b\n")
    finally:
        asyncio.run(machine.power_off())
