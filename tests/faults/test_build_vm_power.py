"""The build VM's power: started when a build needs it, shut down when it is idle, and no trouble while it is off."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from controller.starter import repository
from tests.faults.play import PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

VM, BELOW = "build-vm", "build-vm:hypervisor"
UNIT = "jailops-vm-build-vm.service"
FILE = "infrastructure/build-vm.yaml"
IMAGE = "images/freebsd13.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDUwksO2MjUe3PfbIlzF+JA+dasGdjX1fMHbaPaEsBG"
QEMU = f"""
  vm:
    hypervisor:
      ssh:
        address: 198.51.100.3
        hostKey: {KEY}
    kind: qemu
    idle: 3s
    bootTimeout: 60s
    qemu:
      memory: 2GiB
      disk: /var/lib/jailops/build-vm.qcow2
      tap: tap1
      bridge: br0
      mac: 52:54:00:12:34:56
      vnc: 1
"""


def example() -> dict[str, str]:
    return {FILE: repository()[FILE] + QEMU}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("power") / "stage", example()) as play:
        await play.converged()
        yield play


def on(play: Play) -> bool:
    return play.stage.site.computers[VM].machine.running


async def off(play: Play) -> None:
    await play.until("the build VM is off", lambda: not on(play))
    await play.until("that is known", lambda: said(play) == "off: is started when a build needs it")


def said(play: Play) -> str:
    return str(play.statuses()[f"vm/{VM}"]["message"])


async def idle_for_long(play: Play) -> None:
    """A pass has ended that began when nothing had happened on the build VM for longer than it may be idle."""
    then = time.time() + 4
    await play.until("a later pass", lambda: play.passes()[0].started > then)


async def test_it_is_started_for_the_first_build_and_shut_down_after_it(play: Play) -> None:
    assert play.made() == 1
    await off(play)
    summaries = [one for one in play.acts(0) if "build VM" in one]
    assert summaries == ["start build VM build-vm", "shut down build VM build-vm"]
    assert await play.on(BELOW, f"systemctl show --property=ActiveState {UNIT}") == "ActiveState=inactive\n"


async def test_while_it_is_off_all_is_well_and_nothing_is_written(play: Play) -> None:
    mark, act = await play.stage.site.mark(), play.last_act()
    for _ in range(2):
        assert (await play.next_pass()).said == "converged: nothing to do"
    assert await play.stage.site.writes(mark) == {}
    assert play.acts(act) == []
    assert play.state("image/freebsd13") == play.state(f"vm/{VM}") == "Ready"
    metrics = await play.metrics()
    assert f'jailops_endpoint_up{{host="{VM}"}}' not in metrics
    assert metrics[f'jailops_endpoint_up{{host="{BELOW}"}}'] == 1


async def test_a_push_starts_it_a_generation_is_published_and_it_is_shut_down(play: Play) -> None:
    act = play.last_act()
    play.stage.edit(IMAGE, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    await play.stage.push("No games")
    await play.until("it is on", lambda: on(play))
    await play.until("it is built", lambda: play.made() == 2)
    await play.until("the image is as wanted", lambda: play.state("image/freebsd13") == "Ready")
    await off(play)
    world, wanted = (play.statuses()[f"{kind}/freebsd13"]["detail"]["wanted"] for kind in ("world", "image"))
    assert play.acts(act)[:2] == ["start build VM build-vm", f"build the world of freebsd13 {world}"]
    assert play.acts(act).count("shut down build VM build-vm") == 1
    assert all(one["options"]["root-path"].endswith(wanted) for one in play.look("boot-server")["dhcp"].values())


async def test_started_by_hand_it_stays_on_while_somebody_is_logged_in(play: Play) -> None:
    act = play.last_act()
    who = play.stage.site.computers[VM].machine.directory / "lab" / "who"
    who.write_text("alice            pts/0        Nov 26 10:00 (198.51.100.9)\n")
    by_hand = f"mkdir -p /run/jailops-vm-{VM}; ip tuntap add dev tap1 mode tap 2>/dev/null; systemd-run --quiet "
    by_hand += f"--unit={UNIT} --property=Type=exec --property=RuntimeDirectory=jailops-vm-{VM} -- qemu-system-x86_64 "
    by_hand += "-name guest=build-vm -drive file=/var/lib/jailops/build-vm.qcow2 -nic tap,ifname=tap1 "
    await play.on(BELOW, f"{by_hand} -qmp unix:/run/jailops-vm-{VM}/qmp,server=on,wait=off\n")
    await play.until("it is seen", lambda: said(play) == "on: alice is logged in")
    await idle_for_long(play)
    assert on(play)
    assert play.acts(act) == []
    who.unlink()
    await off(play)
    assert play.acts(act) == ["shut down build VM build-vm"]


async def test_a_failed_build_leaves_it_on_for_the_person_who_looks(play: Play) -> None:
    play.build(fail="compile")
    play.stage.edit(IMAGE, "- WITHOUT_GAMES", "- WITHOUT_GAMES\n    - WITHOUT_CALENDAR")
    await play.stage.push("No calendar")
    await play.until("the build has failed", lambda: play.state("world/freebsd13") == "Stalled")
    await idle_for_long(play)
    assert on(play)
    play.build()
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await off(play)


async def test_its_host_stopped_by_hand_shuts_it_down_and_a_build_starts_it_again(play: Play) -> None:
    """A VM that goes away during its build: the job is lost, and begins again on a VM that was started again."""
    play.build(seconds=8)
    play.stage.edit(IMAGE, "- WITHOUT_GAMES", "- WITHOUT_GAMES\n    - WITHOUT_TALK")
    await play.stage.push("No talk")
    made = play.made()
    await play.until("it is being built", lambda: play.made() > made)
    await play.on(BELOW, f"systemctl stop {UNIT}")
    assert not on(play)
    play.build()
    await play.until("it is built again", lambda: play.made() == made + 2)
    await play.until("the image is as wanted", lambda: play.state("image/freebsd13") == "Ready")
    await off(play)
