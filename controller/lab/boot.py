"""The network boot of one simulated node, from its network card to its login prompt.

In: a `Machine`, its network card, and three questions to the outside (`Network`): what does DHCP say, what does TFTP
give, what does NFS export to this address. Out: a machine that runs the generation it was told to run, its console in
``lab/console.log``, and `Outcome`. In the simulated site the questions are answered from the served state of the
stand-ins, in the real lab by real clients. Nothing is fetched again after that: the rest of the boot happens inside.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from controller.lab.machine import Boot, Machine

BLOCK: Final = 512
DEFAULT_BLOCKS: Final = 10240
"""rc.initdiskless: 5 MB, unless an md_size in a directory of /conf says otherwise."""
TMP: Final = 20 << 20
VAR: Final = 32 << 20
"""tmpmfs and varmfs of rc.conf(5), for a root that cannot be written."""
INIT: Final = "/sbin/init"
REMOUNT: Final = "/.machine/remount/"
"""Where the machine sees what its diskless_remount files name."""
AGAIN: Final = 0.2
"""Seconds between two tries of the boot ROM; a real one takes longer."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is soldered in: the MAC address and the name that the driver gives to the interface."""

    mac: str
    interface: str = "em0"


@dataclass(frozen=True, slots=True)
class Lease:
    """What DHCP said. `options` by their dhcpd.conf(5) names, each a text or a list of texts."""

    address: str
    filename: str = ""
    next_server: str = ""
    server: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        value = self.options.get(name, default)
        return str(value[0] if isinstance(value, list) and value else value or default)


class Network(Protocol):
    """The outside as a booting machine meets it. None always means: no such thing, or nobody answered."""

    async def dhcp(self, card: Card) -> Lease | None:
        """The offer for this card."""

    async def tftp(self, server: str, filename: str) -> bytes | None:
        """The content of a boot file."""

    async def nfs(self, server: str, path: str, address: str) -> Path | None:
        """The directory that the server exports to this address under this path, as seen from outside."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a boot ended: "up", or "stuck" with the reason that stands on the console."""

    state: str
    reason: str = ""
    root_path: str = ""


class Stuck(Exception):
    """The loader or the kernel cannot go on; only a power cycle helps."""


class Silent(Exception):
    """The boot ROM got no useful answer and will try again."""


@dataclass(frozen=True, slots=True)
class Root:
    """The root file system that DHCP chose."""

    lease: Lease
    server: str
    path: str
    directory: Path


async def boot(machine: Machine, card: Card, network: Network, on_sshd: Callable[[], Awaitable[None]]) -> Outcome:
    """Boot until the login prompt; retries PXE while nothing answers, for ever. `on_sshd` is awaited when logins begin."""
    with (machine.directory / "lab" / "console.log").open("w", buffering=1) as console:
        try:
            root = await _load(card, network, console.write)
        except Stuck as stuck:
            console.write(f"{stuck}\n\nType '?' for a list of commands, 'help' for more detailed help.\nOK ")
            return Outcome("stuck", str(stuck))
        plan = await _diskless(root, network)
        _identify(machine, card, root, list(plan.memory))
        own = {at: source for at, source in machine.layout.reads.items() if not at.startswith(REMOUNT)}
        machine.layout = replace(machine.layout, reads={**own, **plan.remounts})
        await machine.power_on(Boot(image=root.directory, memory=plan.memory))
        console.write(f"Trying to mount root from nfs:{root.server}:{root.path} [ro]...\n")
        console.write(f"NFS ROOT: {root.server}:{root.path}\n{card.interface}: link state changed to UP\n")
        orders = {"fill": [*plan.mounted, *plan.fill], "interface": card.interface, "address": root.lease.address,
                  "broadcast": str(_network(root.lease).broadcast_address)}  # fmt: skip
        return await _run(machine, orders, root, console.write, on_sshd)


async def _load(card: Card, network: Network, say: Callable[[str], Any]) -> Root:
    """From the boot ROM to the kernel."""
    last = ""
    while True:
        try:
            lease, boot_file = await _pxe(card, network)
            lease = await _loader(card, network, lease)
            break
        except Silent as silent:
            if str(silent) != last:
                last = str(silent)
                say(f"{last}\n")
            await asyncio.sleep(AGAIN)
    server, path = _root_path(lease)
    directory = await network.nfs(server, path, lease.address)
    if directory is None:
        raise Stuck(f"NFS: {server}:{path}: Permission denied\ncan't load 'kernel'")
    own = directory / ("boot/loader.efi" if lease.filename.endswith("loader.efi") else "boot/pxeboot")
    if not own.is_file() or own.read_bytes() != boot_file:
        raise Stuck(f"{lease.filename} is not of the same release as {server}:{path}\ncan't load 'kernel'")
    if not (directory / "boot/kernel/kernel").is_file():
        raise Stuck("can't find '/boot/kernel/kernel'\ncan't load 'kernel'")
    say("Loading kernel...\nBooting [/boot/kernel/kernel]...\n---<<BOOT>>---\n")
    say(_ident(directory / "boot/kernel/kernel"))
    return Root(lease, server, path, directory)


async def _pxe(card: Card, network: Network) -> tuple[Lease, bytes]:
    lease = await network.dhcp(card)
    if lease is None:
        raise Silent("PXE-E51: No DHCP or proxyDHCP offers were received.")
    if not lease.filename:
        raise Silent("PXE-E53: No boot filename received.")
    boot_file = await network.tftp(lease.next_server, lease.filename)
    if boot_file is None:
        raise Silent("PXE-T01: File not found\nPXE-E3B: TFTP Error - File Not found")
    return lease, boot_file


async def _loader(card: Card, network: Network, before: Lease) -> Lease:
    """pxeboot asks DHCP by itself, and again until it is answered; that is what counts then (transcripts, 13.2/pxe)."""
    while True:
        lease = await network.dhcp(card)
        if lease is not None:
            return replace(lease, filename=before.filename)
        await asyncio.sleep(AGAIN)


def _ident(kernel: Path) -> str:
    found = re.search(rb"@\(#\)(FreeBSD [^\n\0]*)", kernel.read_bytes())
    return (found[1].decode() if found else "FreeBSD") + "\n"


def _root_path(lease: Lease) -> tuple[str, str]:
    """Option root-path as pxeboot(8) of every release reads it: IPv4 literal, at most 127 characters."""
    said = lease.text("root-path") or "/"
    host, colon, path = said.partition(":")
    server, path = (host, path) if colon and not said.startswith("/") else (lease.next_server, said)
    if len(said) > 127:
        raise Stuck(f"root-path {said!r} is longer than 127 characters\ncan't load 'kernel'")
    try:
        return str(ipaddress.IPv4Address(server)), path
    except ValueError:
        return lease.next_server, path


def _network(lease: Lease) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Interface(f"{lease.address}/{lease.text('subnet-mask', '255.255.255.0')}").network


def templates(directory: Path, lease: Lease) -> Iterator[str]:
    """The folders of /conf in the order in which rc.initdiskless reads them; later ones override earlier ones."""
    broadcast = _network(lease).broadcast_address
    names = ("base", "default", str(broadcast), f"bcast/{broadcast}", lease.address, f"ip/{lease.address}")
    yield from (name for name in names if (directory / "conf" / name).is_dir())


Fill = tuple[str, str, str]
"""One act of rc.initdiskless, carried out inside by `controller.lab.servers.init`: what, from where, to where."""


@dataclass(slots=True)
class Diskless:
    """What rc.initdiskless will do: sizes in blocks, remounts first, then the filling in the order of the templates."""

    blocks: dict[str, int] = field(default_factory=dict)
    mounted: list[Fill] = field(default_factory=list)
    fill: list[Fill] = field(default_factory=list)
    remounts: dict[str, Path] = field(default_factory=dict)

    @property
    def memory(self) -> dict[str, int]:
        """The memory file systems in bytes; /tmp and /var are there in any case (tmpmfs and varmfs of rc.conf)."""
        declared = {f"/{m}": size * BLOCK for m, size in self.blocks.items()}
        return {**declared, "/var": declared.get("/var", VAR), "/tmp": TMP}


async def _diskless(root: Root, network: Network) -> Diskless:
    plan = Diskless()
    for name in templates(root.directory, root.lease):
        folder = root.directory / "conf" / name
        for one in sorted(folder.iterdir()):
            target = one.name.removesuffix(".cpio.gz")
            if re.fullmatch(r"[A-Za-z_]\w*", target) and (one.is_dir() or one.name != target):
                plan.blocks.setdefault(target, DEFAULT_BLOCKS)
        for one in sorted(path for path in folder.iterdir() if path.is_dir() and path.name in plan.blocks):
            if (one / "md_size").is_file():
                plan.blocks[one.name] = int((one / "md_size").read_text().split()[0])
            if (one / "diskless_remount").is_file():
                await _remount(root, network, one, plan)
            elif not (folder / f"{one.name}.cpio.gz").is_file():
                plan.fill.append(("copy", f"/conf/{name}/{one.name}", f"/{one.name}"))
        for kind, suffix in (("unpack", ".cpio.gz"), ("discard", ".remove")):
            files = [(m, folder / f"{m}{suffix}") for m in plan.blocks]
            plan.fill += [(kind, f"/conf/{name}/{file.name}", f"/{m}") for m, file in files if file.is_file()]
    if "var" not in plan.blocks:
        plan.fill.append(("skeleton", "", "/var"))
    return plan


async def _remount(root: Root, network: Network, one: Path, plan: Diskless) -> None:
    """A directory of /conf whose content lies elsewhere: SERVER:PATH, or a path below the NFS root."""
    source = (one / "diskless_remount").read_text().split()[0]
    source = f"{root.server}:{root.path}{source}" if source.startswith("/") else source
    server, _, path = source.partition(":")
    found = await network.nfs(server, path, root.lease.address)
    if found is None:
        plan.mounted.append(("hang", f"mount_nfs {source} /conf/{one.name}", ""))
        return
    inside = f"{REMOUNT}{len(plan.remounts)}"
    plan.remounts[inside] = found
    plan.mounted.append(("remount", source, ""))
    plan.fill.append(("copy", inside, f"/{one.name}"))


def _identify(machine: Machine, card: Card, root: Root, memory: list[str]) -> None:
    """What loader and kernel know, for the stand-ins of the node (`controller.lab.standins.node`)."""
    lease = root.lease
    kernel = _ident(root.directory / "boot/kernel/kernel").strip()
    release = kernel.split()[1] if len(kernel.split()) > 1 else "13.2-RELEASE"
    number = re.search(r"__FreeBSD_version (\d+)", _read(root.directory / "usr/include/sys/param.h"))
    known = {
        "interface": card.interface,
        "mac": card.mac,
        "address": lease.address,
        "netmask": lease.text("subnet-mask", "255.255.255.0"),
        "gateway": lease.text("routers"),
        "server": root.server,
        "path": root.path,
        "hostname": lease.text("host-name"),
        "dhcpserver": lease.server,
        "memory": memory,
        "release": release,
        "version": f"{kernel} amd64",
        **({"osreldate": int(number[1])} if number else {}),
    }
    (machine.directory / "lab" / "node.json").write_text(json.dumps(known))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


async def _run(
    machine: Machine,
    orders: Mapping[str, Any],
    root: Root,
    say: Callable[[str], Any],
    on_sshd: Callable[[], Awaitable[None]],
) -> Outcome:
    """Start init inside and keep its console; events are lines that begin with NUL."""
    process = await machine.spawn([INIT], stderr=asyncio.subprocess.STDOUT)
    assert process.stdin is not None
    assert process.stdout is not None
    root_path, outcome = f"{root.server}:{root.path}", Outcome("stuck", "init died")
    process.stdin.write(json.dumps(orders).encode())
    process.stdin.close()
    try:
        async for line in process.stdout:
            text = line.decode("utf-8", "backslashreplace")
            if not text.startswith("\0"):
                say(text)
            elif text == "\0sshd\n":
                await on_sshd()
            else:
                word, _, reason = text[1:].strip().partition(" ")
                outcome = Outcome("up" if word == "up" else "stuck", reason, root_path)
        await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return outcome
