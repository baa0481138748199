"""Runs beside a real kea-dhcp4 (real/kea.sh) and keeps its answers in the directory of the first argument.

With a second one, a file of entries in 10/8, only those are set and asked for.

The socket is asked with perl, as on a boot server: Debian's perl-base has all that it needs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.encode import kea
from controller.encode.hosts import HostEntry
from tests.encode_servers.values import NODE1, NODE2, SUBNET

ASK = (
    'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "cannot reach $ARGV[0]: $!\\n";'
    " local $/; print $s <STDIN>; $s->flush; print <$s>;"
)


def main(answers: Path, many: Path | None = None) -> None:
    def ask(name: str, command: str, arguments: Mapping[str, Any] | None = None) -> kea.Reply:
        ended = subprocess.run(
            ["perl", "-e", ASK, "/run/kea/socket"],
            input=kea.command(command, arguments),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        (answers / name).write_text(ended.stdout)
        return kea.reply(ended.stdout)

    if many is not None:
        config = ask("get-many-before", "config-get").arguments
        (subnet,) = config["Dhcp4"]["subnet4"]
        subnet |= {"subnet": "10.0.0.0/8", "pools": [], "reservations": []}
        entries = [HostEntry(**one) for one in json.loads(many.read_text())]
        ask("set-many", "config-set", kea.merge(config, entries, "10.0.0.0/8"))
        ask("get-many", "config-get")
        return
    before = ask("get-before", "config-get").arguments
    merged = kea.merge(before, [NODE1, NODE2], SUBNET)
    ask("test", "config-test", merged)
    ask("set", "config-set", merged)
    after = ask("get-after", "config-get").arguments
    ask("write", "config-write", {"filename": "/run/kea/kea-dhcp4.conf"})
    doubled = kea.merge(after, [NODE1, replace(NODE2, address=NODE1.address)], SUBNET)
    ask("test-same-address", "config-test", doubled)
    ask("set-same-address", "config-set", doubled)
    ask("set-other-subnet", "config-set", kea.merge(after, [replace(NODE1, address="203.0.113.9")], SUBNET))
    unchanged = ask("get-after-refusal", "config-get").arguments
    ask("set-one", "config-set", kea.merge(unchanged, [NODE2], SUBNET))
    ask("get-one", "config-get")
    ask("unknown", "no-such-command")
    ask("status", "status-get")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
