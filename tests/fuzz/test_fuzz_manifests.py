"""A sample of what `make fuzz` does with a million hostile repositories, in a process that is watched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fuzz.canary import Canary
from tests.fuzz.hostile import bases, repository
from tests.fuzz.manifests import MEMORY, decided

CASES = 2000


def test_M1_a_sample_of_hostile_repositories(tmp_path: Path) -> None:
    """Nothing crashes, nothing is run, connected to or written, and reading bombs takes no more memory than promised."""
    state = tmp_path / "state"
    command = [sys.executable, "-m", "tests.fuzz.manifests", "--seed", "sample", "--jobs", "1", "--state", str(state)]
    # Stopped and gone on with: a full run takes an hour.
    for cases in (CASES // 2, CASES):
        done = subprocess.run([*command, "--cases", str(cases)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    tally = json.loads(state.read_text())
    assert (tally["cases"], tally["crashes"]) == (CASES, [])
    assert tally["accepted"] > CASES // 50, "too few of the changes are valid for drivers to see any"
    assert tally["steps"] > 20 * tally["accepted"]
    assert 0 < tally["memory"] <= MEMORY


def test_M1_every_base_is_valid_and_leads_to_steps() -> None:
    assert len(bases()) > 20
    for files in bases():
        assert decided({name: text.encode() for name, text in files.items()})


def test_M1_a_case_is_made_again_from_its_number() -> None:
    assert repository("seed", 7) == repository("seed", 7) != repository("seed", 8)


ACTS = (
    "subprocess.run(['true'])",
    "os.system('true')",
    "open('x', 'w')",
    "pathlib.Path('x').touch()",
    "socket.create_connection(('127.0.0.1', 9))",
    "os.fork() or os._exit(0)",
    "1 / 0",
)
WATCHED = """
import json, os, pathlib, socket, subprocess, sys
from tests.fuzz import manifests
manifests.guarded(sys.argv[1])
noticed = []
for act in sys.argv[2:]:
    manifests.decided = lambda files: eval(act) and None
    noticed.append(manifests.batch("seed", range(1)).crashes)
print(json.dumps(noticed))
"""


def test_M1_what_must_not_happen_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHED, str(tmp_path), *ACTS]
    noticed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [len(crashes) > 0 for crashes in noticed] == [True] * len(ACTS), noticed


def test_M6_the_canary_sings(tmp_path: Path) -> None:
    canary = Canary(tmp_path)
    subprocess.run(["/bin/sh", "-c", "x=$(id); touch y; `canary 1`"], env=canary.environment, check=False)
    assert canary.called() == ["id", "touch y", "canary 1"]
    assert not (tmp_path / "y").exists()
