"""Which programs a machine offers, and where: tables, and one look at this computer's program directories."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

HOST: Final = "/.machine/usr"

PLAIN: Final = {
    "/bin": "csh echo expr kill ln mkdir mv pwd rm rmdir sleep sync tcsh test [ realpath timeout chmod",
    "/sbin": "",
    "/usr/bin": "basename dirname du env false find fold id install mkfifo nice nohup printf readlink seq split tee tr"
    " true truncate tty xargs yes comm join paste uniq logname groups getconf uuidgen cksum nl openssl mktemp whoami",
    "/usr/sbin": "chown chroot",
}
"""This computer's own programs, as they are. What they do alike is all that scripts may use."""

GATED: Final = {
    "/bin": {"cat": "belnstuv", "cp": "RHLPfinalpsvx"},
    "/usr/bin": {
        "awk": "Fvf0123456789",
        "cmp": "lshzxn0123456789",
        "cut": "bcdfnsw0123456789",
        "diff": "abBcduNqrswU0123456789",
        "grep": "abcEFhHiIlLmnoqrsvwxAeCf0123456789",
        "egrep": "abcEFhHiIlLmnoqrsvwxAeCf0123456789",
        "fgrep": "abcEFhHiIlLmnoqrsvwxAeCf0123456789",
        "gunzip": "cdfklqtv",
        "gzip": "cdfklnqtv123456789",
        "head": "nc0123456789",
        "od": "ABbcDdeFfHhIiLlOosvXxjNt0123456789",
        "sort": "bcdfghiMmnorRstuVzkT0123456789",
        "tail": "cfFnq0123456789",
        "wc": "Lclmw",
        "xz": "cdfklqtvzT0123456789",
    },
}
"""Programs that read files: they wait for the jail disk, and know only the options that FreeBSD's know."""

RENAMED: Final = {"/bin/sh": "dash", "/bin/csh": "tcsh", "/bin/tcsh": "tcsh"}

STANDINS: Final = {
    "/bin": "date dd df freebsd-version hostname kenv ls pkill ps",
    "/sbin": "camcontrol dmesg dumpfs fsck geom glabel gpart ifconfig kldstat md5 mount mount_nullfs newfs ping reboot"
    " route sha256 sha512 shutdown sysctl tunefs umount mdmfs mdconfig devfs zfs zpool rcorder kldload restore dump",
    "/usr/bin": "chflags getent lockf netstat stat touch uname uptime which at crontab fetch last make passwd procstat"
    " sockstat su top truss vmstat w who fstat logger cpuset rpcinfo showmount",
    "/usr/sbin": "daemon diskinfo fstyp iscsictl jail jexec jls pkg pw rctl service sysrc arp ctladm ctld etcupdate"
    " freebsd-update gstat iostat mtree newsyslog ntpdate vipw pwd_mkdb cron",
}
"""Stand-ins, and base programs that exist but that no transcript shows: asking those is an uncovered question."""

PACKAGED: Final = ("/usr/local/bin/ezjail-admin",)
"""Programs of packages that have a stand-in."""

GATE: Final = """
if [ -e /lab/state/ufs ]; then
    read -r U </lab/state/ufs
    for a; do
        case $a in /*) ;; *) a=$PWD/$a;; esac
        case $a in {watched}) [ -{kind} "$a" ] && exec /usr/sbin/gate {name} {more}"$@";; esac
    done
fi
PATH={host}/bin:{host}/sbin
exec {program} {more}"$@"
"""
"""Only what reads the jail disk pays for the question whether the SAN answers; a pattern for grep is no such thing."""

WATCHED: Final = "$U|$U/*|/usr/local/etc/ezjail|/usr/local/etc/ezjail/*"
PATTERNS: Final = ("awk", "egrep", "fgrep", "grep", "sed")
"""Programs whose first operand is no file."""
FOLDERS: Final = ("cp", "diff", "tar")
"""Programs that read whole directories."""

CHECKED: Final = """#!{host}/bin/dash
for a; do
    case $a in
    --|-) break;;
    --*) exec /usr/sbin/refused {name} "$@";;
    -*[!-{options}]*) exec /usr/sbin/refused {name} "$@";;
    esac
done
"""

SED: Final = """#!{host}/bin/dash
# FreeBSD's -i always takes an argument, empty for "no backup"; GNU's takes it only attached.
i=
while [ $# -gt 0 ]; do
    case $1 in
    -i) i=-i$2; shift 2 2>/dev/null || exec /usr/sbin/refused sed -i;;
    -[Ealnru]) i="$i $1"; shift;;
    -e|-f) break;;
    -*) exec /usr/sbin/refused sed "$@";;
    *) break;;
    esac
done
"""

TAR: Final = """#!{host}/bin/dash
echo 'tar: Failed to set default locale' >&2
"""


def linux() -> Mapping[str, str]:
    """Every program of this computer, at its usual place."""
    return {
        f"/usr/{part}/{path.name}": _resolved(path.name) if _alternative(path) else f"{HOST}/{part}/{path.name}"
        for part in ("bin", "sbin")
        for path in Path("/usr", part).iterdir()
    }


def _alternative(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path).startswith("/etc/alternatives/") and path.exists()


def freebsd() -> Mapping[str, str]:
    """The programs of the base system for which this computer's own can stand: inside path -> what it links to."""
    links = {f"{folder}/{name}": name for folder, names in PLAIN.items() for name in names.split()}
    return {inside: _resolved(name) for inside, name in {**links, **RENAMED}.items()}


def _resolved(name: str) -> str:
    """Links of the alternatives system lead through this computer's /etc, which a machine does not see."""
    for part in ("bin", "sbin"):
        path = Path("/usr", part, name)
        if path.exists():
            real = path.resolve()
            return f"{HOST}/{real.relative_to('/usr')}" if real.is_relative_to("/usr") else f"{HOST}/{part}/{name}"
    return f"{HOST}/bin/{name}"


def standins(script: Callable[..., str]) -> Mapping[str, str]:
    """The stand-ins of a node: path inside -> text of the executable."""
    program = script("controller.lab.standins.main")
    names = {f"{folder}/{name}": program for folder, words in STANDINS.items() for name in words.split()}
    for folder, tools in GATED.items():
        for name, options in tools.items():
            names[f"{folder}/{name}"] = _wrapper(CHECKED, name, options=options)
    names |= {"/usr/bin/sed": _wrapper(SED, "sed", more="$i "), "/usr/bin/tar": _wrapper(TAR, "tar")}
    return names | {"/usr/sbin/gate": program, "/usr/sbin/refused": program}


def _wrapper(head: str, name: str, *, options: str = "", more: str = "") -> str:
    kind = "e" if name in FOLDERS else "f"
    watched = WATCHED if name in PATTERNS else f"{WATCHED}|/dev/da*|/dev/ufs/*"
    fields = {"host": HOST, "name": name, "options": options, "more": more, "kind": kind, "watched": watched}
    return (head + GATE).format(program=_resolved(name).rpartition("/")[2], **fields)
