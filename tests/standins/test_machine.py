"""The container: nothing gets out, nothing stays, and a machine starts in a moment."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.lab.machine import Boot, Layout, Machine, standin

ROOT = Path(__file__).parents[2]


async def test_writes_stay_in_the_directory_of_the_machine(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m", Layout(system="linux"))
    await machine.power_on()
    status, out, err = await machine.run("echo kept >/srv; echo kept >/etc/kept; cat /etc/kept; id -u; hostname; pwd")
    assert out == "kept\n0\nm\n/root\n"
    assert "/srv: Read-only file system" in err
    assert status == 0
    assert machine.path("/etc/kept").read_text() == "kept\n"
    await machine.power_off()


@pytest.mark.parametrize("place", ["/usr/lib", "/.machine/site", "/.machine/usr", "/usr/bin"])
async def test_what_belongs_to_this_computer_cannot_be_written_nor_uncovered(tmp_path: Path, place: str) -> None:
    machine = Machine(tmp_path / "m", "m", Layout(system="linux"))
    await machine.power_on()
    for attempt in (f"touch {place}/x", f"mount -o remount,bind,rw {place}", f"umount {place}"):
        status, _, err = await machine.run(attempt)
        assert status != 0, attempt
        assert err
    assert await machine.run("ls /.machine/old; ls -d /work /home/*") != (0, "", "")
    await machine.power_off()


async def test_a_freebsd_machine_offers_no_program_that_freebsd_lacks(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m")
    await machine.power_on()
    names = "python3 perl jq flock sha256sum bash systemctl ip git"
    assert await machine.run(f"for n in {names}; do command -v $n; done; command -v sh") == (0, "/bin/sh\n", "")
    await machine.power_off()


async def test_stand_ins_start_from_compiled_code(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m")
    await machine.power_on()
    status, _, err = await machine.run("read -r first </bin/date; ${first#??}v /bin/date")
    loaded = re.findall(r"# code object from '(/\.machine/site/\S+)'", err)
    assert (status, len(loaded) > 3) == (0, True)
    assert [one for one in loaded if not one.endswith(".pyc")] == []
    await machine.power_off()


async def test_power_off_ends_every_process_and_empties_memory(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m", Layout(system="linux"))
    await machine.power_on(Boot(memory={"/var": 1 << 20}))
    await machine.run("echo x >/var/x; echo x >/lab/state/x; (setsid sleep 1000 >/dev/null 2>&1 &)")
    inside = _children(machine.pid)
    assert inside
    started = time.monotonic()
    await machine.power_off()
    assert time.monotonic() - started < 2
    assert not machine.running
    assert machine.path("/lab/off").exists()
    assert set(inside).isdisjoint(int(name) for name in os.listdir("/proc") if name.isdigit())
    with pytest.raises(Stall, match="switched off"):
        machine.shell()
    await machine.power_on(Boot(memory={"/var": 1 << 20}))
    assert await machine.run("ls /var /lab/state") == (0, "/lab/state:\n\n/var:\n", "")
    await machine.power_off()


def _children(pid: int) -> list[int]:
    """Everything in the pid namespace of a machine's first process."""
    space = os.readlink(f"/proc/{pid}/ns/pid")
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == space:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


KILLED = """
import asyncio, sys
from pathlib import Path
from controller.lab.machine import Layout, Machine
async def main():
    machine = Machine(Path(sys.argv[1]), "m", Layout(system="linux"))
    await machine.power_on()
    print((await machine.run("ls /etc; echo started"))[1], machine.pid, flush=True)
    await asyncio.sleep(100)
asyncio.run(main())
"""


def test_a_killed_owner_takes_its_machine_along(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    owner = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "m")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert owner.stdout is not None
    said = owner.stdout.readline(), owner.stdout.readline()
    pid = int(said[1])
    assert said[0] == "started\n"
    owner.kill()
    owner.communicate()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_no_privileges_are_needed() -> None:
    """As root: the same script again as nobody, with a Python that nobody can read."""
    python, prefix = sys.executable, []
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
            python = "/usr/bin/python3"
        code = KILLED.replace("await asyncio.sleep(100)", "await machine.power_off()")
        command = [*prefix, python, "-B", "-c", code, f"{directory}/m"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.partition("\n")[0], done.stderr, done.returncode) == ("started", "", 0)


async def test_orphans_are_reaped(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m", Layout(system="linux"))
    await machine.power_on()
    await machine.run("(sleep 0.1 &)")
    await asyncio.sleep(0.3)
    assert "defunct" not in (await machine.run("ps -ef"))[1]
    await machine.power_off()


async def test_commands_of_others_replace_programs(tmp_path: Path) -> None:
    commands = {
        "/usr/sbin/exportfs": "#!/bin/sh\necho mine $*\n",
        "/usr/bin/sizes": standin("controller.lab.standins.farm", "linux"),
    }
    machine = Machine(tmp_path / "m", "m", Layout(system="linux", commands=commands))
    await machine.power_on()
    assert await machine.run("exportfs -v; /sbin/exportfs") == (0, "mine -v\nmine\n", "")
    await machine.power_off()


async def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "m", "m", Layout(reads={"/x": tmp_path / "missing"}))
    with pytest.raises(Stall, match="cannot start the simulated machine m") as caught:
        await machine.power_on()
    assert "user namespaces" in caught.value.hint
    assert not machine.running


async def test_ten_questions_take_less_than_half_a_second(tmp_path: Path) -> None:
    """Processor time, not wall time: other tests share this computer."""
    machine = Machine(tmp_path / "m", "m")
    await machine.power_on()
    probe = "jls --libxo json; mount -p; iscsictl -L; ifconfig em0; uname -r; kenv; ls /; hostname; uname -K"
    probe += "; sysctl -n kern.boottime"
    await machine.run(probe)
    before = os.times()
    status, _, err = await machine.run(probe)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert (status, err) == (0, "")
    assert spent < 0.5
    await machine.power_off()
