"""The simulated site: build VM, SAN, boot server and diskless nodes on one computer, without privileges.

In: a `SitePlan` (names, addresses and paths as the manifests say them). Out: machines that behave, an SSH endpoint on
loopback for each, a client key that opens them, and `look`, which tells what is true on a machine without asking the
controller. The machines share nothing but what their daemons give: a node boots what DHCP, TFTP and NFS serve to its
card and address at that moment. Nothing is left behind when the context ends.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncssh

from controller.lab import boot
from controller.lab.bmc import ADDRESS, Bmc, Card
from controller.lab.machine import Layout, Machine, standin
from controller.lab.servers import dhcpd, exports, furnish, service, source, syslog
from controller.lab.servers.kit import Box
from controller.lab.servers.plan import BootPlan, HypervisorPlan, NodePlan, SanPlan, SitePlan, VmPlan
from controller.lab.ssh import Sshd

__all__ = ["BootPlan", "Endpoint", "NodePlan", "SanPlan", "Site", "SitePlan", "VmPlan"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a machine's sshd answers, and how it proves itself. A node has no key before its first boot."""

    host: str
    port: int
    host_key: str


@dataclass(slots=True)
class Computer:
    """A machine with its sshd and, for a node, the task that keeps it booting."""

    machine: Machine
    sshd: Sshd
    key: asyncssh.SSHKey | None = None
    task: asyncio.Task[None] | None = None
    outcome: boot.Outcome | None = None
    plugged: bool = False
    """A node's power as its BMC sees it: also while it asks for an address, and while it is stuck."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a boot has ended, either way."""


Listing = dict[str, dict[str, tuple[int, ...]]]


class Site:
    """The running site. Entering starts every machine; leaving ends them all, whatever happened."""

    def __init__(self, plan: SitePlan, directory: Path | None = None) -> None:
        self.plan = plan
        self._temporary = directory is None
        self.directory = directory.resolve() if directory else Path(tempfile.mkdtemp(prefix="jailops-site-"))
        self.computers: dict[str, Computer] = {}
        self.client_key = self.directory / "client_key"
        self._client = asyncssh.generate_private_key("ssh-ed25519")
        self._wires: list[asyncio.Server] = []
        self._guests: set[asyncio.Task[None]] = set()
        self._bmcs: dict[str, Bmc] = {}
        self._switches = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._furnish)
            for hypervisor in self.plan.hypervisors:
                await self._wire_power(hypervisor)
            servers = [one.name for one in self._servers() if one.name not in self.plan.guests]
            await asyncio.gather(*(self._start_server(name) for name in servers))
            for node in self.plan.nodes:
                self._begin_boot(node.name)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self._end())

    # -- what a controller needs ------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return {
            name: Endpoint("127.0.0.1", one.sshd.port, (one.sshd.host_keys or ("",))[0])
            for name, one in self.computers.items()
        }

    @property
    def client_public_key(self) -> str:
        """What belongs into a generation's authorized keys."""
        return self._client.export_public_key().decode().strip()

    @property
    def source_url(self) -> str:
        """The Git URL that the build VM reaches; its own name for it is `source.URL`, and both work."""
        return source.URL

    async def bmc(self, node: str) -> Bmc:
        """The node's BMC, on loopback, which really switches it. Made when it is asked for first."""
        if node not in self._bmcs:
            self._bmcs[node] = await self._switches.enter_async_context(Bmc(_Button(self, node)))
        return self._bmcs[node]

    async def wake_port(self, node: str) -> int:
        """A UDP port of loopback that the node's network card listens on for its magic packet while the node is off."""
        mac = next(plan.mac for plan in self.plan.nodes if plan.name == node)
        button = _Button(self, node)
        make = asyncio.get_running_loop().create_datagram_endpoint
        wire, _ = await make(lambda: Card(mac, button.press), local_addr=(ADDRESS, 0))
        self._switches.callback(wire.close)
        return int(wire.get_extra_info("sockname")[1])

    # -- what people do ---------------------------------------------------------------------------------------------

    async def power_off(self, name: str) -> None:
        """Pull the plug. Persistent files stay, memory file systems and running jails are gone."""
        one = self.computers[name]
        await self._stop_booting(one)
        await self._cut(name, one)

    async def _cut(self, name: str, one: Computer) -> None:
        one.plugged = False
        await one.sshd.stop()
        await one.machine.power_off()
        self._log_out(name)

    async def cut(self, name: str) -> None:
        """The sshd of a server dies with all its connections, and is started again; what they had begun goes on or not."""
        one = self.computers[name]
        await one.sshd.stop()
        await self._open_server(one)

    async def power_on(self, name: str) -> None:
        """A server is up when this returns; a node has begun to boot (see `booted`)."""
        if any(node.name == name for node in self.plan.nodes):
            self._begin_boot(name)
        else:
            await self._start_server(name)

    async def reboot(self, name: str, timeout: float = 30.0) -> boot.Outcome | None:
        """Power cycle; waits until a node has booted, or is stuck."""
        await self.power_off(name)
        await self.power_on(name)
        return await self.booted(name, timeout) if self.computers[name].task else None

    async def booted(self, name: str, timeout: float = 30.0) -> boot.Outcome | None:
        """How the node's boot ended; None when it still asks for an address after `timeout` seconds."""
        one = self.computers[name]
        with suppress(TimeoutError):
            await asyncio.wait_for(one.done.wait(), timeout)
        return one.outcome

    async def stop_jail_by_hand(self, node: str, jail: str) -> None:
        """What somebody at the node's console would type."""
        status, out, err = await self.computers[node].machine.run(
            f"ezjail-admin onestop '{jail}' || jail -r '{jail}'\n"
        )
        if status:
            raise RuntimeError(f"cannot stop {jail} on {node}: {out}{err}")

    def san_away(self, name: str | None = None) -> None:
        """The target daemon stops answering (SIGSTOP): sessions drop, disks block, tgtadm hangs."""
        (self._san(name).directory / "lab" / "tgt-stopped").write_text("")

    def san_back(self, name: str | None = None) -> None:
        (self._san(name).directory / "lab" / "tgt-stopped").unlink(missing_ok=True)

    # -- what is true -----------------------------------------------------------------------------------------------

    def look(self, name: str) -> dict[str, Any]:
        """What is true on a machine, read from the machine itself.

        A node: state, generation, root, jails, mounts, addresses, sessions. A boot server: dhcp (what is served), starts.
        A SAN: exports, targets, sessions. A build VM: counters of make.
        """
        one = self.computers[name]
        box = Box(one.machine.directory)
        if any(node.name == name for node in self.plan.nodes):
            return self._look_node(one, box)
        state = box.load("dhcpd", dhcpd.NOWHERE)
        served = {host["name"]: host for host in state["served"]["hosts"]} if state["running"] else {}
        return {
            "running": one.machine.running,
            "dhcp": served,
            "dhcp_running": state["running"],
            "dhcp_starts": state["starts"],
            "exports": box.load("exports", []),
            "targets": {target["name"]: target for target in box.load("tgt", {"targets": {}})["targets"].values()},
            "sessions": box.load("sessions", []),
            "counters": box.load("counters", {}),
        }

    def _look_node(self, one: Computer, box: Box) -> dict[str, Any]:
        kernel = box.load("state/kernel", {}) if one.machine.running else {}
        path = str(kernel.get("node", {}).get("path", ""))
        return {
            "running": one.machine.running,
            "state": one.outcome.state if one.outcome else "booting",
            "reason": one.outcome.reason if one.outcome else "",
            "generation": path.rpartition("/")[2],
            "root": f"{kernel['node']['server']}:{path}" if path else "",
            "hostname": kernel.get("hostname", ""),
            "jails": {jail["name"]: {**jail, "addresses": jail["ip4"]} for jail in kernel.get("jails", [])},
            "mounts": {mount["node"]: mount["special"] for mount in kernel.get("mounts", [])},
            "addresses": kernel.get("aliases", []),
            "sessions": kernel.get("sessions", []),
            "boottime": kernel.get("boottime", 0.0),
            "host_keys": one.sshd.host_keys,
        }

    def console(self, node: str) -> str:
        """Everything the node printed on its console since its last power on."""
        file = self.computers[node].machine.directory / "lab" / "console.log"
        return file.read_text() if file.exists() else ""

    async def mark(self) -> Listing:
        """What every file of every machine is now, memory file systems included; for `writes`."""
        found = await asyncio.gather(*(self._listing(one) for one in self.computers.values()))
        return dict(zip(self.computers, found, strict=True))

    async def writes(self, since: Listing) -> dict[str, list[str]]:
        """Machine to the files that were made, changed or removed since a mark; machines without any are absent."""
        now = await self.mark()
        changed = {name: _changed(since.get(name, {}), files) for name, files in now.items()}
        return {name: paths for name, paths in changed.items() if paths}

    def uncovered(self) -> list[str]:
        """Everything any stand-in was asked that the reference does not cover."""
        return [f"{name}: {line}" for name, one in self.computers.items() for line in one.machine.uncovered()]

    async def _listing(self, one: Computer) -> dict[str, tuple[int, ...]]:
        directory = one.machine.directory
        found = await asyncio.to_thread(_walk, directory / "root")
        for state in ("tgt", "exports", "dhcpd", "service"):
            found.update(await asyncio.to_thread(_walk, directory / "lab" / f"{state}.json"))
        if one.machine.running and one.task:
            find = "/.machine/usr/bin/find /etc /var /tmp -xdev -printf '%p\\t%T@\\t%s\\t%i\\n'"
            _, out, _ = await one.machine.run(find)
            rows = (line.split("\t") for line in out.splitlines())
            found.update({row[0]: (int(float(row[1]) * 1e9), int(row[2]), int(row[3])) for row in rows})
        return found

    # -- making it ----------------------------------------------------------------------------------------------------

    def _servers(self) -> tuple[VmPlan | SanPlan | BootPlan | HypervisorPlan, ...]:
        return (*self.plan.vms, *self.plan.sans, *self.plan.boot_servers, *self.plan.hypervisors)

    def _san(self, name: str | None) -> Machine:
        return self.computers[name or self.plan.sans[0].name].machine

    def _furnish(self) -> None:
        """Write every machine's persistent files; nothing runs yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._client.write_private_key(self.client_key)
        self.client_key.chmod(0o600)
        (self.directory / "client_key.pub").write_text(self.client_public_key + "\n")
        internet = self.directory / "internet"
        if not (internet / "src.git").exists():
            internet.mkdir(exist_ok=True)
            source.make_git(internet / "src.git")
        for san in self.plan.sans:
            commands = {**furnish.commands(furnish.DEBIAN), **furnish.DF}
            self._add(san.name, Layout("linux", commands=commands), san.address)
            furnish.san(self.computers[san.name].machine, san)
        for server in self.plan.boot_servers:
            self._add(server.name, Layout("linux", commands=furnish.commands(furnish.DEBIAN)), server.address)
            furnish.boot_server(self.computers[server.name].machine, server)
        for vm in self.plan.vms:
            furnish.build_vm(self._add(vm.name, self._vm_layout(vm), vm.address), vm)
            self.computers[vm.name].sshd.host_keys = (_public(self.computers[vm.name].key),)
        for hypervisor in self.plan.hypervisors:
            layout = Layout("linux", commands=furnish.commands(furnish.HYPERVISOR))
            furnish.hypervisor(self._add(hypervisor.name, layout, hypervisor.address), hypervisor)
        for node in self.plan.nodes:
            machine = self._add(node.name, self._node_layout(node), "")
            machine_disk = {"mode": "directory", "san": f"{furnish.NET}/{self._plan_of_san(node.san).address}"}
            (machine.directory / "lab" / "disk.json").write_text(json.dumps(machine_disk))

    def _add(self, name: str, layout: Layout, address: str) -> Machine:
        machine = Machine(self.directory / name, name.replace(":", "-"), layout)
        (machine.directory / "lab" / "machine.json").write_text(json.dumps({"name": name, "address": address}))
        self.computers[name] = Computer(machine, Sshd(machine), asyncssh.generate_private_key("ssh-ed25519"))
        return machine

    def _plan_of_san(self, name: str) -> SanPlan:
        return next(san for san in self.plan.sans if san.name == name)

    def _vm_layout(self, vm: VmPlan) -> Layout:
        own = self.directory / vm.name / "root"
        binds = {path: own / path.lstrip("/") for path in (vm.source_dir, vm.object_dir)}
        for path in binds.values():
            path.mkdir(parents=True, exist_ok=True)
        binds |= {f"{furnish.NET}/{san.address}": self.directory / san.name for san in self.plan.sans}
        git = '#!/bin/sh\nPATH=/.machine/usr/bin:$PATH exec /.machine/usr/bin/git "$@"\n'
        return Layout(
            "freebsd",
            {**furnish.commands(furnish.BUILDER), **furnish.VM_DF, "/usr/bin/git": git},
            binds,
            {furnish.INTERNET: self.directory / "internet"},
        )

    def _node_layout(self, node: NodePlan) -> Layout:
        san = self._plan_of_san(node.san)
        init = standin("controller.lab.servers.init")
        return Layout("freebsd", {boot.INIT: init}, {f"{furnish.NET}/{san.address}": self.directory / san.name})

    async def _start_server(self, name: str) -> None:
        one = self.computers[name]
        if any(hypervisor.name == name for hypervisor in self.plan.hypervisors):
            shutil.rmtree(one.machine.path("/run"), ignore_errors=True)
        await one.machine.power_on()
        if any(server.name == name for server in self.plan.boot_servers):
            await one.machine.run("service isc-dhcp-server start\n")
        await self._open_server(one)

    async def _open_server(self, one: Computer) -> None:
        shell = _login_shell(one.machine)
        assert one.key is not None
        await one.sshd.start([one.key], self._our_key, shell)

    async def _our_key(self) -> Sequence[asyncssh.SSHKey]:
        return [self._client]

    # -- build VMs ----------------------------------------------------------------------------------------------------

    async def _wire_power(self, plan: HypervisorPlan) -> None:
        """Whoever connects to the hypervisor's power socket keeps a build VM switched on (see `servers.guest`)."""
        vms = {guest.name: guest.vm for guest in plan.guests}

        async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._guests.add(task)
            task.add_done_callback(self._guests.discard)
            vm = vms[(await reader.readline()).decode().strip()]
            try:
                await self.power_on(vm)
                await reader.readline()  # the power button, or the end of the process
            finally:
                await self.power_off(vm)
                writer.close()

        socket = self.computers[plan.name].machine.directory / "lab" / "power.sock"
        self._wires.append(await asyncio.start_unix_server(guest, path=socket))

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _begin_boot(self, name: str) -> None:
        one = self.computers[name]
        one.outcome = None
        one.plugged = True
        one.done.clear()
        one.task = asyncio.create_task(self._boot(name, one), name=f"boot {name}")

    async def _boot(self, name: str, one: Computer) -> None:
        node = next(node for node in self.plan.nodes if node.name == name)

        async def on_sshd() -> None:
            await self._open_node(one)

        network, wanted = self._network(node), "reboot"
        while wanted == "reboot":
            one.plugged = True
            try:
                one.outcome = await boot.boot(one.machine, boot.Card(node.mac, node.interface), network, on_sshd)
            finally:
                one.done.set()
            if one.outcome.state != "up":
                return
            wanted = await one.machine.shut_down()
            if wanted == "reboot":
                one.outcome = None
                one.done.clear()
            await self._cut(name, one)

    def _network(self, node: NodePlan) -> boot.Network:
        return _Wires(self, node)

    async def _stop_booting(self, one: Computer) -> None:
        task, one.task = one.task, None
        if task:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _open_node(self, one: Computer) -> None:
        """Start the node's sshd with what its own files say: host keys, who may log in, root's shell."""
        script = (
            'for f in /etc/ssh/ssh_host_*_key; do cat "$f" 2>/dev/null; done; echo ====; cat /etc/ssh/sshd_config; '
            "echo ====; cat /etc/master.passwd\n"
        )
        _, out, _ = await one.machine.run(script)
        keys, config, users = out.split("====\n")
        private = [asyncssh.import_private_key(f"{text}{_END}") for text in keys.split(_END)[:-1]]
        if not private:
            private = [asyncssh.generate_private_key("ssh-ed25519")]
            text = private[0].export_private_key("openssh").decode()
            await one.machine.run(f"umask 077; cat > /etc/ssh/ssh_host_ed25519_key <<'end'\n{text}end\n")
        permits, places = _setting(config, "PermitRootLogin"), _setting(config, "AuthorizedKeysFile")
        welcome = permits in (["yes"], ["without-password"], ["prohibit-password"])
        files = [f"/root/{place}" if place[0] != "/" else place.replace("%u", "root") for place in places]

        async def clients() -> Sequence[asyncssh.SSHKey]:
            """sshd reads its configuration once, and the keys at every login."""
            _, authorized, _ = await one.machine.run(f"cat {' '.join(files)} 2>/dev/null\n")
            lines = [line for line in authorized.splitlines() if line.strip() and not line.startswith("#")]
            return [asyncssh.import_public_key(line) for line in lines] if welcome else []

        shell = next((row.split(":")[9] for row in users.splitlines() if row.startswith("root:")), "/bin/sh")
        await one.sshd.start(private, clients, shell if _has(one.machine, shell) else "/bin/sh")

    def _log_out(self, name: str) -> None:
        """The SAN notices that an initiator is gone."""
        node = next((node for node in self.plan.nodes if node.name == name), None)
        if node is None:
            return
        machine = self.computers[node.san].machine
        known = Box(self.computers[name].machine.directory).load("node", {})
        with Box(machine.directory).edit("sessions", []) as links:
            links[:] = [link for link in links if link["address"] != known.get("address")]

    async def _end(self) -> None:
        await self._switches.aclose()
        for one in self.computers.values():
            await self._stop_booting(one)
        await asyncio.gather(*(one.sshd.stop() for one in self.computers.values()))
        await asyncio.gather(*(one.machine.power_off() for one in self.computers.values()))
        for wire in self._wires:
            wire.close()
        await asyncio.gather(*self._guests, return_exceptions=True)
        for one in self.computers.values():
            one.sshd.release()
        if self._temporary:
            await asyncio.to_thread(_erase, self.directory)


def _setting(config: str, keyword: str) -> list[str]:
    """The words of the first line with a keyword: sshd_config(5) takes that one."""
    lines = (line.split() for line in config.splitlines() if not line.startswith("#"))
    return next((words[1:] for words in lines if words and words[0].lower() == keyword.lower()), [])


_END: Final = "-----END OPENSSH PRIVATE KEY-----\n"


class _Button:
    """A node's power as its BMC and its network card have it."""

    def __init__(self, site: Site, node: str) -> None:
        self._site = site
        self._node = node

    async def status(self) -> str:
        return "on" if self._site.computers[self._node].plugged else "off"

    async def off(self) -> None:
        await self._site.power_off(self._node)

    async def on(self) -> None:
        self.press()

    def press(self) -> None:
        if not self._site.computers[self._node].plugged:
            self._site._begin_boot(self._node)


class _Wires:
    """The network as one node meets it: answers come from what the site's daemons serve at this moment."""

    def __init__(self, site: Site, node: NodePlan) -> None:
        self._site = site
        self._node = node
        self._address = ""

    async def dhcp(self, card: boot.Card) -> boot.Lease | None:
        for plan in self._site.plan.boot_servers:
            one = self._site.computers[plan.name]
            state = Box(one.machine.directory).load("dhcpd", dhcpd.NOWHERE)
            said = dhcpd.lease(state, card.mac) if one.machine.running else None
            if one.machine.running and state["running"]:
                syslog.dhcp(Box(one.machine.directory), card.mac, said["address"] if said else None)
            if said:
                self._address = said["address"]
                options = said["options"]
                next_server = said.get("next-server", plan.address)
                return boot.Lease(said["address"], said.get("filename", ""), next_server, plan.address, options)
        return None

    async def tftp(self, server: str, filename: str) -> bytes | None:
        for plan in self._site.plan.boot_servers:
            machine = self._site.computers[plan.name].machine
            box = Box(machine.directory)
            if plan.address == server and machine.running and service.activity(box, service.TFTP) == "active":
                root = machine.path(plan.tftp_root)
                file = (root / filename.lstrip("/")).resolve()
                found = file.is_relative_to(root.resolve()) and file.is_file()
                defaults = machine.path(syslog.TFTP_DEFAULTS).read_text()
                syslog.tftp(box, defaults, self._address, filename, found)
                return file.read_bytes() if found else None
        return None

    async def nfs(self, server: str, path: str, address: str) -> Path | None:
        for plan in self._site.plan.sans:
            machine = self._site.computers[plan.name].machine
            if plan.address == server and machine.running:
                granted = exports.mount(Box(machine.directory), path, address)
                place = machine.path(path)
                return place if granted and place.is_dir() else None
        return None


def _public(key: asyncssh.SSHKey | None) -> str:
    assert key is not None
    return " ".join(key.export_public_key().decode().split()[:2])


def _login_shell(machine: Machine) -> str:
    """Root's shell by the machine's own user database; /bin/sh when this computer has no csh to lend."""
    rows = [row.split(":") for row in machine.path("/etc/passwd").read_text().splitlines()]
    shell = next((row[-1] for row in rows if row[0] == "root"), "/bin/sh")
    return shell if _has(machine, shell) else "/bin/sh"


def _has(machine: Machine, program: str) -> bool:
    folder, _, name = program.strip("/").rpartition("/")
    place = machine.directory / "system" / folder.replace("/", ".") / name
    return place.is_symlink() or place.exists()


def _walk(top: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    paths = [top, *top.rglob("*")] if top.is_dir() else [top] if top.exists() else []
    for path in paths:
        with suppress(FileNotFoundError):
            seen = path.lstat()
            found[str(path)] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
    return found


def _changed(before: Mapping[str, tuple[int, ...]], after: Mapping[str, tuple[int, ...]]) -> list[str]:
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _erase(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
