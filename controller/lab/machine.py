"""One simulated computer: a rootless container with its own root directory, bound to the life of this process.

In: a directory that keeps the machine's persistent files, and what the machine should look like. Out: processes that run
inside it. Nothing outside the machine's own directory can be written from inside, no process outlives `power_off` or
the death of this process (the first process inside holds a pipe to us), and no mount is ever visible outside.

    <directory>/root/    persistent files, one entry per top-level directory     (inside: /etc, /var, /usr/local …)
    <directory>/lab/     state of the stand-ins                                   (inside: /lab)
    <directory>/system/  the four directories of programs, rebuilt at power on    (inside: /bin /sbin /usr/bin /usr/sbin)
    <directory>/site/    this package, as far as the stand-ins import it          (inside: /.machine/site)

Inside, `/.machine` holds what the stand-ins themselves need: `usr` (this computer's /usr), `python`, `site`.
Programs of this computer are reachable only through the program directories, so a FreeBSD machine offers no python3.
"""

from __future__ import annotations

import asyncio
import importlib.util
import marshal
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from controller.errors import Stall
from controller.lab.standins import farm

System = Literal["freebsd", "linux"]

PACKAGE: Final = Path(__file__).resolve().parents[1]
SKELETON: Final = ("dev", "etc", "home", "iscsi", "lab", "mnt", "proc", "root", "run", "tmp", "usr", "var", ".machine")
SYSTEM: Final = ("usr", "dev", "proc", "bin", "sbin", "lib", "lib64", "libexec", "lab", ".machine")
"""Entries of / that an image or a machine's own files never bring."""
PATHS: Final[Mapping[System, str]] = MappingProxyType(
    {
        "freebsd": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/root/bin",
        "linux": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
)

UNCHECKED: Final = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
"""How compiled code begins that is taken as it is, whatever the time of its source (PEP 552)."""

_FUNCTIONS: Final = r"""
set -eu
bind() { mount --bind "$1" "$2" 2>/dev/null || mount --rbind "$1" "$2"; }
readonly_() {
    for flags in '' ,nosuid,nodev ,nodev ,nosuid ,nosuid,nodev,noexec; do
        mount -o "remount,bind,ro$flags" "$1" 2>/dev/null && return 0
    done
    echo "cannot make $1 read-only" >&2; exit 1
}
place() { # SOURCE TARGET: show one entry of a directory at TARGET, links as links
    if [ -L "$1" ]; then ln -sfn "$(readlink "$1")" "$2"
    elif [ -d "$1" ]; then mkdir -p "$2"; bind "$1" "$2"
    else [ -e "$2" ] || : >"$2"; bind "$1" "$2"; fi
}
shared() { place "$1" "$2"; [ -L "$1" ] || readonly_ "$2"; }
"""

_MOVE: Final = """
mkdir -p .machine/old
pivot_root . .machine/old
cd /
PATH=/.machine/usr/sbin:/.machine/usr/bin
umount -l /.machine/old
readonly_ /
"""

_FIRST: Final = """
read -r outer rest </proc/self/stat
mount -t proc proc /proc 2>/dev/null || :
hostname "$hostname_"
trap '' CHLD
echo "ready $outer"
exec env --ignore-signal=CHLD cat >/dev/null 2>&1
"""
"""The first process of the machine. Ignored SIGCHLD makes the kernel reap its orphans; end of input ends the machine."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a machine looks like from inside. Paths on the left of a mapping are absolute and inside."""

    system: System = "freebsd"
    commands: Mapping[str, str] = field(default_factory=dict)
    """Stand-ins: "/usr/bin/make" -> text of the executable (see `standin`). They hide what is there by default."""
    binds: Mapping[str, Path] = field(default_factory=dict)
    """Directories of others that this machine may write, such as the SAN's volumes."""
    reads: Mapping[str, Path] = field(default_factory=dict)
    """Directories of others that this machine may read."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What is chosen anew at each power on."""

    image: Path | None = None
    """A root file system shown read-only at / instead of the machine's own (a node's NFS root)."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Memory file systems and their size in bytes: "/etc" -> 33554432. They start empty and end with power off."""


def standin(module: str, function: str = "main") -> str:
    """The text of an executable that calls `function(argv)` of a module of this package; argv[0] is the path called.

    It takes about 10 ms, most of them Python's own start: no site, no environment, and modules that are compiled already and
    import little.
    """
    return (
        f"#!/.machine/python/bin/{_python().name} -IS\n"
        "import sys\n"
        'sys.path.insert(0, "/.machine/site")\n'
        f"from {module} import {function}\n"
        f"sys.exit({function}(sys.argv))\n"
    )


class Machine:
    """One simulated computer.

    With `netns` (a path such as /proc/PID/ns/net) it runs as real root inside that network namespace, in which real
    daemons can be started; without, it needs no privileges. Raises `Stall` when this computer does not permit it.
    """

    def __init__(self, directory: Path, name: str, layout: Layout | None = None, *, netns: Path | None = None) -> None:
        self.directory = directory.resolve()
        self.name = name
        self.layout = layout or Layout()
        self._netns = netns
        self._process: subprocess.Popen[str] | None = None
        self._pid = 0
        for part in ("root", "lab", "system", "mnt"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        _write(self.directory / "site", _package())
        (self.directory / "lab" / "off").touch()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The machine's first process as seen from outside; 0 while it is off."""
        return self._pid

    @property
    def root(self) -> Path:
        """The running machine's / as seen from outside, memory file systems included."""
        return Path(f"/proc/{self._pid}/root")

    def path(self, inside: str) -> Path:
        """Where a persistent file of the machine is, seen from outside. Memory file systems cannot be seen."""
        parts = Path(inside).relative_to("/").parts
        if parts[:1] == ("lab",):
            return self.directory.joinpath(*parts)
        for target, source in {**self.layout.reads, **self.layout.binds}.items():
            if Path(inside).is_relative_to(target):
                return source / Path(inside).relative_to(target)
        return self.directory.joinpath("root", *parts)

    def uncovered(self) -> list[str]:
        """What stand-ins were asked that the reference does not cover; empty is what tests want."""
        try:
            return (self.directory / "lab" / "uncovered").read_text().splitlines()
        except FileNotFoundError:
            return []

    async def power_on(self, boot: Boot | None = None) -> None:
        """Start the container with empty memory file systems and no kernel state; returns when it can run processes."""
        if not self.running:
            await asyncio.to_thread(self._start, boot or Boot())

    async def power_off(self) -> None:
        """End every process inside at once, as pulling the plug does. Persistent files stay."""
        (self.directory / "lab" / "off").touch()
        process, self._process, self._pid = self._process, None, 0
        if process is not None:
            await asyncio.to_thread(_end, process)

    async def shut_down(self) -> str:
        """Wait until the machine has shut itself down: "reboot" or "off". Whoever plays the hardware then does it."""
        pipe = os.open(self.directory / "lab" / "power", os.O_RDWR | os.O_NONBLOCK)
        loop, said = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(pipe, said.set)
        try:
            await said.wait()
            return os.read(pipe, 64).decode().split()[0]
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command as it must be started from outside, with the environment of a login."""
        if not self.running:
            raise Stall(f"cannot run anything on {self.name}: it is switched off", hint="power it on first")
        user = [] if self._netns else ["--user", "--preserve-credentials"]
        network = ["--net"] if self._netns else []
        enter = [
            _tool("nsenter"),
            f"--target={self._pid}",
            *user,
            *network,
            "--mount",
            "--pid",
            "--uts",
            "--wdns=/root",
            "--",
        ]
        return ["/usr/bin/env", "-i", *self._environment(), *enter, *command]

    def shell(self, command: str | None = None, *, login: str = "/bin/sh") -> list[str]:
        """What sshd would run: the login shell with `-c COMMAND`, or `/bin/sh -s` when there is no command."""
        if command is None:
            return self.argv(["/bin/sh", "-s"])
        return self.argv([login.rpartition("/")[2], "-c", command])

    async def spawn(self, command: Sequence[str], **options: Any) -> asyncio.subprocess.Process:
        """Start a command inside with pipes on all three streams."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(*self.argv(command), **{**pipes, **options})

    async def run(self, script: str, *, timeout: float = 30.0) -> tuple[int, str, str]:
        """Run a script through `/bin/sh -s`: exit status, stdout, stderr. `TimeoutError` leaves the process to power_off."""
        process = await self.spawn(["/bin/sh", "-s"])
        out, err = await asyncio.wait_for(process.communicate(script.encode()), timeout)
        return process.returncode or 0, out.decode(), err.decode()

    def _environment(self) -> list[str]:
        shell = "/bin/csh" if self.layout.system == "freebsd" else "/bin/sh"
        return [f"PATH={PATHS[self.layout.system]}", "HOME=/root", "USER=root", "LOGNAME=root", f"SHELL={shell}"]

    def _start(self, boot: Boot) -> None:
        _build_system(self.directory / "system", self.layout)
        shutil.rmtree(self.directory / "lab" / "state", ignore_errors=True)
        (self.directory / "lab" / "state").mkdir()
        (self.directory / "lab" / "power").unlink(missing_ok=True)
        os.mkfifo(self.directory / "lab" / "power")
        enter = [_tool("nsenter"), f"--net={self._netns}", "--"] if self._netns else []
        self._process = subprocess.Popen(
            [*enter, _tool("unshare"), *self._user(), "--mount", "/bin/sh", "-c", self._script(boot)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer.startswith("ready "):
            process, self._process = self._process, None
            raise _refused(self.name, _end(process))
        self._pid = int(answer.split()[1])
        (self.directory / "lab" / "off").unlink(missing_ok=True)

    def _user(self) -> list[str]:
        return [] if self._netns else ["--user", "--map-root-user"]

    def _script(self, boot: Boot) -> str:
        """Build the root and move there; a second set of namespaces then locks every mount made so far."""
        new = self.directory / "mnt"
        lines = [_FUNCTIONS, f"mount -t tmpfs -o mode=755 {self.name} {_q(new)}", f"cd {_q(new)}"]
        lines.append("mkdir -p " + " ".join(SKELETON))
        lines += _programs(self.directory, self.layout.system)
        lines += self._files(boot)
        for at, size in boot.memory.items():
            lines.append(f"mkdir -p .{_q(at)}; mount -t tmpfs -o {_memory(at, size)} tmpfs .{_q(at)}")
        lines += [f"mkdir -p .{_q(at)}; bind {_q(src)} .{_q(at)}" for at, src in self.layout.binds.items()]
        lines += [f"mkdir -p .{_q(at)}; shared {_q(src)} .{_q(at)}" for at, src in self.layout.reads.items()]
        sys_ = ["mkdir -p sys; mount -t sysfs sysfs sys"] if self._netns else []
        lines += [*_devices(), *sys_, "mount --rbind /proc proc", _MOVE]
        lines.append(f"hostname_={_q(self.name)}; export hostname_")
        locked = [*self._user(), "--mount", "--pid", "--uts", "--fork", "--kill-child", "/bin/sh", "-c", _FIRST]
        return "\n".join([*lines, f"exec unshare {shlex.join(locked)}"])

    def _files(self, boot: Boot) -> list[str]:
        """The entries of / outside the system: an image's, read-only, or else the machine's own."""
        own = self.directory / "root"
        for name in ("etc", "var", "tmp", "root", "home", "run", "mnt", "iscsi", "usr/local"):
            (own / name).mkdir(parents=True, exist_ok=True)
        (own / "tmp").chmod(0o1777)
        source, show = (boot.image.resolve(), "shared") if boot.image else (own, "place")
        return [
            f"for d in {_q(source)}/* {_q(source)}/.[!.]*; do",
            '  n=${d##*/}; [ -e "$d" ] || [ -L "$d" ] || continue',
            f"  case $n in {'|'.join(SYSTEM)}) continue;; esac",
            f'  {show} "$d" "$n"; done',
            f"mkdir -p usr/local; [ ! -d {_q(source / 'usr/local')} ] || {show} {_q(source / 'usr/local')} usr/local",
            *_over(self.directory / "system", self.layout.system),
        ]


def _over(programs: Path, system: System) -> list[str]:
    """A package's program that an image has is shown as its stand-in; what it lacks stays missing."""
    return [
        f"[ ! -e {place[1:]} ] || bind {_q(programs / 'usr.sbin/gate')} {place[1:]}"
        for place in (farm.PACKAGED if system == "freebsd" else ())
    ]


def _programs(directory: Path, system: System) -> list[str]:
    """Libraries as on this computer; programs only through the four directories made for the machine."""
    lines = ["mkdir -p .machine/usr .machine/python .machine/site"]
    lines += ["shared /usr .machine/usr", f"shared {_q(Path(sys.base_prefix).resolve())} .machine/python"]
    lines += [f"shared {_q(directory / 'site')} .machine/site", f"bind {_q(directory / 'lab')} lab"]
    for name in sorted(path.name for path in Path("/").glob("lib*")):
        lines.append(f"shared /{name} {name}")
    for name in sorted(path.name for path in Path("/usr").iterdir()):
        if name not in ("bin", "sbin", "local", "games", "src", "obj"):
            lines.append(f"shared /usr/{_q(name)} usr/{_q(name)}")
    own = _q(directory / "system")
    lines += [f"mkdir -p usr/{name}; shared {own}/usr.{name} usr/{name}" for name in ("bin", "sbin")]
    if system == "linux":
        return [*lines, "ln -s usr/bin bin", "ln -s usr/sbin sbin"]
    return [*lines, *(f"mkdir {name}; shared {own}/{name} {name}" for name in ("bin", "sbin"))]


def _devices() -> list[str]:
    lines = ["mount -t tmpfs -o mode=755 dev dev"]
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        if Path("/dev", name).exists():
            lines.append(f": >dev/{name}; mount --bind /dev/{name} dev/{name}")
    lines.append(
        "mkdir dev/pts; mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts && ln -s pts/ptmx dev/ptmx || :"
    )
    return [
        *lines,
        "ln -s /proc/self/fd dev/fd",
        *(f"ln -s fd/{n} dev/{s}" for n, s in enumerate(("stdin", "stdout", "stderr"))),
    ]


def _memory(inside: str, size: int) -> str:
    return f"size={size},mode={'1777' if inside == '/tmp' else '755'}"


@cache
def _package() -> Mapping[str, bytes]:
    """What stand-ins import, and compiled too, as inside Python may not keep it: path below `site` -> content."""
    lab = PACKAGE / "lab"
    paths = [PACKAGE / "__init__.py", PACKAGE / "errors.py", *lab.rglob("*.py"), *lab.rglob("*.json")]
    found = {str(path.relative_to(PACKAGE.parent)): path.read_bytes() for path in paths}
    for name in [name for name in found if name.endswith(".py")]:
        code = compile(found[name], f"/.machine/site/{name}", "exec", dont_inherit=True)
        folder, _, module = name.removesuffix(".py").rpartition("/")
        found[f"{folder}/__pycache__/{module}.{sys.implementation.cache_tag}.pyc"] = UNCHECKED + marshal.dumps(code)
    return found


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _build_system(directory: Path, layout: Layout) -> None:
    """Write the four program directories afresh: links to this computer's programs, and the stand-ins."""
    shutil.rmtree(directory, ignore_errors=True)
    links = farm.freebsd() if layout.system == "freebsd" else farm.linux()
    for name in ("bin", "sbin", "usr.bin", "usr.sbin"):
        (directory / name).mkdir(parents=True)
    for inside, target in links.items():
        place = _program(directory, inside, layout.system)
        place.symlink_to(target)
    texts = {**(farm.standins(standin) if layout.system == "freebsd" else {}), **layout.commands}
    for inside, text in texts.items():
        place = _program(directory, inside, layout.system)
        place.unlink(missing_ok=True)
        place.write_text(text)
        place.chmod(0o755)


def _program(directory: Path, inside: str, system: System) -> Path:
    folder, _, name = inside.rpartition("/")
    if system == "linux":
        folder = {"/bin": "/usr/bin", "/sbin": "/usr/sbin"}.get(folder, folder)
    if folder not in ("/bin", "/sbin", "/usr/bin", "/usr/sbin"):
        raise ValueError(f"a stand-in can be in /bin, /sbin, /usr/bin and /usr/sbin, not at {inside}")
    return directory / folder[1:].replace("/", ".") / name


def _python() -> Path:
    return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


def _q(value: str | Path) -> str:
    return shlex.quote(str(value))


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise Stall(f"cannot make simulated machines: {name} was not found", hint="install util-linux")
    return found


def _end(process: subprocess.Popen[str]) -> str:
    """Close the pipe that keeps the machine alive, wait until it is gone, return what it said about errors."""
    try:
        _, errors = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    return errors


def _refused(name: str, errors: str) -> Stall:
    message = f"cannot start the simulated machine {name}: {errors.strip() or 'the container ended without a word'}"
    return Stall(
        message,
        hint="simulated machines need user namespaces: as root, set sysctl kernel.unprivileged_userns_clone=1 (Debian), "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) or user.max_user_namespaces above 0, or run as root",
    )
