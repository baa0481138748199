"""A simulated site whose two nodes have booted a generation made by hand, once for each module of tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from controller.lab.site import BootPlan, NodePlan, SanPlan, Site, SitePlan, VmPlan
from tests.site import scripts
from tests.site.hands import Hands

NODES = (("node1", "12:34:56:78:90:ab", "198.51.100.50", "198.51.100.61"),
         ("node2", "12:34:56:78:90:ac", "198.51.100.51", "198.51.100.62"))  # fmt: skip
PLAN = SitePlan(
    (VmPlan("build", "198.51.100.7"),),
    (SanPlan("san", scripts.SAN),),
    (BootPlan("boot", "198.51.100.2", gateway="198.51.100.1"),),
    tuple(NodePlan(name, mac, "em0", "san", "boot") for name, mac, _, _ in NODES),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hands() -> AsyncIterator[Hands]:
    async with Site(PLAN) as site:
        hands = Hands(site)
        await furnish(hands)
        yield hands
        assert site.uncovered() == []


async def furnish(hands: Hands) -> None:
    """What the controller would have done: build, export, disks, boot files, DHCP entries; then both nodes come up."""
    site = hands.site
    await hands.sh("san", "exportfs -o rw,no_root_squash,no_subtree_check 198.51.100.7:/export/jailops")
    (site.computers["build"].machine.directory / "lab/build.json").write_text('{"seconds": 0.2}')
    await hands.sh("build", scripts.BUILD + scripts.PREPARE.replace("KEY", site.client_public_key))
    for tid, (name, _, address, alias) in enumerate(NODES, 1):
        await hands.sh("san", scripts.own(name, alias) + scripts.disk(name, tid) + scripts.exports(name, address))
    await hands.sh("boot", f"mkdir -p {scripts.TFTP}")
    pxeboot = site.computers["san"].machine.path(f"{scripts.ROOT}/boot/pxeboot").read_bytes()
    site.computers["boot"].machine.path(f"{scripts.TFTP}/pxeboot").write_bytes(pxeboot)
    entries = "".join(scripts.entry(name, mac, address) for name, mac, address, _ in NODES)
    await hands.serve(entries)
    outcomes = await asyncio.gather(*(site.booted(name, 20) for name, *_ in NODES))
    assert [one.state if one else "silent" for one in outcomes] == ["up", "up"], site.console("node1")
    await hands.sh("node1", scripts.DISK + scripts.jail("example", "198.51.100.61"))
