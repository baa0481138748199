from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.encode import jls
from controller.encode.jls import Jail
from controller.encode.text import GrammarError
from tests.encode_freebsd.claims import CASES

TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
ADDRESSES = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=2)
JAILS = st.builds(Jail, st.integers(1, 9999), TEXTS, TEXTS, TEXTS, ADDRESSES.map(tuple), st.booleans())


def quoted(value: str) -> str:
    """jls.c, quoted_print(): the quote is the one the value does not hold, and a backslash goes before it and itself."""
    if not value:
        return '""'
    quote = '"' if "'" in value else "'" if '"' in value else '"' if " " in value else ""
    body = "".join(f"\\{char}" if char in ("\\", quote) else char for char in value)
    return f"{quote}{body}{quote}"


def printed(jail: Jail) -> str:
    """`jls -nq jid name path host.hostname ip4.addr dying`."""
    addresses = ",".join(jail.addresses) or '""'
    return (
        f"jid={jail.jid} name={quoted(jail.name)} path={quoted(jail.path)} host.hostname={quoted(jail.hostname)} "
        f"ip4.addr={addresses} {'' if jail.dying else 'no'}dying\n"
    )


@given(st.lists(JAILS, max_size=3))
def test_every_line_that_jls_can_print(jails: list[Jail]) -> None:
    assert jls.parse("".join(map(printed, jails))) == tuple(jails)


def test_values_that_hold_equals_signs_and_both_families() -> None:
    line = "jid=7 name=a path=/x=y host.hostname=b=c=d allow.nomount persist ip4.addr=- ip4.saddrsel nodying ip6.addr=::1,::2"
    assert jls.parse(line) == (Jail(7, "a", "/x=y", "b=c=d", ("::1", "::2"), False),)


def test_a_blank_that_was_not_quoted_is_noticed() -> None:
    """13 prints this without -q: taken for words it would be a jail at /iscsi/jails/bad."""
    line = "jid=1 name=bad_name path=/iscsi/jails/bad name host.hostname=x ip4.addr=192.0.2.1 nodying"
    with pytest.raises(GrammarError, match="'name' is no switch of a jail"):
        jls.parse(line)


@pytest.mark.parametrize("missing", jls.WANTED)
def test_a_jail_of_which_something_is_not_known_is_refused(missing: str) -> None:
    words = ["jid=1", "name=a", "path=/a", "host.hostname=a", "ip4.addr=", "dying"]
    kept = [word for word in words if word.partition("=")[0] != missing]
    with pytest.raises(GrammarError, match=f"a jail without {missing}"):
        jls.parse(" ".join(kept))


def test_the_default_json_has_no_names() -> None:
    """Seen: a jail named plain whose host name is disklessfreebsdbox."""
    entry = json.loads((CASES / "transcripts/13.2/07-after-reboot.json").read_text())[37]["stdout"]
    with pytest.raises(GrammarError, match="jails without names: ask jls with -v or -n"):
        jls.parse_json(entry.splitlines()[0])


def test_a_jid_is_a_number_or_text_in_json() -> None:
    row = {"name": "a", "path": "/a", "host.hostname": "a", "ip4.addr": [], "dying": True}
    for jid in (3, "3"):
        text = json.dumps({"__version": "2", "jail-information": {"jail": [{**row, "jid": jid}]}})
        assert jls.parse_json(text) == (Jail(3, "a", "/a", "a", (), True),)
