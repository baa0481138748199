"""Every file in tests/cases/GRAMMAR/bad is refused by its parser with exactly the message beside it.

``NAME.txt`` is what was read, ``NAME.message`` is what the person is told. The part of a name before ``--`` picks the
parser. What asks a machine how something stands says Retry instead: not known is not the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.encode import bootlog, ctl, dhcpd, exports, ganesha, job, kea, shelf, space, tgt, vm
from controller.encode.text import GrammarError
from controller.errors import Retry
from controller.model import Answer

from .values import CASES


def said(text: str) -> Answer:
    """What a machine printed, and with no fault."""
    return Answer(0, text.encode(), b"")


NODE = bootlog.Node("12:34:56:78:90:ab", "198.51.100.50", "/export/jailops/hosts/node1", "/export/jailops/images/x")

PARSERS: dict[str, Callable[[str], object]] = {
    "dhcpd/file": dhcpd.parse,
    "kea/reply": kea.reply,
    "kea/config": lambda text: kea.entries(json.loads(text)),
    "kea/pools": lambda text: kea.pools(json.loads(text)),
    "exports/linux": exports.parse_linux,
    "exports/freebsd": exports.parse_freebsd,
    "exports/etab": exports.parse_etab,
    "exports/showmount": exports.parse_showmount,
    "ganesha/file": ganesha.parse,
    "ganesha/show": ganesha.parse_show_exports,
    "ganesha/display": ganesha.parse_display_export,
    "tgt/file": tgt.parse,
    "tgt/show": tgt.parse_show,
    "ctl/file": ctl.parse,
    "ctl/devlist": ctl.parse_devlist_xml,
    "ctl/portlist": ctl.parse_portlist_xml,
    "ctl/islist": ctl.parse_islist_xml,
    "shelf/listing": shelf.parse_shelf,
    "shelf/freed": shelf.parse_freed,
    "space/df": space.parse_space,
    "vm/power": lambda text: vm.parse_power(said(text), "build-vm"),
    "vm/inside": lambda text: vm.parse_inside(said(text), "build-vm"),
    "job/look": lambda text: job.parse_job(said(text)),
    "bootlog/look": lambda text: bootlog.parse(text, NODE),
    "job/all": lambda text: job.parse_jobs(text.splitlines()),
}
FILES = sorted(
    path
    for grammar in sorted({name.partition("/")[0] for name in PARSERS})
    for path in (CASES / grammar / "bad").glob("*.txt")
)


def key(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.stem.partition('--')[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_bad_file_is_refused_with_its_message(path: Path) -> None:
    with pytest.raises((GrammarError, Retry)) as caught:
        PARSERS[key(path)](path.read_text())
    assert str(caught.value) == path.with_suffix(".message").read_text().strip()


def test_every_parser_has_two_bad_cases() -> None:
    counted = {name: sum(key(path) == name for path in FILES) for name in PARSERS}
    assert {name: count for name, count in counted.items() if count < 2} == {}
