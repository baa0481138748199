"""Which parser reads the answer to which command: the one list behind the transcript test and its expectations."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from controller.encode import ezjail, fstab, ifconfig, iscsi, jailconf, jls, kernel, mounts, rcconf
from controller.encode.text import GrammarError

CASES = Path(__file__).parent.parent / "cases"

CLAIMS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"mount -p(?: \| grep \w+)?", mounts.parse_p),
    (r"mount --libxo json", mounts.parse_json),
    (r"mount --libxo json -p", mounts.parse_json_p),
    (r"df -k(?: /\S+)?", kernel.df),
    (r"df --libxo json -k(?: /\S+)?", kernel.df_json),
    (r"kenv -q \S+|sysctl -n (?!kern\.boottime)\S+|sysrc -n \S+|hostname|diskinfo -s \S+|uname -K", kernel.value),
    (r"kenv \| grep .*", kernel.kenv),
    (r"sysctl -n kern\.boottime", kernel.boottime),
    (r"sysctl (?!-n).*", kernel.sysctl),
    (r"freebsd-version .*", kernel.freebsd_version),
    (r"diskinfo [a-z0-9]+", kernel.diskinfo),
    (r"dumpfs -l \S+", kernel.dumpfs_name),
    (r"glabel status -s", kernel.glabel),
    (r"camcontrol devlist", kernel.camcontrol),
    (r"cat /etc/rc\.conf|sysrc -ae", rcconf.parse),
    (r"cat /(?:etc|iscsi/jails/etc)/fstab\S*", fstab.parse),
    (r"cat /etc/iscsi\.conf", iscsi.parse),
    (r"iscsictl -L", iscsi.parse_list),
    (r"iscsictl --libxo json -L", iscsi.parse_list_json),
    (r"ifconfig em0|ifconfig -f inet:cidr em0", ifconfig.parse),
    (r"ifconfig -l", ifconfig.parse_names),
    (r"jls -nq?|jls -n jid .*", jls.parse),
    (r"jls --libxo json (?:-v|-n .*)", jls.parse_json),
    (r"ezjail-admin list", ezjail.parse_list),
    (r"cat /var/run/jail\.\w+\.conf", jailconf.parse),
)


@dataclasses.dataclass(frozen=True)
class Claimed:
    """One answer of the transcripts and the parser that claims it."""

    name: str
    command: str
    stdout: str
    stderr: str
    parser: Callable[..., Any]

    def result(self) -> Any:
        """What the parser makes of it, as JSON has it; a refusal is a result too."""
        try:
            believed = self.parser is not ezjail.parse_list
            return plain(self.parser(self.stdout) if believed else self.parser(self.stdout, self.stderr))
        except GrammarError as refusal:
            return {"refused": str(refusal)}


def claimed() -> Iterator[Claimed]:
    """Every successful answer that some parser claims, and its name in ../cases/parsed."""
    for path in sorted((CASES / "transcripts" / "13.2").glob("*.json")):
        for index, entry in enumerate(json.loads(path.read_text())):
            for pattern, parser in CLAIMS:
                if entry["exit"] == 0 and re.fullmatch(pattern, entry.get("command", "")):
                    yield Claimed(f"{path.stem}-{index:02}", entry["command"], entry["stdout"], entry["stderr"], parser)


def plain(value: Any) -> Any:
    """A parsed value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name.name: plain(getattr(value, name.name)) for name in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value
