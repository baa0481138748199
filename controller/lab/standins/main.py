"""One executable for every stand-in of a node: the name it was called by chooses the command."""

from __future__ import annotations

import os
import sys

from controller.lab.effects import note
from controller.lab.standins.node import Failed, Uncovered, err, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "camcontrol": "storage:camcontrol",
    "chflags": "files:chflags",
    "ctladm": "ctl:ctladm",
    "ctld": "ctl:ctld",
    "daemon": "files:daemon",
    "date": "system:date",
    "dd": "storage:dd",
    "df": "vfs:df",
    "diskinfo": "storage:diskinfo",
    "dmesg": "system:dmesg",
    "dumpfs": "storage:dumpfs",
    "ezjail-admin": "ezjail:main",
    "freebsd-version": "system:freebsd_version",
    "fsck": "storage:fsck",
    "fstyp": "storage:fstyp",
    "gate": "storage:gate",
    "geom": "storage:geom",
    "getent": "system:getent",
    "glabel": "storage:glabel",
    "gpart": "storage:gpart",
    "hostname": "system:hostname_",
    "ifconfig": "net:ifconfig",
    "iscsictl": "iscsi:main",
    "jail": "jails:jail",
    "jexec": "jails:jexec",
    "jls": "jls:main",
    "kenv": "system:kenv_",
    "kldload": "system:kldload",
    "kldstat": "system:kldstat",
    "lockf": "files:lockf",
    "ls": "files:ls",
    "md5": "files:digest",
    "mount": "vfs:mount",
    "mount_nullfs": "vfs:mount",
    "netstat": "net:netstat",
    "newfs": "storage:newfs",
    "pkg": "system:pkg",
    "ps": "system:ps",
    "pw": "system:pw",
    "rctl": "system:rctl",
    "reboot": "system:shutdown",
    "rpcinfo": "mountd:rpcinfo",
    "service": "service:main",
    "sha256": "files:digest",
    "sha512": "files:digest",
    "showmount": "mountd:showmount",
    "shutdown": "system:shutdown",
    "stat": "files:stat",
    "sysctl": "system:sysctl",
    "sysrc": "sysrc:main",
    "touch": "files:touch",
    "tunefs": "storage:tunefs",
    "umount": "vfs:umount",
    "uname": "system:uname",
    "uptime": "system:uptime",
    "which": "files:which",
}


def main(argv: Sequence[str]) -> int:
    module, _, function = COMMANDS.get(os.path.basename(argv[0]), "system:unknown").partition(":")
    found = __import__(f"controller.lab.standins.{module}", fromlist=[function])
    try:
        status: int = getattr(found, function)(argv)
    except Failed as failed:
        err(f"{failed}\n" if str(failed) else "")
        status = failed.status
    except Uncovered as why:
        status = refuse(argv, str(why))
    except BrokenPipeError:
        os._exit(1)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)
    note(argv, status)
    return status
