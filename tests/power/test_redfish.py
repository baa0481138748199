"""Redfish against a small BMC that can be unkind, and against the emulator of sushy-tools, which somebody else wrote."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from controller.errors import ControllerError, Retry, Stall
from controller.power import PowerControl
from tests.power.conftest import PASSWORD, Control
from tests.power.redfish import RESET, SESSIONS, Fake, certificate, serving

PATIENCE = 8.0
DENIED: dict[str, Any] = {
    "error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.0.GeneralError", "Message": f"no: {PASSWORD}\n\x1b[2J"}]}
}


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Where the BMC's certificate is to be written."""
    return tmp_path / "bmc.pem"


def redfish(port: int, believed: str, file: str = "bmc", system: str = "1") -> str:
    login = f"user: jailops, password: {{file: {file}}}"
    return f'redfish: {{url: "https://127.0.0.1:{port}", system: "{system}", {login}, {believed}}}'


def pin(fingerprint: str) -> str:
    return f'fingerprint: "{fingerprint}"'


async def refusal(control: PowerControl, op: str) -> str:
    act = {"status": control.status, "off": control.off, "on": control.on}[op]
    with pytest.raises(ControllerError) as caught:
        await act("node1", PATIENCE)
    said = f"{type(caught.value).__name__}: {caught.value}"
    if isinstance(caught.value, Stall):
        said += f" | {caught.value.hint}"
    return re.sub(r"127\.0\.0\.1:\d+", "BMC", said)


async def test_a_kind_bmc_is_asked_and_obeyed_and_keeps_no_session(control: Control, pem: Path) -> None:
    shown = certificate(pem)
    with serving(Fake(PASSWORD), pem) as fake:
        made = control(redfish(fake.port, pin(shown)))
        assert await made.status("node1") == "on"
        await made.off("node1")
        assert (fake.state, await made.status("node1")) == ("Off", "off")
        await made.off("node1")
        await made.on("node1")
    assert fake.state == "On"
    assert fake.asked.count(f"POST {RESET}") == 2
    assert f"POST {SESSIONS}" not in fake.asked


async def test_a_ca_is_believed_for_what_it_has_signed(control: Control, pem: Path, tmp_path: Path) -> None:
    certificate(tmp_path / "ca.pem")
    certificate(tmp_path / "other.pem")
    certificate(pem, tmp_path / "ca.pem")
    with serving(Fake(PASSWORD), pem) as fake:
        assert await control(redfish(fake.port, "ca: {file: ca.pem}")).status("node1") == "on"
        fake.asked.clear()
        said = await refusal(control(redfish(fake.port, "ca: {file: other.pem}")), "off")
    assert said.startswith("Stall: cannot switch off node1: its BMC https://BMC cannot be believed: ")
    assert "certificate verify failed" in said
    assert said.endswith("spec.power.redfish.ca: a new one goes into the manifest; if it has none, something stands "
                         "between. No password was sent")  # fmt: skip
    assert fake.asked == []


async def test_another_certificate_is_told_nothing(control: Control, pem: Path) -> None:
    shown = certificate(pem)
    with serving(Fake(PASSWORD), pem) as fake:
        said = await refusal(control(redfish(fake.port, pin("ab" * 32))), "off")
    assert said == (
        "Stall: cannot switch off node1: its BMC https://BMC cannot be believed: its certificate has the SHA-256 "
        f"fingerprint {shown} | compare the certificate at the BMC's console with spec.power.redfish.fingerprint: a new one "
        "goes into the manifest; if it has none, something stands between. No password was sent"
    )
    assert fake.asked == []


async def test_a_file_without_certificates_is_no_ca(control: Control) -> None:
    said = await refusal(control(redfish(9, "ca: {file: bmc}")), "status")
    assert said.startswith("Stall: cannot use bmc: it holds no certificate | replace ")


async def test_refusals_are_for_a_person_and_repeat_no_secret(control: Control, pem: Path) -> None:
    believed = pin(certificate(pem))
    with serving(Fake(PASSWORD), pem) as fake:
        login = await refusal(control(redfish(fake.port, believed, file="wrong")), "status")
        fake.refuses = (403, DENIED)
        denied = await refusal(control(redfish(fake.port, believed)), "off")
        system = await refusal(control(redfish(fake.port, believed, system="2")), "status")
    assert login.startswith(
        "LoginRefused: cannot ask for the power of node1: its BMC https://BMC refuses the login of jailops"
    )
    assert denied == (
        "Stall: cannot switch off node1: its BMC https://BMC refuses: no: … [2J | look at the BMC itself; its user jailops "
        "must be allowed to switch the power"
    )
    assert "refuses: it shows no system 2 to this user" in system


async def test_unkind_bmcs_cost_their_deadline_and_each_has_its_remedy(control: Control, pem: Path) -> None:
    believed = pin(certificate(pem))
    with (
        serving(Fake(PASSWORD, obeys=False), pem) as stubborn,
        serving(Fake(PASSWORD, hangs="/redfish/v1/"), pem) as dumb,
        serving(Fake(PASSWORD, hangs=RESET), pem) as deaf,
        serving(Fake(PASSWORD, state="PoweringOn"), pem) as between,
        socket.create_server(("127.0.0.1", 0)) as silent,
    ):
        nobody = silent.getsockname()[1]
        said = await asyncio.gather(
            refusal(control(redfish(stubborn.port, believed)), "off"),
            refusal(control(redfish(dumb.port, believed)), "status"),
            refusal(control(redfish(deaf.port, believed)), "off"),
            refusal(control(redfish(between.port, believed)), "status"),
            refusal(control(redfish(nobody, believed)), "on"),
        )
    sent = "Indeterminate: cannot see node1 off: its BMC https://BMC was told to switch it off and"
    end = "its power is asked for before anything else is done"
    assert list(said) == [
        f"{sent} says 'on' still; {end}",
        "Retry: cannot ask for the power of node1: its BMC https://BMC does not answer",
        f"{sent} does not answer; {end}",
        "Retry: cannot ask for the power of node1: its BMC https://BMC says 'poweringon', which is neither on nor off",
        "Retry: cannot switch on node1: its BMC https://BMC does not answer",
    ]


async def test_nobody_there_is_no_answer(control: Control) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        made = control(redfish(bound.getsockname()[1], pin("ab" * 32)))
        with pytest.raises(Retry, match=r"does not answer \(.*Connection refused\)$"):
            await made.status("node1", PATIENCE)


@contextmanager
def emulator(directory: Path, pem: Path) -> Iterator[tuple[int, str]]:
    """sushy-tools' emulator with its machine in memory: its port, and the machine's id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "htpasswd").write_text(f"jailops:{hashed}\n")
    settings = {
        "LISTEN_IP": "127.0.0.1", "LISTEN_PORT": port, "SSL_CERT": str(pem), "SSL_KEY": str(pem),
        "FAKE_DRIVER": True, "AUTH_FILE": str(directory / "htpasswd"), "STATE_DIR": str(directory),
    }  # fmt: skip
    config = directory / "emulator.conf"
    config.write_text("".join(f"SUSHY_EMULATOR_{name} = {value!r}\n" for name, value in settings.items()))
    command = [str(Path(sys.executable).with_name("sushy-emulator")), "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port, _first_system(port, process)
        finally:
            process.kill()


def _first_system(port: int, process: subprocess.Popen[bytes]) -> str:
    """Ask until it listens; the test's own timeout ends a wait that is in vain."""
    login = base64.b64encode(f"jailops:{PASSWORD}".encode()).decode()
    asked = urllib.request.Request(
        f"https://127.0.0.1:{port}/redfish/v1/Systems", headers={"Authorization": f"Basic {login}"}
    )
    while process.poll() is None:
        try:
            with urllib.request.urlopen(asked, context=ssl._create_unverified_context()) as answer:
                return str(json.load(answer)["Members"][0]["@odata.id"]).rpartition("/")[2]
        except urllib.error.URLError:
            continue
    raise AssertionError(f"the emulator ended: {process.returncode}")


async def test_another_implementation_understands_us(control: Control, pem: Path, tmp_path: Path) -> None:
    believed = pin(certificate(pem))
    with emulator(tmp_path, pem) as (port, system):
        made = control(redfish(port, believed, system=system))
        await made.on("node1")
        assert await made.status("node1") == "on"
        await made.off("node1")
        assert await made.status("node1") == "off"
        for said in ("refuses the login of jailops", "has refused the login of jailops"):
            with pytest.raises(Stall, match=said):
                await control(redfish(port, believed, file="wrong", system=system)).status("node1")
        with pytest.raises(Stall, match="shows no system 42 to this user"):
            await control(redfish(port, believed, system="42")).status("node1")
