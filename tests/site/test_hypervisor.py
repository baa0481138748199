"""The simulated hypervisor: what the controller's scripts do there is what becomes of the simulated build VM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from controller.encode import vm
from controller.lab.servers.plan import GuestPlan, HypervisorPlan
from controller.lab.site import Site, SitePlan, VmPlan
from controller.model import Answer, Script
from tests.lab.guest import SMALL

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

BELOW = "first:hypervisor"
QEMU = replace(
    SMALL, name="first", memory=1 << 31, cpus=2, disk="/vm/first.qcow2", disk_format="qcow2", accelerator="kvm"
)
DOMAIN = vm.Domain("second", "freebsd13", "qemu:///system")
PLAN = SitePlan(
    vms=(VmPlan("first", "198.51.100.20"), VmPlan("second", "198.51.100.21")),
    hypervisors=(
        HypervisorPlan(
            BELOW, "198.51.100.3", (GuestPlan("first", "first", QEMU.disk, "br0"), GuestPlan("second", "freebsd13"))
        ),
    ),
)
BOTH: tuple[vm.Machine, ...] = (QEMU, DOMAIN)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with Site(PLAN) as site:
        yield site
        assert site.uncovered() == []


async def run(site: Site, script: Script) -> Answer:
    status, out, err = await site.computers[BELOW].machine.run(script)
    return Answer(status, out.encode(), err.encode())


async def word(site: Site, machine: vm.Machine) -> str:
    return vm.parse_power(await run(site, vm.look_script(machine)), machine.name).word


async def until(site: Site, name: str, *, on: bool) -> None:
    for _ in range(1000):
        if bool(site.computers[name].machine.pid) is on:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{name} is not {'on' if on else 'off'}")


@pytest.mark.parametrize("machine", BOTH, ids=("qemu", "libvirt"))
async def test_on_and_off(site: Site, machine: vm.Machine) -> None:
    off, on = ("inactive", "active") if machine is QEMU else ("shut off", "running")
    assert await word(site, machine) == off
    assert not site.computers[machine.name].machine.running
    started = await run(site, vm.start_script(machine))
    assert (started.exit, started.err) == (0, "")
    assert (await run(site, vm.proof_script(machine))).exit == 0
    assert await word(site, machine) == on
    await until(site, machine.name, on=True)
    inside = vm.inside_script("/var/db/jailops/jobs")
    status, out, err = await site.computers[machine.name].machine.run(inside)
    seen = vm.parse_inside(Answer(status, out.encode(), err.encode()), machine.name)
    assert (seen.jobs, seen.people, seen.idle < 60) == ((), (), True)
    assert (await run(site, vm.stop_script(machine))).exit == 0
    await until(site, machine.name, on=False)
    for _ in range(100):  # the process ends when it has heard that the VM is off
        if await word(site, machine) == off:
            break
    assert await word(site, machine) == off


@pytest.mark.parametrize("machine", BOTH, ids=("qemu", "libvirt"))
async def test_started_twice_and_stopped_while_it_is_off(site: Site, machine: vm.Machine) -> None:
    assert (await run(site, vm.stop_script(machine))).exit != 0
    assert (await run(site, vm.start_script(machine))).exit == 0
    again = await run(site, vm.start_script(machine))
    assert (again.exit, "already" in again.err) == (1, True)
    await until(site, machine.name, on=True)
    assert (await run(site, vm.stop_script(machine))).exit == 0
    await until(site, machine.name, on=False)


async def test_what_is_not_there(site: Site) -> None:
    for machine, message in (
        (replace(QEMU, bridge="br9"), "Device does not exist"),
        (replace(DOMAIN, domain="nobody"), "failed to get domain 'nobody'"),
    ):
        refused = await run(site, vm.start_script(machine))
        assert (refused.exit, message in refused.err) == (1, True)
    assert (await run(site, vm.start_script(replace(QEMU, name="other", disk="/vm/none.qcow2")))).exit == 0
    proof = await run(site, vm.proof_script(replace(QEMU, name="other")))
    assert (proof.exit, "Could not open '/vm/none.qcow2'" in proof.err) == (1, True)


async def test_a_hypervisor_without_power_takes_its_vms_along(site: Site) -> None:
    await run(site, vm.start_script(QEMU))
    await until(site, "first", on=True)
    await site.power_off(BELOW)
    await until(site, "first", on=False)
    await site.power_on(BELOW)
    power = vm.parse_power(await run(site, vm.look_script(QEMU)), "first")
    assert (power.word, power.asked) == ("inactive", "")
