"""S5: a machine that never stops talking. Its words are dropped as they come, and the process that hears them stays as small as
it was. `make test` hears some megabytes, `make chaos` a gigabyte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from controller.errors import Stall
from controller.model import Answer
from controller.transport import Fleet
from controller.transport.frames import OUTPUT_CAP

MEGABYTES: Final = int(os.environ.get("JAILOPS_FLOOD", "96"))
MOST: Final = 6 * OUTPUT_CAP
"""Bytes by which the process may grow meanwhile: what it keeps of one stream, copied while it grows, and one window of SSH."""

FORGED: Final = "yes \"$(printf '\\033[2J\\033]0;x\\007')00112233445566778899aabbccddeeff.1.0.\""


def memory(field: str) -> int:
    """VmRSS: now; VmHWM: the most since `forget_peak`. In bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.timeout(120 + MEGABYTES)
@pytest.mark.parametrize("what", ["cat /dev/zero", FORGED, f"{FORGED} >&2"], ids=["half a line", "forged", "on stderr"])
async def test_S5_a_flood_takes_no_memory(real: Fleet, what: str) -> None:
    await real.ask("node1", "main", ["true"], 10)
    forget_peak()
    before = memory("VmRSS")
    size = MEGABYTES * 1024 * 1024
    flood = f"{{ {what}; }} 2>&1 | head -c {size} {'>&2' if '>&2' in what else ''}"
    flooded, after = await real.ask_each("node1", "main", [flood, "echo after"], 60 + MEGABYTES)
    grown = memory("VmHWM") - before
    print(f"{MEGABYTES} MB heard, {grown / 1024 / 1024:.1f} MB more taken")
    assert isinstance(flooded, Stall)
    assert "flooded, more than 8388608 bytes on standard" in str(flooded)
    assert isinstance(after, Answer)
    assert after.stdout == b"after\n"
    assert grown < MOST
