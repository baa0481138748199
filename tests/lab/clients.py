"""What a diskless node does over the network, done by real clients in a node's namespace.

DHCP by Debian's dhclient, asking for everything a boot loader wants; TFTP by tftp-hpa; NFS version 3 by libnfs; iSCSI
by libiscsi. Each returns what arrived, or raises `Refused` with the words of the client.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace

from tests.lab.child import lab_directory
from tests.lab.net import Port

PATIENCE = 20.0
"""Seconds after which a client counts as hanging."""
LEASE_OPTIONS = "subnet-mask, routers, domain-name-servers, domain-name, host-name, root-path"
DHCLIENT_CONF = f"""\
timeout 2;
initial-interval 1;
select-timeout 0;
request {LEASE_OPTIONS};
"""
DHCLIENT_SCRIPT = """\
#!/bin/sh
[ "$reason" = BOUND ] || exit 0
env >"$lease_to"
kill $PPID
"""
"""Keeps what dhclient would configure the interface with, leaves the interface as it is, and ends the client."""


class Refused(AssertionError):
    """The server did not give the client what it asked for; the message is the client's own."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a DHCP server told a client. Empty where it said nothing."""

    address: str
    mask: str = ""
    routers: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    host_name: str = ""
    domain: str = ""
    next_server: str = ""
    filename: str = ""
    root_path: str = ""
    server: str = ""


def dhcp(port: Port) -> Lease:
    """Ask for a lease with the port's MAC address, as a node that has just been switched on."""
    with lab_directory() as work:
        (work / "conf").write_text(DHCLIENT_CONF)
        (work / "script").write_text(DHCLIENT_SCRIPT)
        (work / "script").chmod(0o755)
        files = ["-cf", f"{work}/conf", "-lf", f"{work}/leases", "-sf", f"{work}/script", "--no-pid"]
        done = _start(port, ["dhclient", "-4", "-1", "-d", *files, "-e", f"lease_to={work}/lease", port.interface])
        if not (work / "lease").exists():
            raise Refused(f"no lease for {port.mac}: {done.stdout}{done.stderr}")
        return parse_lease((work / "lease").read_text())


def parse_lease(text: str) -> Lease:
    """What dhclient-script(8) finds in its environment."""
    said = dict(line.removeprefix("new_").split("=", 1) for line in text.splitlines() if line.startswith("new_"))
    return Lease(
        address=said["ip_address"],
        mask=said.get("subnet_mask", ""),
        routers=tuple(said.get("routers", "").split()),
        nameservers=tuple(said.get("domain_name_servers", "").split()),
        host_name=said.get("host_name", ""),
        domain=said.get("domain_name", ""),
        next_server=said.get("next_server", ""),
        filename=said.get("filename", ""),
        root_path=said.get("root_path", ""),
        server=said.get("dhcp_server_identifier", ""),
    )


def tftp(port: Port, server: str, name: str) -> bytes:
    """Fetch a file by TFTP in octet mode, asking the server as the node's boot ROM does."""
    with lab_directory() as work:
        said = _run(port, ["tftp", "-m", "binary", server, "-c", "get", name, f"{work}/file"])
        file = work / "file"
        # tftp-hpa ends with 0 after an error, and leaves an empty file.
        if "Error code" in said or "timed out" in said or not file.exists():
            raise Refused(said.strip() or f"{server} did not send {name}")
        return file.read_bytes()


def nfs_read(port: Port, server: str, path: str) -> bytes:
    """Read one file by NFS version 3 over TCP, through the server's port mapper and mount daemon."""
    argv = _placed(port, ["nfs-cat", f"nfs://{server}{path}?version=3"])
    done = subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr.decode().strip())
    return done.stdout


def nfs_list(port: Port, server: str, path: str) -> tuple[str, ...]:
    """The names in one directory of an NFS export."""
    said = _run(port, ["nfs-ls", f"nfs://{server}{path}?version=3"])
    return tuple(sorted(line.split()[-1] for line in said.splitlines()))


@dataclass(frozen=True, slots=True)
class Portal:
    """An iSCSI target as an initiator sees it. With a user it authenticates by CHAP."""

    address: str
    target: str
    initiator: str
    user: str = ""
    secret: str = ""
    lun: int = 1

    def replace(self, **changes: str) -> Portal:
        """The same target, approached in another way."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def command(self, program: str, *options: str) -> list[str]:
        """The libiscsi program with this login; a secret stands in the environment, as on a node in a file."""
        login = [f"LIBISCSI_CHAP_USERNAME={self.user}", f"LIBISCSI_CHAP_PASSWORD={self.secret}"] if self.user else []
        return [
            "env",
            *login,
            program,
            "-i",
            self.initiator,
            *options,
            f"iscsi://{self.address}/{self.target}/{self.lun}",
        ]


def iscsi_size(port: Port, portal: Portal) -> int:
    """Log in, read the capacity of the LUN in bytes, log out."""
    return int(_run(port, portal.command("iscsi-readcapacity16", "-s")))


def iscsi_serial(port: Port, portal: Portal) -> str:
    """Log in and read the unit serial number page of the LUN, log out."""
    said = _run(port, portal.command("iscsi-inq", "-e", "1", "-c", "128"))
    return said.rpartition("Unit Serial Number:")[2].strip().strip("[] ")


def _run(port: Port, argv: list[str]) -> str:
    done = _start(port, argv)
    if done.returncode != 0:
        raise Refused(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr


def _start(port: Port, argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_placed(port, argv), capture_output=True, text=True, timeout=PATIENCE, check=False)


def _placed(port: Port, argv: list[str]) -> list[str]:
    """A client in the port's network, which ends with us even if we are killed."""
    return port.command(["setpriv", "--pdeathsig", "KILL", *argv])
