"""dhcpd and its service: the verdicts of ISC dhcpd 4.4.3-P1 on these files, and what is served after which act."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.encode import dhcpd as encoder
from controller.lab.servers import dhcpd, syslog
from controller.lab.servers.kit import Box
from controller.lab.servers.run import run

MAIN = """authoritative;
ddns-update-style none;
default-lease-time 600;
log-facility local7;
option domain-name "example.org";
option arch code 93 = unsigned integer 16;
subnet 198.51.100.0 netmask 255.255.255.0 {
  option routers 198.51.100.1;
  range 198.51.100.200 198.51.100.210;
}
"""
HOST = """host h1 {
  hardware ethernet 12:34:56:78:90:ab;
  fixed-address 198.51.100.50;
  next-server 198.51.100.2;
  filename "a/b/boot/pxeboot";
  option host-name "h1";
  option domain-name-servers 198.51.100.1, 198.51.100.3;
  option subnet-mask 255.255.255.0;
  option root-path "198.51.100.10:/export/jailops/images/a/0123456789ab";
}
"""
ROOT_PATH = '"198.51.100.10:/export/jailops/images/a/0123456789ab"'

VERDICTS = [
    # the file, and dhcpd -t's first complaint ("" when it accepts the file)
    ("good", MAIN + HOST, ""),
    ("empty", "", ""),
    ("no semicolon", MAIN + HOST.replace(".50;", ".50"), "line 14: semicolon expected."),
    ("truncated", MAIN + HOST[:-3], "line 19: unexpected end of file"),
    ("open string", MAIN + HOST[:120], "line 15: eof in string constant"),
    ("unknown option", MAIN + HOST.replace("root-path", "root-pathx"), "line 19: unknown option dhcp.root-pathx"),
    ("same name twice", MAIN + HOST + HOST, "host h1: already exists"),
    ("same MAC twice", MAIN + HOST + HOST.replace("host h1", "host h2"), ""),
    ("same address twice", MAIN + HOST + HOST.replace("host h1", "host h2").replace(":ab", ":ac"), ""),
    ("outside every subnet", MAIN + HOST.replace("100.50", "7.50"), ""),
    ("empty root-path", MAIN + HOST.replace(ROOT_PATH, '""'), ""),
    ("MAC of five bytes", MAIN + HOST.replace(":ab;", ";"), ""),
    ("no number in MAC", MAIN + HOST.replace("12:34", "zz:34"), "line 12: expecting numeric value."),
    ("octet too large", MAIN + HOST.replace("100.50", "100.500"), "line 13: 500 exceeds max (255) for precision."),
    ("unquoted text", MAIN + HOST.replace('"a/b/boot/pxeboot"', "a/b"), "line 15: semicolon expected."),
    ("no comma in list", MAIN + HOST.replace("1, 198", "1 198"), "line 17: semicolon expected."),
    ("brace too many", MAIN + HOST + "}\n", "expecting a declaration"),
    ("unknown word", MAIN + "foo bar;\n", "line 11: semicolon expected."),
    ("unknown word alone", MAIN + "foo;\n", ""),
    ("hash in a comment", MAIN + '# x " {\n' + HOST, ""),
    ("host without a name", MAIN + "host { }\n", "line 11: expecting a name for host declaration."),
    ("host without anything", MAIN + "host h1 { }\n", ""),
    ("address outside a host", MAIN + "fixed-address 198.51.100.5;\n", "fixed-address parameter not allowed here."),
    ("group", MAIN + "group { " + HOST + " }\n", ""),
    ("class", MAIN + 'class "x" { match if substring(option user-class,1,7) = "FreeBSD"; filename "q"; }\n', ""),
    ("authoritative alone", MAIN.replace("authoritative;", "authoritative"), "line 2: semicolon expected."),
    ("authoritative at the end", MAIN + "authoritative", "line 11: semicolon expected."),
    ("authoritative yes", MAIN + "authoritative yes;\n", "line 11: semicolon expected."),
    ("not authoritative", MAIN + "not authoritative;\n", ""),
    ("not authoritative alone", MAIN + "not authoritative\n" + HOST, "line 12: semicolon expected."),
    ("not something else", MAIN + "not booting;\n", "line 11: expecting assertion"),
    ("no semicolon after a number", MAIN.replace("600;", "600"), "line 4: semicolon expected."),
    ("no semicolon after a word", MAIN.replace("none;", "none"), "line 3: semicolon expected."),
    ("missing include", MAIN + 'include "/etc/dhcp/nosuch.conf";\n', "Can't open"),
]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "etc/dhcp").mkdir(parents=True)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/machine.json").write_text('{"address": "198.51.100.2"}')
    return Box(tmp_path)


@pytest.mark.parametrize(("text", "complaint"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_the_verdicts_of_a_real_dhcpd(box: Box, text: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    box.at("/etc/dhcp/x.conf").write_text(text)
    assert run(["dhcpd", "-4", "-t", "-q", "-cf", "/etc/dhcp/x.conf"], box) == (1 if complaint else 0)
    assert capsys.readouterr().err == ""
    run(["dhcpd", "-4", "-t", "-cf", "/etc/dhcp/x.conf"], box)
    assert complaint in capsys.readouterr().err


def test_an_error_in_an_included_file_names_both_files(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.at("/etc/dhcp/in.conf").write_text(HOST.replace(".50;", ".50"))
    box.at("/etc/dhcp/x.conf").write_text(MAIN + 'include "/etc/dhcp/in.conf";\n')
    assert run(["dhcpd", "-4", "-t", "-cf", "/etc/dhcp/x.conf"], box) == 1
    errors = encoder.parse_errors(capsys.readouterr().err)
    assert errors[0] == ("/etc/dhcp/in.conf", 4, "semicolon expected.")


def serving(box: Box) -> list[str]:
    return [host["name"] for host in box.load("dhcpd", dhcpd.NOWHERE)["served"]["hosts"]]


def service(box: Box, verb: str) -> int:
    return run(["service", "isc-dhcp-server", verb], box)


def test_what_is_served_is_what_was_read_at_the_last_start(box: Box) -> None:
    main = box.at("/etc/dhcp/dhcpd.conf")
    main.write_text(MAIN)
    assert service(box, "restart") == 0
    main.write_text(MAIN + HOST)
    assert serving(box) == []
    assert service(box, "start") == 0
    assert serving(box) == []
    assert service(box, "restart") == 0
    assert serving(box) == ["h1"]


def test_a_broken_file_leaves_the_service_down(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    main = box.at("/etc/dhcp/dhcpd.conf")
    main.write_text(MAIN + HOST)
    service(box, "restart")
    main.write_text(MAIN + HOST[:-3])
    assert service(box, "restart") == 1
    assert "control process exited with error code" in capsys.readouterr().err
    assert run(["systemctl", "is-active", "isc-dhcp-server"], box) == 3
    assert capsys.readouterr().out == "failed\n"
    run(["ss", "-Hlun"], box)
    assert ":67 " not in capsys.readouterr().out
    assert dhcpd.lease(box.load("dhcpd", dhcpd.NOWHERE), "12:34:56:78:90:ab") is None
    main.write_text(MAIN + HOST)
    assert service(box, "restart") == 0
    run(["ss", "-Hlun"], box)
    assert ":67 " in capsys.readouterr().out


def test_a_stopped_tftpd_listens_no_more(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, listens in (("stop", False), ("start", True)):
        assert run(["service", "tftpd-hpa", verb], box) == 0
        run(["ss", "-Hlun"], box)
        assert (":69 " in capsys.readouterr().out) is listens


def test_without_a_subnet_for_its_own_address_it_does_not_start(box: Box) -> None:
    box.at("/etc/dhcp/dhcpd.conf").write_text(MAIN.replace("198.51.100.", "203.0.113."))
    assert run(["dhcpd", "-4", "-t", "-q", "-cf", "/etc/dhcp/dhcpd.conf"], box) == 0
    assert service(box, "restart") == 1


def test_five_starts_in_ten_seconds_are_the_limit_until_reset(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.at("/etc/dhcp/dhcpd.conf").write_text(MAIN)
    (box.lab / "service.json").write_text('{"start_limit": true}')
    assert [service(box, "restart") for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    assert "Start request repeated too quickly" in capsys.readouterr().err
    assert run(["systemctl", "is-active", "isc-dhcp-server"], box) == 3
    assert run(["systemctl", "reset-failed", "isc-dhcp-server"], box) == 0
    assert service(box, "start") == 0


def test_the_lease_of_a_host_entry(box: Box) -> None:
    box.at("/etc/dhcp/dhcpd.conf").write_text(MAIN + HOST)
    service(box, "restart")
    said = dhcpd.lease(box.load("dhcpd", dhcpd.NOWHERE), "12:34:56:78:90:ab")
    assert said is not None
    assert (said["address"], said["next-server"], said["filename"]) == (
        "198.51.100.50",
        "198.51.100.2",
        "a/b/boot/pxeboot",
    )
    assert said["options"]["root-path"] == ROOT_PATH.strip('"')
    assert said["options"]["routers"] == ["198.51.100.1"]
    assert said["options"]["domain-name"] == "example.org"


def test_of_two_entries_for_one_card_the_first_whose_address_fits_answers(box: Box) -> None:
    lost = HOST.replace("host h1", "host h0").replace("100.50", "7.50")
    box.at("/etc/dhcp/dhcpd.conf").write_text(MAIN + lost + HOST)
    service(box, "restart")
    said = dhcpd.lease(box.load("dhcpd", dhcpd.NOWHERE), "12:34:56:78:90:ab")
    assert said is not None
    assert said["name"] == "h1"


def test_the_journal_is_read_by_identifier_and_kept_short(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.at("/etc/dhcp/dhcpd.conf").write_text(MAIN + HOST)
    service(box, "restart")
    syslog.dhcp(box, "12:34:56:78:90:ab", "198.51.100.50")
    syslog.tftp(box, 'TFTP_OPTIONS="--secure"', "198.51.100.50", "a/b", True)
    syslog.tftp(box, 'TFTP_OPTIONS="--secure -v"', "198.51.100.50", "a/c", False)
    syslog.tftp(box, 'TFTP_OPTIONS="--verbose --verbose"', "198.51.100.50", "a/d", False)

    def said(*words: str) -> list[str]:
        assert run(["journalctl", "--quiet", "--no-pager", "--output=short-unix", *words], box) == 0
        return [line.split(" ", 3)[3] for line in capsys.readouterr().out.splitlines()]

    assert said("--lines=9", "--identifier=in.tftpd", "--identifier=tftpd") == [
        "RRQ from 198.51.100.50 filename a/c",
        "RRQ from 198.51.100.50 filename a/d",
        "sending NAK (1, File not found) to 198.51.100.50",
    ]
    assert said("--lines=1", "--identifier=dhcpd") == ["DHCPACK on 198.51.100.50 to 12:34:56:78:90:ab via eth0"]
    assert said("--lines=9", "--identifier=none") == []
    for _ in range(9):
        syslog.log(box, "dhcpd[16]", "x" * syslog.LIMIT)
    assert (box.lab / "journal").stat().st_size < 2 * syslog.LIMIT
