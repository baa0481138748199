"""The questions that several drivers ask of a node or server. Equal questions are asked once, so they live in one place.

Scripts only, with the reader of each beside it. Every script reports absence by an exit status of its own, never by an
empty answer: 44 "proved absent", 75 "cannot be looked at now".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from controller.encode.sh import lines, raw, sh
from controller.errors import Retry
from controller.model import Answer, Script

ABSENT = 44
AWAY = 75

SHA256 = Script(
    'jo_sha() { if command -v sha256sum >/dev/null 2>&1; then sha256sum < "$1" | cut -d " " -f 1; else sha256 -q "$1"; fi; }'
)
"""A shell function that prints a file's digest on Debian and on FreeBSD alike."""


def cat(path: str) -> Script:
    """A file's bytes; exit 44 when there is none."""
    return sh("if test -e {path}; then cat {path}; else exit 44; fi", path=path)


def digest(path: str) -> Script:
    """A file's digest, or the word "absent"."""
    return lines(SHA256, sh("if test -e {path}; then jo_sha {path}; else echo absent; fi", path=path))


def read_digest(answer: Answer, path: str) -> str:
    """The answer to `digest`. Raises Retry for any other: a digest that could not be made is not a difference."""
    said = answer.out.strip()
    if answer.exit != 0 or not re.fullmatch(r"[0-9a-f]{64}|absent", said):
        raise Retry(f"cannot see what {path} holds: {said or answer.err.strip() or 'no answer'} (exit {answer.exit})")
    return said


def jails() -> Script:
    """Every jail that the kernel knows, also on releases without JSON (jls(8))."""
    return Script("jls -nq jid name path host.hostname ip4.addr dying")


def mounts() -> Script:
    return Script("mount -p")


def sessions() -> Script:
    """The iSCSI sessions. Asked of the kernel, so it never touches the disk (iscsictl(8))."""
    return Script("iscsictl -L")


def listens_udp(port: int) -> Script:
    """Whether anybody on a server listens on a UDP port: 0 or 1, on Debian and on FreeBSD alike."""
    return sh(
        """found=$(ss -Hlun 2>/dev/null || sockstat -4 -l -P udp 2>/dev/null) || exit 75
printf '%s\\n' "$found" | grep -q {port}""",
        port=f":{port} ",
    )


def ident(target: str) -> Script:
    """``DEVICE SERIAL`` of the disk that a session has, from the kernel, so that it never waits for the disk; 44 without one.

    Of geom(8) and not of ``diskinfo -s``, which 10 does not have.
    """
    return sh(
        """found=$(iscsictl -L) || exit 75
device=$(printf '%s\\n' "$found" | while read -r t p s; do
  test "$t" = {target} && case $s in Connected:*) set -- ${{s#Connected:}}; echo "$1";; esac
done)
test -n "$device" || exit 44
listed=$(geom disk list "$device") || exit 75
serial=$(printf '%s\\n' "$listed" | sed -n 's/^ *ident: *//p')
printf '%s %s\\n' "$device" "$serial"
""",
        target=target,
    )


def components() -> Script:
    """Which disk each label is on: ``NAME STATUS DISK``, right-aligned."""
    return Script("glabel status -s")


def inet(interface: str) -> Script:
    return sh("ifconfig {interface}", interface=interface)


def labels() -> Script:
    """The UFS labels that GEOM offers; no directory means no label at all."""
    return Script("if test -d /dev/ufs; then ls -1 /dev/ufs; elif test -d /dev; then :; else exit 75; fi")


def booted() -> Script:
    """What the node was booted from and when (kenv(1), seen on 13.2)."""
    return Script(
        "kenv -q boot.nfsroot.server; kenv -q boot.nfsroot.path; sysctl -n kern.boottime; sysctl -n vfs.nfs.diskless_valid"
    )


def guarded_by_disk(target: str, device: str, mountpoint: str, script: Script) -> Script:
    """Ask something of the jail disk, but only while the session is up and the right file system is mounted.

    Anything else blocks for ever (seen on 13.2 with the SAN away) or reads the empty directory below the mount point.
    """
    return sh(
        """iscsictl -L | while read -r t p s; do
  test "$t" = {target} && case $s in Connected*) exit 10;; esac
done
test $? = 10 || {{ echo 'the iSCSI session is not connected' >&2; exit 75; }}
mount -p | while read -r d m rest; do
  test "$m" = {mountpoint} && test "$d" = {device} && exit 10
done
test $? = 10 || {{ echo 'the jail disk is not mounted' >&2; exit 75; }}
{script}""",
        target=target,
        device=device,
        mountpoint=mountpoint,
        script=raw(script),
    )


def files_below(directory: str, pattern: str = "*") -> Script:
    """Every regular file of one directory with its name and size: ``name NUL size NUL bytes`` (read by `read_files`).

    `pattern` is ours, never a manifest's.
    """
    return lines(
        sh("cd {directory} 2>/dev/null || exit 44", directory=directory),
        Script(
            f"""for f in {pattern}; do
  test -f "$f" || continue
  printf '%s\\000%s\\000' "$f" "$(($(wc -c < "$f")))"
  cat -- "$f"
done"""
        ),
    )


def read_files(answer: Answer) -> Mapping[str, bytes]:
    """The answer to `files_below`. Raises Retry when it is cut short."""
    found: dict[str, bytes] = {}
    rest = answer.stdout
    while rest:
        name, _, rest = rest.partition(b"\0")
        size, separator, rest = rest.partition(b"\0")
        if not separator or not size.strip().isdigit() or len(rest) < int(size):
            raise Retry("cannot read the list of files: it is cut short")
        found[name.decode("utf-8", "surrogateescape")] = rest[: int(size)]
        rest = rest[int(size) :]
    return found
