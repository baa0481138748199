"""What the live driver sends, run by the sh of this computer: half-done acts are seen again, and a real sshd judges its file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.drivers.memory import listing, merged, read_listing
from controller.drivers.services import OUTDATED, read_states, remember, sshd_test, states, tell
from controller.encode.sh import guarded
from controller.model import Answer, Script

SERVICE = """#!/bin/sh
# service(8) with one daemon, whose process id is a file.
test "$1" = cron || { echo "$1 does not exist in /etc/rc.d or the local startup"; echo "directories (), or …"; exit 1; }
case $2 in
onestatus) if test -s pid; then echo "cron is running as pid $(cat pid)."; else echo "cron is not running."; exit 1; fi ;;
onerestart) echo "Stopping cron."; test -e stuck || echo "$(($(cat pid) + 1))" > pid ;;
onestop) : > pid ;;
esac
"""


def ran(script: Script, place: Path) -> Answer:
    """Below `place` instead of the root, with its service(8)."""
    tool = place / "bin/service"
    if not tool.exists():
        for folder in ("bin", "etc", "var/run"):
            (place / folder).mkdir(parents=True)
        tool.write_text(SERVICE)
        tool.chmod(0o755)
    text = script.replace("/etc/rc.conf", f"{place}/etc/rc.conf").replace("/var/run/", f"{place}/var/run/")
    path = f"{place}/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/sh"], input=text.encode(), capture_output=True, check=False, cwd=place, env={"PATH": path}
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def seen(place: Path, *services: str) -> dict[str, str]:
    return read_states(ran(states(services), place), "node1")


def test_which_services_are_asked_for(tmp_path: Path) -> None:
    ran(Script(":"), tmp_path)
    assert seen(tmp_path) == {}
    assert seen(tmp_path, "cron", "sshd") == {"cron": "stopped", "sshd": "absent"}
    (tmp_path / "etc/rc.conf").write_text('sshd_enable="YES"\nntpd_enable="YES"\n#cron_flags=""\n')
    (tmp_path / "etc/rc.conf.local").write_text('ntpdate_enable="YES"\nlpd_flags=""\n')
    assert seen(tmp_path) == {"ntpd": "absent", "lpd": "absent"}


def test_a_daemon_that_does_not_know_its_settings_is_seen_until_it_does(tmp_path: Path) -> None:
    ran(Script(":"), tmp_path)
    (tmp_path / "pid").write_text("711")
    assert seen(tmp_path, "cron") == {"cron": "running"}
    ran(remember("cron"), tmp_path)  # … and the connection is lost
    assert seen(tmp_path, "cron") == {"cron": OUTDATED}
    (tmp_path / "stuck").touch()
    assert ran(tell("cron", "onerestart"), tmp_path) == Answer(0, b"", b"Stopping cron.\n")
    assert seen(tmp_path, "cron") == {"cron": OUTDATED}
    (tmp_path / "stuck").unlink()
    ran(tell("cron", "onerestart"), tmp_path)
    assert seen(tmp_path, "cron") == {"cron": "running"}
    ran(tell("cron", "onestop"), tmp_path)
    assert seen(tmp_path, "cron") == {"cron": "stopped"}


def test_a_file_that_cannot_be_written_ends_the_act_before_any_service_is_told() -> None:
    """`set -e` counts for nothing in a list of && and ||: the driver's own form of it is tried."""
    script = f"(\n{guarded(Script('false'), Script('echo second'))}\n)\ntest $? = 0 || exit 1\necho told"
    done = subprocess.run(["/bin/sh"], input=script.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_list_of_files(tmp_path: Path) -> None:
    keys, other = tmp_path / "keys", tmp_path / "crontab"
    keys.mkdir()
    assert read_listing(ran(listing(str(keys), [str(other)]), tmp_path / "x"), "node1") == {}
    (keys / "root").write_text("key\n")
    (keys / "root").chmod(0o600)
    (keys / "a folder").mkdir()
    (keys / "to nowhere").symlink_to("nowhere")
    other.symlink_to(keys / "root")
    found = read_listing(ran(listing(str(keys), [str(other)]), tmp_path / "x"), "node1")
    assert {path: what.split(" ")[0] for path, what in found.items()} == {
        str(keys / "root"): "-rw-------",
        str(other): "lrwxrwxrwx",
    }


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ({"root_rw_mount": "NO", "kld_list": "a"}, {"cron_flags": "-s", "root_rw_mount": "NO", "kld_list": "a"}),
        ({"kld_list": "a"}, {"cron_flags": "-s", "kld_list": "a"}),
        (None, {"cron_flags": "-s", "root_rw_mount": "YES"}),
    ],
)
def test_what_a_boot_alone_reads_stays_as_it_is(others: dict[str, str] | None, text: dict[str, str]) -> None:
    wanted = {"cron_flags": "-s", "root_rw_mount": "YES"}
    assert list(merged(wanted, others, lambda name: name.startswith("cron_")).items()) == list(text.items())


@pytest.mark.lab
@pytest.mark.parametrize(
    ("config", "status", "said"),
    [
        ("PermitRootLogin without-password", 0, ""),
        ("PermitRootLogin prohibit-password\nPasswordAuthentication no", 0, ""),
        ("PermitRootLogin yes", 0, ""),
        ("PermitRootLogn yes", 255, "Bad configuration option: PermitRootLogn"),
        ("PermitRootLogin no", 10, ""),
        ("PermitRootLogin forced-commands-only", 10, ""),
        ("PermitRootLogin yes\nPubkeyAuthentication no", 10, ""),
        ("PermitRootLogin yes\nMatch User root\nPubkeyAuthentication no", 10, ""),
    ],
)
def test_sshd_judges_its_new_file(tmp_path: Path, config: str, status: int, said: str) -> None:
    """The sshd of this computer: the same program, and the same options since 5.9."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    text = f"HostKey {tmp_path}/key\n{config}\n"
    script = sshd_test(f"{tmp_path}/sshd_config", text)
    own = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec sh -s"]
    done = subprocess.run(own, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.pub"], "nothing is left behind"
