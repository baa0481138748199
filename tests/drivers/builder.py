"""A build VM in one directory: jobs of the recipes run for true, with what FreeBSD has and this computer has not.

Its share is a directory; mount(8) keeps a table, and nothing is really mounted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from controller.drivers.recipe import BuildPlace, build_place, job
from controller.encode.job import Job, job_look_script, job_start_script, job_stop_script, parse_job
from controller.encode.space import Needs
from controller.model import Answer, Script

from .scene import IMAGE, manifests

_PATH: Final = "PATH=/sbin:"
_TOOLS: Final = {
    "mount": """case $1 in
-p) cat {lab}/mounts ;;
-t) printf '%s\\t%s\\t%s\\trw\\t0 0\\n' "$3" "$4" "$2" >> {lab}/mounts ;;
esac""",
    "umount": """test ! -e {lab}/busy || {{ echo "umount: $1: Device busy" >&2; exit 1; }}
awk -v at="$1" '$2 != at' {lab}/mounts > {lab}/mounts.new && mv {lab}/mounts.new {lab}/mounts""",
    "stat": """case $2 in
%m) exec /usr/bin/stat -c %Y "$3" ;;
esac
shift 2
exec /usr/bin/stat -c '%n\t%A\t%i\t%u\t%g\t%s\t' "$@" """,
    "sha256": """case $1 in
-q) sha256sum "$2" | cut -d ' ' -f 1 ;;
-r) shift; sha256sum "$@" | sed 's/  / /' ;;
esac""",
    "df": "cat {lab}/df$1",
}


class Builder:
    """The VM. What a job is made of may name ``$D`` and ``$W``."""

    def __init__(self, directory: Path, **timeouts: int) -> None:
        self.lab, self.share, self.work = (directory / name for name in ("lab", "share", "work"))
        for path in (self.lab / "bin", self.share):
            path.mkdir(parents=True)
        (self.lab / "mounts").write_text("")
        self.room(2**40)
        for name, text in _TOOLS.items():
            self.tool(name, text.format(lab=self.lab))
        self.place = self._place(timeouts)

    def _place(self, timeouts: dict[str, int]) -> BuildPlace:
        place = build_place(manifests(()), IMAGE)
        limits = place.vm.timeouts.model_copy(update=timeouts)
        here = {"share": str(self.share), "work_dir": str(self.work), "timeouts": limits}
        return BuildPlace("build-vm", place.vm.model_copy(update=here), place.share_source, place.images)

    def beside(self, other: Builder, name: str) -> None:
        """A second VM, with the share of another one."""
        self.share = other.share
        self.place = replace(self.place, name=name, vm=self.place.vm.model_copy(update={"share": str(self.share)}))

    def tool(self, name: str, text: str) -> None:
        """A command that is found before this computer's own."""
        (self.lab / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.lab / "bin" / name).chmod(0o755)

    def room(self, free: int, total: int = 2**40, inodes: int = 4_000_000) -> None:
        """What df tells of the share from now on: bytes that are free and there are, and free inodes; FreeBSD's columns."""
        row = f"{total >> 10} {(total - free) >> 10} {free >> 10} 50%"
        blocks = f"Filesystem 1024-blocks Used Avail Capacity Mounted on\nsan:/x {row} /mnt\n"
        head = "Filesystem 512-blocks Used Avail Capacity iused ifree %iused Mounted on"
        (self.lab / "df-kP").write_text(blocks)
        (self.lab / "df-iP").write_text(f"{head}\nsan:/x {row} 10 {inodes} 0% /mnt\n")

    def script(self, name: str, *steps: str, needs: Needs | None = None) -> Script:
        place = replace(self.place, needs=needs)
        return self.here(job(place, f"{self.share}/layers", name, *(Script(step) for step in steps)))

    def here(self, script: Script) -> Script:
        """A job's script, with this VM's commands."""
        assert script.count(_PATH) == 1
        return Script(script.replace(_PATH, f"PATH={self.lab}/bin:/sbin:"))

    def run(self, script: Script, within: float = 30) -> tuple[int, list[str]]:
        """Its exit status and its log."""
        file = self.lab / "script"
        file.write_text(script)
        ended = subprocess.run(
            ["/bin/sh", file],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            timeout=within,
            cwd="/",
        )
        return ended.returncode, ended.stdout.splitlines()

    def start(self, name: str, script: Script) -> None:
        """As a detached job."""
        assert self.asked(job_start_script(f"{self.work}/jobs", name, script)).exit == 0

    def look(self, name: str) -> Job:
        return parse_job(self.asked(job_look_script(f"{self.work}/jobs", name)))

    def log(self, name: str) -> list[str]:
        return self.look(name).tail.decode().splitlines()

    def stop(self, name: str) -> None:
        assert self.asked(job_stop_script(f"{self.work}/jobs", name)).exit == 0

    def asked(self, script: Script) -> Answer:
        """What the VM answers to a script that comes over a connection."""
        ended = subprocess.run(["/bin/sh", "-s"], input=script.encode(), capture_output=True, check=False, timeout=30)
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    def left(self) -> list[str]:
        """What lies among the layers."""
        return sorted(os.listdir(self.share / "layers"))

    def mounts(self) -> Iterable[str]:
        return [line.split("\t")[1] for line in (self.lab / "mounts").read_text().splitlines()]
