"""The whole site: machines over SSH, the network boot, what a reboot loses, what a node does by itself."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import asyncssh
import pytest

from controller.lab import boot
from controller.lab.site import Site, SitePlan
from tests.site import scripts
from tests.site.conftest import NODES, PLAN
from tests.site.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_command_has_its_own_streams_and_status(hands: Hands) -> None:
    for name in ("build", "san", "boot", "node1"):
        assert await hands.ask(name, "echo out; echo err >&2; exit 3\n") == (3, "out\n", "err\n")
    blob = bytes(range(256)) * 4096
    end = hands.site.endpoints["san"]
    key = [str(hands.site.client_key)]
    async with asyncssh.connect(end.host, end.port, username="root", client_keys=key, known_hosts=None) as connection:
        done = await connection.run("cat", input=blob, encoding=None)
    assert done.stdout == blob


async def test_only_the_client_key_and_only_root_get_in(hands: Hands) -> None:
    end = hands.site.endpoints["node1"]
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    for user, key in (("root", stranger), ("operator", asyncssh.read_private_key(hands.site.client_key))):
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(end.host, end.port, username=user, client_keys=[key], known_hosts=None)


async def test_there_is_no_forwarding_and_no_terminal(hands: Hands) -> None:
    end = hands.site.endpoints["san"]
    key = [str(hands.site.client_key)]
    async with asyncssh.connect(end.host, end.port, username="root", client_keys=key, known_hosts=None) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", end.port)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.run("tty", term_type="xterm")


async def test_a_node_that_has_booted_is_what_dhcp_said(hands: Hands) -> None:
    seen = hands.site.look("node1")
    assert (seen["state"], seen["generation"], seen["hostname"]) == ("up", scripts.GENERATION, "node1")
    assert seen["root"] == f"{scripts.SAN}:{scripts.ROOT}"
    assert [one["address"] for one in seen["addresses"]] == ["198.51.100.61"]
    out = await hands.sh(
        "node1",
        "kenv -q boot.nfsroot.path; kenv -q dhcp.host-name; sysctl -n vfs.nfs.diskless_valid; touch /root/x; :\n",
    )
    assert out.splitlines() == [scripts.ROOT, "node1", "3"]
    assert "Read-only file system" in (await hands.ask("node1", "touch /root/x\n"))[2]
    assert list(seen["jails"]) == ["example"]
    assert hands.site.look("node2")["jails"] == {}


async def test_the_console_reads_like_a_real_one(hands: Hands) -> None:
    lines = hands.site.console("node2").splitlines()
    wanted = [
        "Trying to mount root from nfs:" + scripts.SAN + ":" + scripts.ROOT + " [ro]...",
        "NFS ROOT: " + scripts.SAN + ":" + scripts.ROOT,
        "Interface em0 IP-Address 198.51.100.51 Broadcast 198.51.100.255 ",
        "mount_nfs: can't update /var/db/mounttab for " + scripts.SAN + ":/export/jailops/hosts/node2/etc",
        "Loading /etc from cpio archive /conf/base/etc.cpio.gz",
        "Loading /var from cpio archive /conf/base/var.cpio.gz",
        "Setting hostname: node2.",
        "Starting Network: lo0 em0.",
        "Starting iscsictl.",
        "site_disk: missing",
        "Mounting late filesystems:.",
        "Starting sshd.",
        "login: ",
    ]
    assert [line for line in lines if line in wanted] == wanted
    real = (Path(__file__).parents[1] / "cases/transcripts/pxe/console.log").read_text()
    assert _roots(real) == _roots(hands.site.console("node2"))


def _roots(console: str) -> list[str]:
    """How a console says that root was mounted and memory disks were filled, without the names of the site."""
    said = (
        "Trying to mount root from nfs:",
        "NFS ROOT: ",
        "Interface em0",
        "mount_nfs: can't update",
        "Loading /etc",
        "Loading /var",
    )
    lines = [line for line in console.splitlines() if line.startswith(said)]
    return [re.sub(r"/export/[\w./-]+|198\.51\.100\.\d+", "X", line) for line in lines]


async def test_looking_writes_nothing_and_writing_is_seen(hands: Hands) -> None:
    mark = await hands.site.mark()
    await hands.sh("node1", "jls; mount -p; ezjail-admin list; iscsictl -L; cat /etc/rc.conf; ifconfig em0\n")
    await hands.sh("san", "exportfs -s; tgtadm --lld iscsi --op show --mode target\n")
    await hands.sh("boot", "service isc-dhcp-server status; dhcpd -4 -t -q -cf /etc/dhcp/dhcpd.conf\n")
    assert await hands.site.writes(mark) == {}
    await hands.sh("node1", "touch /etc/new\n")
    await hands.sh("san", "touch /srv/volumes/new\n")
    written = await hands.site.writes(mark)
    assert written.keys() == {"node1", "san"}
    assert "/etc/new" in written["node1"]
    await hands.sh("node1", "rm /etc/new\n")


async def test_a_node_comes_back_by_itself_with_its_jails(hands: Hands) -> None:
    """Nobody helps: session, mount, aliases and jails come from generation, own share and disk."""
    await hands.sh("node1", "touch /etc/lost /var/lost /tmp/lost /iscsi/kept\n")
    before = hands.site.look("node1")
    outcome = await hands.site.reboot("node1")
    assert outcome == boot.Outcome("up", "", f"{scripts.SAN}:{scripts.ROOT}")
    after = hands.site.look("node1")
    assert list(after["jails"]) == ["example"]
    assert after["mounts"]["/iscsi"] == "/dev/ufs/jails"
    assert after["boottime"] > before["boottime"]
    assert (await hands.ask("node1", "ls /etc/lost /var/lost /tmp/lost\n"))[0] != 0
    await hands.sh("node1", "test -e /iscsi/kept; test -e /var/run/jail_example.id\n")


async def test_a_jail_stopped_by_hand_is_really_stopped(hands: Hands) -> None:
    await hands.site.stop_jail_by_hand("node1", "example")
    assert hands.site.look("node1")["jails"] == {}
    await hands.sh("node1", "ezjail-admin start example\n")


async def test_while_the_target_daemon_stands_still_the_session_drops_and_comes_back(hands: Hands) -> None:
    hands.site.san_away()
    try:
        deadline = time.monotonic() + 15
        while "Disconnected" not in await hands.sh("node1", "iscsictl -L\n"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        assert list(hands.site.look("node1")["jails"]) == ["example"]
    finally:
        hands.site.san_back()
    assert "Connected: da0" in await hands.sh("node1", "iscsictl -L\n")


async def test_a_node_without_a_host_key_is_somebody_else_after_each_boot(hands: Hands) -> None:
    first = hands.site.endpoints["node2"].host_key
    await hands.site.reboot("node2")
    second = hands.site.endpoints["node2"].host_key
    assert first != second
    private = asyncssh.generate_private_key("ssh-ed25519")
    text = private.export_private_key("openssh").decode()
    folder = "/export/jailops/hosts/node2/etc/ssh"
    await hands.sh("san", f"umask 077; mkdir -p {folder}; cat > {folder}/ssh_host_ed25519_key <<'end'\n{text}end\n")
    for _ in range(2):
        await hands.site.reboot("node2")
        assert hands.site.endpoints["node2"].host_key.split()[1] == private.export_public_key().decode().split()[1]


async def stuck(hands: Hands) -> str:
    """Reboot node2 and say why it hangs; its sshd must not answer."""
    outcome = await hands.site.reboot("node2")
    assert outcome is not None
    assert outcome.state == "stuck"
    end = hands.site.endpoints["node2"]
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(end.host, end.port)
    return outcome.reason


async def test_a_root_that_is_not_exported_cannot_be_booted(hands: Hands) -> None:
    await hands.sh("san", f"exportfs -u 198.51.100.51:{scripts.ROOT}\n")
    assert "Permission denied" in await stuck(hands)
    await hands.sh("san", scripts.exports("node2", "198.51.100.51"))


async def test_a_boot_file_of_another_release_cannot_load_the_kernel(hands: Hands) -> None:
    file = hands.site.computers["boot"].machine.path(f"{scripts.TFTP}/pxeboot")
    right = file.read_bytes()
    file.write_bytes(b"pxeboot of another release")
    assert "not of the same release" in await stuck(hands)
    file.write_bytes(right)


async def test_a_share_that_cannot_be_mounted_hangs_the_boot(hands: Hands) -> None:
    await hands.sh("san", "exportfs -u 198.51.100.51:/export/jailops/hosts/node2\n")
    assert "dropping into /bin/sh" in await stuck(hands)
    await hands.sh("san", scripts.exports("node2", "198.51.100.51"))


async def test_a_node_asks_until_somebody_answers(hands: Hands) -> None:
    await hands.sh("boot", "service isc-dhcp-server stop\n")
    await hands.site.power_off("node2")
    await hands.site.power_on("node2")
    assert await hands.site.booted("node2", 1) is None
    assert "PXE-E51: No DHCP or proxyDHCP offers were received." in hands.site.console("node2")
    assert hands.site.look("node2")["state"] == "booting"
    await hands.sh("boot", "service isc-dhcp-server start\n")
    outcome = await hands.site.booted("node2")
    assert outcome is not None
    assert outcome.state == "up"


async def test_a_stopped_tftpd_serves_nothing(hands: Hands) -> None:
    await hands.sh("boot", "service tftpd-hpa stop\n")
    await hands.site.power_off("node2")
    await hands.site.power_on("node2")
    assert await hands.site.booted("node2", 1) is None
    assert "PXE-E3B: TFTP Error" in hands.site.console("node2")
    await hands.sh("boot", "service tftpd-hpa start\n")
    outcome = await hands.site.booted("node2")
    assert outcome is not None
    assert outcome.state == "up"


async def test_a_stopped_nfs_server_serves_nothing(hands: Hands) -> None:
    await hands.sh("san", "service nfs-kernel-server stop\n")
    assert "Permission denied" in await stuck(hands)
    await hands.sh("san", "service nfs-kernel-server start\n")


async def test_a_memory_disk_that_is_too_small_truncates_etc_and_the_boot_goes_on(hands: Hands) -> None:
    size = hands.site.computers["san"].machine.path(f"{scripts.ROOT}/conf/base/etc/md_size")
    right = size.read_text()
    size.write_text("100\n")
    await hands.site.reboot("node2")
    assert "No space left on device" in hands.site.console("node2")
    size.write_text(right)
    outcome = await hands.site.reboot("node2")
    assert outcome is not None
    assert outcome.state == "up"


async def test_another_generation_is_booted_when_dhcp_names_it(hands: Hands) -> None:
    other = scripts.ROOT.replace(scripts.GENERATION, "ba9876543210")
    await hands.sh(
        "san", f"cp -a {scripts.ROOT} {other}\nexportfs -o ro,no_root_squash,no_subtree_check 198.51.100.51:{other}\n"
    )
    entries = [scripts.entry(name, mac, address) for name, mac, address, _ in NODES]
    await hands.serve(entries[0] + entries[1].replace(scripts.ROOT, other))
    assert hands.site.look("node2")["generation"] == scripts.GENERATION
    await hands.site.reboot("node2")
    assert hands.site.look("node2")["generation"] == "ba9876543210"


async def test_the_plan_of_plain_manifests() -> None:
    ssh = {"address": "198.51.100.2"}
    documents = [
        {"kind": "BootServer", "metadata": {"name": "boot"}, "spec": {"ssh": ssh, "dhcp": {"subnet": "198.51.100.0/24"}}},
        {"kind": "San", "metadata": {"name": "san"}, "spec": {"ssh": ssh, "nfs": {"root": "/e"}, "iscsi": {"volumes": "/v"}}},
        {"kind": "BuildVM", "metadata": {"name": "vm"}, "spec": {"ssh": ssh, "share": "/mnt"}},
        {"kind": "Host", "metadata": {"name": "n"}, "spec": {"mac": "AA:bb:cc:dd:ee:ff", "interface": "em0", "san": "san",
                                                            "bootServer": "boot", "gateway": "198.51.100.1"}},
        {"kind": "Jail", "metadata": {"name": "j"}, "spec": {"host": "n"}},
    ]  # fmt: skip
    plan = SitePlan.of(documents)
    assert (plan.boot_servers[0].gateway, plan.boot_servers[0].tftp_root) == ("198.51.100.1", "/srv/tftp")
    assert (plan.sans[0].nfs_root, plan.vms[0].share, plan.nodes[0].mac) == ("/e", "/mnt", "aa:bb:cc:dd:ee:ff")


def left(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


async def test_a_site_leaves_nothing() -> None:
    async with Site(PLAN) as site:
        directory, ports = site.directory, [end.port for end in site.endpoints.values()]
        pids = [one.machine.pid for one in site.computers.values() if one.machine.running]
    assert not left([str(directory), *(f"/proc/{pid}" for pid in pids)])
    for port in ports:
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", port)
