"""The service files: accepted by the tools that read them, and doing what they promise."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller import settings

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
    done = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=12", unit)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


LOOSER = (
    ("ProtectSystem=strict", "ProtectSystem=no"),
    ("NoNewPrivileges=yes", "NoNewPrivileges=no"),
    ("User=jailops", "User=root"),
    ("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_SYS_ADMIN"),
)


@pytest.mark.parametrize(("ours", "looser"), LOOSER, ids=[looser for _, looser in LOOSER])
def test_a_looser_unit_would_not_pass(tmp_path: Path, ours: str, looser: str) -> None:
    unit = tmp_path / "jailops.service"
    text = (DEPLOY / "jailops.service").read_text()
    assert f"\n{ours}\n" in text
    unit.write_text(text.replace(f"\n{ours}\n", f"\n{looser}\n"))
    assert run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=12", unit).returncode != 0


def test_a_reload_is_a_wake_and_a_stop_is_short() -> None:
    lines = (DEPLOY / "jailops.service").read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "TimeoutStopSec=10" in lines
    assert "KillMode=mixed" in lines


def test_one_that_hangs_is_started_again() -> None:
    lines = (DEPLOY / "jailops.service").read_text().splitlines()
    assert {"Type=notify", "WatchdogSec=5min", "Restart=always"} <= set(lines)


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


def instructions() -> list[list[str]]:
    """The words of each line of the Containerfile; lines that go on are one."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", "")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_container_installs_what_the_lock_pins_and_nothing_else() -> None:
    words = [" ".join(line) for line in instructions()]
    installs = [line.partition("pip install ")[2] for line in words if "pip install" in line]
    assert installs == [
        "--no-cache-dir --require-hashes -r requirements.lock",
        "--no-cache-dir --no-deps --no-build-isolation .",
    ]
    lock = (DEPLOY.parent / "requirements.lock").read_text()
    assert re.search(r"^setuptools==", lock, re.MULTILINE), "without build isolation it must be there"


def test_what_the_container_copies_is_enough_to_start_a_site(tmp_path: Path) -> None:
    """Its own installation, of exactly its files, without any network, and not compiled, which takes most of the time."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    for command, *names, to in instructions():
        if command == "COPY" and not names[0].startswith("--from"):
            for name in names:
                place = source / to / (name if (DEPLOY.parent / name).is_file() else "")
                place.parent.mkdir(parents=True, exist_ok=True)
                copy(DEPLOY.parent / name, place)
    flags = [
        "--disable-pip-version-check",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
    ]
    made = run(sys.executable, "-m", "pip", "install", *flags, "--target", installed, source)
    assert made.returncode == 0, made.stdout + made.stderr
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)}
    done = run(installed / "bin" / "jailops", "init", tmp_path / "mysite", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "mysite" / "repo" / "site.yaml").is_file()
    checked = run(installed / "bin" / "jailops", "check", tmp_path / "mysite" / "repo", env=env)
    assert (checked.returncode, checked.stdout) == (0, "11 objects, no problems\n")


def copy(one: Path, to: Path) -> None:
    """As COPY does it: links inside a directory stay links."""
    if one.is_file():
        shutil.copy(one, to)
    else:
        shutil.copytree(one, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))


def test_the_container_and_the_unit_name_their_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of either may lead to a default, which is a place of FreeBSD."""
    least = '[git]\nurl = "ssh://git@git.example.org/site.git"\n[ssh]\nkey_file = "id_ed25519"\n'
    unit = (DEPLOY / "jailops.service").read_text().partition("must say (")[2].partition("\n#\n# Keys")[0]
    (tmp_path / "jailops.toml").write_text(least + re.sub(r"(?m)^.*:$|^#", "", unit))
    named = [settings.load(tmp_path / "jailops.toml")]
    (tmp_path / "jailops.toml").write_text(least)
    for words in instructions():
        for name, _, value in (word.partition("=") for word in words if word.startswith("JAILOPS_")):
            monkeypatch.setenv(name, value)
    named.append(settings.load(tmp_path / "jailops.toml"))
    for loaded in named:
        assert loaded.secrets.directory == Path("/etc/jailops/secrets")
        assert loaded.store.directory == Path("/var/lib/jailops")
