"""A vault with the BMC's password, and the control of one host's switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.power import PowerControl
from controller.store import Store
from controller.vault import Vault
from tests.power.hosts import desired

PASSWORD = "Kn4ckw0rst"
Control = Callable[[str], PowerControl]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """`control("ipmi: {…}")`: node1 with this spec.power, as a controller that has just begun with the store of those before it
    has it. The secrets are in tmp_path, `bmc` is the right password."""
    (tmp_path / "bmc").write_text(PASSWORD + "\n")
    (tmp_path / "wrong").write_text("An0therOne\n")

    with Store(tmp_path / "jailops.sqlite") as store:

        def made(power: str) -> PowerControl:
            one = PowerControl(Vault(tmp_path), store)
            one.know(desired(power))
            return one

        yield made
