"""File tools whose FreeBSD output or options differ from this computer's: ls, stat, sha256, md5, chflags, which, lockf,
daemon and touch.
"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.standins import disk
from controller.lab.standins.node import HOST, Failed, Kernel, err, options, out, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES = {0o140000: "s", 0o120000: "l", 0o100000: "-", 0o060000: "b", 0o040000: "d", 0o020000: "c", 0o010000: "p"}


def ls(argv: Sequence[str]) -> int:
    """Root sees dot files without asking. Metadata is always cached, so ls never waits for the disk."""
    found, rest = options(argv[1:], "laAd1RrtF")
    if set(found) & set("rtF"):
        uncovered("sorting or marking")
    files, folders, status = [], [], 0
    for path in rest or ["."]:
        if not os.path.lexists(path):
            err(f"ls: {path}: No such file or directory\n")
            status = 1
        elif "d" not in found and os.path.isdir(path) and not ("l" in found and os.path.islink(path)):
            folders.append(path)
        else:
            files.append(path)
    names = "".join(
        _long([(path, path) for path in sorted(files)]) if "l" in found else [f"{p}\n" for p in sorted(files)]
    )
    out(names)
    several = len(folders) > 1 or bool(files)
    for number, folder in enumerate(sorted(folders)):
        out("\n" if number or files else "")
        out(f"{folder}:\n" if several else "")
        _folder(folder, found)
    return status


def _folder(folder: str, found: dict[str, str]) -> None:
    names = sorted(os.listdir(folder), key=os.fsencode)
    shown = [*([".", ".."] if "a" in found else []), *names]
    if "l" in found:
        pairs = [(name, os.path.join(folder, name)) for name in shown]
        device = folder.startswith("/dev")
        blocks = 0 if device else sum(os.lstat(path).st_blocks for _, path in pairs) // 2
        out(f"total {blocks}\n" + "".join(_long(pairs)))
    else:
        out("".join(f"{name}\n" for name in shown))
    if "R" in found:
        for name in names:
            below = os.path.join(folder, name)
            if os.path.isdir(below) and not os.path.islink(below):
                out(f"\n{below}:\n")
                _folder(below, found)


def _long(pairs: list[tuple[str, str]]) -> list[str]:
    rows = [(_mode(path), *_facts(path), name + _arrow(path)) for name, path in pairs]
    wide = [max((len(row[n]) for row in rows), default=0) for n in range(6)]
    return [
        f"{mode}  {links:>{wide[1]}} {user:<{wide[2]}}  {group:<{wide[3]}}  {size:>{wide[4]}} {when} {name}\n"
        for mode, links, user, group, size, when, name in rows
    ]


def _device(path: str) -> bool:
    return path.startswith("/dev/") and not os.path.islink(path) and not os.path.isdir(path)


def _mode(path: str) -> str:
    if _device(path):
        return "crw-r-----"
    mode = os.lstat(path).st_mode
    if os.path.islink(path):
        return "lrwxr-xr-x"
    letters = "".join(letter if mode >> (8 - n) & 1 else "-" for n, letter in enumerate("rwxrwxrwx"))
    if mode & 0o1000:
        letters = letters[:8] + ("t" if mode & 1 else "T")
    return TYPES[mode & 0o170000] + letters


def _facts(path: str) -> tuple[str, str, str, str, str]:
    info = os.lstat(path)
    folder = os.path.isdir(path) and not os.path.islink(path)
    size = "0x59" if _device(path) else "512" if folder and _on_ufs(path) else str(info.st_size)
    when = time.strftime("%b %e %H:%M", time.gmtime(info.st_mtime))
    group = "operator" if _device(path) else "wheel" if info.st_gid == 0 else str(info.st_gid)
    return str(info.st_nlink), "root" if info.st_uid == 0 else str(info.st_uid), group, size, when


def _on_ufs(path: str) -> bool:
    try:
        with open("/lab/state/ufs") as file:
            node = file.read().strip()
    except FileNotFoundError:
        return False
    return (os.path.realpath(path) + "/").startswith(node + "/")


def _arrow(path: str) -> str:
    return f" -> {os.readlink(path)}" if os.path.islink(path) else ""


def stat(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "Lqn", "f")
    if "f" not in found or not rest:
        uncovered("stat without -f")
    status = 0
    for path in rest:
        try:
            info = os.stat(path) if "L" in found else os.lstat(path)
        except OSError as error:
            if "q" not in found:
                err(f"stat: {path}: {error.strerror}\n" if "L" in found else f"stat: {path}: lstat: {error.strerror}\n")
            status = 1
            continue
        out(_formatted(found["f"], path, info) + ("" if "n" in found else "\n"))
    return status


def _formatted(form: str, path: str, info: os.stat_result) -> str:
    kinds = {"-": "Regular File", "d": "Directory", "l": "Symbolic Link", "s": "Socket", "p": "Fifo File"}
    known = {
        "%HT": kinds.get(TYPES[info.st_mode & 0o170000], "Character Device"),
        "%OLp": f"{info.st_mode & 0o777:o}",
        "%Lp": f"{info.st_mode & 0o777:o}",
        "%Mp": f"{info.st_mode >> 9 & 7:o}",
        "%Su": "root" if info.st_uid == 0 else str(info.st_uid),
        "%Sg": "wheel" if info.st_gid == 0 else str(info.st_gid),
        "%Sp": _mode(path),
        "%SY": os.readlink(path) if os.path.islink(path) else "",
        "%Y": os.readlink(path) if os.path.islink(path) else "",
        "%p": f"{info.st_mode:o}",
        "%u": str(info.st_uid),
        "%g": str(info.st_gid),
        "%z": str(info.st_size),
        "%N": path,
        "%m": str(int(info.st_mtime)),
        "%a": str(int(info.st_atime)),
        "%c": str(int(info.st_ctime)),
        "%i": str(info.st_ino),
        "%d": str(info.st_dev),
        "%l": str(info.st_nlink),
        "%n": "\n",
        "%t": "\t",
        "%%": "%",
    }
    text, at = "", 0
    while at < len(form):
        key = next((key for key in known if form.startswith(key, at)), None)
        if key is None and form[at] == "%":
            uncovered(f"format {form[at : at + 3]}")
        text += known[key] if key else form[at]
        at += len(key) if key else 1
    return text


def digest(argv: Sequence[str]) -> int:
    """sha256(1), sha512(1), md5(1)."""
    import hashlib

    kind = os.path.basename(argv[0])
    found, rest = options(argv[1:], "qr", "s")
    if "s" in found:
        value = hashlib.new(kind, found["s"].encode()).hexdigest()
        out(f"{value}\n" if "q" in found else f'{kind.upper()} ("{found["s"]}") = {value}\n')
        return 0
    status = 0
    for path in rest or [""]:
        try:
            if path:
                wait_for(path)
            with open(path, "rb") if path else sys.stdin.buffer as file:
                hashed = hashlib.new(kind)
                while data := file.read(1 << 20):
                    hashed.update(data)
        except OSError as error:
            err(f"{kind}: {path}: {error.strerror}\n")
            status = 1
            continue
        value = hashed.hexdigest()
        plain = "q" in found or not path
        out(f"{value}\n" if plain else f"{value} {path}\n" if "r" in found else f"{kind.upper()} ({path}) = {value}\n")
    return status


def wait_for(path: str) -> None:
    """A read below the mounted disk waits until the SAN answers."""
    real = os.path.realpath(path)
    if any(one["fstype"] == "ufs" and (real + "/").startswith(one["node"] + "/") for one in Kernel.read()["mounts"]):
        disk.ready()


def chflags(argv: Sequence[str]) -> int:
    """Flags are not kept by this computer's file systems; only what is missing is told."""
    found, rest = options(argv[1:], "RfhvHLPx")
    status = 0
    for path in rest[1:] or [uncovered("operands")]:
        if not os.path.lexists(path) and "f" not in found:
            err(f"chflags: {path}: No such file or directory\n")
            status = 1
    return status


def which(argv: Sequence[str]) -> int:
    found, rest = options(argv[1:], "s")
    status = 0
    for name in rest:
        for folder in os.environ.get("PATH", "").split(":"):
            if os.access(f"{folder}/{name}", os.X_OK) and not os.path.isdir(f"{folder}/{name}"):
                out("" if "s" in found else f"{folder}/{name}\n")
                break
        else:
            status = 1
    return status


def touch(argv: Sequence[str]) -> int:
    """Words as BSD has them: `touch: /root/x: Read-only file system`."""
    found, rest = options(argv[1:], "achm", "rtd")
    if set(found) & set("trd"):
        os.execv(f"{HOST}/bin/touch", list(argv))
    status = 0
    for path in rest:
        try:
            if "c" not in found or os.path.exists(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)) if not os.path.isdir(path) else None
                os.utime(path)
        except OSError as error:
            err(f"touch: {path}: {error.strerror}\n")
            status = 1
    return status


def lockf(argv: Sequence[str]) -> int:
    """lockf(1): 75 when the lock is not to be had in time; the file goes away unless -k."""
    import fcntl

    found, rest = options(argv[1:], "kns", "t")
    if len(rest) < 2:
        uncovered("lockf without a command")
    path, command = rest[0], rest[1:]
    end = time.monotonic() + float(found.get("t", "1e9"))
    while True:
        handle = os.open(path, os.O_RDONLY | (0 if "n" in found else os.O_CREAT), 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.fstat(handle).st_ino == os.stat(path).st_ino:
                break
        except BlockingIOError:
            pass
        os.close(handle)
        if time.monotonic() >= end:
            raise Failed("" if "s" in found else f"lockf: {path}: already locked", 75)
        time.sleep(0.02)
    try:
        status = os.spawnvp(os.P_WAIT, command[0], command)
    except FileNotFoundError:
        raise Failed(f"lockf: {command[0]}: No such file or directory", 71) from None
    if "k" not in found:
        os.unlink(path)
    return status if status >= 0 else 70


def daemon(argv: Sequence[str]) -> int:
    """daemon(8): a session of its own, pid files, output to a file. Restarting (-r) and users (-u) are not covered."""
    args = list(argv[1:])
    found, rest = _leading(args)
    if not rest:
        uncovered("daemon without a command")
    if os.fork():
        return 0
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    output = os.open(found["o"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if "o" in found else null
    if "f" in found or "o" in found:
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
    if "c" in found:
        os.chdir("/")
    if not set(found) & set("pPo"):
        os.execvp(rest[0], rest)  # nobody to wait for: the command is the leader of the new session
    pid = os.spawnvp(os.P_NOWAIT, rest[0], rest)
    for letter, number in (("p", pid), ("P", os.getpid())):
        if letter in found:
            with open(found[letter], "w") as file:
                file.write(str(number))
    os.waitpid(pid, 0)
    if "p" in found:
        os.unlink(found["p"])
    os._exit(0)


def _leading(args: list[str]) -> tuple[dict[str, str], list[str]]:
    found: dict[str, str] = {}
    while args and args[0].startswith("-"):
        word = args.pop(0)
        if word == "--":
            break
        for at, letter in enumerate(word[1:], 2):
            if letter in "pPot":
                found[letter] = word[at:] or args.pop(0)
                break
            if letter not in "fcS":
                uncovered(f"option -{letter}")
            found[letter] = ""
    return found, args
