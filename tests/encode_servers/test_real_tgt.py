"""What a real tgtd 1.0.85 and its tgt-admin do with our files, with libiscsi as the node (real/tgt.sh)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.encode import tgt

from .real_rig import Said, run
from .test_iscsi import HEADER, LUN, NODE1, NODE2

pytestmark = pytest.mark.lab

NAME2 = "iqn.1994-09.org.freebsd:node2"
OTHER = tgt.Lun(NODE2, "/run/volumes/node2.img", tgt.serial_for(NODE2), tgt.serial_for(NODE2), NAME2)
NO_ADDRESS = tgt.render(replace(OTHER, iqn="iqn.2026-11.org.example:noaddress", backing="/run/volumes/none.img"))
FILES = {
    "node1.conf": tgt.render(LUN, HEADER),
    "node2.conf": tgt.render(OTHER, HEADER),
    "node1-name2.conf": tgt.render(replace(LUN, initiator=NAME2)),
    "node1-secret.conf": tgt.render(replace(LUN, chap_secret="changedsecret1")),
    "no-address.conf": NO_ADDRESS.replace(f"initiator-address {tgt.NOBODY}", ""),
    "nofile.conf": tgt.render(replace(OTHER, iqn="iqn.2026-11.org.example:nofile", backing="/run/volumes/none.img")),
    "broken.conf": tgt.render(replace(OTHER, iqn="iqn.2026-11.org.example:broken")).replace("</target>", ""),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    return run("tgt.sh", FILES, tmp_path_factory.mktemp("tgt"))


def shown(said: dict[str, Said], name: str) -> dict[str, tgt.Target]:
    assert said[name].exit == 0
    return {target.iqn: target for target in tgt.parse_show(said[name].text)}


EXITS = {
    "show-down": 107,
    "show-none": 0,
    "create-1": 0,
    "create-2": 0,
    "create-no-address": 0,
    "delete-no-address": 0,
    "update-name": 0,
    "update-in-use": 0,
    "delete-in-use": 0,
    "delete-in-use-tgtadm": 22,
    "account-delete": 0,
    "account-delete-again": 22,
    "grow-online": 22,
    "grow": 0,
    "offline": 0,
    "offline-absent": 1,
    "ready": 0,
    "unbind": 0,
    "unbind-again": 22,
    "kick": 0,
    "kick-again": 22,
    "delete": 0,
    "delete-again": 0,
    "create-no-file": 0,
    "create-broken": 255,
    "update-in-no-file": 1,
    "same-file-by-hand": 0,
}


def test_exit_statuses(said: dict[str, Said]) -> None:
    assert {name: said[name].exit for name in EXITS} == EXITS


def test_a_file_becomes_a_target(said: dict[str, Said]) -> None:
    assert shown(said, "show-none") == {}
    one = shown(said, "show-two")[NODE1]
    assert one.luns == (tgt.Disk(1, LUN.backing, "67 MB", True, False, LUN.scsi_id, LUN.serial),)
    assert (one.acl_addresses, one.acl_initiators) == ((tgt.NOBODY,), (LUN.initiator,))
    assert (one.accounts, one.nexus) == (("node1",), ())


def test_who_is_let_in(said: dict[str, Said]) -> None:
    refused = {name: said[name].exit for name in said if name.startswith("login-")}
    assert refused == {
        "login-a": 0,
        "login-a-other-name": 10,
        "login-b": 0,
        "login-b-other-name": 10,
        "login-san-itself-other-name": 10,
        "login-san-itself-no-secret": 10,
        "login-a-no-secret": 10,
        "login-a-other-name-when-the-address-is-bound-too": 0,
        "login-a-old-name": 10,
        "login-a-new-name": 0,
        "login-old-secret": 0,
        "login-changed-secret": 0,
        "login-old-secret-again": 10,
        "login-offline": 10,
    }


def test_an_update_keeps_the_old_secret_until_the_account_is_deleted(said: dict[str, Said]) -> None:
    assert (said["update-secret"].exit, said["login-old-secret"].exit) == (0, 0)
    assert (said["update-secret-again"].exit, said["login-old-secret-again"].exit) == (0, 10)


def test_a_file_without_an_address_lets_everybody_in(said: dict[str, Said]) -> None:
    """Which is why one that nobody has stands in ours."""
    target = shown(said, "show-no-address")["iqn.2026-11.org.example:noaddress"]
    assert (target.acl_addresses, target.acl_initiators) == (("ALL",), (NAME2,))


def test_an_update_of_an_idle_target_changes_its_rules(said: dict[str, Said]) -> None:
    target = shown(said, "show-name")[NODE1]
    assert (target.acl_addresses, target.acl_initiators) == ((tgt.NOBODY,), (NAME2,))


def test_what_is_in_use_is_left_alone_without_a_word(said: dict[str, Said]) -> None:
    before, after = shown(said, "show-attached")[NODE1], shown(said, "show-update-in-use")[NODE1]
    assert [(nexus.initiator, nexus.connections) for nexus in before.nexus] == [
        ("iqn.1994-09.org.freebsd:node1", ((0, "198.51.100.50"),))
    ]
    assert (after, said["update-in-use"].text, said["delete-in-use"].text) == (before, "", "")


def test_execute_with_one_file_deletes_the_other_targets(said: dict[str, Said]) -> None:
    assert said["execute-one-file"].exit == 0
    assert list(shown(said, "show-execute-one-file")) == [NODE1]


def test_a_grown_file_is_seen_after_its_path_is_set_again(said: dict[str, Said]) -> None:
    assert shown(said, "show-grown-file")[NODE1].luns[0].size_text == "67 MB"
    assert shown(said, "show-grown")[NODE1].luns[0].size_text == "134 MB"
    assert "Total size:134217728" in said["capacity"].text


def test_offline_keeps_the_session_and_lets_nobody_new_in(said: dict[str, Said]) -> None:
    target = shown(said, "show-offline")[NODE1]
    assert (target.state, len(target.nexus), said["login-offline"].exit) == ("offline", 1, 10)


def test_a_fenced_initiator_does_not_come_back(said: dict[str, Said]) -> None:
    assert shown(said, "show-fenced")[NODE1].nexus == ()


def test_deleting_a_target_keeps_its_file(said: dict[str, Said]) -> None:
    assert shown(said, "show-deleted") == {}
    assert said["file-after-delete"].text == f"{128 << 20}\n"


def test_a_missing_file_makes_a_target_without_a_disk(said: dict[str, Said]) -> None:
    assert shown(said, "show-no-file")["iqn.2026-11.org.example:nofile"].luns == ()
