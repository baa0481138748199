"""What the machines of the simulated site are set up with before they are first switched on: files and stand-ins.

This is the administrator's part: an empty export root, a DHCP daemon with its own main file, a build VM without sources.
Files that exist already are left as they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from controller.lab.machine import Machine, standin
from controller.lab.servers import dhcpd, source
from controller.lab.servers.plan import BootPlan, SanPlan, VmPlan
from controller.lab.servers.rootfs import GROUP, MASTER_PASSWD, databases

NET: Final = "/.machine/net"
INTERNET: Final = "/.machine/internet"
"""Where the build VM sees what stands in for the outside world."""
RUN: Final = standin("controller.lab.servers.run")
DEBIAN: Final = ("dhcpd", "systemctl", "service", "ss", "tgtadm", "tgt-admin", "exportfs", "dbus-send")
BUILDER: Final = (
    "make",
    "svnlite",
    "svnliteversion",
    "tar",
    "bsdtar",
    "pkg",
    "pw",
    "pwd_mkdb",
    "mount",
    "umount",
    "chroot",
    "chown",
)
SBIN: Final = frozenset({"mount", "umount"})
USR_BIN: Final = frozenset({"make", "svnlite", "svnliteversion", "tar", "bsdtar", "systemctl", "dbus-send", "ss"})


def commands(names: Iterable[str]) -> dict[str, str]:
    places = {name: "/sbin" if name in SBIN else "/usr/bin" if name in USR_BIN else "/usr/sbin" for name in names}
    return {f"{place}/{name}": RUN for name, place in places.items()}


def _put(machine: Machine, files: Mapping[str, str]) -> None:
    for inside, text in files.items():
        path = machine.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(text)


def _linux_users(machine: Machine) -> None:
    _put(machine, {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "/etc/hostname": f"{machine.name}\n",
        "/etc/resolv.conf": "nameserver 198.51.100.1\n",
    })  # fmt: skip


def san(machine: Machine, plan: SanPlan) -> None:
    _linux_users(machine)
    for path in (plan.nfs_root, plan.volumes, "/etc/exports.d", "/etc/tgt/conf.d", "/var/lib/nfs"):
        machine.path(path).mkdir(parents=True, exist_ok=True)
    _put(machine, {
        "/etc/exports": "# /etc/exports: the administrator's own exports.\n",
        "/etc/tgt/targets.conf": "include /etc/tgt/conf.d/*.conf\n",
        "/var/lib/nfs/etab": "",
    })  # fmt: skip


def boot_server(machine: Machine, plan: BootPlan) -> None:
    _linux_users(machine)
    machine.path(plan.tftp_root).mkdir(parents=True, exist_ok=True)
    net = ipaddress.ip_network(plan.subnet)
    routers = f"  option routers {plan.gateway};\n" if plan.gateway else ""
    _put(machine, {
        plan.include_file: "",
        dhcpd.MAIN: "# The administrator's own file.\nauthoritative;\nddns-update-style none;\n"
        f"subnet {net.network_address} netmask {net.netmask} {{\n{routers}}}\ninclude \"{plan.include_file}\";\n",
    })  # fmt: skip


def build_vm(machine: Machine, plan: VmPlan) -> None:
    machine.path(plan.share).mkdir(parents=True, exist_ok=True)
    _put(machine, {
        "/etc/master.passwd": MASTER_PASSWD,
        "/etc/group": GROUP,
        "/etc/resolv.conf": "nameserver 198.51.100.1\n",
        "/etc/gitconfig": f'[url "file://{INTERNET}/src.git"]\n\tinsteadOf = {source.URL}\n[safe]\n\tdirectory = *\n',
    })  # fmt: skip
    databases(machine.path("/etc"))
    source.make_svn(machine.directory / "lab")
