from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.standins.node import Node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that has booted; it must not have been asked anything that the reference does not cover."""
    one = Node(tmp_path, size=64 << 20)
    await one.boot()
    yield one
    await one.machine.power_off()
    assert one.machine.uncovered() == []


@pytest.fixture
async def jailed(node: Node) -> Node:
    """A node with its disk mounted, a base, and the jail `example` running."""
    await node.good(
        """
        newfs -U -L jails /dev/da0 >/dev/null
        mount /dev/ufs/jails /iscsi
        mkdir -p /iscsi/jails/etc/ezjail
        ezjail-admin install -h file:///dist >/dev/null 2>&1
        ezjail-admin create example 198.51.100.61 >/dev/null 2>&1
        ezjail-admin start example 2>/dev/null
        """
    )
    return node
