"""Machines to talk to, and a fleet that knows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.transport import Fleet
from tests.transport.servers import Machine, OpenSsh, in_process, openssh


@pytest.fixture
async def sshd(tmp_path: Path) -> AsyncIterator[OpenSsh]:
    async with openssh(tmp_path) as machine:
        yield machine


@pytest.fixture(params=["sshd", "asyncssh"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Machine]:
    async with openssh(tmp_path) if request.param == "sshd" else in_process(tmp_path) as machine:
        yield machine


@pytest.fixture
async def fleet(machine: Machine) -> AsyncIterator[Fleet]:
    async with Fleet({"node1": machine.endpoint}, state_dir=str(machine.scratch / "state")) as fleet:
        yield fleet


@pytest.fixture
async def real(sshd: OpenSsh) -> AsyncIterator[Fleet]:
    """A fleet of one real sshd."""
    async with Fleet({"node1": sshd.endpoint}, state_dir=str(sshd.scratch / "state")) as fleet:
        yield fleet
