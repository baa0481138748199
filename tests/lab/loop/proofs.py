"""What a diskless node gets from the example's infrastructure, in words and in facts that real clients can be held to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.clients import Lease, Portal
from tests.lab.loop.stage import RealStage

CASES = Path(__file__).parents[2] / "cases" / "loop"
FIRST, SECOND, THIRD = "disklessfreebsdbox", "jailbox2", "jailbox3"
BOOT, SAN = "boot-server", "san"
SAN_ADDRESS, BOOT_ADDRESS = "198.51.100.10", "198.51.100.2"
ADDRESSES = {FIRST: "198.51.100.50", SECOND: "198.51.100.51", THIRD: "198.51.100.52"}
SHARE = "/export/jailops"


def lease(host: str, generation: str, routers: tuple[str, ...] = ("198.51.100.1",)) -> Lease:
    """All that the example's manifests say to one of its hosts."""
    return Lease(
        address=ADDRESSES[host],
        mask="255.255.255.0",
        routers=routers,
        nameservers=("198.51.100.1",),
        host_name=host,
        domain="example.org",
        next_server=BOOT_ADDRESS,
        filename=f"freebsd13/{generation}/boot/pxeboot",
        root_path=f"{SAN_ADDRESS}:{root(generation)}",
        server=BOOT_ADDRESS,
    )


def root(generation: str) -> str:
    """A generation's directory on the SAN."""
    return f"{SHARE}/images/freebsd13/{generation}"


def generation(stage: RealStage, host: str) -> str:
    """The generation that a node runs now."""
    return str(stage.site.look(host)["generation"])


def portal(stage: RealStage, host: str, *, chap: bool) -> Portal:
    """The host's disk, approached as the host does."""
    plain = Portal(SAN_ADDRESS, f"iqn.2026-11.org.example:{host}", f"iqn.1994-09.org.freebsd:{host}")
    if not chap:
        return plain
    return plain.replace(user=host, secret=(stage.directory / "secrets" / host / "chap").read_text())


def unpacked(archive: bytes, into: Path) -> Path:
    """A cpio archive, unpacked by bsdtar as rc.initdiskless does."""
    into.mkdir()
    done = subprocess.run(["bsdtar", "-xpf", "-", "-C", str(into)], input=archive, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return into


def jails(stage: RealStage, host: str) -> dict[str, list[str]]:
    """The jails that a node's kernel runs, with their addresses."""
    return {name: list(jail["ip4"]) for name, jail in stage.site.look(host)["jails"].items()}


def aliases(stage: RealStage, host: str) -> list[str]:
    """The addresses that a node's interface carries beside its own."""
    return [alias["address"] for alias in stage.site.look(host)["addresses"]]


def told(stage: RealStage, name: str) -> str:
    """What the controller says about an object: its state, the message, and the hint on the last line; "" at first."""
    status = stage.statuses().get(name)
    if status is None:
        return ""
    return f"{status['state']}: {status['message']}\n{status['hint']}\n"


def case(name: str) -> str:
    return (CASES / name).read_text()
