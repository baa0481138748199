"""The service files: accepted by the tools that read them, and doing what they promise."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def run(*words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(words), capture_output=True, text=True, check=False, env=env)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With a program that exists here in place of jailops."""
    unit = tmp_path / "jailops.service"
    text = (DEPLOY / "jailops.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/jailops", "/bin/true"))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "jailops" in line]
    assert (done.returncode, about_us) == (0, [])


def test_systemd_finds_the_unit_well_sandboxed() -> None:
    """An exposure of 10 is no sandbox at all. What remains is the network, which is its work."""
    unit = DEPLOY / "jailops.service"
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", unit)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_a_reload_is_a_wake_and_a_stop_is_short() -> None:
    lines = (DEPLOY / "jailops.service").read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "TimeoutStopSec=10" in lines
    assert "KillMode=mixed" in lines


@pytest.mark.parametrize("name", ["jailops.rc", "post-receive"])
def test_scripts_are_plain_sh(name: str) -> None:
    assert os.access(DEPLOY / name, os.X_OK)
    assert run("dash", "-n", DEPLOY / name).stderr == ""


RC_SUBR = """
load_rc_config() { :; }
run_rc_command() {
    case "$1" in
    start) echo "as $jailops_user with $jailops_env: $command $command_args" ;;
    *) eval "\\$${1}_cmd" ;;
    esac
}
"""


@pytest.fixture
def rc(tmp_path: Path) -> Path:
    """The rc.d script with a stand-in for rc.subr and its run directory in a place of ours."""
    (tmp_path / "rc.subr").write_text(RC_SUBR)
    script = tmp_path / "jailops"
    text = (DEPLOY / "jailops.rc").read_text()
    script.write_text(text.replace("/etc/rc.subr", f"{tmp_path}/rc.subr").replace("/var/run/jailops", str(tmp_path)))
    return script


def test_rc_starts_the_controller_under_daemon(rc: Path, tmp_path: Path) -> None:
    assert run("sh", rc, "start").stdout == (
        "as jailops with PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin: "
        f"/usr/sbin/daemon -r -R 5 -S -T jailops -P {tmp_path}/daemon.pid -p {tmp_path}/jailops.pid "
        "/usr/local/bin/jailops run --config /usr/local/etc/jailops/jailops.toml\n"
    )


def test_rc_reload_wakes_the_controller(rc: Path, tmp_path: Path) -> None:
    done = run("sh", rc, "reload")
    assert (done.returncode, done.stdout) == (1, "jailops is not running\n")
    controller = subprocess.Popen(["sleep", "60"])
    (tmp_path / "jailops.pid").write_text(f"{controller.pid}")
    assert run("sh", rc, "reload").returncode == 0
    assert controller.wait(10) == -signal.SIGHUP


def test_the_container_runs_without_root_and_gets_what_git_needs() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    stages = text.split("\nFROM ")
    assert len(stages) == 3
    assert re.search(r"^USER [1-9]\d+$", stages[-1], re.MULTILINE)
    assert {"git", "openssh-client"} <= set(stages[-1].split())
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert name in ("README.md", "LICENSE") or (DEPLOY.parent / name).exists()
