"""A client of QEMU's monitor, so that the controller's own is not proven by itself."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.lab.guest import READY


class Monitor:
    """One connection; QEMU serves one at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        deadline = time.monotonic() + 20
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                assert time.monotonic() < deadline, "QEMU's monitor is not there"
                time.sleep(0.05)
        self._talk = self._socket.makefile("rw")
        assert "QMP" in json.loads(self._talk.readline())
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        self._talk.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._talk.flush()
        while True:
            said = json.loads(self._talk.readline())
            if "event" not in said:
                return said["return"]

    def close(self) -> None:
        self._talk.close()
        self._socket.close()

    def guest_is_ready(self) -> bool:
        """The boot sector of `tests.lab.guest` runs, and listens to its power button if it ever will."""
        where, what = READY
        said = self.ask("human-monitor-command", **{"command-line": f"xp /1hx {where:#x}"})
        return str(said).strip().endswith(f"{what:#06x}")
