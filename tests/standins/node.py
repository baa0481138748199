"""A node with a SAN beside it, small enough to boot in a test: image, volume, /etc files, and its own short rc."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from controller.lab.machine import Boot, Layout, Machine

CASES = Path(__file__).parent / "cases"
MIB = 1 << 20
WORLD = json.loads((CASES / "world.json").read_text())
TARGET = "iqn.2026-11.example:jails"
INITIATOR = "iqn.1994-09.org.freebsd:disklessfreebsdbox"
BOOT = """
cp -Rp /template/etc/. /etc && cp -Rp /template/var/. /var
{ service netif start; service syslogd start; service iscsid start; service iscsictl start
  service mountlate start; service sshd start; service ezjail start; } >/var/log/boot 2>&1
"""


class Node:
    """One machine and the directory of a SAN that is not running itself."""

    def __init__(self, site: Path, *, size: int = 3 << 30) -> None:
        self.san, self.image = site / "san", site / "image"
        (self.san / "lab").mkdir(parents=True)
        volume = self.san / "root" / "volumes" / "jails.img"
        volume.parent.mkdir(parents=True)
        with volume.open("wb") as file:
            file.truncate(size)
        self.serve(size)
        fill(self.image, "image")
        (self.image / "dist").mkdir()
        sets(self.image / "dist" / "base.txz")
        self.machine = Machine(site / "node", "node", Layout(binds={"/lab/san": self.san}))
        (site / "node" / "lab" / "disk.json").write_text('{"mode": "directory", "san": "/lab/san"}')
        self.facts: dict[str, object] = {}

    def serve(self, size: int, rules: dict[str, object] | None = None, secrets: dict[str, str] | None = None) -> None:
        lun = {"path": "/volumes/jails.img", "params": {}, "bytes": size}
        target: dict[str, object] = {
            "name": TARGET,
            "state": "ready",
            "luns": {"1": lun},
            "addresses": ["198.51.100.50"],
        }
        target |= {"initiators": [INITIATOR], "accounts": [], **(rules or {})}
        (self.san / "lab" / "tgt.json").write_text(json.dumps({"targets": {"1": target}, "accounts": secrets or {}}))

    def away(self, seconds: float = 0) -> None:
        """The target stopped answering so many seconds ago."""
        mark = self.san / "lab" / "tgt-stopped"
        mark.touch()
        then = mark.stat().st_mtime - seconds
        os.utime(mark, (then, then))

    def back(self) -> None:
        (self.san / "lab" / "tgt-stopped").unlink()

    async def boot(self) -> None:
        (self.machine.directory / "lab" / "node.json").write_text(json.dumps(self.facts))
        await self.machine.power_on(
            Boot(image=self.image, memory={"/etc": 32 * MIB, "/var": 64 * MIB, "/tmp": 20 * MIB})
        )
        await self.run(BOOT)

    async def run(self, script: str, timeout: float = 20) -> tuple[int, str, str]:
        return await self.machine.run(script, timeout=timeout)

    async def good(self, script: str) -> str:
        """Standard output of a script that must succeed."""
        status, out, err = await self.run("set -e\n" + script)
        assert status == 0, (script, status, out, err)
        return out


def fill(root: Path, part: str) -> None:
    """Directories, links and files as world.json lists them."""
    for path, what in WORLD[part].items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            place.mkdir(exist_ok=True)
        elif what.startswith("-> "):
            place.symlink_to(what[3:])
        else:
            place.write_text(what)
            place.chmod(0o600 if "_key" in path and not path.endswith(".pub") else 0o644)


def sets(path: Path) -> None:
    """base.txz with a world of a few dozen files."""
    with tarfile.open(path, "w:xz") as archive:
        for name, what in WORLD["base"].items():
            info = tarfile.TarInfo(f"./{name}")
            mode, _, content = (what or "755").partition(" ")
            info.mode, info.mtime = int(mode, 8), 1795381380
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                data = content.encode()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
