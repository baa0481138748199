"""The whole real lab, worked by hand as the article does: a root is built, served, booted; a jail runs and survives."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.lab.site import BootPlan, NodePlan, SanPlan, SitePlan, VmPlan
from tests.lab.child import until
from tests.lab.clients import Lease, Portal, Refused, iscsi_size, nfs_list, nfs_read, tftp
from tests.lab.site import Dhcp, RealSite, real_site
from tests.site import scripts

pytestmark = pytest.mark.lab

NODE = "node1"
MAC = "12:34:56:78:90:ab"
ADDRESS = "198.51.100.50"
PLAN = SitePlan(
    vms=(VmPlan("build-vm", "198.51.100.20"),),
    sans=(SanPlan("san", scripts.SAN),),
    boot_servers=(BootPlan("boot-server", "198.51.100.2"),),
    nodes=(NodePlan(NODE, MAC, "em0", "san", "boot-server"),),
)
EXPORTS = "".join(
    f"""EXPORT {{ Export_Id = {number}; Path = "{path}"; Pseudo = "{path}"; Protocols = 3; Transports = UDP, TCP;
  Access_Type = NONE; Squash = No_Root_Squash; FSAL {{ Name = VFS; }}
  CLIENT {{ Clients = {ADDRESS}; Access_Type = RO; }} }}
"""
    for number, path in ((101, scripts.ROOT), (102, f"/export/jailops/hosts/{NODE}"))
)
PORTAL = Portal(scripts.SAN, f"iqn.2026-11.org.example:{NODE}", f"iqn.1994-09.org.freebsd:{NODE}")
LEASE = Lease(
    address=ADDRESS,
    mask="255.255.255.0",
    routers=("198.51.100.1",),
    host_name=NODE,
    next_server="198.51.100.2",
    filename=f"standard/{scripts.GENERATION}/boot/pxeboot",
    root_path=f"{scripts.SAN}:{scripts.ROOT}",
    server="198.51.100.2",
)


@pytest.fixture
async def site() -> AsyncIterator[RealSite]:
    async with real_site(PLAN) as site:
        yield site


@pytest.mark.parametrize("dhcp", ["isc", "kea"])
async def test_the_whole_lab_is_up(dhcp: Dhcp) -> None:
    async with real_site(PLAN, dhcp) as site:
        assert all(site.look(name)["running"] for name in ("san", "boot-server", "build-vm"))
        with pytest.raises(Refused):
            await asyncio.to_thread(site.lease, NODE)


async def test_a_node_boots_from_real_daemons_and_keeps_its_jail(site: RealSite) -> None:
    san, boot_server, vm, node = (site.servers[name] for name in ("san", "boot-server", "build-vm", NODE))
    prepare = scripts.PREPARE.replace("KEY", site.client_public_key)
    await asyncio.to_thread(vm.must, scripts.BUILD + prepare)
    await asyncio.to_thread(san.must, scripts.own(NODE, "198.51.100.61") + scripts.disk(NODE, 1))
    san.write("/etc/ganesha/jailops.conf", EXPORTS)
    await asyncio.to_thread(san.must, "service nfs-ganesha restart")
    root = san.machine.path(scripts.ROOT)
    boot_server.write(f"/srv/tftp/{LEASE.filename}", (root / "boot/pxeboot").read_bytes())
    boot_server.write("/etc/dhcp/jailops.conf", scripts.entry(NODE, MAC, ADDRESS))
    await asyncio.to_thread(boot_server.must, "service isc-dhcp-server restart")

    outcome = await site.booted(NODE)
    assert outcome is not None
    assert outcome.state == "up", site.console(NODE)
    port = site.servers[NODE].port
    assert site.lease(NODE) == LEASE
    assert tftp(port, LEASE.next_server, LEASE.filename) == (root / "boot/pxeboot").read_bytes()
    archive = nfs_read(port, scripts.SAN, f"{scripts.ROOT}/conf/base/etc.cpio.gz")
    assert b"etc/rc.conf" in gzip.decompress(archive)
    with pytest.raises(Refused):
        nfs_list(site.ctl, scripts.SAN, scripts.ROOT)
    assert iscsi_size(port, PORTAL) == 256 << 20
    with pytest.raises(Refused):
        iscsi_size(port, PORTAL.replace(initiator="iqn.1994-09.org.freebsd:other"))

    await asyncio.to_thread(node.must, scripts.DISK + scripts.jail("web", "198.51.100.61"))
    assert list(site.look(NODE)["jails"]) == ["web"]
    assert site.uncovered() == []

    def sessions() -> str:
        return site.servers[NODE].must("iscsictl -L")

    assert "Connected: da0" in sessions()
    site.san_away()
    await asyncio.to_thread(until, "the session drops", lambda: "Disconnected" in sessions(), within=15)
    site.san_back()
    await asyncio.to_thread(until, "the session is back", lambda: "Connected: da0" in sessions())

    booted = site.look(NODE)["boottime"]
    outcome = await site.reboot(NODE)
    assert outcome is not None
    assert outcome.state == "up", site.console(NODE)
    assert site.look(NODE)["boottime"] > booted
    assert list(site.look(NODE)["jails"]) == ["web"]

    booted = site.look(NODE)["boottime"]
    site.servers[NODE].must("shutdown -r now")

    def again() -> bool:
        return bool(site.look(NODE)["state"] == "up" and site.look(NODE)["boottime"] > booted)

    await asyncio.to_thread(until, "it is up again by itself", again)
    assert list(site.look(NODE)["jails"]) == ["web"]


async def test_an_idle_lab_writes_nothing(site: RealSite) -> None:
    before = await site.mark()
    assert await site.writes(before) == {}
    site.servers["san"].write("/etc/tgt/conf.d/new.conf", "")
    new = str(Path(site.directory, "san/root/etc/tgt/conf.d/new.conf"))
    assert new in (await site.writes(before))["san"]
