from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode import rcconf
from tests.encode_freebsd.shell import sourced

NAMES = st.from_regex(r"v_[A-Za-z0-9_]{0,12}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"$`\\'), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=8))
def test_the_real_shell_and_our_parser_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]
) -> None:
    text = rcconf.render(variables)
    assert sourced(tmp_path_factory.getbasetemp() / "rc.conf", text, variables) == variables
    assert rcconf.parse(text) == variables


@pytest.mark.parametrize("char", ['"', "$", "`", "\\", "\n", "\t", "\r", "\0", "\x7f", "\x1b", "é", "\u2028"])
def test_what_a_shell_or_a_console_would_read_is_refused(char: str) -> None:
    with pytest.raises(ValueError, match=r"cannot write motd to rc\.conf"):
        rcconf.render({"motd": f"a{char}b"})


@pytest.mark.parametrize("name", ["", "1a", "a.b", "a-b", "a b", "a=b", "a\nb", "ä"])
def test_what_is_no_shell_variable_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a variable's name"):
        rcconf.render({name: "YES"})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('a="x y"', "x y"),
        ("a='x # y'", "x # y"),
        ("a=NO", "NO"),
        ("a=", ""),
        ('a=""', ""),
        ('  a="x"  # why', "x"),
        ('a="1"\n# a="2"\n\na="3"', "3"),
    ],
)
def test_the_forms_in_which_people_write_rc_conf(tmp_path: Path, line: str, value: str) -> None:
    assert rcconf.parse(line) == {"a": value}
    assert sourced(tmp_path / "rc.conf", line, ["a"]) == {"a": value}


def test_loader_names_may_hold_dots() -> None:
    text = 'vfs.root.mountfrom.options="ro"\nboot.nfsroot.options="nolockd"\n'
    assert rcconf.parse_loader(text) == {"vfs.root.mountfrom.options": "ro", "boot.nfsroot.options": "nolockd"}
    assert rcconf.render_loader(rcconf.parse_loader(text)) == text
