"""A push to the example's repository changes the infrastructure: first convergence, silence, and every kind of change.

One lab serves all tests of this file, in their order; each leaves it converged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from controller.lab.site import NodePlan
from tests.lab import clients
from tests.lab.clients import Refused
from tests.lab.loop.proofs import (
    BOOT,
    FIRST,
    SAN,
    SAN_ADDRESS,
    SECOND,
    SHARE,
    THIRD,
    aliases,
    case,
    generation,
    jails,
    lease,
    portal,
    root,
    told,
    unpacked,
)
from tests.lab.loop.secrecy import Arguments, leaks, secrets, watched
from tests.lab.loop.stage import RealStage, staged

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]

MAIN, INCLUDE = "/etc/dhcp/dhcpd.conf", "/etc/dhcp/jailops.conf"
SPARE = (NodePlan(THIRD, "12:34:56:78:90:ad", "em0", SAN, BOOT),)
GIB = 1 << 30


@pytest.fixture(scope="module")
def arguments() -> Iterator[Arguments]:
    with watched() as arguments:
        yield arguments


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(arguments: Arguments) -> AsyncIterator[RealStage]:
    """The example pushed, and converged for the first time."""
    del arguments
    async with staged(spare=SPARE) as stage:
        await stage.converged(await head(stage), within=90)
        yield stage


async def head(stage: RealStage) -> str:
    return (await stage.git("rev-parse", "HEAD")).strip()


async def client(call: Callable[..., Any], *arguments: Any) -> Any:
    """A client of the network, run beside the lab."""
    return await asyncio.to_thread(call, *arguments)


# -- the first push ---------------------------------------------------------------------------------------------------


async def test_dhcp_tells_each_node_what_its_manifest_says(stage: RealStage) -> None:
    for host in (FIRST, SECOND):
        assert await client(stage.site.lease, host) == lease(host, generation(stage, host))
    with pytest.raises(Refused):
        await client(clients.dhcp, stage.port(THIRD))


async def test_tftp_gives_the_boot_file_of_the_generation(stage: RealStage) -> None:
    said = await client(stage.site.lease, FIRST)
    place = stage.site.servers[SAN].machine.path(root(generation(stage, FIRST)))
    manifest = json.loads((place / ".jailops/manifest.json").read_text())

    got = hashlib.sha256(await client(clients.tftp, stage.port(FIRST), said.next_server, said.filename)).hexdigest()

    assert got == hashlib.sha256((place / "boot/pxeboot").read_bytes()).hexdigest()
    assert got == manifest["bootFiles"]["boot/pxeboot"]


async def test_nfs_gives_an_archive_with_rc_conf_as_declared(stage: RealStage, tmp_path: Path) -> None:
    server, _, path = (await client(stage.site.lease, FIRST)).root_path.partition(":")

    archive = await client(clients.nfs_read, stage.port(FIRST), server, f"{path}/conf/base/etc.cpio.gz")

    assert (unpacked(archive, tmp_path / "etc") / "etc/rc.conf").read_text() == case("rc.conf")


async def test_a_hosts_own_share_is_for_that_host_alone(stage: RealStage) -> None:
    own = f"{SHARE}/hosts/{FIRST}/etc"
    names = await client(clients.nfs_list, stage.port(FIRST), SAN_ADDRESS, own)
    assert {"iscsi.conf", "rc.conf.local", "ssh"} <= set(names)
    known = {"iscsi.conf": f"{FIRST}/chap", "ssh/ssh_host_ed25519_key": f"{FIRST}/ssh_host_ed25519_key"}
    for file, secret in known.items():
        assert secrets(stage)[secret] in await client(clients.nfs_read, stage.port(FIRST), SAN_ADDRESS, f"{own}/{file}")
    for other in (stage.port(SECOND), stage.site.ctl):
        with pytest.raises(Refused):
            await client(clients.nfs_list, other, SAN_ADDRESS, own)
        with pytest.raises(Refused):
            await client(clients.nfs_read, other, SAN_ADDRESS, f"{own}/iscsi.conf")


async def test_iscsi_lets_in_the_node_and_nobody_else(stage: RealStage) -> None:
    first, second = portal(stage, FIRST, chap=True), portal(stage, SECOND, chap=False)
    assert await client(clients.iscsi_size, stage.port(FIRST), first) == 3 * GIB
    assert await client(clients.iscsi_size, stage.port(SECOND), second) == 8 * GIB
    wrong = (
        first.replace(initiator=second.initiator),
        first.replace(user="", secret=""),
        first.replace(secret="a-guess-of-mine"),
        second.replace(initiator=first.initiator),
        second.replace(initiator="iqn.1994-09.org.freebsd:stranger"),
    )
    for one in wrong:
        with pytest.raises(Refused):
            await client(clients.iscsi_size, stage.port(FIRST), one)


async def test_the_jails_run_on_both_nodes(stage: RealStage) -> None:
    assert jails(stage, FIRST) == {"example": ["198.51.100.61"]}
    assert jails(stage, SECOND) == {"db": ["198.51.100.72"], "web": ["198.51.100.71"]}
    assert {"198.51.100.71", "198.51.100.72"} <= set(aliases(stage, SECOND))


# -- silence ----------------------------------------------------------------------------------------------------------


async def test_a_pass_without_changes_writes_nothing_anywhere(stage: RealStage) -> None:
    mark = await stage.site.mark()
    await stage.looked(times=2)
    assert await stage.site.writes(mark) == {}


async def test_a_pass_without_changes_is_one_request_per_host_and_lane(stage: RealStage) -> None:
    await stage.stop_controller()
    status, said = await stage.python("-m", "tests.lab.loop.count", str(stage.settings), "2")
    await stage.start_controller()
    assert status == 0, said
    counted = json.loads(said)
    hosts = {"build-vm", SAN, BOOT, FIRST, SECOND}
    assert counted["result"] == "converged"
    assert counted["lanes"] == {f"{host} main": 1 for host in hosts} | {f"{host} disk": 1 for host in (FIRST, SECOND)}
    assert counted["sent"] == {host: 2 if host in (FIRST, SECOND) else 1 for host in hosts}
    assert counted["connects"] == {}


# -- what a push can change ---------------------------------------------------------------------------------------------


async def test_a_jail_that_leaves_git_is_retired_and_keeps_its_data(stage: RealStage) -> None:
    node = stage.site.servers[SECOND]
    await client(node.must, "mkdir -p /iscsi/jails/web/data && echo precious > /iscsi/jails/web/data/file")
    file = stage.work / "jails/jailbox2.yaml"
    file.write_text("---\n".join(one for one in file.read_text().split("---\n") if "name: web" not in one))

    await stage.converged(await stage.push("No web any more"))

    assert jails(stage, SECOND) == {"db": ["198.51.100.72"]}
    assert "198.51.100.71" not in aliases(stage, SECOND)
    known = await client(node.must, "ls /iscsi/jails/etc/ezjail; cat /iscsi/jails/web/data/file")
    assert known.split() == ["build_example_org.norun", "db", "web.norun", "precious"]
    assert stage.statuses()["jail/jailbox2/web"]["state"] == "Retired"


async def test_a_host_that_comes_to_git_boots_when_it_is_switched_on(stage: RealStage) -> None:
    text = case("jailbox3.yaml")
    text = text.replace("HOSTKEY", stage.new_identity(next(yaml.safe_load_all(text))["spec"]))
    (stage.work / "hosts/jailbox3.yaml").write_text(text)
    running = {host: generation(stage, host) for host in (FIRST, SECOND)}

    revision = await stage.push("A third host")
    await stage.until("DHCP knows it", lambda: served(stage, THIRD), within=60)
    away = "Unknown: cannot connect to jailbox3 (198.51.100.52:22)"
    await stage.until("it is said to be away", lambda: told(stage, f"node/{THIRD}").startswith(away))
    await stage.site.power_on(THIRD)
    await stage.converged(revision, within=60)

    assert await client(stage.site.lease, THIRD) == lease(THIRD, generation(stage, THIRD))
    assert jails(stage, THIRD) == {"mail": ["198.51.100.75"]}
    assert {host: generation(stage, host) for host in running} == running


def served(stage: RealStage, host: str) -> bool:
    return f"host {host} " in stage.site.servers[BOOT].machine.path(INCLUDE).read_text()


async def test_a_changed_mac_address_moves_the_entry(stage: RealStage) -> None:
    stage.edit("hosts/jailbox2.yaml", "12:34:56:78:90:ac", "12:34:56:78:90:ae")
    new = await client(lambda: stage.net.plug("new-card", "", mac="12:34:56:78:90:ae"))

    await stage.converged(await stage.push("jailbox2 has a new card"))

    said = await client(clients.dhcp, new)
    assert (said.address, said.host_name) == ("198.51.100.51", SECOND)
    with pytest.raises(Refused):
        await client(stage.site.lease, SECOND)


# -- what hands can break -----------------------------------------------------------------------------------------------


async def test_a_broken_dhcpd_conf_is_named_and_the_old_daemon_serves_on(stage: RealStage) -> None:
    server = stage.site.servers[BOOT]
    good = server.machine.path(MAIN).read_text()
    before = await client(stage.site.lease, FIRST)
    pid = server.pid("/run/dhcpd.pid")
    await client(server.write, MAIN, good.replace("authoritative;", "authoritative"))

    stage.edit("hosts/disklessfreebsdbox.yaml", "gateway: 198.51.100.1\n", "gateway: 198.51.100.254\n")
    revision = await stage.push("Another gateway")
    await stage.until("it is refused", lambda: told(stage, f"dhcp/{BOOT}").startswith("Failed"))

    assert told(stage, f"dhcp/{BOOT}") == case("dhcpd-broken.message")
    assert stage.passes(1)[0].result == "failed"
    assert await client(stage.site.lease, FIRST) == before
    assert server.pid("/run/dhcpd.pid") == pid
    assert await client(server.must, "ls /etc/dhcp") == "dhcpd.conf\njailops.conf\njailops.conf.prev\n"

    await client(server.write, MAIN, good)
    status, said = await stage.command("retry", f"dhcp/{BOOT}")
    assert status == 0, said
    pending = "Waiting: RebootPending: a reboot would change: gateway: 198.51.100.1 -> 198.51.100.254"
    await stage.until("only the node's boot is left", lambda: told(stage, f"dhcp/{BOOT}").startswith("Ready"))
    await stage.until("which is said", lambda: told(stage, f"bootconf/{FIRST}").startswith(pending))
    assert stage.passes(1)[0].revision == revision
    expected = lease(FIRST, before.filename.split("/")[1], routers=("198.51.100.254",))
    assert await client(stage.site.lease, FIRST) == expected
    stage.edit("hosts/disklessfreebsdbox.yaml", "gateway: 198.51.100.254\n", "gateway: 198.51.100.1\n")
    await stage.converged(await stage.push("The gateway that it booted with"))


async def test_an_include_file_edited_by_hand_is_put_back_by_one_restart(stage: RealStage) -> None:
    server = stage.site.servers[BOOT]
    good = server.machine.path(INCLUDE).read_text()
    pid, last = server.pid("/run/dhcpd.pid"), stage.passes(1)[0].id

    await client(server.write, INCLUDE, good.replace("fixed-address 198.51.100.50;", "fixed-address 198.51.100.99"))
    await stage.converged(await head(stage))

    assert server.machine.path(INCLUDE).read_text() == good
    assert server.pid("/run/dhcpd.pid") != pid
    labels = stage.steps(after=last)
    assert [label for label in labels if "restart" in label] == [
        "put the new file in place, restart isc-dhcp-server once and see it serve"
    ]
    assert (await client(stage.site.lease, FIRST)).address == "198.51.100.50"


async def test_a_jail_stopped_by_hand_is_started_again(stage: RealStage) -> None:
    running, jid = jails(stage, SECOND), stage.site.look(SECOND)["jails"]["db"]["jid"]
    last = stage.passes(1)[0].id

    await stage.site.stop_jail_by_hand(SECOND, "db")
    await stage.until("it runs anew", lambda: stage.site.look(SECOND)["jails"].get("db", {}).get("jid", jid) != jid)
    await stage.converged(await head(stage))

    assert jails(stage, SECOND) == running
    # A look in the middle of the stop sees a jail without its base: that one is stopped whole first.
    assert stage.steps(after=last) in (["start db"], ["stop db", "start db"])


async def test_nothing_was_asked_in_vain_and_no_secret_was_told(stage: RealStage, arguments: Arguments) -> None:
    assert stage.site.uncovered() == []
    assert any(b"controller\0run" in line for line in arguments.seen)
    assert await leaks(stage, arguments) == []
