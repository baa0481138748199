"""A FreeBSD SAN: what ctld and mountd do that nobody would wish, and the driver that must live with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.diff import Verdict, digest_of, judge
from controller.drivers import DRIVERS, World
from controller.encode.sh import fill, holes
from controller.errors import ControllerError
from controller.graph import Desired
from controller.lab.machine import Machine
from controller.model import Answer, Facts, Ref, Resource, Run, Script
from controller.observe import observe
from controller.plan import make_plan
from controller.secret import Secret
from tests.drivers.scene import digest, manifests

TARGETS = ("n1", "n2")
CTLD = "service syslogd start >/dev/null; service ctld onestart >/dev/null 2>&1"
MOUNTD = """
mkdir -p /tmp/export /tmp/other
service syslogd start; service rpcbind onestart; service mountd onestart
""".replace("start;", "start >/dev/null;")


def conf(sizes: Sequence[str], names: Sequence[str] = TARGETS) -> str:
    """A ctl.conf with one target for every size."""
    blocks = [
        f"target iqn.2026-11.org.example:{name} {{\n auth-group no-authentication\n portal-group pg0\n lun 0 {{\n"
        f"  path /tmp/{name}\n  size {size}\n  serial {name}\n  device-id {name}\n }}\n}}\n"
        for name, size in zip(names, sizes, strict=False)
    ]
    return "portal-group pg0 {\n discovery-auth-group no-access\n listen 127.0.0.1:3260\n}\n" + "".join(blocks)


def put(text: str) -> str:
    return f"umask 077; cat >/etc/ctl.conf <<'END'\n{text.rstrip()}\nEND\n"


async def machine(path: Path, *, cfiscsi: bool) -> AsyncIterator[Machine]:
    one = Machine(path / "san", "san")
    (one.directory / "root" / "srv").mkdir()
    (one.directory / "lab" / "node.json").write_text(json.dumps({"cfiscsi": cfiscsi, "hostname": "san"}))
    await one.power_on()
    await one.run("mkdir -p /var/log; truncate -s 64M /tmp/n1 /tmp/n2")
    yield one
    await one.power_off()
    assert one.uncovered() == []


@pytest.fixture
async def san(tmp_path: Path) -> AsyncIterator[Machine]:
    async for one in machine(tmp_path, cfiscsi=True):
        yield one


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Machine]:
    """Its kernel has no iSCSI frontend."""
    async for one in machine(tmp_path, cfiscsi=False):
        yield one


BLOCKS = "ctladm devlist | awk 'NR > 1 {print $5, $3}'"
RELOADS = [
    ("grown", conf(["128M", "64M"]), "n1 262144\nn2 131072\n", ""),
    ("shrunk without a word", conf(["32M", "64M"]), "n1 65536\nn2 131072\n", ""),
    ("broken", conf(["128M"]) + "x { broken\n", "n1 131072\nn2 131072\n", "continuing with old configuration"),
    ("half written", conf(["128M"])[:-9], "n1 131072\nn2 131072\n", "syntax error"),
    ("unquoted junk", conf(["12%8M"]), "n1 131072\nn2 131072\n", "near '%': syntax error"),
    ("one target less", conf(["64M"]), "n1 131072\n", ""),
    ("a volume that is missing", conf(["64M", "64M"], ("n1", "n3")), "n1 131072\n", 'failed to add lun "'),
]
"""What /etc/ctl.conf holds then, what is served after the reload, and what /var/log/messages says."""


@pytest.mark.parametrize(("text", "served", "logged"), [row[1:] for row in RELOADS], ids=[row[0] for row in RELOADS])
async def test_every_reload_exits_0(san: Machine, text: str, served: str, logged: str) -> None:
    await san.run(put(conf(["64M", "64M"])) + CTLD)
    assert await san.run(f"{put(text)}service ctld onereload") == (0, "", "")
    assert (await san.run(BLOCKS))[:2] == (0, served)
    _, lines, _ = await san.run("cat /var/log/messages 2>/dev/null")
    assert logged in lines
    assert bool(lines) == bool(logged)


async def test_a_file_that_ctld_refuses_is_known_before(san: Machine) -> None:
    await san.run(put(conf(["64M"])))
    assert (await san.run("ctld -t; cp /etc/ctl.conf /tmp/x; echo '}' >>/tmp/x; ctld -t -f /tmp/x"))[0] == 1
    assert (await san.run("ctld -t"))[0] == 0


async def test_one_missing_volume_ends_ctld_at_its_start_and_leaves_the_other_lun(san: Machine) -> None:
    status, _, err = await san.run(put(conf(["64M", "64M"], ("n1", "n3"))) + "service ctld onestart")
    assert status == 1
    assert "failed to apply configuration; exiting\n/etc/rc.d/ctld: WARNING: failed to start ctld\n" in err
    assert (await san.run(BLOCKS))[1] == "n1 131072\n"
    assert await san.run("service ctld onestatus") == (1, "ctld is not running.\n", "")
    assert (await san.run("truncate -s 64M /tmp/n3; service ctld onestart; " + BLOCKS))[1].endswith("n3 131072\n")


async def test_stopping_removes_every_lun(san: Machine) -> None:
    await san.run(put(conf(["64M", "64M"])) + CTLD)
    assert (await san.run("service ctld onestop"))[:2] == (0, "Stopping ctld.\n")
    assert await san.run(BLOCKS) == (0, "", "")


async def test_ports_and_who_is_logged_in(san: Machine) -> None:
    await san.run(put(conf(["64M", "64M"])) + CTLD)
    login = {"initiator": "iqn.1994-09.org.freebsd:n1", "address": "198.51.100.50"}
    logins = [{**login, "target": "iqn.2026-11.org.example:n1"}, {**login, "target": "iqn.2026-11.org.example:gone"}]
    san.path("/lab/logins.json").write_text(json.dumps(logins))
    assert (await san.run("ctladm portlist | tail -n 2"))[1] == (
        "3    YES    iscsi    iscsi    257 1  iqn.2026-11.org.example:n1,t,0x0101\n"
        "4    YES    iscsi    iscsi    257 2  iqn.2026-11.org.example:n2,t,0x0101\n"
    )
    assert (await san.run("ctladm islist"))[1] == (
        "  ID Portal           Initiator name                       Target name                         \n"
        "   1 198.51.100.50    iqn.1994-09.org.freebsd:n1           iqn.2026-11.org.example:n1          \n"
    )


async def test_without_the_frontend_a_lun_is_made_and_nobody_can_reach_it(bare: Machine) -> None:
    status, out, err = await bare.run(
        put(conf(["64M"])) + "service ctld onestart; ctladm portlist -x; ctladm islist -x"
    )
    assert status == 0
    assert "iscsi" not in out
    assert err.count('Frontend "iscsi" not found') == 2
    assert (await bare.run(BLOCKS))[1] == "n1 131072\n"


EXPORTS = [
    ("all good", "/tmp/export -ro 198.51.100.50 198.51.100.51\n", {"/tmp/export": "198.51.100.50 198.51.100.51"}, ""),
    ("no directory", "/tmp/none -ro 198.51.100.50\n/tmp/other -ro 198.51.100.50\n", {"/tmp/other": "198.51.100.50"},
     "'/tmp/none': symbolic link in export path or statfs failed"),
    ("a link", "/tmp/link -ro 198.51.100.50\n", {}, "'/tmp/link': symbolic link in export path or statfs failed"),
    ("bad option", "/tmp/other -wrong 198.51.100.50\n/tmp/export -ro 198.51.100.50\n", {"/tmp/export": "198.51.100.50"},
     "bad opt wrong"),
    ("nothing", "# nothing\n", {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "served", "logged"), [row[1:] for row in EXPORTS], ids=[row[0] for row in EXPORTS])
async def test_mountd_skips_bad_lines_and_says_so_only_in_the_log(
    san: Machine, text: str, served: dict[str, str], logged: str
) -> None:
    await san.run(MOUNTD + "ln -s export /tmp/link")
    assert await san.run(f"printf '{text}' >/etc/exports; service mountd onereload") == (0, "", "")
    rows = [f"{path:<34} {hosts} \n" for path, hosts in served.items()]
    assert await san.run("showmount -e localhost") == (0, "Exports list on localhost:\n" + "".join(rows), "")
    assert logged in (await san.run("cat /var/log/messages 2>/dev/null"))[1]


async def test_showmount_without_mountd_is_no_empty_list(san: Machine) -> None:
    status, out, err = await san.run("showmount -e localhost")
    assert (status, out) == (1, "")
    assert err


NFS = "rpcinfo -u 198.51.100.10 nfs 3"


async def test_a_list_of_mountd_says_nothing_about_nfsd(san: Machine) -> None:
    assert await san.run(NFS) == (
        1, "program 100003 version 3 is not available\n", "rpcinfo: RPC: Port mapper failure - RPC: Timed out\n",
    )  # fmt: skip
    await san.run(MOUNTD)
    assert (await san.run("showmount -e localhost"))[0] == 0
    assert await san.run(NFS) == (
        1, "program 100003 version 3 is not available\n", "rpcinfo: RPC: Program not registered\n",
    )  # fmt: skip
    assert (await san.run("service nfsd onestatus"))[:2] == (1, "nfsd is not running.\n")
    assert (await san.run("service nfsd onestart"))[0] == 0
    assert await san.run(NFS) == (0, "program 100003 version 3 ready and waiting\n", "")
    assert (await san.run("service nfsd onestop"))[0] == 0
    assert (await san.run(NFS))[0] == 1


async def test_the_driver_sees_a_dead_nfsd(san: Machine) -> None:
    controller = Controller(san, manifests(CTLD_SAN))
    (exports,) = (one for one in DRIVERS["exports"].resources(controller.desired))
    question = DRIVERS["exports"].probes(exports)[-1].script
    await san.run(MOUNTD)
    assert (await controller.answer(question)).exit == 1
    await san.run("service nfsd onestart")
    assert (await controller.answer(question)).exit == 0


CTLD_SAN = (
    "infrastructure/san.yaml: backend: tgt => backend: ctld",
    "infrastructure/san.yaml: backend: ganesha => backend: freebsd",
)
HOST = Ref("lun", "disklessfreebsdbox")
OTHER = Ref("lun", "jailbox2")
SIZE = "hosts/disklessfreebsdbox.yaml: size: 3GiB => size: "
GONE = ("hosts/disklessfreebsdbox.yaml: removed", "jails/disklessfreebsdbox.yaml: removed")


@dataclass
class Controller:
    """The daemon's pass over the LUNs of one SAN: look, judge, plan, act; no clock, no store, no ssh."""

    san: Machine
    desired: Desired
    applied: dict[Ref, Facts] = field(default_factory=dict)
    memory: dict[Ref, Resource] = field(default_factory=dict)

    async def ask_each(
        self, host: str, lane: str, scripts: Sequence[str], timeout: float
    ) -> Sequence[Answer | ControllerError]:
        assert (host, lane) == ("san", "main")
        return [await self.answer(script, timeout) for script in scripts]

    async def answer(self, script: str, timeout: float = 60) -> Answer:
        text = fill(script, {name: Secret(name, f"the secret {name}") for name in holes(Script(script))})
        status, out, err = await self.san.run(text, timeout=timeout)
        return Answer(status, out.encode(), err.encode())

    def resources(self) -> list[Resource]:
        """Those declared, and those made before that no manifest declares any more."""
        driver = DRIVERS["lun"]
        declared = {one.ref: one for one in driver.resources(self.desired)}
        retired = [
            driver.retired(ref, driver.memory(one), self.desired)
            for ref, one in self.memory.items()
            if ref not in declared
        ]
        self.memory |= declared
        return [*declared.values(), *(one for one in retired if one is not None)]

    async def look(self) -> tuple[list[Resource], World, Verdict]:
        resources = self.resources()
        observed = await observe(resources, self, self.applied)
        world = World(self.desired, observed, self.applied, digest)
        known = {ref: digest_of(facts) for ref, facts in self.applied.items()}
        return resources, world, judge(resources, world, known)

    async def reconcile(self) -> dict[Ref, str]:
        """One pass; state of every LUN at the look after it, with the words of what holds it up."""
        resources, world, verdict = await self.look()
        for action in make_plan(resources, verdict, world).actions:
            steps = action.steps()
            try:
                step = next(steps)
                while True:
                    assert isinstance(step, Run)
                    step = steps.send(await self.answer(step.script))
            except StopIteration:
                self.applied[action.change.ref] = action.change.want or {}
        verdict = (await self.look())[2]
        return {ref: f"{status.state} {status.message}".strip() for ref, status in verdict.statuses.items()}

    async def served(self) -> dict[str, int]:
        """Target -> GiB of its LUN."""
        out = (await self.answer("ctladm devlist -v")).out.splitlines()
        blocks = [int(line.split()[2]) for line in out if line[4:9] == "block"]
        names = [line.partition("=")[2] for line in out if "ctld_name=" in line]
        return {name.partition(",")[0].rpartition(":")[2]: size >> 21 for name, size in zip(names, blocks, strict=True)}


def states(statuses: dict[Ref, str]) -> dict[Ref, str]:
    return {ref: words.split()[0] for ref, words in statuses.items()}


async def test_the_driver_creates_grows_and_retires_on_such_a_machine(san: Machine) -> None:
    controller = Controller(san, manifests(CTLD_SAN))
    assert states(await controller.reconcile()) == {HOST: "Ready", OTHER: "Ready"}
    before = await controller.served()
    assert before["disklessfreebsdbox"] == 3
    assert len(before) == 2

    controller.desired = manifests([*CTLD_SAN, SIZE + "4GiB"])
    assert states(await controller.reconcile()) == {HOST: "Ready", OTHER: "Ready"}
    assert await controller.served() == {**before, "disklessfreebsdbox": 4}

    controller.desired = manifests([*CTLD_SAN, *GONE])
    assert states(await controller.reconcile()) == {HOST: "Retired", OTHER: "Ready"}
    assert await controller.served() == {"jailbox2": before["jailbox2"]}
    assert (await controller.answer("wc -c </srv/iscsi/jailops/disklessfreebsdbox")).out.strip() == str(4 << 30)


STRANGER = {
    "initiator": "iqn.1994-09.org.freebsd:stranger",
    "address": "198.51.100.99",
    "target": "iqn.2026-11.org.example:disklessfreebsdbox",
}


@pytest.mark.parametrize("logins", [[], [STRANGER]], ids=["seen", "not to be seen behind a stranger"])
async def test_a_smaller_size_never_reaches_the_file(san: Machine, logins: list[dict[str, str]]) -> None:
    """Not even by the file that is written because another host has changed."""
    controller = Controller(san, manifests(CTLD_SAN))
    await controller.reconcile()
    before = await controller.served()
    san.path("/lab/logins.json").write_text(json.dumps(logins))
    controller.desired = manifests([*CTLD_SAN, SIZE + "2GiB", "hosts/jailbox2.yaml: size: 8GiB => size: 9GiB"])
    assert states(await controller.reconcile()) == {HOST: "Stalled", OTHER: "Ready"}
    assert await controller.served() == {**before, "jailbox2": 9}
    assert (await controller.answer(f"grep -c 'size {2 << 30}' /etc/ctl.conf")).out == "0\n"


async def test_a_hand_that_broke_the_file_is_undone(san: Machine) -> None:
    controller = Controller(san, manifests(CTLD_SAN))
    await controller.reconcile()
    before = await controller.served()
    await controller.answer("echo 'x { broken' >>/etc/ctl.conf; service ctld onereload")
    assert states(await controller.reconcile()) == {HOST: "Ready", OTHER: "Ready"}
    assert await controller.served() == before
    assert (await controller.answer("ctld -t")).exit == 0


async def test_a_kernel_without_the_frontend_is_never_ready(bare: Machine) -> None:
    assert "Ready" not in states(await Controller(bare, manifests(CTLD_SAN)).reconcile()).values()
