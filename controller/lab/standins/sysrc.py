"""sysrc(8): rc.conf files as text, over the defaults of 13.2 that the reference mentions."""

from __future__ import annotations

import os

from controller.lab.standins.node import Failed, assignments, options, out, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CONF = "/etc/rc.conf"
DEFAULTS = {
    "cron_enable": "YES",
    "defaultrouter": "NO",
    "dumpdev": "NO",
    "hostname": "",
    "iscsictl_enable": "NO",
    "iscsictl_flags": "-Aa",
    "iscsid_enable": "NO",
    "jail_enable": "NO",
    "jail_list": "",
    "kld_list": "",
    "ntpd_enable": "NO",
    "root_rw_mount": "YES",
    "sendmail_enable": "NONE",
    "sshd_enable": "NO",
    "syslogd_enable": "YES",
    "syslogd_flags": "-s",
    "tmpmfs": "AUTO",
    "varmfs": "AUTO",
}
"""/etc/defaults/rc.conf, read first with -f too."""


def main(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "necxavqi", "f")
    if "v" in found or "q" in found or "i" in found:
        uncovered("this option")
    file = found.get("f", CONF)
    own = assignments(file)
    if "a" in found:
        quoted = "e" in found
        out("".join(f'{name}="{own[name]}"\n' if quoted else f"{name}: {own[name]}\n" for name in sorted(own)))
        return 0
    status = 0
    for word in rest:
        status = max(status, _one(file, found, word))
    return status


def _one(file: str, found: dict[str, str], word: str) -> int:
    name, equals, value = word.partition("=")
    if not name.rstrip("+-").replace("_", "a").isalnum():
        uncovered(f"name {name}")
    own = assignments(file)
    known = {**DEFAULTS, **own}
    if "x" in found:
        if name not in known:
            raise Failed(f"sysrc: unknown variable '{name}'")
        _write(file, name, None)
        return 0
    if not equals:
        if name not in known:
            raise Failed(f"sysrc: unknown variable '{name}'")
        out(
            f"{known[name]}\n"
            if "n" in found
            else f'{name}="{known[name]}"\n'
            if "e" in found
            else f"{name}: {known[name]}\n"
        )
        return 0
    if name.endswith(("+", "-")):
        name, value = _listed(name, value, known)
    if "c" in found:
        return 0 if known.get(name) == value else 1
    _write(file, name, value)
    if "n" not in found:
        out(f"{name}: {known.get(name, '')} -> {value}\n")
    return 0


def _listed(name: str, value: str, known: dict[str, str]) -> tuple[str, str]:
    plain, words = name[:-1], known.get(name[:-1], "").split()
    wanted = value.split()
    kept = [word for word in words if word not in wanted] if name.endswith("-") else words
    added = [word for word in wanted if word not in words] if name.endswith("+") else []
    return plain, " ".join([*kept, *added])


def _write(file: str, name: str, value: str | None) -> None:
    """The line is replaced in place or appended; the value is written without escaping, as the real one does."""
    try:
        with open(file) as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError:
        lines = []
    fresh, done = [], value is None
    for line in lines:
        if line.startswith(f"{name}="):
            if not done:
                fresh.append(f'{name}="{value}"')
            done = True
        else:
            fresh.append(line)
    if not done:
        fresh.append(f'{name}="{value}"')
    try:
        with open(f"{file}.sysrc", "w") as stream:
            stream.write("".join(f"{line}\n" for line in fresh))
    except OSError as error:
        raise Failed(f"sysrc: {file}: {error.strerror}") from None
    if os.path.exists(file):
        os.chmod(f"{file}.sysrc", os.stat(file).st_mode & 0o7777)
    os.replace(f"{file}.sysrc", file)
