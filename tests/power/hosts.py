"""One host with a switch, as the manifests give it."""

from __future__ import annotations

from pathlib import Path

from controller.graph import Desired, resolve
from controller.manifests import Blob, Power, load

BASE = Path(__file__).parent.parent / "cases" / "manifests" / "base.yaml"
MAC = "12:34:56:78:90:ab"


def desired(power: str) -> Desired:
    """The base of the cross-checks, whose node1 has this `spec.power` ('' for none) and the MAC of the simulated site's."""
    text = BASE.read_text().replace("12:34:56:78:90:33", MAC)
    if power:
        text = text.replace(
            "  jails:\n    manager: ezjail\n", f"  power: {{{power}}}\n  jails:\n    manager: ezjail\n", 1
        )
    loaded = load([Blob("base.yaml", "1", text.encode())])
    assert not loaded.problems, loaded.problems
    return resolve(loaded.objects)


def switches(found: Desired, host: str) -> Power | None:
    return found.hosts[host].spec.power
