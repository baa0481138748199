"""``pkg -c ROOT`` / ``pkg -r ROOT``: installs ezjail and other packages of the stand-in repository into a root.

With -c the root needs what a chroot needs: a resolv.conf and devfs on ROOT/dev. Without ``ASSUME_ALWAYS_YES`` and with no
package database yet, the bootstrap stub of the base system answers instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from controller.lab.servers import mounts
from controller.lab.servers.kit import Box, Failed, Uncovered, take, uncovered
from controller.lab.servers.rootfs import put, remove

CATALOGUE: Final[Mapping[str, tuple[str, str, str]]] = {
    "pkg": ("1.19.1_1", "ports-mgmt/pkg", "Package manager"),
    "ezjail": ("3.4.2", "sysutils/ezjail", "Framework to easily create, manipulate, and run FreeBSD jails"),
    "bash": ("5.2.15", "shells/bash", "GNU Project's Bourne Again SHell"),
    "sudo": ("1.9.13p3", "security/sudo", "Allow others to run commands as root"),
    "rsync": ("3.2.7", "net/rsync", "Network file distribution/synchronization utility"),
    "vim": ("9.0.1429", "editors/vim", "Improved version of the vi editor"),
    "tmux": ("3.3a_1", "sysutils/tmux", "Terminal Multiplexer"),
}
STUB: Final = (
    "The package management tool is not yet installed on your system.\nPlease set ASSUME_ALWAYS_YES=yes environment"
    " variable to be able to bootstrap in non-interactive (stdin not being a tty)"
)
EZJAIL_RC: Final = """#!/bin/sh
#
# $FreeBSD$
#
# PROVIDE: ezjail
# REQUIRE: LOGIN cleanvar
# BEFORE: securelevel
# KEYWORD: nojail shutdown

# A start script of ezjail 3.4.2: the simulated node acts it out itself.
"""
DATABASE: Final = "var/db/pkg/local.sqlite"


def main(argv: Sequence[str], box: Box) -> int:
    args, chroot, place = list(argv[1:]), False, "/"
    while args and args[0].startswith("-"):
        flag = args.pop(0)
        if flag in ("-c", "-r"):
            chroot, place = flag == "-c", take(args, flag)
        elif flag == "-N":
            return 0 if (box.at(place) / DATABASE).exists() else 1
        else:
            uncovered(f"pkg {flag}")
    root = box.at(place)
    if not args:
        uncovered("pkg without a command")
    verb, rest = args[0], args[1:]
    if not (root / DATABASE).exists() and box.env.get("ASSUME_ALWAYS_YES", "").lower() not in ("yes", "1", "true"):
        if verb == "info" and rest[:1] == ["-e"]:
            return 1
        raise Failed(STUB, 1)
    if verb in ("install", "bootstrap", "update", "fetch") and chroot:
        ready(box, place, root)
    return act(root, verb, [word for word in rest if word not in ("-y", "-q", "-a", "-ay", "-U", "-f")], rest)


def ready(box: Box, place: str, root: Path) -> None:
    """What a chroot on the build host needs (pkg(8) fetches from inside it)."""
    if not (root / "etc/resolv.conf").exists():
        raise Failed("pkg: Error fetching http://pkg.FreeBSD.org/FreeBSD:13:amd64/quarterly/Latest/pkg.txz: Host does"
                     " not resolve\nAddress resolution failed for http://pkg.FreeBSD.org/FreeBSD:13:amd64/quarterly.",
                     1)  # fmt: skip
    if not mounts.mounted(box, f"{place.rstrip('/')}/dev"):
        raise Failed("pkg: cannot open /dev/null: No such file or directory", 70)


def act(root: Path, verb: str, names: list[str], rest: Sequence[str]) -> int:
    have: dict[str, Any] = json.loads((root / DATABASE).read_text()) if (root / DATABASE).exists() else {}
    if verb == "install":
        return install(root, names, have)
    if verb == "info":
        return info(names, have, rest)
    if verb == "query":
        rows = [row(rest[0], name) for name in have if not rest[1:] or name in rest[1:]]
        print("\n".join(rows), end="\n" if rows else "")
        return 0 if rows else 1
    if verb == "clean":
        remove(root / "var/cache/pkg")
        print("Nothing to do.")
        return 0
    if verb in ("update", "bootstrap", "-v"):
        save(root, have)
        return 0
    raise Uncovered(f"pkg {verb}")


def row(form: str, name: str) -> str:
    version, origin, comment = CATALOGUE[name]
    for mark, value in (("%n", name), ("%v", version), ("%o", origin), ("%c", comment)):
        form = form.replace(mark, value)
    return form


def info(names: Sequence[str], have: Mapping[str, Any], rest: Sequence[str]) -> int:
    if rest[:1] == ["-e"]:
        return 0 if all(name in have for name in names if name != "-e") else 1
    for name in names or have:
        if name not in have:
            print(f"pkg: No package(s) matching {name}", file=sys.stderr)
            return 1
        print(f"{name}-{CATALOGUE[name][0]:<{30 - len(name)}} {CATALOGUE[name][2]}")
    return 0


def install(root: Path, names: Sequence[str], have: dict[str, Any]) -> int:
    missing = [name for name in names if name not in CATALOGUE]
    if missing:
        print(
            "Updating FreeBSD repository catalogue...\nFreeBSD repository is up to date.\nAll repositories are up to date."
        )
        print("\n".join(f"pkg: No packages available to install matching '{name}' have been found in the repositories"
                        for name in missing), file=sys.stderr)  # fmt: skip
        return 1
    fresh = [name for name in names if name not in have]
    print(
        "Updating FreeBSD repository catalogue...\nFreeBSD repository is up to date.\nAll repositories are up to date."
    )
    if not fresh:
        print("Checking integrity... done (0 conflicting)\nThe most recent versions of packages are already installed")
    for number, name in enumerate(fresh, 1):
        print(f"[{number}/{len(fresh)}] Installing {name}-{CATALOGUE[name][0]}...")
        files(root, name)
    save(root, {**have, "pkg": CATALOGUE["pkg"][0], **{name: CATALOGUE[name][0] for name in fresh}})
    put(root / "var/db/pkg/repo-FreeBSD.sqlite", "catalogue\n" * 1000)
    put(root / "var/cache/pkg/pkg.txz", "cache\n")
    return 0


def save(root: Path, have: Mapping[str, Any]) -> None:
    put(root / DATABASE, json.dumps(have))


def files(root: Path, name: str) -> None:
    local = root / "usr/local"
    if name != "ezjail":
        put(local / "bin" / name, f"{name} of the simulated site\n", 0o555)
        return
    from controller.lab.machine import standin

    put(local / "bin/ezjail-admin", standin("controller.lab.standins.main"), 0o555)
    put(
        local / "etc/ezjail.conf.sample",
        "# ezjail.conf - Example file, see ezjail.conf(5)\n#\n# ezjail_jaildir=/usr/jails\n",
    )
    (local / "etc/ezjail").mkdir(parents=True, exist_ok=True)
    put(local / "etc/rc.d/ezjail", EZJAIL_RC, 0o555)
    put(local / "share/examples/ezjail/example/etc/rc.conf", 'network_interfaces=""\nsshd_enable="YES"\n')
    put(local / "share/examples/ezjail/example/etc/make.conf", "WRKDIRPREFIX=/var/ports\n")
