from __future__ import annotations

import json

import pytest

from controller.encode import kernel
from controller.encode.kernel import KernelVersion
from tests.encode_freebsd.claims import CASES


def test_the_kernel_of_the_real_node() -> None:
    """`uname -a` is "FreeBSD HOST RELEASE " + `uname -v` + " ARCH"."""
    everything = json.loads((CASES / "transcripts/13.2/01-boot.json").read_text())[0]["stdout"].rstrip("\n")
    version = everything.split(" ", 3)[3].rpartition(" ")[0]
    assert version.startswith("FreeBSD 13.2-RELEASE #1 ")
    assert kernel.uname_v(version) == KernelVersion("13.2-RELEASE", "DISKLESS")


@pytest.mark.parametrize(
    ("text", "release", "ident"),
    [
        ("FreeBSD 13.2-RELEASE releng/13.2-n254617-525ecfdad597 DISKLESS\n", "13.2-RELEASE", "DISKLESS"),
        (
            "FreeBSD 10.4-RELEASE #0 r324094: Fri Sep 29 01:41:21 UTC 2017     root@host:/usr/obj/usr/src/sys/DISKLESS ",
            "10.4-RELEASE",
            "DISKLESS",
        ),
        ("FreeBSD 13.2-RELEASE-p3 releng/13.2-n254633-7d5c17d28df4 GENERIC", "13.2-RELEASE-p3", "GENERIC"),
    ],
)
def test_reproducible_and_other_builds(text: str, release: str, ident: str) -> None:
    assert kernel.uname_v(text) == KernelVersion(release, ident)


def test_a_file_system_in_its_reserve_and_names_with_blanks() -> None:
    text = (
        "Filesystem     1024-blocks    Used  Avail Capacity  Mounted on\n"
        "/dev/ufs/jails     3045148 2901532 -100000   104%    /iscsi\n"
        "/x y                     1       1      0   100%    /iscsi/jails/bad name/basejail\n"
    )
    full, blank = kernel.df(text)
    assert (full.available, full.mountpoint) == (-100000, "/iscsi")
    assert (blank.device, blank.mountpoint) == ("/x y", "/iscsi/jails/bad name/basejail")


def test_a_kernel_variable_may_hold_quotes() -> None:
    assert kernel.kenv('comconsole="a"b="c"\n') == {"comconsole": 'a"b="c'}


def test_a_labelled_ufs_that_answers_with_its_label() -> None:
    assert kernel.dumpfs_name("/dev/ufs/jails\n") == ("ufs", "jails")


def test_no_label_and_no_device_are_answers() -> None:
    assert kernel.glabel("") == ()
    assert kernel.camcontrol("") == ()
