"""What the machines of the simulated site are set up with before they are first switched on: files and stand-ins.

This is the administrator's part: an empty export root, a DHCP daemon with its own main file, a build VM without sources.
Files that exist already are left as they are.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Final

from controller.lab.machine import Machine, standin
from controller.lab.servers import dhcpd, source, syslog
from controller.lab.servers.plan import BootPlan, HypervisorPlan, SanPlan, VmPlan
from controller.lab.servers.rootfs import GROUP, MASTER_PASSWD, databases

NET: Final = "/.machine/net"
INTERNET: Final = "/.machine/internet"
"""Where the build VM sees what stands in for the outside world."""
RUN: Final = standin("controller.lab.servers.run")
DEBIAN: Final = (
    *("dhcpd", "systemctl", "service", "ss", "tgtadm", "tgt-admin", "exportfs", "rpcinfo", "dbus-send", "journalctl"),
)
HYPERVISOR: Final = ("systemctl", "systemd-run", "journalctl", "qemu-system-x86_64", "virsh", "libvirt-guest", "ip")
BUILDER: Final = (
    "make",
    "cc",
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
    "who",
    "kldstat",
    "kldload",
)
SBIN: Final = frozenset({"mount", "umount", "kldstat", "kldload"})
USR_BIN: Final = frozenset(
    {
        "make",
        "cc",
        "svnlite",
        "svnliteversion",
        "tar",
        "bsdtar",
        "systemctl",
        "dbus-send",
        "ss",
        "ip",
        "who",
        *HYPERVISOR,
    }
)


def commands(names: Iterable[str]) -> dict[str, str]:
    places = {name: "/sbin" if name in SBIN else "/usr/bin" if name in USR_BIN else "/usr/sbin" for name in names}
    return {f"{place}/{name}": RUN for name, place in places.items()}


DF: Final = {"/usr/bin/df": """#!/bin/sh
# df of coreutils for the two questions of the controller: the figures that somebody wrote down; else this computer's own.
case $1 in
-kP) test -e /lab/df.blocks && exec cat /lab/df.blocks ;;
-iP) test -e /lab/df.inodes && exec cat /lab/df.inodes ;;
esac
exec /.machine/usr/bin/df "$@"
"""}  # fmt: skip

VM_DF: Final = {"/bin/df": f"""#!/bin/sh
# The share's figures are those of its SAN.
for tables in {NET}/*/lab; do
  case $1 in
  -kP) exec cat "$tables/df.blocks" ;;
  -iP) exec cat "$tables/df.inodes" ;;
  esac
done
exit 1
"""}  # fmt: skip


def fill(machine: Machine, free: int, total: int = 64 * 2**30, inodes: int = 4_000_000) -> None:
    """What df tells on a SAN from now on: bytes that are free and there are, and free inodes."""
    kib, left = total >> 10, free >> 10
    used = kib - left
    blocks = f"/dev/sdb1 {kib} {used} {left} {100 * used // kib}% /export\n"
    _tell(machine, "blocks", f"Filesystem 1024-blocks Used Available Capacity Mounted on\n{blocks}")
    _tell(
        machine, "inodes", f"Filesystem Inodes IUsed IFree IUse% Mounted on\n/dev/sdb1 {inodes} 0 {inodes} 0% /export\n"
    )


def _tell(machine: Machine, name: str, text: str) -> None:
    file = machine.directory / "lab" / f"df.{name}"
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


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
    fill(machine, free=32 * 2**30)
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
        syslog.TFTP_DEFAULTS: f'TFTP_DIRECTORY="{plan.tftp_root}"\nTFTP_OPTIONS="--secure --verbose --verbose"\n',
        plan.include_file: "",
        dhcpd.MAIN: "# The administrator's own file.\nauthoritative;\nddns-update-style none;\n"
        f"subnet {net.network_address} netmask {net.netmask} {{\n{routers}}}\ninclude \"{plan.include_file}\";\n",
    })  # fmt: skip


def hypervisor(machine: Machine, plan: HypervisorPlan) -> None:
    _linux_users(machine)
    for guest in plan.guests:
        if guest.disk:
            _put(machine, {guest.disk: "a disk image with FreeBSD on it\n"})
    (machine.directory / "lab" / "bridges.json").write_text(json.dumps(sorted({one.bridge for one in plan.guests})))
    domains = sorted(one.name for one in plan.guests if not one.disk)
    (machine.directory / "lab" / "domains.json").write_text(json.dumps(domains))


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
