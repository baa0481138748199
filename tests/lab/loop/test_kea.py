"""The same first push with Kea in place of ISC dhcpd: what a node is told, and what a restart of Kea leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from controller.starter import repository
from tests.lab.loop.proofs import BOOT, FIRST, SECOND, generation, jails, lease
from tests.lab.loop.secrecy import Arguments, leaks, watched
from tests.lab.loop.stage import RealStage, staged

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="module")]

SOCKET = "/run/kea/kea4-ctrl-socket"
FILE = "/etc/kea/kea-dhcp4.conf"


@pytest.fixture(scope="module")
def arguments() -> Iterator[Arguments]:
    with watched() as arguments:
        yield arguments


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(arguments: Arguments) -> AsyncIterator[RealStage]:
    """The example with backend kea pushed, and converged for the first time."""
    del arguments
    example = repository()
    file = "infrastructure/boot-server.yaml"
    example[file] = example[file].replace("backend: isc ", "backend: kea ")
    async with staged("kea", example) as stage:
        await stage.converged((await stage.git("rev-parse", "HEAD")).strip(), within=90)
        yield stage


async def test_kea_tells_each_node_what_its_manifest_says(stage: RealStage) -> None:
    for host in (FIRST, SECOND):
        assert await asyncio.to_thread(stage.site.lease, host) == lease(host, generation(stage, host))
    assert set(jails(stage, FIRST)) == {"example"}
    assert set(jails(stage, SECOND)) == {"db", "web"}


async def test_the_control_socket_is_there_and_a_restart_loses_nothing(stage: RealStage) -> None:
    server = stage.site.servers[BOOT]
    await asyncio.to_thread(server.must, f"test -S {SOCKET}")
    last = stage.passes(1)[0].id

    await asyncio.to_thread(server.must, "service kea-dhcp4-server restart")

    assert await asyncio.to_thread(stage.site.lease, FIRST) == lease(FIRST, generation(stage, FIRST))
    await asyncio.to_thread(server.must, f"test -S {SOCKET}")
    await stage.converged((await stage.git("rev-parse", "HEAD")).strip())
    assert stage.steps(after=last) == []


async def test_entries_that_its_file_has_lost_are_written_down_again(stage: RealStage) -> None:
    """They are served all the while: only its next start would have lost them."""
    server = stage.site.servers[BOOT]
    last = stage.passes(1)[0].id

    await asyncio.to_thread(server.must, f"echo '{{}}' > {FILE}")
    await stage.converged((await stage.git("rev-parse", "HEAD")).strip())

    assert stage.steps(after=last) == ["have Kea write it down"]
    await asyncio.to_thread(server.must, f"grep -q {lease(FIRST, generation(stage, FIRST)).root_path} {FILE}")


async def test_a_pass_without_changes_writes_nothing_anywhere(stage: RealStage) -> None:
    mark = await stage.site.mark()
    await stage.looked(times=2)
    assert await stage.site.writes(mark) == {}


async def test_nothing_was_asked_in_vain_and_no_secret_was_told(stage: RealStage, arguments: Arguments) -> None:
    assert stage.site.uncovered() == []
    assert await leaks(stage, arguments) == []
