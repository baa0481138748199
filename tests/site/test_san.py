"""The SAN's stand-ins answer as tgt 1.0.85 and nfs-utils 2.6.2 did, command by command and byte by byte."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from controller.encode import exports as encoder
from controller.encode import ganesha
from controller.encode import tgt as parser
from controller.lab.servers import exports, tgt
from controller.lab.servers.kit import Box
from controller.lab.servers.run import run

CASES = Path(__file__).parent / "cases"


def steps(name: str) -> list[tuple[str, str, int]]:
    """("$ command" or "> file text", expected output, expected status) in the order of the transcript."""
    found = []
    for block in re.split(r"(?m)^(?=[$>] )", (CASES / name).read_text())[1:]:
        head, _, rest = block.partition("\n")
        out, _, status = rest.rpartition("rc=")
        found.append((head, out, int(status or 0)))
    return found


@pytest.fixture
def box(tmp_path: Path) -> Box:
    for name in ("lab", "volumes", "mnt/e/a", "mnt/e/b", "mnt/e/c", "etc/exports.d"):
        (tmp_path / name).mkdir(parents=True)
    for name, size in (("v1", 64), ("v2", 96)):
        with (tmp_path / "volumes" / name).open("wb") as file:
            file.truncate(size << 20)
    (tmp_path / "lab/machine.json").write_text('{"address": "198.51.100.10"}')
    return Box(tmp_path)


@pytest.mark.parametrize("transcript", ["tgtadm.txt", "exportfs.txt"])
def test_a_transcript_of_the_real_one_replayed(box: Box, transcript: str, capsys: pytest.CaptureFixture[str]) -> None:
    ordered = transcript == "tgtadm.txt"
    for head, expected, status in steps(transcript):
        if head.startswith("> "):
            path, _, text = head[2:].partition(" ")
            box.at(path).write_text(text.replace("|", "\n"))
            continue
        assert run(shlex.split(head[2:]), box) == status, head
        out, err = capsys.readouterr()
        got = err + out
        assert (
            got.splitlines() == expected.splitlines()
            if ordered
            else sorted(got.split("\n")) == sorted(expected.split("\n"))
        ), head


def adm(box: Box, *words: str) -> int:
    return run(["tgtadm", "--lld", "iscsi", *words], box)


def make_target(box: Box, tid: str, name: str, volume: str = "/volumes/v1") -> None:
    assert adm(box, "--op", "new", "--mode", "target", "--tid", tid, "-T", name) == 0
    assert adm(box, "--op", "new", "--mode", "logicalunit", "--tid", tid, "--lun", "1", "-b", volume) == 0


def test_one_backing_file_may_back_two_targets(box: Box) -> None:
    make_target(box, "1", "iqn.2026-11.org.example:a")
    make_target(box, "2", "iqn.2026-11.org.example:b")


def test_the_listing_can_be_read_and_shows_who_is_logged_in(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    make_target(box, "1", "iqn.2026-11.org.example:a")
    link = {"target": "iqn.2026-11.org.example:a", "initiator": "iqn.1994-09.org.freebsd:n", "address": "198.51.100.50"}
    with box.edit("sessions", []) as links:
        links.append(link)
    adm(box, "--op", "show", "--mode", "target")
    (one,) = parser.parse_show(capsys.readouterr().out)
    assert [(nexus.initiator, nexus.connections) for nexus in one.nexus] == [
        ("iqn.1994-09.org.freebsd:n", ((0, "198.51.100.50"),))
    ]
    assert adm(box, "--op", "delete", "--mode", "target", "--tid", "1") == 22


@pytest.mark.parametrize(
    ("addresses", "initiators", "welcome"),
    [
        ([], [], False),
        (["198.51.100.50"], [], True),
        (["ALL"], ["iqn.x:other"], True),
        (["198.51.100.50"], ["iqn.x:other"], True),
        (["198.51.100.9"], ["iqn.x:node"], True),
        ([], ["iqn.x:node"], True),
        ([], ["iqn.x:other"], False),
        (["198.51.100.9"], ["iqn.x:other"], False),
    ],
)
def test_address_or_name_is_enough_and_no_rule_admits_nobody(
    addresses: list[str], initiators: list[str], welcome: bool
) -> None:
    one = {"addresses": addresses, "initiators": initiators}
    assert tgt.admits(one, "198.51.100.50", "iqn.x:node") is welcome


TARGETS = """include /etc/tgt/conf.d/*.conf
<target iqn.2026-11.org.example:a>
    <backing-store /volumes/v1>
        scsi_sn JO1
    </backing-store>
    initiator-name iqn.1994-09.org.freebsd:a
    initiator-address 127.0.0.1
    incominguser u1 secretsecret12
</target>
<target iqn.2026-11.org.example:b>
    backing-store /volumes/v2
</target>
"""


def test_tgt_admin_brings_the_daemon_to_the_file_and_leaves_targets_in_use(box: Box) -> None:
    box.at("/etc/tgt").mkdir(parents=True)
    box.at("/etc/tgt/targets.conf").write_text(TARGETS)
    assert run(["tgt-admin", "-e"], box) == 0
    first, second = box.load("tgt", {})["targets"].values()
    assert first["luns"]["1"]["params"] == {"scsi_sn": "JO1"}
    assert (first["addresses"], first["initiators"], first["accounts"]) == (
        ["127.0.0.1"], ["iqn.1994-09.org.freebsd:a"], ["u1"],
    )  # fmt: skip
    assert second["addresses"] == ["ALL"]
    with box.edit("sessions", []) as links:
        links.append({"target": "iqn.2026-11.org.example:a", "initiator": "x", "address": "y"})
    box.at("/etc/tgt/targets.conf").write_text(
        "<target iqn.2026-11.org.example:a>\n backing-store /volumes/v2\n</target>\n"
    )
    assert run(["tgt-admin", "--update", "iqn.2026-11.org.example:a"], box) == 0
    assert box.load("tgt", {})["targets"]["1"]["luns"]["1"]["path"] == "/volumes/v1"


def test_tgtadm_when_the_daemon_is_down(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    run(["systemctl", "stop", "tgt"], box)
    assert adm(box, "--op", "show", "--mode", "target") == 107
    assert "Transport endpoint is not connected" in capsys.readouterr().err


def test_the_served_exports_can_be_read(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    run(["exportfs", "-o", "ro,no_root_squash,no_subtree_check,sync", "198.51.100.50:/mnt/e/a"], box)
    run(["exportfs", "-s"], box)
    listed = encoder.parse_etab(capsys.readouterr().out)
    kept = encoder.parse_etab(box.at("/var/lib/nfs/etab").read_text())
    for served in (*listed, *kept):
        assert (served.path, served.client, served.access, served.root_squash) == (
            "/mnt/e/a", "198.51.100.50", "ro", False,
        )  # fmt: skip


GANESHA = """
EXPORT { Export_Id = 101; Path = /mnt/e/a; Pseudo = /mnt/e/a; Protocols = 3; Access_Type = NONE; Squash = No_Root_Squash;
  FSAL { Name = VFS; }
  CLIENT { Clients = 198.51.100.50; Access_Type = RO; }
  CLIENT { Clients = 198.51.100.7; Access_Type = RW; }
}
"""
CALL = ["dbus-send", "--system", "--print-reply", "--dest=org.ganesha.nfsd", "/org/ganesha/nfsd/ExportMgr"]


def test_ganesha_publishes_one_export_at_a_time(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.at("/etc/g.conf").write_text(GANESHA)
    say = [*CALL, "org.ganesha.nfsd.exportmgr.AddExport", "string:/etc/g.conf"]
    assert run([*say, "string:EXPORT(Export_Id=101)"], box) == 0
    assert "1 exports added" in capsys.readouterr().out
    assert [(one["client"], one["options"][0]) for one in box.load("exports", [])] == [
        ("198.51.100.50", "ro"), ("198.51.100.7", "rw"),
    ]  # fmt: skip
    assert run([*say, "string:EXPORT(Export_Id=102)"], box) == 1
    capsys.readouterr()
    assert run([*CALL, "org.ganesha.nfsd.exportmgr.ShowExports"], box) == 0
    assert ganesha.parse_show_exports(capsys.readouterr().out) == {"/mnt/e/a": 101}
    assert run([*CALL, "org.ganesha.nfsd.exportmgr.DisplayExport", "uint16:101"], box) == 0
    shown = ganesha.parse_display_export(capsys.readouterr().out)
    assert [(one.address, one.access) for one in shown.clients] == [("198.51.100.50", "ro"), ("198.51.100.7", "rw")]
    assert run([*CALL, "org.ganesha.nfsd.exportmgr.RemoveExport", "uint16:101"], box) == 0
    assert box.load("exports", []) == []


@pytest.mark.parametrize(
    ("stopped", "said"),
    [
        ("nfs-kernel-server", "198.51.100.10: RPC: Program not registered\n"),
        ("nfs-server", "198.51.100.10: RPC: Program not registered\n"),
        ("rpcbind", "198.51.100.10: RPC: Unable to receive\n"),
    ],
)
def test_exports_are_listed_also_when_nobody_serves_them(
    box: Box, stopped: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As rpcbind 1.2.6 said it, with nobody registered and without itself."""
    assert run(["exportfs", "-o", "ro,no_subtree_check", "198.51.100.50:/mnt/e/a"], box) == 0
    ask = ["rpcinfo", "-u", "198.51.100.10", "nfs", "3"]
    assert run(ask, box) == 0
    assert capsys.readouterr().out == "program 100003 version 3 ready and waiting\n"
    assert run(["service", stopped, "stop"], box) == 0
    assert run(ask, box) == 1
    assert capsys.readouterr() == ("", said)
    assert len(exports.served(box)) == (1 if stopped == "rpcbind" else 0)
    assert run(["exportfs", "-s"], box) == 0
    assert capsys.readouterr().out.startswith("/mnt/e/a  198.51.100.50(")


@pytest.mark.parametrize(
    "words",
    [
        ["tgtadm", "--lld", "iser", "--op", "show", "--mode", "target"],
        [
            "tgtadm",
            "--lld",
            "iscsi",
            "--op",
            "update",
            "--mode",
            "target",
            "--tid",
            "1",
            "-n",
            "MaxConnections",
            "-v",
            "2",
        ],
        ["exportfs", "-f"],
        ["dbus-send", "--session", "--dest=org.example"],
        ["systemctl", "restart", "postgresql"],
        ["ss", "-tlnp"],
        ["rpcinfo", "-p"],
    ],
)
def test_what_the_reference_does_not_cover_is_refused_and_noted(box: Box, words: list[str]) -> None:
    make_target(box, "1", "iqn.2026-11.org.example:a")
    assert run(words, box) == 70
    assert (box.lab / "uncovered").read_text().startswith(words[0])


EXPORT_BLOCKS = "".join(
    f'EXPORT {{ Export_Id = {number}; Path = "{path}"; Pseudo = "{path}"; Access_Type = NONE; Squash = No_Root_Squash;'
    f" CLIENT {{ Clients = 198.51.100.50; Access_Type = RO; }} }}\n"
    for number, path in ((101, "/mnt/e/a"), (102, "/mnt/e/b"))
)


def test_ganesha_keeps_silent_and_counts_its_clients(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """The shapes are those of the real answers in tests/cases/bootlog."""

    def bus(manager: str, *words: str) -> str:
        argv = ["dbus-send", "--system", "--print-reply", "--dest=org.ganesha.nfsd", f"/org/ganesha/nfsd/{manager}"]
        assert run([*argv, *words], box) == 0
        return capsys.readouterr().out

    def clients() -> dict[str, bool]:
        said = ganesha.parse_show_clients(bus("ClientMgr", "org.ganesha.nfsd.clientmgr.ShowClients"))
        return {address: one.nfs for address, one in said.items()}

    box.at("/etc/jailops.conf").write_text(EXPORT_BLOCKS)
    for number in (101, 102):
        add = "org.ganesha.nfsd.exportmgr.AddExport"
        bus("ExportMgr", add, "string:/etc/jailops.conf", f"string:EXPORT(Export_Id={number})")
    assert clients() == {}
    assert not exports.mount(box, "/mnt/e/a", "198.51.100.66")
    assert exports.mount(box, "/mnt/e/b/etc", "198.51.100.50")
    assert clients() == {"198.51.100.50": True, "198.51.100.66": False}
    _, used = ganesha.parse_last_use(bus("ExportMgr", "org.ganesha.nfsd.exportmgr.ShowExports"))
    assert [path for path, at in used.items() if at] == ["/mnt/e/b"]
    assert not (box.lab / "journal").exists()
