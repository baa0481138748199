"""A login that a BMC refused is not offered again before something about it has changed: BMCs lock users out."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import Indeterminate, Stall
from controller.store import Store
from tests.power.conftest import PASSWORD, Control
from tests.power.redfish import Fake, certificate, serving


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return tmp_path / "bmc.pem"


def power(fake: Fake, believed: str, user: str = "jailops") -> str:
    login = f"user: {user}, password: {{file: wrong}}"
    return f'redfish: {{url: "https://127.0.0.1:{fake.port}", system: "1", {login}, fingerprint: "{believed}"}}'


async def offered(control: Control, switch: str, fake: Fake) -> tuple[int, str]:
    """How often the BMC heard from a controller that has just begun, and what that said."""
    before = len(fake.asked)
    try:
        said = await control(switch).status("node1", 20)
    except Stall as stall:
        said = str(stall).partition(str(fake.port))[2]
    return len(fake.asked) - before, said


async def test_the_same_login_is_not_offered_again_until_something_changes(
    control: Control, pem: Path, tmp_path: Path
) -> None:
    believed = certificate(pem)
    with serving(Fake(PASSWORD), pem) as fake:
        switch = power(fake, believed)
        heard, said = await offered(control, switch, fake)
        assert (heard > 0, said) == (True, " refuses the login of jailops")
        not_again = (0, " has refused the login of jailops, and neither it nor its secret has changed since")
        assert await offered(control, switch, fake) == not_again

        heard, said = await offered(control, power(fake, believed, user="root"), fake)
        assert (heard > 0, said) == (True, " refuses the login of root"), "another user is another login"

        (tmp_path / "wrong").write_text("Th3Third\n")
        heard, said = await offered(control, switch, fake)
        assert (heard > 0, said) == (True, " refuses the login of jailops"), "another secret is another login"
        assert await offered(control, switch, fake) == not_again

        control(switch).offer_again(["node1"])
        heard, said = await offered(control, switch, fake)
        assert (heard > 0, said) == (True, " refuses the login of jailops"), "a person asked"
        assert await offered(control, switch, fake) == not_again

        for word in ("F0urth", "Th3Third"):
            fake.password = word
            (tmp_path / "wrong").write_text(f"{word}\n")
            assert (await offered(control, switch, fake))[1] == "on", "who was let in since is refused nothing"


async def test_what_is_remembered_tells_nobody_the_password(control: Control, pem: Path, tmp_path: Path) -> None:
    believed = certificate(pem)
    with serving(Fake(PASSWORD), pem) as fake:
        await offered(control, power(fake, believed), fake)
    with Store(tmp_path / "jailops.sqlite", read_only=True) as store:
        assert len(store.get("refused login of node1")) == 64
    assert (tmp_path / "wrong").read_bytes().strip() not in (tmp_path / "jailops.sqlite-wal").read_bytes()


async def test_a_bmc_that_breaks_off_has_refused_nobody(control: Control, pem: Path) -> None:
    believed = certificate(pem)
    with serving(Fake(PASSWORD), pem) as fake:
        fake.refuses = (503, {})
        switch = power(fake, believed).replace("wrong", "bmc")
        with pytest.raises(Indeterminate):
            await control(switch).off("node1", 20)
        assert (await offered(control, switch, fake))[1] == "on"
