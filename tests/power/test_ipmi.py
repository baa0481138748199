"""IPMI against the library's own server, kind and unkind, and against OpenIPMI's simulator, which somebody else wrote."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.errors import ControllerError, Stall
from controller.lab.bmc import Bmc
from controller.power import PowerControl
from tests.power.conftest import PASSWORD, Control

PATIENCE = 8.0
"""Seconds for a conversation that is to fail: a child of a busy computer needs two of them to begin."""


class Kind:
    """A machine that does what its BMC does."""

    def __init__(self, state: str = "on") -> None:
        self.state = state
        self.presses: list[str] = []

    async def status(self) -> str:
        return self.state

    async def off(self) -> None:
        self.presses.append("off")
        self.state = "off"

    async def on(self) -> None:
        self.presses.append("on")
        self.state = "on"


class Stubborn(Kind):
    """The BMC takes every order, and nothing happens."""

    async def off(self) -> None:
        self.presses.append("off")


class Slow(Kind):
    """It is off when it was asked three times more."""

    left = 3

    async def status(self) -> str:
        if self.presses and self.left:
            self.left -= 1
            return "on"
        return self.state


class Mute(Kind):
    """Logins work; the first question, or what comes after the order, is never answered."""

    def __init__(self, after: str) -> None:
        super().__init__()
        self.after = after
        self.asked = asyncio.Event()

    async def status(self) -> str:
        if self.after == "login":
            self.asked.set()
            await asyncio.Event().wait()
        return self.state

    async def off(self) -> None:
        self.asked.set()
        await asyncio.Event().wait()


def ipmi(port: int, user: str = "jailops", file: str = "bmc") -> str:
    return f"ipmi: {{address: 127.0.0.1, port: {port}, user: {user}, password: {{file: {file}}}}}"


def told(error: ControllerError, port: int) -> str:
    hint = error.hint if isinstance(error, Stall) else ""
    return f"{type(error).__name__}: {error} | {hint}".replace(str(port), "PORT")


async def refusal(control: PowerControl, op: str, port: int, timeout: float = PATIENCE) -> str:
    act = {"status": control.status, "off": control.off, "on": control.on}[op]
    with pytest.raises(ControllerError) as caught:
        await act("node1", timeout)
    return told(caught.value, port)


async def test_a_kind_bmc_is_asked_and_obeyed(control: Control) -> None:
    machine = Kind()
    async with Bmc(machine, password=PASSWORD) as bmc:
        made = control(ipmi(bmc.port))
        assert await made.status("node1") == "on"
        await made.off("node1")
        await made.off("node1")
        assert (machine.presses, await made.status("node1")) == (["off"], "off")
        await made.on("node1")
        assert (machine.presses, machine.state) == (["off", "on"], "on")


async def test_off_waits_until_the_bmc_says_off(control: Control) -> None:
    machine = Slow()
    async with Bmc(machine, password=PASSWORD) as bmc:
        await control(ipmi(bmc.port)).off("node1")
    assert (machine.presses, machine.left) == (["off"], 0)


COMPARE = (
    "compare spec.power.ipmi.user and the secret wrong with the BMC's own: it is not offered again, because many BMCs lock a "
    "user out after some wrong passwords, until the secret or spec.power is another, or you say: jailops retry node/node1"
)


async def test_a_wrong_password_is_for_a_person_and_is_never_said(control: Control) -> None:
    async with Bmc(Kind(), password=PASSWORD) as bmc:
        said = await refusal(control(ipmi(bmc.port, file="wrong")), "off", bmc.port)
    assert said == (
        f"LoginRefused: cannot switch off node1: its BMC 127.0.0.1:PORT refuses the login of jailops | {COMPARE}"
    )


async def test_unkind_bmcs_cost_their_deadline_and_each_has_its_remedy(control: Control) -> None:
    """All at once: none of them delays another."""
    stubborn, dumb, deaf = Stubborn(), Mute("login"), Mute("order")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = silent.getsockname()[1]
        async with (
            Bmc(stubborn, password=PASSWORD) as one,
            Bmc(dumb, password=PASSWORD) as two,
            Bmc(deaf, password=PASSWORD) as three,
        ):
            started = asyncio.get_running_loop().time()
            said = await asyncio.gather(
                refusal(control(ipmi(one.port)), "off", one.port),
                refusal(control(ipmi(two.port)), "status", two.port),
                refusal(control(ipmi(three.port)), "off", three.port),
                refusal(control(ipmi(nobody)), "on", nobody),
            )
            took = asyncio.get_running_loop().time() - started
    sent = "Indeterminate: cannot see node1 off: its BMC 127.0.0.1:PORT was told to switch it off and"
    end = "its power is asked for before anything else is done | "
    assert list(said) == [
        f"{sent} says 'on' still; {end}",
        "Retry: cannot ask for the power of node1: its BMC 127.0.0.1:PORT does not answer | ",
        f"{sent} does not answer; {end}",
        "Retry: cannot switch on node1: its BMC 127.0.0.1:PORT does not answer | ",
    ]
    assert took < PATIENCE + 4
    assert (stubborn.presses, dumb.asked.is_set(), deaf.asked.is_set()) == (["off"], True, True)


async def children() -> str:
    """The arguments and the environment of every process that this one has started."""
    command = ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "args", "e"]
    return (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)).stdout


async def test_who_gives_up_leaves_no_child(control: Control) -> None:
    machine = Mute("login")
    async with Bmc(machine, password=PASSWORD) as bmc:
        talk = asyncio.create_task(control(ipmi(bmc.port)).status("node1", 60))
        await machine.asked.wait()
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
        ours = await children()
    assert talk.cancelled()
    assert "controller/power/child.py" not in ours


async def test_the_password_is_in_no_argument(control: Control) -> None:
    machine = Mute("login")
    async with Bmc(machine, password=PASSWORD) as bmc:
        talk = asyncio.create_task(control(ipmi(bmc.port)).status("node1", 60))
        await machine.asked.wait()
        ours = await children()
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
    assert "controller/power/child.py" in ours
    assert PASSWORD not in ours


SIMULATOR = """\
name "node"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 {port}
  priv_limit admin
  allowed_auths_operator md5 straight
  allowed_auths_admin md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "{chassis}"
user 2 true "jailops" "{password}" operator 10 md5 straight
"""
EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""
CHASSIS = """\
#!/bin/sh
# get NAME…, set NAME VALUE…: ipmi_sim asks the machine through this.
op=$1; shift
while [ $# -gt 0 ]; do
  case $op-$1 in
    get-power) echo "power:$(cat {state})"; shift ;;
    set-power) echo "$2" >{state}; shift 2 ;;
    *) exit 1 ;;
  esac
done
"""


@contextmanager
def ipmi_sim(directory: Path) -> Iterator[tuple[int, Path]]:
    """OpenIPMI's simulator: its port, and the file that is its machine's power."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    state, chassis = directory / "power", directory / "chassis"
    state.write_text("1\n")
    chassis.write_text(CHASSIS.format(state=state))
    chassis.chmod(0o755)
    (directory / "lan.conf").write_text(SIMULATOR.format(port=port, chassis=chassis, password=PASSWORD))
    (directory / "node.emu").write_text(EMULATION)
    (directory / "state").mkdir()
    command = ["ipmi_sim", "-n", "-c", "lan.conf", "-f", "node.emu", "-s", "state"]
    process = subprocess.Popen(
        command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield port, state
    finally:
        process.kill()
        process.wait()


@pytest.mark.lab
async def test_another_implementation_understands_us(control: Control, tmp_path: Path) -> None:
    with ipmi_sim(tmp_path) as (port, state):
        made = control(ipmi(port))
        assert await made.status("node1", 30) == "on"
        await made.off("node1", 30)
        assert state.read_text() == "0\n"
        await made.on("node1", 30)
        assert state.read_text() == "1\n"
        for switch in (ipmi(port, file="wrong"), ipmi(port, user="nobody")):
            with pytest.raises(Stall, match="refuses the login of"):
                await control(switch).status("node1", 30)
            with pytest.raises(Stall, match="has refused the login of"):
                await control(switch).status("node1", 30)
