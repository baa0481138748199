"""The sequences of tests/cases/bootlog as values, and machines on which the real question finds their lines."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.encode import bootlog

CASES = Path(__file__).parent.parent / "cases" / "bootlog"
NODE = bootlog.Node("12:34:56:78:90:ab", "198.51.100.50", "/export/jailops/hosts/node1", "/export/jailops/images/image")
SERVERS = ("boot-server", "san")
_TOOLS = ("awk", "sed", "tail", "tr")


@dataclass(frozen=True)
class Line:
    """One logged line, what follows when it is the last one, and the sentence that a person then reads, if the case says."""

    machine: str
    file: str
    phase: str
    text: str
    sentence: str = ""


@dataclass(frozen=True)
class Recorded:
    """One boot as it was logged; `now` is what the machines' clocks say when they are asked."""

    name: str
    now: str
    since: float
    lines: tuple[Line, ...]


def sequences() -> Iterator[Recorded]:
    for path in sorted(CASES.glob("*.log")):
        now, since, *rows = path.read_text().splitlines()
        lines: list[Line] = []
        for row in rows:
            if row.startswith("= "):
                last = lines.pop()
                row = row[2:]
                lines.append(Line(last.machine, last.file, last.phase, last.text, row))
                continue
            said = re.fullmatch(r"(boot|san) (\S+) (\w+) \| (.+)", row)
            assert said, f"{path.name}: {row!r}"
            lines.append(Line(*said.groups()))
        yield Recorded(path.stem, now, float(since.removeprefix("since ")), tuple(lines))


def answer(directory: Path, now: str, files: Mapping[str, Sequence[str]], *, node: bootlog.Node = NODE) -> str:
    """What the real script prints on a machine whose /var/log (and journal) hold these lines at that time."""
    tools = directory / "bin"
    logs = directory / "log"
    for one in (tools, logs / "kea"):
        one.mkdir(parents=True, exist_ok=True)
    for name in _TOOLS:
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(
            next(place for place in (f"/usr/bin/{name}", f"/bin/{name}") if os.path.exists(place))
        )
    for name, text in files.items():
        (logs / name).write_text("".join(f"{line}\n" for line in text))
    _tool(tools / "date", f"echo '{now}'")
    _tool(tools / "journalctl", f'test ! -f {logs}/journal || while read -r l; do echo "$l"; done < {logs}/journal')
    script = bootlog.question(node).replace("/var/log/", f"{logs}/").replace("/usr/local/var/", f"{logs}/none/")
    done = subprocess.run(
        ["/bin/sh"], input=script, capture_output=True, text=True, check=False, env={"PATH": str(tools)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _tool(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
