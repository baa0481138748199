from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.encode import iscsi
from controller.encode.iscsi import Chap, Session, Target
from controller.encode.sh import fill_text, holes, secret
from controller.encode.text import GrammarError
from controller.secret import Secret
from tests.encode_freebsd.claims import CASES

NODE = Target(
    "jails",
    "192.168.1.10:3260",
    "iqn.2013-12.com.example:jails",
    "iqn.1994-09.org.freebsd:node1",
    Chap("node1", secret("chap/node1")),
)
QUOTED = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"'), min_size=1)
NICKNAMES = st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True).filter(lambda name: name.lower() not in iscsi._KNOWN)
ADDRESSES = st.from_regex(r"[A-Za-z0-9.:\[\]-]+", fullmatch=True)
TARGETS = st.builds(Target, NICKNAMES, ADDRESSES, QUOTED, QUOTED, st.none() | st.builds(Chap, QUOTED, QUOTED))


@given(st.lists(TARGETS, max_size=3))
def test_what_was_written_is_read_back(targets: list[Target]) -> None:
    assert iscsi.parse(iscsi.render(targets)) == tuple(targets)


def test_the_file_of_a_node() -> None:
    text = iscsi.render([NODE])
    assert holes(text) == {"chap/node1"}
    assert iscsi.parse(text) == (NODE,)
    filled = fill_text(text, {"chap/node1": Secret("chap/node1", "secretsecret")})
    assert filled == (CASES / "iscsi" / "node1.conf").read_text()


def test_the_words_that_people_write() -> None:
    text = (CASES / "iscsi" / "by-hand.conf").read_text()
    want = Target(NODE.nickname, "192.168.1.10", NODE.name, NODE.initiator, Chap("node1", "secretsecret"))
    assert iscsi.parse(text) == (want,)


@pytest.mark.parametrize(
    "target",
    [
        Target("chapSecret", "192.168.1.10", "iqn.a", "iqn.b"),
        Target("a b", "192.168.1.10", "iqn.a", "iqn.b"),
        Target("a", '192.168.1.10"; chapSecret = "x', "iqn.a", "iqn.b"),
        Target("a", "192.168.1.10", 'iqn"a', "iqn.b"),
        Target("a", "192.168.1.10", "iqn.a", ""),
        Target("a", "192.168.1.10", "iqn.a", "iqn\nb"),
        Target("a", "192.168.1.10", "iqn.a", "iqn.b", Chap("u", 'pass"word')),
    ],
)
def test_what_would_leave_the_quotes_is_refused(target: Target) -> None:
    with pytest.raises(ValueError, match="cannot write") as refusal:
        iscsi.render([target])
    assert "pass" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        'a { chapSecret = "hunter2" hunter2 }',
        'a { chapSecret = "hunter2',
        "a { chapSecret = hunter2$ }",
        "a { chapSecret hunter2 }",
        'a { TargetAddress = b; TargetName = c; InitiatorName = d; chapSecret = "hunter2"; }',
    ],
)
def test_a_secret_never_stands_in_a_refusal(text: str) -> None:
    with pytest.raises(GrammarError) as refusal:
        iscsi.parse(text)
    assert not re.search("hunter2", repr(refusal.value))


def test_a_secret_never_stands_in_a_repr() -> None:
    assert "secretsecret" not in repr(Target("a", "b", "c", "d", Chap("u", "secretsecret")))


HEADER = "Target name                          Target portal    State\n"


@pytest.mark.parametrize(
    ("row", "session"),
    [
        ("iqn.a:b                              192.168.1.10     Connected: da0 da1 ", ("Connected", ("da0", "da1"))),
        ("iqn.a:b                              192.168.1.10     Connected: ", ("Connected", ())),
        ("iqn.a:b                              192.168.1.10     Disconnected", ("Disconnected", ())),
        ("iqn.a:b                              192.168.1.10     Disabled", ("Disabled", ())),
        ("iqn.a:b                              192.168.1.10     Waiting for iscsid(8)", ("Waiting for iscsid(8)", ())),
        ("iqn.a:b                              192.168.1.10     Operation timed out", ("Operation timed out", ())),
        (f"iqn.a:b{'x' * 200} 192.168.1.10:3260 Authentication failure", ("Authentication failure", ())),
    ],
)
def test_the_states_of_a_session(row: str, session: tuple[str, tuple[str, ...]]) -> None:
    found = iscsi.parse_list(HEADER + row + "\n")[0]
    assert (found.state, found.devices) == session
    assert found.connected == (session[0] == "Connected")
    assert found.target.startswith("iqn.a:b")
    assert found.portal in ("192.168.1.10", "192.168.1.10:3260")


def test_no_sessions() -> None:
    assert iscsi.parse_list(HEADER) == ()
    assert iscsi.parse_list_json('{"iscsictl": {}}\n') == ()


def test_json_with_a_session_that_failed() -> None:
    text = '{"iscsictl": {"session": [{"name":"iqn.a","portal":"192.168.1.10","state":"Waiting for iscsid(8)"}]}}'
    assert iscsi.parse_list_json(text) == (Session("iqn.a", "192.168.1.10", "Waiting for iscsid(8)"),)
