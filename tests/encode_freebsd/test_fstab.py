from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.encode import fstab
from controller.encode.fstab import Entry

WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\,#"), min_size=1)
ENTRIES = st.builds(
    Entry,
    WORDS,
    WORDS,
    WORDS,
    st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    st.integers(0, 2),
    st.integers(0, 2),
)


@given(st.lists(ENTRIES, max_size=5))
def test_what_was_written_is_read_back(entries: list[Entry]) -> None:
    assert fstab.parse(fstab.render(entries)) == tuple(entries)


def test_the_line_of_the_jail_disk() -> None:
    entry = Entry("/dev/ufs/jails", "/iscsi", "ufs", ("rw", "late", "failok"))
    assert fstab.render([entry]) == "/dev/ufs/jails /iscsi ufs rw,late,failok 0 0\n"


@pytest.mark.parametrize(
    "entry",
    [
        Entry("/a b", "/c", "nullfs", ("ro",)),
        Entry("/a", "/c\n/dev/da0 / ufs rw", "nullfs", ("ro",)),
        Entry("/a", "/c\\040d", "nullfs", ("ro",)),
        Entry("/a", "/é", "nullfs", ("ro",)),
        Entry("#a", "/c", "nullfs", ("ro",)),
        Entry("/a", "/c", "", ("ro",)),
        Entry("/a", "/c", "nullfs", ()),
        Entry("/a", "/c", "nullfs", ("ro", "")),
        Entry("/a", "/c", "nullfs", ("ro,rw",)),
    ],
    ids=repr,
)
def test_what_fstab_would_read_otherwise_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        fstab.render([entry])


def test_comments_tabs_and_missing_numbers() -> None:
    text = "# Device\tMountpoint\n\n/dev/da0p1\t/data\tufs\trw\t1\n"
    assert fstab.parse(text) == (Entry("/dev/da0p1", "/data", "ufs", ("rw",), 1, 0),)
