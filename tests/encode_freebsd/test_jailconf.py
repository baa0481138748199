from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.encode import jailconf
from controller.encode.jailconf import Block, Parameter

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z0-9_]{1,8}){0,2}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"$`\\'), max_size=30)
SETTINGS = st.builds(
    Parameter, NAMES, st.lists(VALUES, min_size=1, max_size=3).map(tuple), st.sampled_from(["=", "+="])
)
BLOCKS = st.builds(
    Block,
    st.from_regex(r"[A-Za-z_-][A-Za-z0-9_-]{0,8}", fullmatch=True),
    st.lists(SETTINGS | st.builds(Parameter, NAMES), max_size=6).map(tuple),
)

PLAIN = Block(
    "plain",
    (
        Parameter("path", ("/iscsi/jails/plain",), "="),
        Parameter("ip4.addr", ("em0|192.0.2.70/32", "em0|192.0.2.71/32"), "="),
        Parameter("mount.devfs"),
        Parameter("allow.nomount"),
        Parameter("exec.start", ("/bin/sh /etc/rc",), "="),
    ),
)


@given(st.lists(BLOCKS, max_size=3))
def test_what_was_written_is_read_back(blocks: list[Block]) -> None:
    assert jailconf.parse(jailconf.render(blocks)) == tuple(blocks)


def test_the_text_of_a_jail() -> None:
    assert jailconf.render([PLAIN]) == (
        "plain {\n"
        '    path = "/iscsi/jails/plain";\n'
        '    ip4.addr = "em0|192.0.2.70/32", "em0|192.0.2.71/32";\n'
        "    mount.devfs;\n"
        "    allow.nomount;\n"
        '    exec.start = "/bin/sh /etc/rc";\n'
        "}\n"
    )


def test_later_statements_win_and_plus_appends() -> None:
    text = 'a { ip4.addr = "1"; ip4.addr += "2", "3"; path = "/x"; path = "/y"; allow.mount; allow.nomount; persist; }'
    assert jailconf.effective(jailconf.parse(text)[0]) == {
        "ip4.addr": ("1", "2", "3"),
        "path": ("/y",),
        "allow.mount": False,
        "persist": True,
    }


@pytest.mark.parametrize(
    "block",
    [
        Block("a.b", ()),
        Block("42", ()),
        Block("*", ()),
        Block("", ()),
        Block("a", (Parameter("Path", ("x",), "="),)),
        Block("a", (Parameter("path", ("${x}",), "="),)),
        Block("a", (Parameter("path", ('x"; exec.start = "id',), "="),)),
        Block("a", (Parameter("path", ("x\ny",), "="),)),
        Block("a", (Parameter("path", (), "="),)),
        Block("a", (Parameter("path", ("x",)),)),
    ],
    ids=repr,
)
def test_what_jail_would_read_otherwise_is_refused(block: Block) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        jailconf.render([block])
