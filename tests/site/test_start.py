"""What every look asks of a server starts without the imports that would cost more than all the rest of its life."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import controller

DEAR = {
    "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "importlib", "inspect", "ipaddress", "json",
    "pathlib", "re", "shutil", "signal", "socket", "subprocess", "tempfile", "typing",
}  # fmt: skip
BY_RE = {"collections", "enum", "functools", "re"}
PROGRAM = """import sys
sys.path.insert(0, sys.argv[1])
from controller.lab.servers.kit import Box
from controller.lab.servers.run import run
status = run(sys.argv[3:], Box(sys.argv[2]))
print(status, *sys.modules)
"""
EXPORT = {"id": 12, "path": "/export", "client": "198.51.100.50", "options": ["ro"], "from": "dbus"}
STATE = {"machine": {"address": "198.51.100.10"}, "exports": [EXPORT], "domains": ["freebsd13"]}
MANAGER = (
    "dbus-send --system --print-reply --dest=org.ganesha.nfsd /org/ganesha/nfsd/ExportMgr org.ganesha.nfsd.exportmgr."
)

ASKED = [
    # the command, its exit status, and what it may import
    (f"{MANAGER}ShowExports", 0, set()),
    (f"{MANAGER}DisplayExport uint16:12", 0, set()),
    ("exportfs -s", 0, set()),
    ("rpcinfo -u 198.51.100.10 nfs 3", 0, set()),
    ("tgtadm --lld iscsi --op show --mode target", 0, set()),
    ("ss -Hlun", 0, set()),
    ("service isc-dhcp-server status", 3, set()),
    ("systemctl is-active tftpd-hpa", 0, set()),
    ("dhcpd -4 -t -cf /dhcpd.conf", 0, BY_RE),
    ("journalctl --quiet --no-pager --output=short-unix --lines=5 --identifier=dhcpd", 0, set()),
    ("cc --version", 0, set()),
    ("mount -p", 0, set()),
    ("systemctl show --property=ActiveState jailops-vm-build.service", 0, set()),
    ("virsh --quiet --connect qemu:///system domstate --domain freebsd13", 0, set()),
]


@pytest.mark.parametrize(("command", "status", "allowed"), ASKED, ids=[command.split()[0] for command, _, _ in ASKED])
def test_a_question_of_every_look_imports_little(command: str, status: int, allowed: set[str], tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    for name, value in STATE.items():
        (tmp_path / f"lab/{name}.json").write_text(json.dumps(value))
    (tmp_path / "dhcpd.conf").write_text("subnet 198.51.100.0 netmask 255.255.255.0 { }\n")
    started = [sys.executable, "-IS", "-c", PROGRAM, str(Path(controller.__file__).parents[1]), str(tmp_path)]
    said = subprocess.run([*started, *shlex.split(command)], capture_output=True, text=True, check=True)
    ended, *modules = said.stdout.splitlines()[-1].split()
    assert int(ended) == status, said.stderr
    assert DEAR & set(modules) == allowed
    assert not (tmp_path / "lab/uncovered").exists()
