"""What is installed is what was looked at: every version pinned by its hashes, and none below what we ask for."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-test.lock": [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]],
}


def entries(lock: str) -> dict[str, tuple[str, int]]:
    """Name -> version, and how many hashes stand below it."""
    text = re.sub(r"(?m)^ *#.*\n", "", (ROOT / lock).read_text()).replace("\\\n", " ")
    found: dict[str, tuple[str, int]] = {}
    for line in filter(str.strip, text.splitlines()):
        one = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,]+\])?==(\S+)((?: +--hash=sha256:[0-9a-f]{64})*) *", line)
        assert one is not None, f"{lock}: {line[:100]}"
        found[canonicalize_name(one[1])] = (one[2], one[3].count("--hash="))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_C13_everything_is_pinned_by_hashes_and_within_its_bounds(lock: str) -> None:
    pinned = entries(lock)
    assert [name for name, (_, hashes) in pinned.items() if not hashes] == []
    for text in LOCKS[lock]:
        wanted = Requirement(text)
        version, _ = pinned[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{lock} has {wanted.name} {version}, pyproject.toml asks for {text}"


def test_C13_both_locks_agree() -> None:
    ours, tests = entries("requirements.lock"), entries("requirements-test.lock")
    assert {name: tests[name][0] for name in ours if name in tests} == {
        name: version for name, (version, _) in ours.items() if name in tests
    }


FLOORS = (
    # Package, the first version without it, the newest of its advisories.
    ("gitpython", "3.1.62", "CVE-2026-100689"),
    ("asyncssh", "2.23.1", "a path out of the directory in scp; before it CVE-2023-48795, Terrapin"),
    ("pyyaml", "5.4", "CVE-2020-14343"),
    ("pydantic", "2.4", "CVE-2024-3772"),
    ("h11", "0.16", "CVE-2025-43859"),
)


@pytest.mark.parametrize(("package", "floor", "advisory"), FLOORS, ids=[one[0] for one in FLOORS])
def test_C13_nothing_is_older_than_the_advisories_that_are_known(package: str, floor: str, advisory: str) -> None:
    for lock in LOCKS:
        assert Version(entries(lock)[package][0]) >= Version(floor), f"{lock}: {advisory}"


def test_C13_an_advisory_that_does_not_apply() -> None:
    """CVE-2026-31072 is about APScheduler's serializers, which its 3.x has not. SECURITY.md and the audit say so."""
    version = Version(entries("requirements.lock")["apscheduler"][0])
    assert version.major == 3
    assert importlib.util.find_spec("apscheduler.serializers") is None
    assert "| CVE-2026-31072 | APScheduler 3.11 | not affected" in (ROOT / "SECURITY.md").read_text()
    assert "--ignore-vuln CVE-2026-31072 " in (ROOT / "tools" / "audit.sh").read_text()


def target(name: str) -> list[str]:
    """The words of the command of a target of the Makefile that begins with $(BIN)."""
    recipe = re.search(rf"(?m)^{name}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())
    assert recipe is not None
    text = recipe[1].replace("\\\n", " ")
    (line,) = (one for one in text.splitlines() if one.strip().startswith("$(BIN)/"))
    return line.strip().removeprefix("$(BIN)/").split()


def test_C13_the_bill_is_valid_and_holds_all_that_is_pinned(tmp_path: Path) -> None:
    """As `make sbom` makes it."""
    words = [str(tmp_path / "sbom.json") if word == "build/sbom.json" else word for word in target("sbom")]
    tool = Path(sys.executable).with_name(words[0])
    done = subprocess.run([tool, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "sbom.json").read_text()
    bill = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text) is None
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "jailops")
    told = {canonicalize_name(one["name"]): (one["version"], hashes(one)) for one in bill["components"]}
    assert told == entries("requirements.lock")


def hashes(component: dict[str, Any]) -> int:
    return sum(len(one.get("hashes", ())) for one in component.get("externalReferences", ()))


AUDITS = (
    # What pip-audit does, and the status and words of ours. It leaves with 1 for an advisory and for its own trouble.
    ("exit 0", 0, "no known advisory for any package of requirements.lock\n"),
    ("echo 'pkg 1.0 CVE-1' >\"$found\"; exit 1", 1, "pkg 1.0 CVE-1\n"),
    ("echo 'ERROR: no route to host' >&2; exit 1", 3, "cannot audit: the advisory service does not answer, "),
)


@pytest.mark.parametrize(("does", "status", "says"), AUDITS, ids=["clean", "found", "no-service"])
def test_C13_an_audit_that_nobody_answers_is_no_clean_one(tmp_path: Path, does: str, status: int, says: str) -> None:
    tool = tmp_path / ".venv" / "bin" / "pip-audit"
    tool.parent.mkdir(parents=True)
    take = 'strict=no; for word; do [ "$last" = --output ] && found=$word; [ "$word" = --strict ] && strict=yes; last=$word; done'
    tool.write_text(f"#!/bin/sh\n{take}\n[ $strict = yes ] || exit 0\n{does}\n")
    tool.chmod(0o755)
    done = subprocess.run([ROOT / "tools" / "audit.sh"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, (done.stdout + done.stderr)[: len(says)]) == (status, says)
    assert ("no route to host" in done.stderr) == (status == 3)
