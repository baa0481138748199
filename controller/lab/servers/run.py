"""The door of the machines: finds the stand-in by the name it was called by and turns its answers into an exit status."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from controller.lab.servers.kit import Box, Failed, Uncovered

Command = Callable[[Sequence[str], Box], int]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "dhcpd": ("dhcpd", "main"),
    "systemctl": ("service", "systemctl"),
    "service": ("service", "service"),
    "ss": ("service", "ss"),
    "tgtadm": ("tgt", "main"),
    "tgt-admin": ("tgt_admin", "main"),
    "exportfs": ("exports", "exportfs"),
    "dbus-send": ("exports", "dbus_send"),
    "make": ("make", "main"),
    "svnlite": ("svn", "main"),
    "svnliteversion": ("svn", "version"),
    "tar": ("tar", "main"),
    "bsdtar": ("tar", "main"),
    "pkg": ("pkg", "main"),
    "pw": ("pw", "main"),
    "pwd_mkdb": ("pw", "pwd_mkdb"),
    "mount": ("mounts", "mount"),
    "umount": ("mounts", "umount"),
    "chroot": ("mounts", "chroot"),
    "chown": ("owner", "chown"),
}
"""Command to (module of this package, function). The module is read only when its command runs."""


def main(argv: Sequence[str]) -> int:
    name = posixpath.basename(argv[0])
    box = Box(Path("/"), os.getcwd(), dict(os.environ))
    return run([name, *argv[1:]], box)


def run(argv: Sequence[str], box: Box) -> int:
    """Run a command against any root; the tables of the tests come in here."""
    module, function = COMMANDS[argv[0]]
    command: Command = getattr(import_module(f"controller.lab.servers.{module}"), function)
    try:
        return command(argv, box)
    except Uncovered as why:
        return box.refuse(argv, str(why))
    except Failed as failed:
        print(failed, file=sys.stderr)
        return failed.status
    except BrokenPipeError:
        return 141
