"""Where a build VM's power is asked, for every driver that has work for the VM. Questions only.

A VM that is off, or on its way up or down as it was told, is *at rest*: that it does not answer is no trouble then, and
what can be known without it is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.encode.vm import Domain, Machine, Power, Qemu, look_script, parse_power
from controller.errors import ControllerError
from controller.graph import Desired, hypervisor
from controller.model import Answer, Probe, Ref, Unseen

KIND = "vm"


@dataclass(frozen=True)
class Switch:
    """One build VM's power: what is behind it, on which machine, and how long it takes, in seconds."""

    machine: Machine
    hypervisor: str
    boot_timeout: int

    @property
    def probe(self) -> Probe:
        return Probe(self.hypervisor, look_script(self.machine))

    @property
    def ref(self) -> Ref:
        return Ref(KIND, self.machine.name)

    def at_rest(self, answer: Answer | Unseen) -> bool:
        """Whether the answer proves that nobody can reach the VM, and that this is as it should be."""
        if isinstance(answer, Unseen):
            return False
        try:
            power = parse_power(answer, self.machine.name)
        except ControllerError:
            return False
        return not power.on or self.under_way(power)

    def under_way(self, power: Power) -> bool:
        """It is on, and was told a short while ago to start or to shut down."""
        return power.ending or (power.asked != "" and power.since < self.boot_timeout)


def switch(desired: Desired, build_vm: str) -> Switch | None:
    """A build VM's power, or None when it is not ours to switch."""
    vm = desired.build_vms[build_vm].spec.vm
    if vm is None:
        return None
    if vm.libvirt is not None:
        machine: Machine = Domain(build_vm, vm.libvirt.domain, vm.libvirt.uri)
    else:
        assert vm.qemu is not None, "one of the two is there: the manifest was checked"
        qemu = vm.qemu
        machine = Qemu(
            name=build_vm,
            memory=qemu.memory,
            cpus=qemu.cpus,
            disk=qemu.disk,
            disk_format=qemu.disk_format,
            disk_bus=qemu.disk_bus,
            tap=qemu.tap,
            bridge=qemu.bridge,
            mac=qemu.mac,
            card=qemu.card,
            vnc=qemu.vnc,
            machine=qemu.machine,
            accelerator=qemu.accelerator,
            patience=vm.boot_timeout,
        )
    return Switch(machine, hypervisor(desired, build_vm), vm.boot_timeout)
