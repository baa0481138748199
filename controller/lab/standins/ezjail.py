"""ezjail-admin(8) 3.4.2: real directories and files, the words of the real script, its order of doing things included.

`create` writes its record last and `delete` removes it first, as the real ones do: a kill in between leaves the same
half-made things behind.
"""

from __future__ import annotations

import os
import time

from controller.lab.standins import disk, jails, net, rcjail
from controller.lab.standins.node import (
    HOST,
    Failed,
    Kernel,
    assignments,
    err,
    options,
    out,
    program,
    rcvar,
    uncovered,
    yes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = (
    "ezjail-admin v3.4.2\nUsage: ezjail-admin "
    "[archive|config|console|create|delete|freeze|install|list|restore|snapshot|troubleshoot|update] {params}"
)
KEYS = [
    "hostname",
    "ip",
    "rootdir",
    "exec_start",
    "exec_stop",
    "mount_enable",
    "devfs_enable",
    "devfs_ruleset",
    "procfs_enable",
    "fdescfs_enable",
    "image",
    "imagetype",
    "attachparams",
    "attachblocking",
    "forceblocking",
    "zfs_datasets",
    "cpuset",
    "fib",
    "parentzfs",
    "parameters",
    "post_start_script",
    "retention_policy",
]
HEAD = (
    "# To specify the start up order of your ezjails, use these lines to\n"
    "# create a Jail dependency tree. See rcorder(8) for more details.\n#\n"
    "# PROVIDE: standard_ezjail\n# REQUIRE: \n# BEFORE: \n#\n"
)
RESERVED = ("basejail", "newjail", "fulljail", "flavours", "ezjailtemp", "ezjail_archives")
MOVED = (
    *("bin", "boot", "lib", "libexec", "rescue", "sbin"),
    *(f"usr/{name}" for name in ("bin", "include", "lib", "libdata", "libexec", "sbin", "src", "share")),
)
LOCALE = "cpio: Failed to set default locale\n"


def main(argv: Sequence[str]) -> int:
    command = argv[1] if len(argv) > 1 else ""
    if command not in COMMANDS and command not in STARTS:
        raise Failed(USAGE)
    if command in STARTS:
        return _start_stop(command, list(argv[2:]))
    disk.ready_if_mounted()
    return COMMANDS[command](list(argv[2:]))


def jaildir() -> str:
    return assignments("/usr/local/etc/ezjail.conf").get("ezjail_jaildir", "/usr/jails").rstrip("/")


def _error(*lines: str) -> Failed:
    return Failed("Error: " + "\n  ".join(lines))


def _known(name: str) -> str:
    safe = rcjail.safename(name)
    if not rcjail.config(safe):
        raise _error(f"Nothing known about jail {name}.")
    return safe


def _running(safe: str) -> str:
    """The jid, as ezjail believes it: from the id file, if that jid lives."""
    try:
        with open(f"/var/run/jail_{safe}.id") as file:
            jid = file.read().strip()
    except FileNotFoundError:
        return ""
    return jid if any(str(one["jid"]) == jid for one in Kernel.read()["jails"]) else ""


def _list(args: list[str]) -> int:
    if args:
        uncovered("list with operands")
    if not os.path.isdir(rcjail.CONFIGS):
        err(f"cd: {rcjail.CONFIGS}: No such file or directory\n")
    out("STA JID  IP              Hostname                       Root Directory\n")
    out("--- ---- --------------- ------------------------------ ------------------------\n")
    for file in rcjail.ordered():
        safe = file.removesuffix(".norun")
        settings = rcjail.config(safe)
        jid = _running(safe)
        state = "D" + ("R" if jid else "S") + ("N" if file.endswith(".norun") else "")
        first, *more = settings.get("ip", "").split(",")
        address = first.rpartition("|")[2]
        out(
            f"{state:<3} {jid or 'N/A':<4} {address:<15} {settings.get('hostname', ''):<30} {settings.get('rootdir', '')}\n"
        )
        for one in more:
            out(f"    {jid or 'N/A':<4} {one}\n")
    return 0


STARTS = tuple(f"{one}{word}" for one in ("", "one") for word in ("start", "stop", "restart"))


def _start_stop(command: str, names: list[str]) -> int:
    disk.ready_if_mounted()
    action = command.removeprefix("one")
    if not names:
        uncovered("without a name")
    if command == action and not yes(rcvar("ezjail_enable", "NO")):
        if action != "stop":
            _believed(names)
        return 0
    rcjail.ezjail_rc(action, names)
    if action != "stop":
        _believed(names)
    return 0


def _believed(names: list[str]) -> None:
    """The check after starting looks at the id file; a jail with .norun is not looked at."""
    for name in names:
        safe = rcjail.safename(name)
        if not _running(safe) and not os.path.exists(f"{rcjail.CONFIGS}/{safe}.norun"):
            raise _error(f"Could not start {name}.", "You need to start it by hand.")


def _create(args: list[str]) -> int:
    found, rest = options(args, "x", "fr")
    if len(rest) != 2:
        uncovered("operands")
    name, addresses = rest
    safe, base = rcjail.safename(name), jaildir()
    if name in RESERVED:
        needs = f"ezjail needs the {name} directory for its own administrative purposes."
        raise _error(f"Cannot name the jail {name}.", needs, "Please rename the ezjail.")
    if not os.path.isdir(f"{base}/basejail"):
        raise _error("base jail does not exist.", "Please run 'ezjail-admin install' or 'ezjail-admin update' first.")
    if rcjail.config(safe):
        because = "This can happen because ezjail converts non alphanumeric characters in jail names to '_'."
        raise _error(
            f"An ezjail config already exists at {rcjail.CONFIGS}/{safe}.", because, "Please rename the ezjail."
        )
    root = found.get("r") or f"{base}/{name.translate({47: '_', 126: '_'})}"
    if "x" not in found and os.path.exists(root) and (not os.path.isdir(root) or os.listdir(root)):
        what = f"A file or a non empty directory already exists at the specified jail root {root}."
        hint = "Maybe you want to 'ezjail-admin create -x' an existing jail?"
        raise _error(what, hint, "Please specify another jail root with the -r switch.")
    flavours = found.get("f", "").split()
    for flavour in flavours:
        if not os.path.isdir(f"{base}/flavours/{flavour}"):
            raise _error(f"Flavour config directory {base}/flavours/{flavour} not found.")
    _control_directory()
    if "x" not in found:
        _copied(f"{base}/newjail", root)
    with open(f"/etc/fstab.{safe}", "w") as file:
        file.write(f"{base}/basejail {root}/basejail nullfs ro 0 0\n")
    _record(safe, HEAD, _settings(name, addresses, root))
    for flavour in flavours:
        _copied(f"{base}/flavours/{flavour}", root)
        if not os.path.isdir(f"{root}/pkg"):
            err(f"find: {root}/pkg/: No such file or directory\n")
    _warn_about(addresses)
    return 0


def _control_directory() -> None:
    if not os.path.isdir(rcjail.CONFIGS):
        try:
            os.makedirs(rcjail.CONFIGS)
        except OSError:
            raise _error(f"ezjail can not create its control directory {rcjail.CONFIGS}.") from None


def _settings(name: str, addresses: str, root: str) -> dict[str, str]:
    settings = dict.fromkeys(KEYS, "")
    own = assignments("/usr/local/etc/ezjail.conf")
    for key in ("mount_enable", "devfs_enable", "procfs_enable", "fdescfs_enable"):
        settings[key] = own.get(f"ezjail_{key}", "YES")
    settings |= {"hostname": name, "ip": addresses, "rootdir": root}
    settings |= {"exec_start": own.get("ezjail_exec_start", "/bin/sh /etc/rc")}
    settings |= {"devfs_ruleset": own.get("ezjail_devfs_ruleset", "devfsrules_jail")}
    return settings


def _record(safe: str, head: str, settings: dict[str, str], suffix: str = "") -> None:
    lines = "".join(f'export jail_{safe}_{key}="{settings.get(key, "")}"\n' for key in KEYS)
    with open(f"{rcjail.CONFIGS}/{safe}{suffix}", "w") as file:
        file.write(f"{head}\n{lines}")


def _copied(source: str, target: str) -> None:
    """`find . | cpio -pdv`: the tree itself, and every path on stderr."""
    os.makedirs(target, exist_ok=True)
    if program(f"{HOST}/bin/cp", "-RPp", f"{source}/.", target):
        uncovered(f"copying to {target} failed")
    said, blocks = [LOCALE, f"{target}/.\n"], 0
    for top, folders, files in os.walk(source):
        below = top[len(source) :]
        for entry in sorted([*folders, *files]):
            said.append(f"{target}/.{below}/{entry}\n")
        blocks += sum(os.lstat(os.path.join(top, file)).st_size for file in files)
    err("".join(said) + f"{blocks // 512 + 1} blocks\n")


def _warn_about(addresses: str) -> None:
    local = net.addresses(Kernel.read())
    for one in addresses.split(","):
        if "|" not in one and one not in local:
            out(f"Warning: IP {one} not configured on a local interface.\n")


def _delete(args: list[str]) -> int:
    found, rest = options(args, "wf")
    name = rest[0] if len(rest) == 1 else uncovered("operands")
    safe = _known(name)
    if _running(safe) and "f" not in found:
        hint = f"'ezjail-admin stop {name}' it first or use 'ezjail-admin delete -f {name}' to force stop."
        raise _error("Jail appears to be still running.", hint)
    if _running(safe):
        rcjail.ezjail_rc("stop", [name])
    root = rcjail.config(safe).get("rootdir", "")
    for path in (f"{rcjail.CONFIGS}/{safe}", f"{rcjail.CONFIGS}/{safe}.norun", f"/etc/fstab.{safe}"):
        if os.path.lexists(path):
            os.unlink(path)
    if "w" in found and root:
        program(f"{HOST}/bin/rm", "-rf", root)
    return 0


def _config(args: list[str]) -> int:
    found, rest = options(args, "", "rncf")
    name = rest[0] if len(rest) == 1 else uncovered("operands")
    safe = _known(name)
    if "r" in found:
        if found["r"] not in ("run", "norun"):
            uncovered(f"config -r {found['r']}")
        names = (f"{rcjail.CONFIGS}/{safe}", f"{rcjail.CONFIGS}/{safe}.norun")
        old, new = names if found["r"] == "norun" else names[::-1]
        if os.path.exists(old):
            os.rename(old, new)
    if "n" in found:
        _rename(safe, found["n"])
        return 0
    if "c" in found or "f" in found:
        if _running(safe):
            out(f"Warning: New settings for running jail {name} will only take effect when next restarting it.\n")
        settings = rcjail.config(safe)
        settings |= {key: found[letter] for letter, key in (("c", "cpuset"), ("f", "fib")) if letter in found}
        _rewrite(safe, safe, settings)
    return 0


def _rewrite(old: str, new: str, settings: dict[str, str]) -> None:
    """Comment lines and known keys survive, nothing else."""
    suffix = ".norun" if os.path.exists(f"{rcjail.CONFIGS}/{old}.norun") else ""
    with open(f"{rcjail.CONFIGS}/{old}{suffix}") as file:
        head = "".join(line for line in file if line.startswith("#"))
    _record(new, head, settings, suffix)


def _rename(safe: str, name: str) -> None:
    settings, new, base = rcjail.config(safe), rcjail.safename(name), jaildir()
    if _running(safe) or rcjail.config(new):
        uncovered("renaming a running jail, or to a name that is taken")
    root = f"{base}/{name.translate({47: '_', 126: '_'})}"
    os.rename(settings["rootdir"], root)
    _rewrite(safe, new, settings | {"hostname": name, "rootdir": root})
    os.unlink(f"{rcjail.CONFIGS}/{safe}")
    with open(f"/etc/fstab.{new}", "w") as file:
        file.write(f"{base}/basejail {root}/basejail nullfs ro 0 0\n")
    if os.path.exists(f"/etc/fstab.{safe}"):
        os.unlink(f"/etc/fstab.{safe}")
    out(
        f"Jail has been renamed. You might want to check {rcjail.CONFIGS}/{new} and /etc/fstab.{new} to ensure everything "
        "has gone smoothly.\nAlso check settings in your Jail's /etc/ directory (especially /etc/rc.conf).\n"
    )


def _archive(args: list[str]) -> int:
    found, rest = options(args, "Af", "ad")
    names = [rcjail.config(file.removesuffix(".norun")).get("hostname", "") for file in rcjail.ordered()]
    target = found.get("d", f"{jaildir()}/ezjail_archives")
    os.makedirs(target, exist_ok=True)
    for name in names if "A" in found else rest or [uncovered("nothing to archive")]:
        safe = _known(name)
        if _running(safe) and "f" not in found:
            out(f"Warning: Jail {name} appears to be still running.\n")
            out(f"  Stop it first, or use 'ezjail-admin archive -f {name}' to force archiving.\n")
            continue
        stamp = time.strftime("%Y%m%d%H%M.%S", time.gmtime())
        file = found.get("a", f"{target}/{safe}-{stamp}.tar.gz")
        root = rcjail.config(safe)["rootdir"]
        program(f"{HOST}/bin/tar", "-czf", file, "--exclude=./basejail/*", "-C", root, ".")
    return 0


def _console(args: list[str]) -> int:
    found, rest = options(args, "f", "e")
    name = rest[0] if len(rest) == 1 and "e" in found and "f" not in found else uncovered("this form")
    safe = _known(name)
    jid = _running(safe)
    if not jid:
        raise _error(f"Jail {name} appears not to be running")
    one = jails.find(Kernel.read(), jid)
    assert one is not None
    return jails.execute(one, found["e"].split())


def _install(args: list[str]) -> int:
    """From sets on a local disk only; freebsd-update refuses without a terminal, and nobody looks at that."""
    found, rest = options(args, "", "hr")
    host = found.get("h", "")
    if not host.startswith("file://") or rest:
        uncovered("installing from another host than file://")
    sets, base = host.removeprefix("file://").rstrip("/"), jaildir()
    if not os.path.isfile(f"{sets}/base.txz"):
        raise _error(f"Can not access package file {sets}/base.txz")
    full = f"{base}/fulljail"
    program(f"{HOST}/bin/rm", "-rf", full)
    os.makedirs(full)
    program(f"{HOST}/bin/tar", "-xpf", f"{sets}/base.txz", "-C", full, "--no-same-owner")
    err("tar: Failed to set default locale\n")
    err("freebsd-update fetch should not be run non-interactively.\nRun freebsd-update cron instead.\n")
    _split(full, f"{base}/basejail")
    err("find: usr/lib32: No such file or directory\n" + LOCALE + "0 blocks\n")
    err("chflags: usr/lib32: No such file or directory\nrm: usr/lib32: No such file or directory\n")
    program(f"{HOST}/bin/rm", "-rf", f"{base}/newjail")
    os.rename(full, f"{base}/newjail")
    os.makedirs(f"{base}/newjail/basejail", exist_ok=True)
    examples = "/usr/local/share/examples/ezjail/example"
    os.makedirs(f"{base}/flavours", exist_ok=True)
    if os.path.isdir(examples):
        program(f"{HOST}/bin/cp", "-RPp", examples, f"{base}/flavours/")
    with open(f"{base}/newjail/etc/make.conf", "a") as file:
        file.write("WRKDIRPREFIX=\t\t/var/ports\nDISTDIR=\t\t/var/ports/distfiles\nPACKAGES=\t\t/var/ports/packages\n")
    out(
        "Note: a non-standard /etc/make.conf was copied to the template jail in order to get the ports collection"
        " running inside jails.\n"
    )
    return 0


def _split(full: str, base: str) -> None:
    """Move the shared directories to basejail and leave links."""
    os.makedirs(base, exist_ok=True)
    said, blocks = [LOCALE], 0
    for part in MOVED:
        source = f"{full}/{part}"
        if os.path.isdir(source):
            os.makedirs(os.path.dirname(f"{base}/{part}"), exist_ok=True)
            program(f"{HOST}/bin/rm", "-rf", f"{base}/{part}")
            program(f"{HOST}/bin/mv", source, f"{base}/{part}")
            for top, folders, files in os.walk(f"{base}/{part}"):
                said += [f"{top}/{entry}\n" for entry in [*folders, *files]]
                blocks += sum(os.lstat(os.path.join(top, file)).st_size for file in files)
        os.makedirs(os.path.dirname(source), exist_ok=True)
        os.symlink(f"/basejail/{part}", source)
    err("".join(said) + f"{blocks // 512 + 1} blocks\n")


def _unseen(args: list[str]) -> int:
    return uncovered(f"with {args}")


COMMANDS = {
    "archive": _archive,
    "config": _config,
    "console": _console,
    "create": _create,
    "delete": _delete,
    "install": _install,
    "list": _list,
    **dict.fromkeys(("freeze", "restore", "snapshot", "update"), _unseen),
}
