"""The smallest computer program that knows a power button: a boot sector for QEMU's "pc".

It turns on the event of the power button (PM1 enable), waits for it in a loop that sleeps until the next tick of the timer, and
then asks for the state S5 (PM1 control), as FreeBSD does at the end of a shutdown. The ports are where SeaBIOS puts them.
"""

from __future__ import annotations

from typing import Final

from controller.encode import vm

SMALL: Final = vm.Qemu(
    name="build-vm",
    memory=64 << 20,
    cpus=1,
    disk="/var/lib/jailops/build-vm.raw",
    disk_format="raw",
    disk_bus="ide",
    tap="tap1",
    bridge="br0",
    mac="52:54:00:12:34:56",
    card="e1000",
    vnc=None,
    machine="pc",
    accelerator="tcg",
    patience=300,
)
"""A machine that is large enough for it."""
_PM1_STATUS, _PM1_ENABLE, _PM1_CONTROL = 0x600, 0x602, 0x604
_BUTTON = 0x0100
_SLEEP_S5 = 0x2000
READY = (0x0500, 0x4A4F)
"""What it writes where in its memory once it listens."""


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


def boot_sector(*, deaf: bool = False) -> bytes:
    """A disk image of one sector; a `deaf` one never looks at its power button."""
    say = b"\x31\xc0\x8e\xd8\xc7\x06" + _word(READY[0]) + _word(READY[1])  # ds = 0; mov word [where], what
    listen = b"\xba" + _word(_PM1_ENABLE) + b"\xb8" + _word(_BUTTON) + b"\xef"  # mov dx; mov ax; out dx, ax
    wait = b"\xf4\xba" + _word(_PM1_STATUS) + b"\xed\xf6\xc4\x01\x74\xf6"  # hlt; mov dx; in ax, dx; test ah, 1; jz back
    off = b"\xba" + _word(_PM1_CONTROL) + b"\xb8" + _word(_SLEEP_S5) + b"\xef"
    forever = b"\xf4\xeb\xfd"  # hlt; jmp back
    program = b"\xfb" + (
        say + forever if deaf else listen + say + wait + off + forever
    )  # sti first: the timer must wake us
    return program.ljust(510, b"\0") + b"\x55\xaa"
