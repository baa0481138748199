"""Real daemons' logs of a node's boot: what each says by itself, and the whole boot of a node of the lab."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from controller.encode import bootlog
from controller.encode.boottime import Timeline, timeline
from tests.lab import test_site
from tests.lab.child import until
from tests.lab.clients import Refused, dhcp, nfs_list, tftp
from tests.lab.net import Net, Port
from tests.lab.server import Server
from tests.lab.site import VERBOSE, RealSite, real_site
from tests.lab.test_daemons import DHCPD_CONF, HOST, KEA_CONF, RESERVATION
from tests.site import scripts

pytestmark = pytest.mark.lab

SHARE = "/export/jailops/hosts/node1"
NODE = bootlog.Node("12:34:56:78:90:ab", "198.51.100.50", SHARE, "/export/jailops/images/standard")
SERVERS = ("boot", "san")
FILE = "image/0123456789ab/boot/pxeboot"
REMOVE_EXPORT = (
    "dbus-send --system --print-reply --dest=org.ganesha.nfsd /org/ganesha/nfsd/ExportMgr"
    " org.ganesha.nfsd.exportmgr.RemoveExport"
)
JOURNALD = """service rsyslog stop
rm /dev/log /var/log/syslog
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/systemd/journal /run/log/journal
ln -s /run/systemd/journal/dev-log /dev/log
setsid /.machine/usr/lib/systemd/systemd-journald >/var/log/journald.out 2>&1 </dev/null &
"""


def looked(boot: Server, san: Server | None, since: float) -> Timeline:
    first = bootlog.parse(boot.must(bootlog.question(NODE)), NODE)
    second = bootlog.parse(san.must(bootlog.question(NODE, ganesha=True)), NODE) if san else None
    found = timeline(first, second, since, SERVERS)
    assert found is not None
    return found


def phases(found: Timeline) -> list[str]:
    return [step.phase for step in found.steps]


def daemons(boot: Server, options: str = VERBOSE) -> None:
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF)
    boot.write("/etc/dhcp/jailops.conf", HOST)
    boot.write(f"/srv/tftp/{FILE}", b"boot")
    boot.write("/etc/default/tftpd-hpa", options)
    boot.must("service isc-dhcp-server start && service tftpd-hpa start")


def like_a_card(node: Port, boot: Server) -> None:
    """The card's requests and the loader's."""
    dhcp(node)
    tftp(node, boot.port.address, FILE)
    dhcp(node)


def test_what_dhcpd_and_tftpd_log(boot: Server, node: Port, net: Net) -> None:
    daemons(boot)
    stranger = net.plug("stranger", "198.51.100.66")
    tftp(stranger, boot.port.address, FILE)
    since = time.time()
    dhcp(node)
    assert "never asked for its boot file" in looked(boot, None, since).told
    with pytest.raises(Refused):
        tftp(node, boot.port.address, "image/none/boot/pxeboot")
    assert "then TFTP on boot refused it: File not found" in looked(boot, None, since).told
    since = time.time()
    like_a_card(node, boot)
    found = looked(boot, None, since)
    assert phases(found) == ["asked", "offered", "leased", "fetched", "loader"]
    assert [step.what for step in found.steps] == ["", "198.51.100.50", "198.51.100.50", FILE, ""]
    assert found.untold == {"nfs"}
    boot.write("/etc/dhcp/jailops.conf", "")
    boot.must("service isc-dhcp-server restart")
    since = time.time()
    with pytest.raises(Refused):
        dhcp(node)
    assert "refused it: network 198.51.100.0/24: no free leases" in looked(boot, None, since).told


def test_tftpd_as_debian_sets_it_up_logs_nothing(boot: Server, node: Port) -> None:
    daemons(boot, 'TFTP_OPTIONS="--secure"\n')
    since = time.time()
    dhcp(node)
    tftp(node, boot.port.address, FILE)
    found = looked(boot, None, since)
    assert phases(found) == ["asked", "offered", "leased"]
    assert "whether it then asked for its boot file is not told by boot" in found.told


@pytest.mark.parametrize("output", ["syslog", "/var/log/kea/kea-dhcp4.log"])
def test_what_kea_logs(boot: Server, node: Port, output: str) -> None:
    logger = {"name": "kea-dhcp4", "output_options": [{"output": output}], "severity": "INFO"}
    settings = json.loads(json.dumps(KEA_CONF))
    settings["Dhcp4"]["loggers"] = [logger]
    boot.write("/etc/kea/kea-dhcp4.conf", json.dumps(settings))
    boot.must("service kea-dhcp4-server start")
    since = time.time()
    with pytest.raises(Refused):
        dhcp(node)
    assert "refused it: Failed to allocate an IPv4 address" in looked(boot, None, since).told
    boot.must("service kea-dhcp4-server stop")
    settings["Dhcp4"]["subnet4"][0]["reservations"] = [RESERVATION]
    boot.write("/etc/kea/kea-dhcp4.conf", json.dumps(settings))
    boot.must("service kea-dhcp4-server start")
    since = time.time()
    dhcp(node)
    assert phases(looked(boot, None, since)) == ["asked", "offered", "leased"]


def test_a_real_journal_is_read_too(boot: Server, node: Port) -> None:
    boot.must(JOURNALD)
    until("journald listens", lambda: boot.run("test -S /run/systemd/journal/dev-log").exit == 0)
    daemons(boot)
    tftp(node, boot.port.address, FILE)
    since = time.time()
    like_a_card(node, boot)
    found: list[Timeline] = []

    def written() -> bool:
        found.append(looked(boot, None, since))
        return len(found[-1].steps) == 5

    until("the journal holds the boot", written)
    assert phases(found[-1]) == ["asked", "offered", "leased", "fetched", "loader"]
    assert boot.run("test -e /var/log/syslog").exit == 1


def test_what_mountd_logs(boot: Server, san: Server, node: Port) -> None:
    """Without the kernel's server it can give no handle, but it says whom it let in."""
    san.write("/export/jailops/image/x", b"")
    san.write(f"{SHARE}/etc/rc.conf.local", b"")
    san.write("/etc/exports", "/export/jailops/image 198.51.100.50(ro,no_subtree_check,fsid=7)\n")
    san.must("mkdir -p /var/lib/nfs/v4recovery; touch /var/lib/nfs/etab /var/lib/nfs/rmtab; service rpcbind start")
    san.must("exportfs -ra; setsid rpc.mountd -F </dev/null >/var/log/mountd.out 2>&1 &")
    until("mountd answers", lambda: "mountd" in san.run("rpcinfo -p").out)
    daemons(boot)
    tftp(node, boot.port.address, FILE)
    since = time.time()
    like_a_card(node, boot)
    assert "never mounted its root" in looked(boot, san, since).told
    mounted = "/export/jailops/image"
    for path, said in ((mounted, mounted), (f"{SHARE}/etc", f"then NFS on san refused it {SHARE}/etc: not exported")):
        with pytest.raises(Refused):
            nfs_list(node, san.port.address, path)
        found = looked(boot, san, since)
        assert found.last_phase is not None
        assert found.last_phase.phase == "root"
        assert said in found.told


@pytest.fixture
async def site() -> AsyncIterator[RealSite]:
    async with real_site(test_site.PLAN) as site:
        yield site


async def test_the_boot_of_a_node_of_the_lab(site: RealSite) -> None:
    """From DHCP to its own share; ganesha logs no mounts, so the last two come from its bus."""
    san, boot = site.servers["san"], site.servers["boot-server"]
    prepare = scripts.PREPARE.replace("KEY", site.client_public_key)
    await asyncio.to_thread(site.servers["build-vm"].must, scripts.BUILD + prepare)
    await asyncio.to_thread(san.must, scripts.own("node1", "198.51.100.61") + scripts.disk("node1", 1))
    pxeboot = san.machine.path(f"{scripts.ROOT}/boot/pxeboot").read_bytes()
    boot.write("/etc/dhcp/jailops.conf", scripts.entry("node1", NODE.mac, NODE.address))
    await asyncio.to_thread(boot.must, "service isc-dhcp-server restart")
    since = time.time()
    assert await site.booted("node1", 2) is None
    said = (await asyncio.to_thread(looked, boot, san, since)).told
    assert "then TFTP on boot refused it: File not found" in said

    boot.write(f"/srv/tftp/{test_site.LEASE.filename}", pxeboot)
    outcome = await site.booted("node1")
    assert outcome is not None
    assert outcome.state == "stuck"
    found = await asyncio.to_thread(looked, boot, san, since)
    assert found.last_phase is not None
    assert found.last_phase.phase == "loader"
    assert "nfs-ganesha let it mount nothing" in found.told

    san.write("/etc/ganesha/jailops.conf", test_site.EXPORTS)
    await asyncio.to_thread(san.must, "service nfs-ganesha restart")
    since = time.time()
    outcome = await site.reboot("node1")
    assert outcome is not None
    assert outcome.state == "up", site.console("node1")
    found = await asyncio.to_thread(looked, boot, san, since)
    assert phases(found) == list(bootlog.PHASES)
    assert found.steps[3].what == test_site.LEASE.filename
    assert found.steps[6].what == SHARE
    assert (found.boots, found.untold, found.refused) == (1, frozenset(), None)

    for number in (101, 102):
        await asyncio.to_thread(san.must, f"{REMOVE_EXPORT} uint16:{number}")
    since = time.time()
    outcome = await site.reboot("node1")
    assert outcome is not None
    assert outcome.state == "stuck"
    found = await asyncio.to_thread(looked, boot, san, since)
    assert phases(found) == ["asked", "offered", "leased", "fetched", "loader"]
    assert "nfs-ganesha let it mount nothing" in found.told, "although it was served before"
