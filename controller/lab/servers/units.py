"""``systemd-run``, ``systemctl`` and ``journalctl`` for the transient units of a machine without systemd.

A unit is a real process under a supervisor of its own, which outlives the session that asked for it. State:
``/lab/state/units.json``, gone at power off like the processes. A unit that ended well is unloaded; one that failed stays until
``reset-failed``, and its name cannot be used again before.
"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.servers.kit import Box, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

UNITS = "state/units"
PROPERTIES = frozenset({"Type", "RuntimeDirectory", "RuntimeDirectoryMode", "ExecStop", "TimeoutStopSec"})


def systemd_run(argv: Sequence[str], box: Box) -> int:
    words, unit, properties = list(argv[1:]), "", dict[str, str]()
    while words and words[0] != "--":
        key, _, value = words.pop(0).partition("=")
        if key == "--unit":
            unit = value
        elif key == "--property":
            name, _, given = value.partition("=")
            properties[name] = given
        elif key not in ("--quiet", "--no-ask-password", "--description"):
            uncovered(f"systemd-run {key}")
    if not unit.endswith(".service") or properties.keys() - PROPERTIES or properties.get("Type") != "exec":
        uncovered("systemd-run without --unit, or with other properties")
    return run(box, unit, words[1:], properties)


def run(box: Box, unit: str, program: Sequence[str], properties: Mapping[str, str]) -> int:
    with box.edit(UNITS, {}) as units:
        if unit in units:
            print(f"Failed to start transient service unit: Unit {unit} was already loaded or has a fragment file.",
                  file=sys.stderr)  # fmt: skip
            return 1
        units[unit] = {"state": "activating", "stop": properties.get("ExecStop", ""), "main": 0}
    folder = box.path(f"/run/{properties['RuntimeDirectory']}") if "RuntimeDirectory" in properties else ""
    if supervised(box, unit, program, folder):
        return 0
    print(f"Job for {unit} failed because the control process exited with error code.", file=sys.stderr)
    return 1


def supervised(box: Box, unit: str, program: Sequence[str], folder: str) -> bool:
    """Start the program in a process that waits for it; False when there is no such program (Type=exec)."""
    import subprocess

    began, told = os.pipe()
    sys.stdout.flush()
    if os.fork():
        os.close(told)
        with os.fdopen(began, "rb") as answer:
            return not answer.read()
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(box.path(journal(unit)), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for number, target in enumerate((null, log, log)):
            os.dup2(target, number)
        if folder and not os.path.isdir(folder):
            os.mkdir(folder, mode=0o700)
        try:
            process = subprocess.Popen(program)
        except OSError as error:
            os.write(2, f"{unit}: Failed to locate executable {program[0]}: {error.strerror}\n".encode())
            ended(box, unit, 203, folder)
            os.write(told, b"203")
            os._exit(1)
        with box.edit(UNITS, {}) as units:
            units[unit].update(state="active", main=process.pid)
        os.close(told)
        ended(box, unit, process.wait(), folder)
    finally:
        os._exit(0)


def ended(box: Box, unit: str, status: int, folder: str) -> None:
    import shutil
    import signal

    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    with box.edit(UNITS, {}) as units:
        if status in (0, -signal.SIGTERM):
            units.pop(unit, None)
        else:
            units[unit].update(state="failed", main=0)


def systemctl(argv: Sequence[str], box: Box) -> int:
    words = [word for word in argv[1:] if word != "--quiet"]
    verb, unit = words[0], words[-1]
    known: dict[str, Any] = box.load(UNITS, {}).get(unit, {})
    state = known.get("state", "inactive")
    if words == ["show", "--property=ActiveState", unit]:
        print(f"ActiveState={state}")
        return 0
    if len(words) != 2:
        uncovered("systemctl form")
    if verb == "is-active":
        if "--quiet" not in argv:
            print(state)
        return 0 if state == "active" else 3
    if verb == "reset-failed":
        return reset(box, unit)
    if verb == "stop":
        return stop(box, unit, known)
    return uncovered(f"systemctl {verb}")


def reset(box: Box, unit: str) -> int:
    with box.edit(UNITS, {}) as units:
        if unit not in units:
            print(f"Failed to reset failed state of unit {unit}: Unit {unit} not loaded.", file=sys.stderr)
            return 1
        if units[unit]["state"] == "failed":
            del units[unit]
    return 0


def stop(box: Box, unit: str, known: Mapping[str, Any]) -> int:
    """ExecStop first; what is left after it gets SIGTERM."""
    import contextlib
    import shlex
    import signal
    import subprocess

    if known.get("state") != "active":
        return 0
    with box.edit(UNITS, {}) as units:
        units[unit]["state"] = "deactivating"
    if known["stop"]:
        subprocess.run(shlex.split(known["stop"]), env={**os.environ, "MAINPID": str(known["main"])}, check=False)
    while unit in box.load(UNITS, {}):
        with contextlib.suppress(ProcessLookupError):
            os.kill(known["main"], signal.SIGTERM)
        time.sleep(0.02)
    return 0


def journal(unit: str) -> str:
    return f"/lab/state/{unit}.log"


def journalctl(argv: Sequence[str], box: Box) -> int:
    given = dict(word.partition("=")[::2] for word in argv[1:])
    if given.keys() != {"--quiet", "--no-pager", "--output", "--lines", "--unit"} or given["--output"] != "cat":
        uncovered("journalctl form")
    lines = box.text(journal(given["--unit"])).splitlines()
    print("\n".join(lines[-int(given["--lines"]) :]))
    return 0
