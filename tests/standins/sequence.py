"""Replays the reference transcripts on simulated nodes, in the order and from the states in which they were made."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.standins.node import Node

TRANSCRIPTS = Path(__file__).parents[1] / "cases" / "transcripts" / "13.2"
CASES = Path(__file__).parent / "cases"
LIMIT = 2.0
"""Seconds after which a command that was given up on the real node is given up here."""
DISK = "newfs -U -L jails /dev/da0 >/dev/null; mount /dev/ufs/jails /iscsi; mkdir -p /iscsi/jails/etc/ezjail"
JAIL = """
ezjail-admin install -h file:///dist >/dev/null 2>&1
ezjail-admin create example 198.51.100.61 >/dev/null 2>&1
ezjail-admin start example
"""
SELF_SUFFICIENT = """
echo y | ezjail-admin delete -w "bad name" >/dev/null
for jail in example 42; do
    echo 'export jail_'$jail'_fstab="/iscsi/jails/etc/fstab.'$jail'"' >>/usr/local/etc/ezjail/$jail
    echo "/iscsi/jails/basejail /iscsi/jails/$jail/basejail nullfs ro 0 0" >/iscsi/jails/etc/fstab.$jail
done
"""


@dataclass(frozen=True)
class Turn:
    """One command of a transcript: what the real node said, and what the simulated one did."""

    number: int
    command: str
    want: dict[str, Any]
    have: dict[str, Any]


async def replay(site: Path) -> dict[str, list[Turn]]:
    """Transcript name -> its turns."""
    done: dict[str, list[Turn]] = {}
    machines = await asyncio.gather(_node(site, done), _other(site, done), _san(site, done))
    done["uncovered"] = [Turn(0, line, {}, {}) for one in machines for line in one.machine.uncovered()]
    return done


async def _node(site: Path, done: dict[str, list[Turn]]) -> Node:
    node = Node(site / "first")
    try:
        await _first_life(node, done)
        await _after_reboot(node, done)
        await _by_itself(node, done)
    finally:
        await node.machine.power_off()
    return node


async def _other(site: Path, done: dict[str, list[Turn]]) -> Node:
    node = Node(site / "second")
    try:
        await _late_looks(node, done)
    finally:
        await node.machine.power_off()
    return node


async def _san(site: Path, done: dict[str, list[Turn]]) -> Node:
    node = Node(site / "third")
    try:
        await node.boot()
        await _play(node, "08-san-ctld-mountd", done)
    finally:
        await node.machine.power_off()
    return node


async def _first_life(node: Node, done: dict[str, list[Turn]]) -> None:
    await node.boot()
    await _play(node, "03-jail-none", done)
    await node.good(DISK + "; umount /iscsi")
    await _play(node, "04-iscsi-disk", done)
    await _play(node, "05-ezjail", done)
    await _play(node, "06-service", done)
    await _play(node, "09-csh-login-shell", done)


async def _after_reboot(node: Node, done: dict[str, list[Turn]]) -> None:
    await node.machine.power_off()
    await node.boot()
    await _play(node, "07-after-reboot", done)
    node.away(70)
    await _play(node, "10-san-outage", done)
    node.back()
    await asyncio.sleep(0.5)
    await _play(node, "11-san-back", done)


async def _by_itself(node: Node, done: dict[str, list[Turn]]) -> None:
    await node.good(SELF_SUFFICIENT)
    await node.machine.power_off()
    conf = node.image / "template" / "etc"
    rc = (conf / "rc.conf").read_text().replace('"-Aa"', '"-Aa -w 30"')
    (conf / "rc.conf").write_text(rc)
    with (conf / "fstab").open("a") as file:
        file.write("/dev/ufs/jails /iscsi ufs rw,late,failok 0 0\n")
    await node.boot()
    await _play(node, "12-booted-by-itself", done)


async def _late_looks(node: Node, done: dict[str, list[Turn]]) -> None:
    """01 and 02 were made late in the life of a node whose jail ran and whose /tmp had once been exported."""
    node.facts = {"dmesg": ["NFS ROOT: 198.51.100.10:/export/freebsd"]}
    await node.boot()
    await _play(node, "02-net", done)
    await node.good(DISK + JAIL)
    state = node.machine.directory / "lab" / "state" / "kernel.json"
    kernel = json.loads(state.read_text())
    next(one for one in kernel["mounts"] if one["node"] == "/tmp")["flags"].insert(0, "NFS exported")
    state.write_text(json.dumps(kernel))
    await _play(node, "01-boot", done)


async def _play(node: Node, name: str, done: dict[str, list[Turn]]) -> None:
    turns = []
    for number, want in enumerate(json.loads((TRANSCRIPTS / f"{name}.json").read_text())):
        if "ssh_command" in want:
            have = await _given(node.machine.shell(want["ssh_command"], login="/bin/csh"), "", 20)
        else:
            have = await _given(node.machine.shell(), want["command"], LIMIT if want["exit"] is None else 20)
        turns.append(Turn(number, want.get("command") or want["ssh_command"], want, have))
    done[name] = turns


async def _given(argv: list[str], script: str, limit: float) -> dict[str, Any]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    waiting = asyncio.ensure_future(process.communicate(script.encode()))
    finished, _ = await asyncio.wait([waiting], timeout=limit)
    if not finished:
        waiting.add_done_callback(lambda late: late.cancelled() or late.exception())
        return {"exit": None, "stdout": "", "stderr": "TIMEOUT"}
    out, err = waiting.result()
    return {"exit": process.returncode, "stdout": out.decode(), "stderr": err.decode()}


def normal(text: str, rules: list[list[str]]) -> str:
    for pattern, replacement, *_ in rules:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text
