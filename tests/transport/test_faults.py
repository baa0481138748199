"""A real sshd that is killed, frozen or full: nothing is believed that was not seen, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from controller.errors import Indeterminate, Retry
from controller.model import Answer
from controller.transport import Fence, Fleet
from controller.transport.link import ABANDONED_MOST
from tests.transport.servers import OpenSsh, openssh, until


@pytest.mark.parametrize("status", ["exit 0", "sleep 0.3", "printf x; sleep 0.3; printf y"])
async def test_sshd_killed_in_mid_command_is_indeterminate(real: Fleet, sshd: OpenSsh, status: str) -> None:
    """S2. Whatever a command would have answered, without its marker it is not an answer."""
    up = sshd.scratch / "up"
    script = f"touch {up}; while [ -e {up} ]; do sleep 0.05; done; {status}"
    for ask in (real.ask("node1", "main", [script], 60), real.act("node1", "main", script, 60, Fence(1, "a"))):
        task = asyncio.create_task(ask)
        await until(up.exists)
        await sshd.drop()
        with pytest.raises(Indeterminate, match="connection was lost"):
            await task
        up.unlink()


async def test_frozen_sshd_ends_with_the_deadline(real: Fleet, sshd: OpenSsh) -> None:
    """S3. Before sending it is a Retry, after sending Indeterminate; both within their deadline."""
    await real.ask("node1", "main", ["true"], 10)
    sshd.freeze()
    try:
        with pytest.raises(Indeterminate, match="deadline"):
            await real.ask("node1", "main", ["echo late"], 0.5)
        with pytest.raises(Retry, match="before the deadline") as opening:
            await real.ask("node1", "main", ["true"], 0.5)
        with pytest.raises(Retry) as connecting:
            await real.ask("node1", "main", ["true"], 0.5)
        assert not isinstance(opening.value, Indeterminate)
        assert not isinstance(connecting.value, Indeterminate)
        assert real.exchanges["node1"] == 2
    finally:
        sshd.thaw()
    (answer,) = await real.ask("node1", "main", ["echo thawed"], 10, force=True)
    assert answer.stdout == b"thawed\n"


async def test_a_frozen_host_does_not_hold_up_another(sshd: OpenSsh, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    async with openssh(tmp_path / "two") as other:
        endpoints = {"node1": sshd.endpoint, "node2": dataclasses.replace(other.endpoint, name="node2")}
        async with Fleet(endpoints) as fleet:
            sshd.freeze()
            try:
                stuck = asyncio.create_task(fleet.ask("node1", "main", ["echo thawed"], 60))
                await fleet.ask("node2", "main", ["true"], 10)
                assert not stuck.done()
            finally:
                sshd.thaw()
            (answer,) = await stuck
            assert answer.stdout == b"thawed\n"


async def test_hanging_shells_are_counted_and_capped(real: Fleet, sshd: OpenSsh) -> None:
    """What hangs, hangs on; its shells may not use up the machine's sessions."""
    gate = sshd.scratch / "gate"
    hang = f"while [ ! -e {gate} ]; do sleep 0.1; done"
    for _ in range(ABANDONED_MOST):
        with pytest.raises(Indeterminate):
            await real.ask("node1", "disk", [hang], 1)
    with pytest.raises(Retry, match="8 earlier ones still hang") as caught:
        await real.ask("node1", "disk", ["true"], 5)
    assert not isinstance(caught.value, Indeterminate)
    gate.touch()
    async with asyncio.timeout(10):
        while True:
            try:
                await real.ask("node1", "disk", ["true"], 5)
            except Retry:
                await asyncio.sleep(0.05)
            else:
                break
    assert real.connects["node1"] == 1


async def test_the_main_lane_opens_beside_eight_hanging_shells(real: Fleet) -> None:
    await real.ask("node1", "main", ["true"], 5)
    for _ in range(ABANDONED_MOST):
        with pytest.raises(Indeterminate):
            await real.ask("node1", "disk", ["sleep 600"], 1)
    (answer,) = await real.ask("node1", "main", ["echo here"], 5)
    assert answer.stdout == b"here\n"


async def test_no_room_for_a_session_is_a_retry(tmp_path: Path) -> None:
    async with openssh(tmp_path, more="MaxSessions 1") as machine, Fleet({"node1": machine.endpoint}) as fleet:
        await fleet.ask("node1", "main", ["true"], 5)
        with pytest.raises(Retry) as caught:
            await fleet.ask("node1", "disk", ["true"], 5)
        assert not isinstance(caught.value, Indeterminate)
        assert isinstance((await fleet.ask_each("node1", "main", ["true"], 5))[0], Answer)


async def test_closing_does_not_wait_for_a_frozen_sshd(sshd: OpenSsh) -> None:
    async with Fleet({"node1": sshd.endpoint}) as fleet:
        await fleet.ask("node1", "main", ["true"], 10)
        sshd.freeze()
    sshd.thaw()  # waiting for it would never have come here
