"""What servers logged of a boot, cut after every line: the last phase reached, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode import bootlog, ganesha
from controller.encode.bootlog import Log, Source
from controller.encode.boottime import SKEW, Timeline, timeline
from controller.encode.text import GrammarError
from tests.encode_servers.bootlogs import CASES, NODE, SERVERS, Line, Recorded, answer, sequences

ALL = list(sequences())
NOW = "now 1795703300 +0000"
SINCE = 1795703200.0


def read(directory: Path, now: str, lines: tuple[Line, ...], since: float) -> Timeline | None:
    logs = []
    for machine in ("boot", "san"):
        files: dict[str, list[str]] = {}
        for line in lines:
            if line.machine == machine:
                files.setdefault(line.file, []).append(line.text)
        logs.append(bootlog.parse(answer(directory / machine, now, files), NODE))
    return timeline(logs[0], logs[1], since, SERVERS)


def named(found: Timeline | None) -> str:
    if found is None:
        return "unknown"
    return found.last_phase.phase if found.last_phase else "none"


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_cut_after_every_line(case: Recorded, tmp_path: Path) -> None:
    for count in range(1, len(case.lines) + 1):
        found = read(tmp_path / str(count), case.now, case.lines[:count], case.since)
        last = case.lines[count - 1]
        assert named(found) == last.phase, last
        if last.sentence:
            assert found is not None
            assert found.told == last.sentence


def test_what_happened_before_is_not_told(tmp_path: Path) -> None:
    case = next(case for case in ALL if case.name == "isc-linux")
    found = read(tmp_path, case.now, case.lines, case.since + 60)
    assert found is not None
    assert (found.last_phase, found.boots) == (None, 0)


def test_the_real_log_of_five_boots(tmp_path: Path) -> None:
    """The transcript has no times; TFTP and the SAN told nothing, so that the second exchange counts as the loader's."""
    said = (CASES.parent / "transcripts/pxe/dhcpd.log").read_text().splitlines()
    log = [f"Nov 26 14:2{at // 60}:{at % 60:02} boot dhcpd[7]: {line}" for at, line in enumerate(said)]
    boot = bootlog.parse(answer(tmp_path, "now 1795703300 +0000", {"messages": log}), NODE)
    found = timeline(boot, None, 1795702800.0, SERVERS)
    assert found is not None
    assert found.boots == 5
    assert [step.phase for step in found.steps] == ["asked", "offered", "leased", "loader"]
    assert "whether it then mounted its root is not told by san" in found.told


def test_a_log_that_begins_too_late_proves_nothing(tmp_path: Path) -> None:
    """Rotated at midnight, while the node booted."""
    case = next(case for case in ALL if case.name == "isc-linux")
    assert read(tmp_path, case.now, case.lines[:3], case.since - 3600) is None


def test_nobody_s_log_is_no_proof(tmp_path: Path) -> None:
    quiet = answer(tmp_path, NOW, {"syslog": ["2026-11-26T14:20:00.000000+00:00 boot cron[1]: (root) CMD (true)"]})
    log = bootlog.parse(quiet, NODE)
    assert timeline(log, log, SINCE, SERVERS) is None
    assert timeline(None, None, SINCE, SERVERS) is None


def test_other_nodes_are_not_this_one(tmp_path: Path) -> None:
    lines = [
        "2026-11-26T14:20:00.000000+00:00 boot dhcpd[16]: DHCPACK on 198.51.100.5 to 12:34:56:78:90:a0 via eth0",
        "2026-11-26T14:27:00.000000+00:00 boot dhcpd[16]: DHCPACK on 198.51.100.5 to 12:34:56:78:90:a0 via eth0",
        "2026-11-26T14:27:00.000000+00:00 boot in.tftpd[41]: RRQ from 198.51.100.5 filename 198.51.100.50",
        "2026-11-26T14:27:00.000000+00:00 boot in.tftpd[41]: RRQ from 198.51.100.5 filename x 12:34:56:78:90:ab",
    ]
    found = timeline(bootlog.parse(answer(tmp_path, NOW, {"syslog": lines}), NODE), None, SINCE, SERVERS)
    assert found is not None
    assert found.last_phase is None
    other = replace(NODE, address="198.51.100.5", mac="12:34:56:78:90:A0")
    found = timeline(bootlog.parse(answer(tmp_path, NOW, {"syslog": lines}, node=other), other), None, SINCE, SERVERS)
    assert named(found) == "fetched"


def test_what_is_sent_is_bounded(tmp_path: Path) -> None:
    line = "2026-11-26T14:27:04.{:06}+00:00 boot dhcpd[16]: DHCPDISCOVER from 12:34:56:78:90:ab via eth0"
    said = answer(tmp_path, NOW, {"syslog": [line.format(number) for number in range(5000)]})
    assert said.count("\n> ") == 300
    assert f"> {line.format(4999)}\n" in said
    assert f"> {line.format(4699)}\n" not in said


def ganesha_answer(clients: str, exports: str) -> str:
    shown = "\n".join(
        f"= ganesha {title}\n" + "\n".join(f"> {line}" for line in text.splitlines())
        for title, text in (("clients", clients), ("exports", exports))
    )
    return f"now 1795703300 +0000\n{shown}\nend\n"


def text(name: str) -> str:
    return (CASES / f"ganesha-{name}.txt").read_text()


def test_what_ganesha_knows() -> None:
    assert ganesha.parse_show_clients(text("clients-none")) == {}
    clients = ganesha.parse_show_clients(text("clients"))
    assert {address: one.nfs for address, one in clients.items()} == {"198.51.100.50": True, "198.51.100.66": False}
    assert clients["198.51.100.50"].at == pytest.approx(1795703244.730)
    started, used = ganesha.parse_last_use(text("exports"))
    assert started == pytest.approx(1795703240.602)
    assert used == {
        "/export/jailops": pytest.approx(1795703242.669),
        "/export/jailops/hosts/n1/etc": pytest.approx(1795703244.726),
        "/": 0.0,
    }


GANESHA = [
    # who asks, with which share, who came before; the phase, and a piece of the sentence
    ("198.51.100.50", "n1", "clients", "share", "read its own share /export/jailops/hosts/n1 , at"),
    (
        "198.51.100.50",
        "n2",
        "clients",
        "root",
        "read from NFS, at 14:27:22 for the last time and never mounted its own",
    ),
    ("198.51.100.66", "n2", "clients", "leased", "then NFS on san refused it: nfs-ganesha let it mount nothing"),
    ("198.51.100.66", "n2", "clients-none", "leased", "and never asked for its boot file"),
]


@pytest.mark.parametrize(("address", "share", "clients", "phase", "sentence"), GANESHA)
def test_ganesha_logs_nothing_but_knows_who_came(
    address: str, share: str, clients: str, phase: str, sentence: str, tmp_path: Path
) -> None:
    node = bootlog.Node(NODE.mac, address, f"/export/jailops/hosts/{share}", NODE.image)
    san = bootlog.parse(ganesha_answer(text(clients), text("exports")), node)
    lines = [
        "2026-11-26T14:20:00.000000+00:00 boot in.tftpd[1]: RRQ from 198.51.100.9 filename x",
        f"2026-11-26T14:27:21.000000+00:00 boot dhcpd[16]: DHCPACK on {address} to {node.mac} via eth0",
    ]
    boot = bootlog.parse(answer(tmp_path, NOW, {"syslog": lines}, node=node), node)
    found = timeline(boot, san, SINCE, SERVERS)
    assert found is not None
    assert named(found) == phase
    assert sentence.replace(" ,", ",") in found.told
    assert "nfs" not in found.untold


def test_what_the_system_that_went_down_still_read_is_no_boot(tmp_path: Path) -> None:
    """It used its root and its share at 14:27:24, and asked DHCP a minute after that."""
    node = replace(NODE, share="/export/jailops/hosts/n1")
    san = bootlog.parse(ganesha_answer(text("clients"), text("exports")), node)
    assert timeline(None, san, SINCE, SERVERS) is None
    lines = [
        "2026-11-26T14:20:00.000000+00:00 boot dhcpd[16]: Server starting service.",
        "2026-11-26T14:28:04.000000+00:00 boot dhcpd[16]: DHCPDISCOVER from 12:34:56:78:90:ab via eth0",
    ]
    boot = bootlog.parse(answer(tmp_path, NOW, {"syslog": lines}), node)
    assert named(timeline(boot, san, SINCE, SERVERS)) == "asked"


def test_a_ganesha_that_was_restarted_forgot_what_was_before(tmp_path: Path) -> None:
    """It began to count at 14:27:20."""
    lines = [f"2026-11-26T14:27:04.000000+00:00 boot dhcpd[16]: DHCPACK on {NODE.address} to {NODE.mac} via eth0"]
    boot = bootlog.parse(answer(tmp_path, NOW, {"syslog": lines}), NODE)
    san = bootlog.parse(ganesha_answer(text("clients-none"), text("exports")), NODE)
    found = timeline(boot, san, SINCE, SERVERS)
    assert found is not None
    assert "nfs" in found.untold


def test_ganesha_without_an_answer_tells_nothing() -> None:
    log = bootlog.parse(ganesha_answer("", ""), NODE)
    assert log.sources == ()
    assert bootlog.parse(ganesha_answer(text("exports"), text("clients")), NODE).sources == ()


@pytest.mark.parametrize("skew", [-7200.0, -8.0, 0.0, 8.0, 7200.0])
def test_clocks_that_differ(skew: float) -> None:
    boot = Log(1000.0, 0, (Source(0, frozenset({"dhcp", "tftp"}), (
        bootlog.Event(500, "leased", "198.51.100.50"), bootlog.Event(501, "fetched", "x"), bootlog.Event(502, "asked"),
    )),))  # fmt: skip
    san = Log(1000.0 + skew, 0, (Source(0, frozenset({"nfs"}), (bootlog.Event(520 + skew, "root", "/r"),)),))
    found = timeline(boot, san, 400, SERVERS)
    assert found is not None
    assert named(found) == "root"
    assert found.steps[-1].at == pytest.approx(520, abs=SKEW)
    assert found.boots == 1


WHOLE = "now 1795703300 +0000\n= journal\n< 1795703200.000000 boot dhcpd[1]: x\n? dhcp\nend\n"


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "end\n",
        WHOLE[:-4],
        WHOLE.replace("+0000", "CET"),
        WHOLE.replace("+0000", "+9900"),
        WHOLE.replace("now ", ""),
    ],
)
def test_half_an_answer_is_none(damaged: str) -> None:
    with pytest.raises(GrammarError):
        bootlog.parse(damaged, NODE)


@pytest.mark.parametrize(
    "line",
    [
        "Feb 30 14:27:04 boot dhcpd[1]: DHCPDISCOVER from 12:34:56:78:90:ab via eth0",
        "2026-13-26T14:27:04.1+00:00 boot dhcpd[1]: DHCPDISCOVER from 12:34:56:78:90:ab via eth0",
        "DHCPDISCOVER from 12:34:56:78:90:ab via eth0",
        "1795703244.000000 boot dhcpd[1]: DHCPDISCOVER from 12:34:56:78:90:ab",
        "1795703244.000000 boot dhcpd[1]: DHCPOFFER on to 12:34:56:78:90:ab via eth0",
        "1795703244.000000 boot",
        "",
    ],
)
def test_a_line_that_cannot_be_read_is_skipped(line: str) -> None:
    found = timeline(bootlog.parse(WHOLE.replace("end", f"> {line}\nend"), NODE), None, SINCE + 50, SERVERS)
    assert found is not None
    assert found.last_phase is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ALL), st.floats(0, 1), st.integers(0, 40), st.text(max_size=12))
def test_damaged_lines_are_events_or_nothing(case: Recorded, place: float, length: int, junk: str) -> None:
    rows = "".join(f"> {line.text}\n" for line in case.lines)
    start = int(place * len(rows))
    body = f"{rows[:start]}{junk}{rows[start + length :]}\n"
    log = bootlog.parse(f"{case.now}\n= x\n? dhcp\n? tftp\n? nfs\n{body}end\n", NODE)
    found = timeline(log, log, case.since, SERVERS)
    assert found is None or found.told
