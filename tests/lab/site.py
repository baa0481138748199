"""The article's infrastructure with real daemons: what `controller.lab.site` simulates, on a network of namespaces.

In: a `SitePlan`. Out: the same interface as the simulated site, behind it a SAN with tgtd and nfs-ganesha, a boot server with
dhcpd or Kea and tftpd, a build VM and nodes whose FreeBSD commands are stand-ins, real sshd on each machine at its own
address, and the controller's place in the network (`ctl`). A node boots by a real DHCP client, a real TFTP client and
libnfs, and reaches its disk by a real iSCSI login. Leaving ends everything.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import asyncssh

from controller.lab import boot
from controller.lab.machine import Layout, Machine
from controller.lab.site import Computer, Endpoint, NodePlan, Site, SitePlan
from controller.lab.ssh import Clients
from tests.lab import clients
from tests.lab.child import lab_directory
from tests.lab.net import Net, Port, switched
from tests.lab.server import COMMANDS, Server, fill, fresh_run
from tests.lab.sshd import DEBIAN_CONFIG, Key, freebsd_binds, place_keys, start_on_freebsd

CTL: Final = "198.51.100.5"
PROBE: Final = Path(__file__).with_name("node") / "probe"
Dhcp = Literal["isc", "kea"]
DHCP_SERVICE: Final[Mapping[Dhcp, str]] = {"isc": "isc-dhcp-server", "kea": "kea-dhcp4-server"}
KEA: Final[Mapping[str, Any]] = {
    "Dhcp4": {
        "interfaces-config": {"interfaces": ["eth0"]},
        "control-socket": {"socket-type": "unix", "socket-name": "/run/kea/kea4-ctrl-socket"},
        "lease-database": {"type": "memfile", "persist": False},
        "valid-lifetime": 3600,
    }
}
NEXUS: Final = re.compile(r"^ +I_T nexus information:\n(?: {8}.*\n)*", re.MULTILINE)
"""Who is logged in at this moment, in the words of tgtadm: being looked at by its node is no write of the SAN."""
VERBOSE: Final = 'TFTP_OPTIONS="--secure --verbose --verbose"\n'
GANESHA: Final = """\
# The administrator's own file.
NFS_CORE_PARAM { Protocols = 3; }
%include "/etc/ganesha/jailops.conf"
"""


class RealSshd:
    """The place of the simulated site's sshd: OpenSSH inside the machine, which ends with the machine."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = 22
        self.host_keys: tuple[str, ...] = ()

    async def start(self, host_keys: Sequence[asyncssh.SSHKey], _clients: Clients, _shell: str) -> None:
        """Start the daemon, which reads keys and shells from the machine's own files."""
        self.host_keys = tuple(key.export_public_key().decode().strip() for key in host_keys)
        if self._server.machine.layout.system == "linux":
            await asyncio.to_thread(self._server.must, "service ssh start")
        else:
            await asyncio.to_thread(start_on_freebsd, self._server.machine)

    async def stop(self) -> None:
        """Nothing to do: the machine is switched off next."""

    def release(self) -> None:
        """Nothing to do: it has an address of its own."""


class RealSite(Site):
    """The site on real daemons; see `controller.lab.site.Site` for what can be done with it."""

    def __init__(self, plan: SitePlan, directory: Path, net: Net, dhcp: Dhcp = "isc") -> None:
        super().__init__(plan, directory)
        self._net = net
        self._dhcp: Dhcp = dhcp
        self._frozen: set[int] = set()
        self.servers: dict[str, Server] = {}
        """Every machine with its place in the network, nodes too."""
        self.ctl = net.plug("ctl", CTL)
        """Where the controller runs: `subprocess.Popen(site.ctl.command([...]))`."""

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return {
            name: Endpoint(self.servers[name].port.address, 22, (one.sshd.host_keys or ("",))[0])
            for name, one in self.computers.items()
        }

    def san_away(self, name: str | None = None) -> None:
        """Freeze tgtd: connections are accepted by the kernel and nobody answers."""
        pid = self.servers[name or self.plan.sans[0].name].pid("/run/tgtd.pid")
        os.kill(pid, signal.SIGSTOP)
        self._frozen.add(pid)

    def san_back(self, name: str | None = None) -> None:
        pid = self.servers[name or self.plan.sans[0].name].pid("/run/tgtd.pid")
        os.kill(pid, signal.SIGCONT)
        self._frozen.discard(pid)

    def look(self, name: str) -> dict[str, Any]:
        """As in the simulated site for nodes. A server: running, and what its daemons themselves say they serve, as text."""
        if any(node.name == name for node in self.plan.nodes):
            return super().look(name)
        server = self.servers[name]
        if not server.machine.running:
            return {"running": False}
        return {"running": True, "live": self._live(name), "counters": super().look(name)["counters"]}

    def lease(self, node: str) -> clients.Lease:
        """What the boot server tells this node's network card now; raises `Refused`."""
        return clients.dhcp(self.servers[node].port)

    def moved(self, node: str, address: str) -> None:
        """The node's loader took this address."""
        server = self.servers[node]
        self.servers[node] = replace(server, port=self._net.move(server.port, address))

    # -- how the machines differ from the simulated ones --------------------------------------------------------------

    def _furnish(self) -> None:
        super()._furnish()
        for name, one in self.computers.items():
            if one.machine.layout.system == "linux":
                one.machine.path("/etc/ssh/sshd_config").write_text(DEBIAN_CONFIG)
            if one.key is not None and name not in {node.name for node in self.plan.nodes}:
                private = one.key.export_private_key("openssh").decode()
                public = one.key.export_public_key().decode()
                place_keys(one.machine, Key(private, public), Key("", self.client_public_key))
        for san in self.plan.sans:
            server = self.servers[san.name]
            server.write("/etc/ganesha/ganesha.conf", GANESHA)
            server.write("/etc/ganesha/jailops.conf", "")
            vms = [{"path": san.nfs_root, "client": vm.address, "options": ["rw"]} for vm in self.plan.vms]
            # The stand-in of mount(8) on the build VM has no NFS client and asks here.
            (server.machine.directory / "lab" / "exports.json").write_text(json.dumps(vms))
        for plan in self.plan.boot_servers:
            server = self.servers[plan.name]
            subnet = {"id": 1, "subnet": plan.subnet, "reservations": []}
            server.write("/etc/kea/kea-dhcp4.conf", json.dumps({"Dhcp4": {**KEA["Dhcp4"], "subnet4": [subnet]}}))
            server.write("/etc/default/tftpd-hpa", f"TFTP_DIRECTORY={plan.tftp_root}\n{VERBOSE}")
        for node in self.plan.nodes:
            lab = self.computers[node.name].machine.directory / "lab"
            (lab / "probe").write_bytes(PROBE.read_bytes())
            (lab / "probe").chmod(0o755)
            (lab / "disk.json").write_text(json.dumps({"mode": "command", "probe": ["/lab/probe"]}))

    def _add(self, name: str, layout: Layout, address: str) -> Machine:
        port = self._plug(name, address)
        if layout.system == "linux":
            layout = Layout("linux", commands=COMMANDS)
        else:
            layout = replace(layout, binds={**layout.binds, **freebsd_binds(self.directory)})
        machine = Machine(self.directory / name, name, layout, netns=port.path)
        (machine.directory / "lab" / "machine.json").write_text(json.dumps({"name": name, "address": address}))
        if layout.system == "linux":
            fill(machine, port)
        self.servers[name] = server = Server(machine, port)
        sshd: Any = RealSshd(server)
        self.computers[name] = Computer(machine, sshd, asyncssh.generate_private_key("ssh-ed25519"))
        return machine

    def _plug(self, name: str, address: str) -> Port:
        node = next((node for node in self.plan.nodes if node.name == name), None)
        if node is None:
            return self._net.plug(name, address)
        return self._net.plug(name, "", mac=node.mac, interface=node.interface)

    async def _start_server(self, name: str) -> None:
        one, server = self.computers[name], self.servers[name]
        fresh_run(one.machine)
        await one.machine.power_on()
        for service in ("rsyslog", *self._services(name)) if one.machine.layout.system == "linux" else ():
            await asyncio.to_thread(server.must, f"service {service} start")
        assert one.key is not None
        await one.sshd.start([one.key], self._our_key, "")

    def _services(self, name: str) -> tuple[str, ...]:
        if any(san.name == name for san in self.plan.sans):
            return ("tgt", "nfs-ganesha")
        if any(plan.name == name for plan in self.plan.boot_servers):
            return (DHCP_SERVICE[self._dhcp], "tftpd-hpa")
        return ()

    def _network(self, node: NodePlan) -> boot.Network:
        return Wires(self, node)

    async def _end(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        await super()._end()

    async def _listing(self, one: Computer) -> dict[str, tuple[int, ...]]:
        """Files but those that daemons write by themselves, and what the daemons say."""
        found = await super()._listing(one)
        if one.machine.layout.system != "linux":
            return found
        own = tuple(str(one.machine.path(at)) + "/" for at in ("/var/log", "/run", "/var/lib/dhcp", "/var/lib/nfs"))
        files = {path: seen for path, seen in found.items() if not path.startswith(own)}
        live = await asyncio.to_thread(self._live, one.machine.name)
        return {**files, "live": (zlib.crc32(NEXUS.sub("", live).encode()),)}

    def _live(self, name: str) -> str:
        """What the daemons of a server serve at this moment, in their own words."""
        asked = {
            "tgt": "tgtadm --lld iscsi --op show --mode target",
            "nfs-ganesha": "dbus-send --system --print-reply=literal --dest=org.ganesha.nfsd"
            " /org/ganesha/nfsd/ExportMgr org.ganesha.nfsd.exportmgr.ShowExports | sed 1,3d",
            "isc-dhcp-server": "cat /run/dhcpd.pid",
            "kea-dhcp4-server": "cat /run/kea-dhcp4.pid",
        }
        script = [asked[service] for service in self._services(name) if service in asked]
        return self.servers[name].run("; ".join(script)).out


class Wires:
    """The network as one node meets it: every answer is a real client's."""

    def __init__(self, site: RealSite, node: NodePlan) -> None:
        self._site = site
        self._node = node

    @property
    def _port(self) -> Port:
        return self._site.servers[self._node.name].port

    async def dhcp(self, _card: boot.Card) -> boot.Lease | None:
        try:
            said = await asyncio.to_thread(clients.dhcp, self._port)
        except clients.Refused:
            return None
        self._site.moved(self._node.name, said.address)
        options = {
            "root-path": said.root_path,
            "subnet-mask": said.mask,
            "routers": list(said.routers),
            "host-name": said.host_name,
            "domain-name": said.domain,
            "domain-name-servers": list(said.nameservers),
        }
        known = {name: value for name, value in options.items() if value}
        return boot.Lease(said.address, said.filename, said.next_server, said.server, known)

    async def tftp(self, server: str, filename: str) -> bytes | None:
        try:
            return await asyncio.to_thread(clients.tftp, self._port, server, filename)
        except clients.Refused:
            return None

    async def nfs(self, server: str, path: str, _address: str) -> Path | None:
        try:
            await asyncio.to_thread(clients.nfs_list, self._port, server, path)
        except clients.Refused:
            return None
        san = next((san for san in self._site.plan.sans if san.address == server), None)
        return self._site.computers[san.name].machine.path(path) if san else None


@asynccontextmanager
async def real_site(plan: SitePlan, dhcp: Dhcp = "isc") -> AsyncIterator[RealSite]:
    """The whole infrastructure on a network of its own; nothing of it is left afterwards."""
    with lab_directory() as directory, switched() as net:
        async with RealSite(plan, directory, net, dhcp) as site:
            yield site
