from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode import ezjail
from controller.encode.ezjail import DEFAULTS, JailFile, Listed
from controller.encode.names import safename
from controller.encode.text import GrammarError
from tests.encode_freebsd.claims import CASES
from tests.encode_freebsd.shell import sourced

VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"$`\\'), max_size=30)
FILES = st.builds(
    JailFile,
    st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True),
    st.fixed_dictionaries(dict.fromkeys(DEFAULTS, VALUES), optional={"fstab": VALUES}),
    require=st.lists(st.sampled_from(["db", "web_example_org", "NETWORKING"]), max_size=2).map(tuple),
)


def written_by_ezjail(index: int) -> str:
    """The jail's file as ezjail 3.4.2 wrote it, cut out of what `cat` printed together with other things."""
    entry = json.loads((CASES / "transcripts/13.2/05-ezjail.json").read_text())[index]["stdout"]
    lines = entry[entry.index("# To specify") :].splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("#", "export ", "\n")))


@pytest.mark.parametrize(
    ("index", "name", "ip"), [(6, "example", "198.51.100.61"), (47, "www.example.org", "198.51.100.62")]
)
def test_byte_for_byte_what_ezjail_wrote(index: int, name: str, ip: str) -> None:
    text = written_by_ezjail(index)
    file = ezjail.jail_file(name, ip, f"/iscsi/jails/{name}")
    assert ezjail.render(file) == text
    assert ezjail.parse(text) == file
    assert list(ezjail.parse(text).settings) == list(DEFAULTS)


def test_our_fstab_line_as_the_node_had_it() -> None:
    entry = json.loads((CASES / "transcripts/13.2/12-booted-by-itself.json").read_text())[9]
    file = ezjail.jail_file("example", "198.51.100.61", "/iscsi/jails/example", fstab="/iscsi/jails/etc/fstab.example")
    assert ezjail.render(file).endswith(entry["stdout"])


@settings(max_examples=60, deadline=None)
@given(FILES)
def test_the_real_shell_and_our_parser_read_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, file: JailFile
) -> None:
    text = ezjail.render(file)
    names = {f"jail_{file.safename}_{key}": value for key, value in file.settings.items()}
    assert sourced(tmp_path_factory.getbasetemp() / "jail", text, names) == names
    assert ezjail.parse(text) == file


@pytest.mark.parametrize("value", ["$(id)", "`id`", 'a"; id; "', "a\\", "a\nid", "\0", "é"])
def test_what_the_shell_would_evaluate_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="sh would read the value of parameters"):
        ezjail.render(ezjail.jail_file("example", "192.0.2.1", "/x", parameters=value))


@pytest.mark.parametrize(
    "file",
    [
        JailFile("a.b", {}),
        JailFile("", {}),
        JailFile("a", {"interface": "em0"}),
        JailFile("a", {}, require=("a b",)),
        JailFile("a", {}, before=("x\nexport y=1",)),
    ],
    ids=repr,
)
def test_what_is_no_jail_file_is_refused(file: JailFile) -> None:
    with pytest.raises(ValueError, match="cannot write the ezjail file"):
        ezjail.render(file)


@pytest.mark.parametrize("name", ["x_hostname", "hostname", "ip", "a_ip", "x_hostname_hostname", "42"])
def test_names_that_look_like_keys(name: str) -> None:
    file = ezjail.jail_file(name, "192.0.2.1", f"/iscsi/jails/{name}")
    assert ezjail.parse(ezjail.render(file)) == file


def test_keys_of_other_tools_are_kept(tmp_path: Path) -> None:
    text = 'export jail_a_b_hostname="a.b"\nexport jail_a_b_exec_prestart0="/bin/true"\n'
    parsed = ezjail.parse(text)
    assert (parsed.safename, parsed.settings) == ("a_b", {"hostname": "a.b", "exec_prestart0": "/bin/true"})
    assert parsed.provide == ()
    assert sourced(tmp_path / "jail", text, ["jail_a_b_hostname"]) == {"jail_a_b_hostname": "a.b"}


HEADER = (
    "STA JID  IP              Hostname                       Root Directory\n"
    "--- ---- --------------- ------------------------------ ------------------------\n"
)


def printed(listed: Listed) -> str:
    """What ezjail-admin prints for a jail: its printf formats, with further addresses on lines of their own."""
    state = listed.kind[0].upper() + {"running": "R", "attached": "A", "stopped": "S"}[listed.state]
    jid = "N/A" if listed.jid is None else str(listed.jid)
    first, *more = listed.addresses or ("",)
    line = f"{state + 'N' * listed.norun:<3} {jid:<4} {first:<15} {listed.hostname:<30} {listed.root}\n"
    return line + "".join(f"    {jid:<4} {address}\n" for address in more)


HOSTNAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9. -]{0,40}[A-Za-z0-9])?", fullmatch=True)
LISTED = st.builds(
    Listed,
    st.sampled_from(["directory", "image", "bde", "eli", "zfs"]),
    st.sampled_from(["running", "attached", "stopped"]),
    st.booleans(),
    st.none() | st.integers(1, 99999),
    st.lists(st.sampled_from(["192.0.2.1", "em0|192.0.2.53", "2001:db8::1:2:3:4:5:6"]), max_size=3).map(tuple),
    HOSTNAMES,
    HOSTNAMES.map("/iscsi/jails/{}".format),
)


@given(st.lists(LISTED, max_size=4))
def test_every_table_that_ezjail_can_print(jails: list[Listed]) -> None:
    assert ezjail.parse_list(HEADER + "".join(map(printed, jails))) == tuple(jails)


def test_the_table_in_the_manual() -> None:
    text = (CASES / "ezjail" / "list.txt").read_text()
    assert [(jail.hostname, jail.jid, jail.addresses, jail.norun) for jail in ezjail.parse_list(text)] == [
        ("example", 1, ("192.168.1.51",), False),
        ("web.example.org", 2, ("192.168.1.52", "em0|192.168.1.53"), False),
        ("old", None, ("192.168.1.54",), True),
    ]


def test_a_complaint_makes_the_table_worthless() -> None:
    with pytest.raises(GrammarError, match="cd: /usr/local/etc/ezjail: No such file or directory"):
        ezjail.parse_list(HEADER, "cd: /usr/local/etc/ezjail: No such file or directory\n")


def test_names_that_collapse() -> None:
    assert {safename(name) for name in ("a.b", "a-b", "a_b", "a b")} == {"a_b"}
