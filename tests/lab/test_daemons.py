"""Each daemon and each client of the real lab, proven alone with hand-written configuration."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import pytest

from controller.drivers.dhcp import main_file
from controller.drivers.exports import nfs_answers
from controller.drivers.looks import listens_udp
from controller.encode.dhcpd import parse_errors
from tests.lab.clients import Lease, Portal, Refused, dhcp, iscsi_serial, iscsi_size, nfs_list, nfs_read, tftp
from tests.lab.net import Net, Port
from tests.lab.server import Server

pytestmark = pytest.mark.lab

MAC = "12:34:56:78:90:ab"
DHCPD_CONF = """\
authoritative;
subnet 198.51.100.0 netmask 255.255.255.0 { }
include "/etc/dhcp/jailops.conf";
"""
HOST = """\
host disklessfreebsdbox {
  hardware ethernet 12:34:56:78:90:ab;
  fixed-address 198.51.100.50;
  next-server 198.51.100.11;
  filename "image/0123456789ab/boot/pxeboot";
  option root-path "198.51.100.10:/export/jailops/images/image/0123456789ab";
  option host-name "disklessfreebsdbox";
  option domain-name "example.org";
  option domain-name-servers 198.51.100.2, 198.51.100.3;
  option routers 198.51.100.1;
  option subnet-mask 255.255.255.0;
}
"""
LEASE = Lease(
    address="198.51.100.50",
    mask="255.255.255.0",
    routers=("198.51.100.1",),
    nameservers=("198.51.100.2", "198.51.100.3"),
    host_name="disklessfreebsdbox",
    domain="example.org",
    next_server="198.51.100.11",
    filename="image/0123456789ab/boot/pxeboot",
    root_path="198.51.100.10:/export/jailops/images/image/0123456789ab",
    server="198.51.100.11",
)
KEA_CONF = {
    "Dhcp4": {
        "interfaces-config": {"interfaces": ["eth0"]},
        "control-socket": {"socket-type": "unix", "socket-name": "/run/kea/kea4-ctrl-socket"},
        "lease-database": {"type": "memfile", "persist": False},
        "valid-lifetime": 3600,
        "subnet4": [{"id": 1, "subnet": "198.51.100.0/24", "reservations": []}],
    }
}
RESERVATION = {
    "hw-address": MAC,
    "ip-address": "198.51.100.50",
    "hostname": "disklessfreebsdbox",
    "next-server": "198.51.100.11",
    "boot-file-name": "image/0123456789ab/boot/pxeboot",
    "option-data": [
        {"name": "root-path", "data": "198.51.100.10:/export/jailops/images/image/0123456789ab"},
        {"name": "domain-name", "data": "example.org"},
        {"name": "domain-name-servers", "data": "198.51.100.2, 198.51.100.3"},
        {"name": "routers", "data": "198.51.100.1"},
    ],
}
EXPORT = """\
EXPORT {
  Export_Id = 101; Path = "/export/jailops"; Pseudo = "/export/jailops"; Protocols = 3; Transports = UDP, TCP;
  Access_Type = NONE; Squash = No_Root_Squash;
  FSAL { Name = VFS; }
  CLIENT { Clients = 198.51.100.50; Access_Type = RO; }
}
"""
TARGET = """\
<target iqn.2026-11.org.example:jails-disklessfreebsdbox>
    <backing-store /srv/volumes/disklessfreebsdbox>
        scsi_sn JO0001
    </backing-store>
    initiator-address 255.255.255.255
    initiator-name iqn.1994-09.org.freebsd:disklessfreebsdbox
    incominguser node secret-of-node
</target>
"""
PORTAL = Portal(
    address="198.51.100.10",
    target="iqn.2026-11.org.example:jails-disklessfreebsdbox",
    initiator="iqn.1994-09.org.freebsd:disklessfreebsdbox",
    user="node",
    secret="secret-of-node",
)


def test_dhcpd_tells_a_known_node_everything(boot: Server, node: Port) -> None:
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF)
    boot.write("/etc/dhcp/jailops.conf", HOST)
    boot.must("service isc-dhcp-server start")
    assert dhcp(node) == LEASE


def test_dhcpd_tells_an_unknown_node_nothing(boot: Server, node: Port, net: Net) -> None:
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF)
    boot.write("/etc/dhcp/jailops.conf", HOST)
    boot.must("service isc-dhcp-server start")
    with pytest.raises(Refused, match="no lease for 02:00:00:00:00:01"):
        dhcp(net.set_mac(node, "02:00:00:00:00:01"))


def test_service_manages_dhcpd_as_debian_does(boot: Server) -> None:
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF)
    boot.write("/etc/dhcp/jailops.conf", HOST)
    assert boot.service("isc-dhcp-server", "status").exit == 3
    boot.must("service isc-dhcp-server start")
    assert boot.must("systemctl is-active isc-dhcp-server") == "active\n"
    before = boot.pid("/run/dhcpd.pid")
    boot.must("service isc-dhcp-server restart")
    assert boot.pid("/run/dhcpd.pid") != before

    boot.write("/etc/dhcp/jailops.conf", HOST.replace("fixed-address", "fixed-adress"))
    refused = boot.service("isc-dhcp-server", "restart")
    assert refused.exit == 1
    assert refused.out.startswith("dhcpd self-test failed. Please fix /etc/dhcp/dhcpd.conf.\nThe error was: \n")
    assert "jailops.conf line 3" in refused.out + refused.err
    assert boot.service("isc-dhcp-server", "status").exit == 3
    assert boot.run("systemctl is-active isc-dhcp-server").out == "inactive\n"


def test_a_look_sees_a_main_file_with_which_dhcpd_would_not_start(boot: Server, node: Port) -> None:
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF)
    boot.write("/etc/dhcp/jailops.conf", HOST)
    boot.must("service isc-dhcp-server start")
    look = main_file("/etc/dhcp/dhcpd.conf", "/etc/dhcp/jailops.conf")
    assert boot.run(look).exit == 0
    boot.write("/etc/dhcp/dhcpd.conf", DHCPD_CONF.replace("authoritative;", "authoritative"))
    seen = boot.run(look)
    assert (seen.exit, parse_errors(seen.err)) == (5, (("/etc/dhcp/dhcpd.conf", 2, "semicolon expected."),))
    assert dhcp(node) == LEASE


def test_kea_takes_reservations_through_its_control_socket(boot: Server, node: Port) -> None:
    boot.write("/etc/kea/kea-dhcp4.conf", json.dumps(KEA_CONF))
    boot.must("service kea-dhcp4-server start")
    with pytest.raises(Refused):
        dhcp(node)

    wanted = kea(boot, {"command": "config-get"})["arguments"]
    wanted.pop("hash", None)
    wanted["Dhcp4"]["subnet4"][0]["reservations"] = [RESERVATION]
    assert kea(boot, {"command": "config-test", "arguments": wanted})["result"] == 0
    assert kea(boot, {"command": "config-set", "arguments": wanted})["result"] == 0
    assert kea(boot, {"command": "config-write"})["result"] == 0
    assert dhcp(node) == LEASE

    boot.must("service kea-dhcp4-server restart")
    assert dhcp(node) == LEASE


def kea(boot: Server, request: object) -> Any:
    """One exchange on the control socket: send one object, read until the server closes."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(f"/proc/{boot.machine.pid}/root/run/kea/kea4-ctrl-socket")
        channel.sendall(json.dumps(request).encode())
        channel.shutdown(socket.SHUT_WR)
        return json.loads(b"".join(iter(lambda: channel.recv(65536), b"")))


def test_tftpd_serves_below_its_root_only(boot: Server, node: Port) -> None:
    content = bytes(range(256)) * 300
    boot.write("/srv/tftp/image/0123456789ab/boot/pxeboot", content)
    boot.must("service tftpd-hpa start")
    assert tftp(node, "198.51.100.11", "image/0123456789ab/boot/pxeboot") == content
    with pytest.raises(Refused, match="File not found"):
        tftp(node, "198.51.100.11", "/etc/passwd")
    assert boot.run(listens_udp(69)).exit == 0
    boot.must("service tftpd-hpa stop")
    assert boot.run(listens_udp(69)).exit == 1


def test_ganesha_serves_one_address_and_no_other(san: Server, node: Port, net: Net) -> None:
    stranger = net.plug("stranger", "198.51.100.66")
    content = bytes(range(256)) * 1000
    san.write("/export/jailops/conf/base/etc.cpio.gz", content)
    san.write("/etc/ganesha/ganesha.conf", EXPORT)
    san.must("service nfs-ganesha start")
    assert nfs_list(node, "198.51.100.10", "/export/jailops/conf/base/") == ("etc.cpio.gz",)
    assert nfs_read(node, "198.51.100.10", "/export/jailops/conf/base/etc.cpio.gz") == content
    with pytest.raises(Refused):
        nfs_read(stranger, "198.51.100.10", "/export/jailops/conf/base/etc.cpio.gz")


def test_ganesha_takes_and_gives_up_exports_over_its_bus(san: Server, node: Port) -> None:
    san.write("/export/jailops/file", b"content")
    san.write("/etc/ganesha/ganesha.conf", "")
    san.must("service nfs-ganesha start")
    with pytest.raises(Refused):
        nfs_read(node, "198.51.100.10", "/export/jailops/file")
    san.write("/etc/ganesha/jailops.conf", EXPORT)
    call = "dbus-send --system --print-reply --dest=org.ganesha.nfsd /org/ganesha/nfsd/ExportMgr"
    call += " org.ganesha.nfsd.exportmgr"
    san.must(f"{call}.AddExport string:/etc/ganesha/jailops.conf string:'EXPORT(Export_Id=101)'")
    assert nfs_read(node, "198.51.100.10", "/export/jailops/file") == b"content"
    san.must(f"{call}.RemoveExport uint16:101")
    with pytest.raises(Refused):
        nfs_read(node, "198.51.100.10", "/export/jailops/file")


def test_service_manages_ganesha(san: Server) -> None:
    san.write("/etc/ganesha/ganesha.conf", "")
    san.must("service nfs-ganesha start")
    san.must("service nfs-ganesha status")
    san.must("service nfs-ganesha restart")
    served = nfs_answers("198.51.100.10")
    assert san.must(served) == "program 100003 version 3 ready and waiting\n"
    with san.frozen("/run/ganesha/ganesha.pid"):
        assert san.run(served).err == "no answer in 3 seconds\n"
    san.must("service nfs-ganesha stop")
    assert san.service("nfs-ganesha", "status").exit == 3
    assert san.run(served).err == "198.51.100.10: RPC: Program not registered\n"
    san.must("service rpcbind stop")
    assert san.run(served).err == "198.51.100.10: RPC: Unable to receive\n"


def test_tgt_accepts_one_initiator_and_refuses_the_other(san: Server, node: Port) -> None:
    san.write("/srv/volumes/disklessfreebsdbox", bytes(8 << 20))
    san.write("/etc/tgt/conf.d/jailops.conf", TARGET)
    san.must("service tgt start")
    assert iscsi_size(node, PORTAL) == 8 << 20
    assert iscsi_serial(node, PORTAL) == "JO0001"
    with pytest.raises(Refused):
        iscsi_size(node, PORTAL.replace(initiator="iqn.1994-09.org.freebsd:other"))
    with pytest.raises(Refused):
        iscsi_size(node, PORTAL.replace(secret="guess-of-a-stranger"))
    san.must("service tgt restart")
    assert iscsi_size(node, PORTAL) == 8 << 20
    san.must("service tgt stop")
    assert san.service("tgt", "status").exit == 3


def test_a_stopped_tgtd_leaves_its_clients_waiting(san: Server, node: Port) -> None:
    san.write("/srv/volumes/disklessfreebsdbox", bytes(8 << 20))
    san.write("/etc/tgt/conf.d/jailops.conf", TARGET)
    san.must("service tgt start")
    with san.frozen("/run/tgtd.pid"):
        argv = node.command(PORTAL.command("iscsi-readcapacity16", "-s"))
        login = subprocess.Popen(argv, stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            login.wait(timeout=1)
    out, _ = login.communicate(timeout=10)
    assert int(out) == 8 << 20
