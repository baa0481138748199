"""What real parsers make of our command lines: QEMU's own, systemd-run's, and virsh with libvirt's test driver."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from controller.drivers.power import switch
from controller.encode import vm
from controller.encode.sh import sh
from controller.errors import Retry
from controller.graph import resolve
from controller.manifests import Blob, load
from controller.model import Answer, Script
from tests.lab.guest import SMALL
from tests.lab.monitor import Monitor

QEMU = replace(SMALL, name="build-vm.1", memory=128 << 20, cpus=3, disk="/var/lib/jailops/build+vm@1=a:b.raw")
BUS = """\
<busconfig>
  <type>session</type>
  <listen>{address}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
"""A bus that starts nobody."""
DOMAIN = vm.Domain("build-vm", "test", "test:///default")


@contextmanager
def running(machine: vm.Qemu, directory: Path) -> Iterator[Monitor]:
    """QEMU with our command line; only what needs a place or a network of its own is exchanged."""
    disk, path = directory / Path(machine.disk).name, directory / "qmp"
    disk.write_bytes(bytes(1 << 20))
    argv = [
        word.replace(vm.socket(machine.name), str(path)).replace(machine.disk, str(disk))
        for word in vm.qemu_argv(machine)
    ]
    argv[argv.index("-nic") + 1] = argv[argv.index("-nic") + 1].replace(
        "tap,ifname=tap1,script=no,downscript=no", "user,restrict=on"
    )
    process = subprocess.Popen([*argv, "-S"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        monitor = Monitor(path)
        yield monitor
        monitor.ask("quit")
        monitor.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.mark.lab
def test_qemu_reads_every_value(tmp_path: Path) -> None:
    with running(replace(QEMU, vnc=7), tmp_path) as monitor:
        assert monitor.ask("query-name") == {"name": "build-vm.1"}
        assert monitor.ask("query-memory-size-summary")["base-memory"] == 128 << 20
        assert len(monitor.ask("query-cpus-fast")) == 3
        (disk,) = [one["inserted"] for one in monitor.ask("query-block") if "inserted" in one]
        assert (disk["file"], disk["drv"]) == (str(tmp_path / "build+vm@1=a:b.raw"), "raw")
        network = monitor.ask("human-monitor-command", **{"command-line": "info network"})
        assert "model=e1000,macaddr=52:54:00:12:34:56" in network
        seen = monitor.ask("query-vnc")
        assert (seen["enabled"], seen["host"], seen["service"]) == (True, "127.0.0.1", "5907")
        assert monitor.ask("query-kvm")["enabled"] is False
        assert [one for one in monitor.ask("query-machines") if one.get("alias") == "pc"]
        assert monitor.ask("qom-get", path="/machine", property="type").startswith("pc-i440fx")


@pytest.mark.lab
@pytest.mark.parametrize(("bus", "card"), [("ide", "e1000"), ("virtio", "virtio-net-pci")])
@pytest.mark.parametrize(("computer", "known"), [("pc", "pc-i440fx"), ("q35", "pc-q35")])
def test_qemu_knows_every_word(bus: str, card: str, computer: str, known: str, tmp_path: Path) -> None:
    with running(replace(QEMU, disk_bus=bus, card=card, machine=computer), tmp_path) as monitor:
        assert monitor.ask("qom-get", path="/machine", property="type").startswith(known)
        network = monitor.ask("human-monitor-command", **{"command-line": "info network"})
        assert f"model={card}" in network
        assert monitor.ask("query-vnc")["enabled"] is False


@pytest.mark.lab
def test_systemd_run_reads_every_property(tmp_path: Path) -> None:
    """What the real systemd-run asks of systemd, seen on a bus where nobody answers it."""
    address = f"unix:path={tmp_path}/bus"
    (tmp_path / "bus.conf").write_text(BUS.format(address=address))
    bus = subprocess.Popen(["dbus-daemon", "--nofork", f"--config-file={tmp_path}/bus.conf"])
    env = {"PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": address}
    watch = None
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "bus").exists():
            assert time.monotonic() < deadline, "no bus"
            time.sleep(0.02)
        seen = (tmp_path / "seen").open("w+")
        watch = subprocess.Popen(["dbus-monitor", "--session"], env=env, stdout=seen)
        while "NameAcquired" not in (tmp_path / "seen").read_text():
            assert time.monotonic() < deadline, "nobody watches the bus"
            time.sleep(0.02)
        argv = vm.unit_argv(replace(QEMU, vnc=1))
        ended = subprocess.run([argv[0], "--user", *argv[1:]], env=env, capture_output=True, check=False, timeout=20)
        assert ended.returncode == 1, "nobody is there to start it"
        while "ServiceUnknown" not in (tmp_path / "seen").read_text():
            assert time.monotonic() < deadline, f"systemd-run asked nobody: {ended.stderr!r}"
            time.sleep(0.02)
        text = (tmp_path / "seen").read_text()
    finally:
        for process in (watch, bus):
            if process is not None:
                process.kill()
                process.wait()
        seen.close()
    asked = [re.findall(r'string "(.*)"', text[text.index("member=StartTransientUnit") :].partition("\nerror")[0])][0]
    assert asked[0] == "jailops-vm-build-vm.1.service"
    given = dict(pairwise(asked))
    assert given["Description"] == "jailops build VM build-vm.1"
    assert given["Type"] == "exec"
    assert given["RuntimeDirectory"] == "jailops-vm-build-vm.1"
    assert "RuntimeDirectoryMode" in asked
    stop = asked.index("ExecStop")
    assert asked[stop + 1 : stop + 4] == ["/bin/sh", "/bin/sh", "/run/jailops-vm-build-vm.1.stop"]
    assert re.search(r"TimeoutStopUSec.*?uint64 300000000\n", text, re.DOTALL)
    start = asked.index("ExecStart")
    program = vm.qemu_argv(replace(QEMU, vnc=1))
    assert asked[start + 1].endswith("/qemu-system-x86_64")
    assert asked[start + 3 : start + 2 + len(program)] == program[1:]


@pytest.mark.lab
def test_virsh_knows_our_words() -> None:
    look = run(vm.look_script(DOMAIN))
    assert vm.parse_power(look, "build-vm").word == "running"
    assert run(vm.proof_script(DOMAIN)).exit == 0
    absent = run(vm.look_script(replace(DOMAIN, domain="nobody")))
    assert (absent.exit, "failed to get domain 'nobody'" in absent.err) == (75, True)
    with pytest.raises(Retry, match="cannot see whether build-vm runs: error: failed to get domain"):
        vm.parse_power(absent, "build-vm")
    again = run(vm.start_script(DOMAIN))
    assert (again.exit, "Domain is already active" in again.err) == (1, True)


@pytest.mark.lab
def test_virsh_reads_acpi_and_a_press_that_was_refused_is_not_noted(tmp_path: Path) -> None:
    """0x1 is VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, which the test driver knows and cannot do."""
    note = tmp_path / "asked"
    refused = run(Script(vm.stop_script(DOMAIN).replace("/run/jailops-vm-build-vm.asked", str(note))))
    assert (refused.exit, "unsupported flags (0x1)" in refused.err, note.exists()) == (1, True, False)


def run(script: Script) -> Answer:
    ended = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=False, timeout=30)
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def test_the_command_line_of_the_docs_is_what_its_manifest_becomes() -> None:
    page = (Path(__file__).parents[2] / "docs/build-vm.md").read_text()
    manifest = page[page.index("apiVersion") :].partition("```")[0]
    (one,) = load([Blob("build-vm.yaml", "1", manifest.encode())]).objects
    power = switch(resolve([one]), "build-vm")
    assert power is not None
    assert isinstance(power.machine, vm.Qemu)
    typed = shlex.split(page[page.index("systemd-run --unit") :].partition("```")[0].replace("\\\n", " "))
    run = vm.unit_argv(power.machine)
    assert [word for word in run if not word.startswith(("--quiet", "--no-ask-password", "--description"))] == typed


@pytest.mark.parametrize("value", ["a,b", "a b", "a$HOME", "a%i", "a'b", 'a"b', "a\\b", "a\nb", ""])
def test_no_value_becomes_another_option(value: str) -> None:
    for field in ("disk", "tap", "mac", "card", "machine", "disk_format", "disk_bus", "accelerator"):
        changed: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match="not a value for QEMU's command line"):
            vm.qemu_argv(replace(QEMU, **changed))
    with pytest.raises(ValueError, match="not a build VM's name"):
        vm.unit_argv(replace(QEMU, name=value))
    with pytest.raises(ValueError, match="not a value for QEMU's command line"):
        vm.start_script(replace(QEMU, bridge=value))


@pytest.mark.parametrize("value", ["it's", "$(reboot)", "a b", "--help"])
def test_a_domain_is_one_word(value: str) -> None:
    for script in (vm.look_script, vm.start_script, vm.stop_script, vm.proof_script):
        words = script(replace(DOMAIN, domain=value, uri=value))
        assert sh("--connect {value}", value=value) in words
        assert sh("--domain {value}", value=value) in words


@pytest.mark.parametrize(
    ("text", "on", "asked", "since"),
    [
        ("now 100\nstate ActiveState=active\n", True, "", 100),
        ("now 100\nasked start 90\nstate ActiveState=activating\n", True, "start", 10),
        ("now 100\nasked stop 90\nstate ActiveState=inactive\n", False, "stop", 10),
        ("now 100\nasked stop\nstate shut off\n", False, "", 100),
        ("now 100\nasked something 90\nstate in shutdown\n", True, "", 10),
    ],
)
def test_an_answer_of_the_hypervisor(text: str, on: bool, asked: str, since: int) -> None:
    power = vm.parse_power(Answer(0, text.encode(), b""), "build-vm")
    assert (power.on, power.asked, power.since) == (on, asked, since)


@pytest.mark.parametrize(
    "text", ["", "now 100\n", "state ActiveState=active\n", "now 1\nstate no state\n", "now x\nstate running\n"]
)
def test_an_answer_that_is_none_is_unknown(text: str) -> None:
    with pytest.raises(Retry, match="cannot see whether build-vm runs"):
        vm.parse_power(Answer(0, text.encode(), b""), "build-vm")
