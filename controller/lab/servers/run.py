"""The door of the machines: finds the stand-in by the name it was called by and turns its answers into an exit status."""

from __future__ import annotations

import os
import posixpath
import sys

from controller.lab.effects import note
from controller.lab.servers.kit import Box, Failed, Uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Final

    Command = Callable[[Sequence[str], Box], int]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "dhcpd": ("dhcpd", "main"),
    "systemctl": ("service", "systemctl"),
    "service": ("service", "service"),
    "ss": ("service", "ss"),
    "tgtadm": ("tgt", "main"),
    "tgt-admin": ("tgt_admin", "main"),
    "exportfs": ("exports", "exportfs"),
    "rpcinfo": ("exports", "rpcinfo"),
    "dbus-send": ("exports", "dbus_send"),
    "make": ("make", "main"),
    "cc": ("cc", "main"),
    "svnlite": ("svn", "main"),
    "svnliteversion": ("svn", "version"),
    "tar": ("tar", "main"),
    "bsdtar": ("tar", "main"),
    "kldstat": ("kld", "kldstat"),
    "kldload": ("kld", "kldload"),
    "pkg": ("pkg", "main"),
    "pw": ("pw", "main"),
    "pwd_mkdb": ("pw", "pwd_mkdb"),
    "mount": ("mounts", "mount"),
    "umount": ("mounts", "umount"),
    "chroot": ("mounts", "chroot"),
    "chown": ("owner", "chown"),
    "systemd-run": ("units", "systemd_run"),
    "systemctl-units": ("units", "systemctl"),
    "journalctl": ("syslog", "journalctl"),
    "journalctl-units": ("units", "journalctl"),
    "qemu-system-x86_64": ("guest", "qemu"),
    "libvirt-guest": ("guest", "libvirt_guest"),
    "virsh": ("guest", "virsh"),
    "ip": ("guest", "ip"),
    "who": ("guest", "who"),
}
"""Command to (module of this package, function). The module is read only when its command runs."""


def main(argv: Sequence[str]) -> int:
    name = posixpath.basename(argv[0])
    box = Box("/", os.getcwd(), os.environ)
    status = run([name, *argv[1:]], box)
    note(argv, status)
    return status


def run(argv: Sequence[str], box: Box) -> int:
    """Run a command against any root; the tables of the tests come in here."""
    module, function = COMMANDS[argv[0]]
    command: Command = getattr(__import__(f"controller.lab.servers.{module}", fromlist=[function]), function)
    try:
        return command(argv, box)
    except Uncovered as why:
        return box.refuse(argv, str(why))
    except Failed as failed:
        print(failed, file=sys.stderr)
        return failed.status
    except BrokenPipeError:
        return 141
