from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.encode import mounts
from controller.encode.mounts import Mount
from controller.encode.text import GrammarError

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


def printed(device: str, mountpoint: str, fstype: str, options: str, numbers: str = "0 0") -> str:
    """What mount(8) prints with -p: columns padded with tabs to 24, then one blank."""
    columns = ""
    for name in (device, mountpoint):
        tabs = sum(len(name) < width for width in (8, 16, 24))
        columns += name + ("\t" * tabs or " ")
    return f"{columns}{fstype}\t{options}\t{'' if len(options) >= 8 else chr(9)}{numbers}\n"


@given(NAMES, NAMES.map("/{}".format), st.sampled_from(["ro", "rw", "rw,noatime,nosuid"]))
def test_every_line_that_mount_can_print(device: str, mountpoint: str, options: str) -> None:
    text = printed(device, mountpoint, "ufs", options)
    assert mounts.parse_p(text) == (Mount(device, mountpoint, "ufs", tuple(options.split(","))),)


@pytest.mark.parametrize(
    ("device", "mountpoint"),
    [
        ("/iscsi/jails/basejail", "/iscsi/jails/bad name/basejail"),
        ("devfs", "/iscsi/jails/bad name/dev"),
        ("/a b", "/c"),
        ("/iscsi/jails/very long source", "/x y"),
    ],
)
def test_names_with_blanks_are_told_apart_by_their_padding(device: str, mountpoint: str) -> None:
    assert mounts.parse_p(printed(device, mountpoint, "nullfs", "ro"))[0] == Mount(
        device, mountpoint, "nullfs", ("ro",)
    )


def test_a_line_with_two_readings_is_refused() -> None:
    """Both "/iscsi/jails/aaaaaaaaaaaaa" and the same with " /b" could be the device here."""
    with pytest.raises(GrammarError, match="cannot tell device and mount point apart"):
        mounts.parse_p(
            "/iscsi/jails/aaaaaaaaaaaaa /bbbbbbbbbbbbbbbbbbbbbbbbbbbb /cccccccccccccccccccccccccc ufs\tro\t\t0 0"
        )


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_mount_at_all_is_never_believed(text: str) -> None:
    with pytest.raises(GrammarError, match="not even the root"):
        mounts.parse_p(text)
    with pytest.raises(GrammarError, match="not even the root"):
        mounts.parse_json('{"mount": {"mounted": []}}')


def test_read_only_in_both_words() -> None:
    assert Mount("a", "/", "nfs", ("ro",)).read_only
    assert Mount("a", "/", "nfs", ("read-only", "local")).read_only
    assert not Mount("a", "/", "nfs", ("rw",)).read_only
