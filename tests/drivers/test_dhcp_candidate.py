"""Whether ISC dhcpd's main file really includes ours, and whether dhcpd would start with it, is asked at every look; the
first once more before a candidate is tested. That the real dhcpd answers so is tested in tests/lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.drivers.dhcp import candidate, main_file


def look(tmp_path: Path, main: Path, include: Path, verdict: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """The look's answer on a machine whose dhcpd says what `verdict` says."""
    daemon = tmp_path / "bin" / "dhcpd"
    daemon.parent.mkdir()
    daemon.write_text(f'#!/bin/sh\ntest "$*" = "-4 -t -cf {main}" || exit 64\n{verdict}\n')
    daemon.chmod(0o755)
    path = f"{daemon.parent}:/usr/bin:/bin"
    script = main_file(str(main), str(include))
    return subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=False, env={"PATH": path})


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('include "{include}";', 0),
        ('  include   "{include}" ; # ours', 0),
        ('subnet 198.51.100.0 netmask 255.255.255.0 {{ include "{include}"; }}', 0),
        ('#include "{include}";', 3),
        ('authoritative; # include "{include}";', 3),
        ('include "{include}.old";', 3),
        ("", 3),
    ],
)
def test_the_look_sees_whether_our_file_is_included(tmp_path: Path, line: str, status: int) -> None:
    main, include = tmp_path / "dhcpd.conf", tmp_path / "jailops.conf"
    main.write_text("host other { }\nkey k { secret abc; }\n" + line.format(include=include) + "\n")
    done = look(tmp_path, main, include)
    assert done.returncode == status
    assert done.stdout.splitlines() == ["host other { }", line.format(include=include).partition("#")[0]], (
        "no key of OMAPI"
    )


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        ("echo banner >&2; exit 0", 0, ""),
        ("echo 'dhcpd.conf line 2: semicolon expected.' >&2; exit 1", 5, "dhcpd.conf line 2: semicolon expected.\n"),
        ("echo 'dhcpd: killed'; exit 137", 75, "dhcpd: killed\n"),
    ],
)
def test_the_look_sees_whether_dhcpd_would_start(tmp_path: Path, verdict: str, status: int, said: str) -> None:
    main, include = tmp_path / "dhcpd.conf", tmp_path / "jailops.conf"
    main.write_text(f'include "{include}";\n')
    done = look(tmp_path, main, include, verdict)
    assert (done.returncode, done.stdout, done.stderr) == (status, main.read_text(), said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "dhcpd.conf"]


def test_without_a_main_file_nothing_is_included(tmp_path: Path) -> None:
    script = main_file(str(tmp_path / "dhcpd.conf"), "/etc/dhcp/jailops.conf")
    assert subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=False).returncode == 3


@pytest.mark.parametrize("line", ["", '# include "{include}";', '   #include "{include}";'])
def test_an_include_that_is_commented_out_is_none(tmp_path: Path, line: str) -> None:
    main, include = tmp_path / "dhcpd.conf", tmp_path / "jailops.conf"
    main.write_text(line.format(include=include) + "\n")
    done = subprocess.run(
        ["sh", "-s"], input=candidate(str(main), str(include), "text\n"), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert [path.name for path in tmp_path.iterdir()] == ["dhcpd.conf"]
