"""One site for all cases, controllers that die on it, and what is compared after them.

In: a case, and where its controllers are to die. Out: how the end and the effects on the machines differ from those of
an undisturbed run, in words; nothing when they are equal. The site goes on from case to case, so that it is built once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

from controller.demo.stage import Stage
from controller.lab.effects import FILE
from controller.starter import repository
from tests.kills.run import DIED

NODE: Final = "disklessfreebsdbox"
IMAGE: Final = "/export/jailops/images/freebsd13"
SETTINGS: Final = """
[policy]
max_removed = 1000
max_removed_per_day = 100000
"""

READS: Final = re.compile(
    r"cc |date|df |diskinfo |dhcpd .*-t|dumpfs |fstyp |freebsd-version|geom |getent |glabel |hostname|ifconfig \w+$"
    r"|iscsictl -L|jexec |jls|journalctl |kenv|kldstat|lockf |ls |md5 |mount -p|mount$|netstat |pkg (info|query|-N)|ps |rpcinfo"
    r"|sha256 |sha512 |showmount|ss |stat |sysctl |svnlite (info|ls)|svnliteversion|sysrc -[cn]|systemctl (is-active|show)"
    r"|tgtadm .*--op show|uname|uptime|which |exportfs -s|touch |chroot |service \S+ (one)?status|ezjail-admin list|tar |chown "
    r"|gate|bsdtar |who|pw |pwd_mkdb|dd |chflags |dbus-send .*(Show|Display)"
)
"""Commands of the stand-ins that change nothing, or only files: those are compared by what they are in the end."""

_TOLD_AGAIN: Final = "whether the daemon has read its new file cannot be seen, so that it is told again"
AGAIN: Final = {
    "boot-server: service isc-dhcp-server restart": _TOLD_AGAIN,
    "boot-server: systemctl reset-failed isc-dhcp-server": "goes before each restart",
    "boot-server: service isc-dhcp-server stop": "goes before a restart",
}
"""Effects that a death may bring once more, and why that is right."""


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: the fail points that it passes, the end, the effects."""

    points: tuple[str, ...]
    state: dict[str, Any]
    effects: Counter[str]
    seconds: float


class Bench:
    """The running site, its repository, and controllers one after the other."""

    def __init__(self, stage: Stage, runner: asyncio.subprocess.Process) -> None:
        self.stage = stage
        self._runner = runner
        self.log = stage.directory / "runs.log"

    async def run(self, die_at: int = 0, die_after: float = 0.0) -> dict[str, Any]:
        """One controller until it dies or everything is as it should be."""
        job = {"settings": str(self.stage.settings), "die_at": die_at, "die_after": die_after, "log": str(self.log)}
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        begun = monotonic()
        self._runner.stdin.write(f"{json.dumps(job)}\n".encode())
        said: dict[str, Any] = json.loads(await self._runner.stdout.readline())
        if said["status"] not in (0, DIED, -9) or (said["status"] == 0 and said["result"] != "converged"):
            raise AssertionError(f"{said}\n{self.log.read_text()[-3000:]}")
        return {**said, "seconds": monotonic() - begun}

    async def on(self, machine: str, script: str) -> str:
        status, out, err = await self.stage.site.computers[machine].machine.run(script)
        assert status == 0, f"{script!r} on {machine}: {out}{err}"
        return out

    def path(self, machine: str, inside: str) -> Path:
        return self.stage.site.computers[machine].machine.path(inside)

    def store(self, statement: str) -> list[Any]:
        """What a person with sqlite3 would do to the store between two runs."""
        with closing(sqlite3.connect(self.stage.directory / "store" / "jailops.sqlite")) as db, db:
            return db.execute(statement).fetchall()

    # -- effects ------------------------------------------------------------------------------------------------

    def forget_effects(self) -> None:
        for computer in self.stage.site.computers.values():
            (computer.machine.directory / FILE.lstrip("/")).write_text("")

    def effects(self) -> Counter[str]:
        """What was done on the machines since, how often; what failed changed nothing."""
        found: Counter[str] = Counter()
        for name, computer in self.stage.site.computers.items():
            for line in (computer.machine.directory / FILE.lstrip("/")).read_text().splitlines():
                status, _, words = line.partition(" ")
                if status == "0" and words and not READS.match(words):
                    found[f"{name}: {_plain(words)}"] += 1
        return found

    # -- the end ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that is true on the machines and does not change by itself."""
        keys = self._keys()
        found = {name: self._machine(name, keys) for name in self.stage.site.computers}
        text = json.dumps(found, sort_keys=True)
        for key, rank in keys.items():
            text = text.replace(key, rank)
        return dict(json.loads(text))

    def _keys(self) -> dict[str, str]:
        """Keys of layers and generations, by their age: they are others each time."""
        share = self.path("san", "/export/jailops")
        made = sorted((*share.glob("layers/*"), *share.glob("images/*/*")), key=lambda one: one.lstat().st_ctime)
        keys: dict[str, str] = {}
        for one in made:
            kind, _, key = one.name.rpartition("-")
            keys.setdefault(key, f"{kind or 'generation'}{len(keys)}")
        return keys

    def _machine(self, name: str, keys: Mapping[str, str]) -> dict[str, Any]:
        said = self.stage.site.look(name)
        for volatile in ("boottime", "counters", "dhcp_starts", "host_keys"):
            said.pop(volatile, None)
        said["jails"] = {jail: _steady(one) for jail, one in said.get("jails", {}).items()}
        said["sessions"] = [(one.get("connected"), one.get("disk", {}).get("serial")) for one in said["sessions"]]
        said["targets"] = [_steady(one) for one in said.get("targets", {}).values()]
        said["exports"] = sorted(json.dumps(_steady(one), sort_keys=True) for one in said.get("exports", []))
        return {**said, "files": self._files(name, keys)}

    def _files(self, name: str, keys: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for top, below in _TOPS.items():
            found |= _tree(self.path(name, top), top, below, keys)
        boots = self.path(name, "/").glob("export/jailops/boots/*.json")
        found |= {f"boots/{one.name}": re.sub(r"\d{9,}(\.\d+)?", "TIME", one.read_text()) for one in boots}
        computer = self.stage.site.computers[name]
        if computer.task is not None and computer.machine.running:
            found |= _tree(computer.machine.root / "etc", "memory", "**/*", keys)
        return found


_TOPS: Final = {
    "/etc": "**/*",
    "/srv/tftp": "**/*",
    "/srv/iscsi/jailops": "**/*",
    "/export/jailops/hosts": "**/*",
    "/export/jailops/images": "*/*",  # their files are proved by their own lists
    "/export/jailops/layers": "*",
}
_VOLATILE: Final = re.compile(
    r"/var/|/tmp/|/trash/|ezjail-install/|\.lock$|/start\.|jailops\.(?!conf$)|\.prev$|motd|/dev/"
)
_NUMBERED: Final = re.compile(r"number\d+|-J \d+")
"""What moves make another one each time (see `scenes`)."""
_LARGE: Final = 10**6


def _tree(top: Path, name: str, below: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Every path below with the digest of what it holds."""
    found = {}
    for path in sorted(top.glob(below)):
        inside = f"{name}/{path.relative_to(top)}"
        if path.is_symlink() or not path.is_file():
            found[inside] = str(path.readlink()) if path.is_symlink() else ""
        elif not _VOLATILE.search(inside) and path.stat().st_size < _LARGE:
            text = path.read_text("latin-1")
            for key, rank in keys.items():
                text = text.replace(key, rank)
            found[inside] = hashlib.sha256(_NUMBERED.sub("", text).encode()).hexdigest()[:16]
    return found


_CHANGING: Final = frozenset({"jid", "cpuset", "id", "tid", "sid", "since", "pid", "number", "started"})


def _steady(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key not in _CHANGING}


def _plain(words: str) -> str:
    """Without what is another one each time: numbers of jails, keys, temporary names."""
    words = re.sub(r"\b[0-9a-f]{12}\b", "KEY", words)
    words = re.sub(r"\b\d{9,}\b", "TIME", words)
    return re.sub(r"\.\d+\b(?!\.)", ".N", words)[:160] if "198.51" not in words else words[:160]


def compare(reference: Reference, state: dict[str, Any], effects: Counter[str], deaths: int) -> list[str]:
    """What is not as after the undisturbed run."""
    wrong = [f"lost: {one} ×{missing}" for one, missing in (reference.effects - effects).items()]
    for one, more in (effects - reference.effects).items():
        if one not in AGAIN or more > deaths:
            wrong.append(f"done again: {one} ×{more}")
    return [*wrong, *differences("", reference.state, state)]


def differences(path: str, before: Any, after: Any) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [one for key in keys for one in differences(f"{path}/{key}", before.get(key), after.get(key))]
    return [] if before == after else [f"{path}: {str(before)[:200]} -> {str(after)[:200]}"]


@asynccontextmanager
async def bench(directory: Path, example: dict[str, str]) -> AsyncIterator[Bench]:
    """A site on which everything is as its repository says."""
    stage = _Quiet(directory / "stage", {**repository(), **example})
    async with stage:
        (stage.repository / "hooks/post-receive").unlink()
        with stage.settings.open("a") as file:
            file.write(SETTINGS)
        for computer in stage.site.computers.values():
            (computer.machine.directory / FILE.lstrip("/")).touch()
        (stage.site.computers["build-vm"].machine.directory / "lab/build.json").write_text('{"seconds": 0}')
        pipe = subprocess.PIPE
        runner = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.kills.run", stdin=pipe, stdout=pipe, limit=2**22
        )
        try:
            one = Bench(stage, runner)
            await one.run()
            yield one
            assert stage.site.uncovered() == []
        finally:
            runner.stdin.close()  # type: ignore[union-attr]
            await runner.wait()


class _Quiet(Stage):
    """Without a daemon: every controller here is a run."""

    async def start_controller(self) -> None:
        return
