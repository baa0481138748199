"""What the real commands do that nobody would wish: the controller must live with every one of these."""

from __future__ import annotations

import asyncio
import time

import pytest

from controller.lab.standins.disk import PING
from tests.standins.node import Node

CREATED = "ezjail-admin create {} 198.51.100.61 >/dev/null 2>&1; echo $?"


async def test_archive_exits_0_when_it_archived_nothing(jailed: Node) -> None:
    out = await jailed.good("ezjail-admin archive example; ls /iscsi/jails/ezjail_archives")
    assert out.startswith("Warning: Jail example appears to be still running.")
    assert "tar.gz" not in out


async def test_rc_jail_exits_0_when_the_jail_did_not_start(jailed: Node) -> None:
    status, out, _ = await jailed.run("service jail onestart nosuch; echo $?; ezjail-admin start example; echo $?")
    assert status == 0
    assert out.count("\n0\n") == 2
    assert 'cannot start jail  "example"' in out


async def test_a_running_root_is_wiped_when_the_id_file_is_missing(jailed: Node) -> None:
    """ezjail believes the id file: delete -w of a running jail succeeds as far as the mounts let it."""
    await jailed.run("rm /var/run/jail_example.id; ezjail-admin delete -w example 2>/dev/null")
    assert await jailed.good("jls name; ls /usr/local/etc/ezjail; [ ! -e /iscsi/jails/example/etc/rc ]") == "example\n"
    assert await jailed.good("ls /iscsi/jails/basejail/bin/sh") == "/iscsi/jails/basejail/bin/sh\n"


async def test_a_jail_started_by_hand_looks_stopped_to_ezjail(jailed: Node) -> None:
    out = await jailed.good(
        "jail -f /var/run/jail.example.conf -r example; jail -f /var/run/jail.example.conf -c example"
    )
    assert out == "example: removed\nexample: created\n"
    await jailed.good("rm /var/run/jail_example.id")
    assert "DS  N/A  198.51.100.61   example" in await jailed.good("ezjail-admin list; jls -j example jid")


@pytest.mark.parametrize(("first", "second"), [("a.b", "a-b"), ("a_b", "a.b"), ("x!y", "x_y")])
async def test_names_collapse(jailed: Node, first: str, second: str) -> None:
    _, out, _ = await jailed.run(CREATED.format(f"'{first}'") + "; " + CREATED.format(f"'{second}'"))
    assert out == "0\n1\n"


async def test_create_writes_its_record_last_and_a_half_made_jail_blocks_its_name(jailed: Node) -> None:
    await jailed.good("cp -Rp /iscsi/jails/newjail /iscsi/jails/half")
    status, _, err = await jailed.run("ezjail-admin create half 198.51.100.61")
    assert status == 1
    assert err.startswith("Error: A file or a non empty directory already exists at the specified jail root")
    assert "half" not in await jailed.good("ezjail-admin list")


async def test_config_drops_lines_that_it_does_not_know(jailed: Node) -> None:
    line = 'export jail_example_fstab="/iscsi/jails/etc/fstab.example"'
    await jailed.good(f"echo '{line}' >>/usr/local/etc/ezjail/example; ezjail-admin config -f 0 example")
    assert "_fstab" not in await jailed.good("cat /usr/local/etc/ezjail/example")


async def test_a_reboot_loses_memory_and_keeps_the_disk(jailed: Node) -> None:
    await jailed.good("echo mine >/iscsi/jails/example/root/mine; echo lost >/etc/lost; echo lost >/var/lost")
    await jailed.machine.power_off()
    await jailed.boot()
    assert await jailed.good("jls name; mount -p | grep -c iscsi || true; ls /etc/fstab* /var/run") == (
        "0\n/etc/fstab\n\n/var/run:\n".replace("\n\n", "\n\n")
    )
    await jailed.good("mount /dev/ufs/jails /iscsi")
    assert await jailed.good("cat /iscsi/jails/example/root/mine; ls /etc/lost /var/lost || true") == "mine\n"
    status, out, _ = await jailed.run("ezjail-admin start example")
    assert status == 1
    assert "jail: example: /bin/sh /etc/rc: failed" in out
    assert await jailed.good("cat /var/log/jail_example_console.log") == (
        "jail: example: exec /bin/sh: No such file or directory\n"
    )


async def test_order_lines_are_obeyed_by_start_and_reversed_by_stop(jailed: Node) -> None:
    await jailed.good(CREATED.format("zz") + "; " + CREATED.format("aa"))
    await jailed.good(
        "cd /usr/local/etc/ezjail; sed -i '' 's/^# PROVIDE:.*/# PROVIDE: aa/' aa;"
        "sed -i '' 's/^# REQUIRE:.*/# REQUIRE: aa/' zz"
    )
    out = await jailed.good("service ezjail stop; service ezjail start 2>/dev/null; service ezjail stop")
    assert out.splitlines() == [
        " ezjailStopping jails: example.",
        " ezjailStarting jails: aa zz example.",
        " ezjailStopping jails: example zz aa.",
    ]


async def test_rc_scripts_lie_with_exit_0(node: Node) -> None:
    out = await node.good("service jail start; echo $?; service cron start; echo $?")
    assert out.count("Cannot 'start'") == 2


async def test_a_blank_disk_and_a_ufs_look_alike_to_fstyp(node: Node) -> None:
    script = "fstyp /dev/da0; echo $?; dd if=/dev/da0 bs=64k count=16 2>/dev/null | cmp -n 1048576 - /dev/zero; echo $?"
    blank = await node.run(script)
    await node.good("newfs -U -L jails /dev/da0 >/dev/null")
    formatted = await node.run(script)
    assert blank[1] == "1\n0\n"
    assert formatted[1].startswith("1\n")
    assert formatted[1] != blank[1]
    assert "setlocale" in blank[2]
    assert "setlocale" in formatted[2]


BLOCKED = (
    "ezjail-admin list",
    "df -k /iscsi",
    "cat /iscsi/jails/example/etc/rc.conf",
    "cd /iscsi/jails && grep x example/etc/rc",
    "cat /usr/local/etc/ezjail/example",
    "sha256 -q /iscsi/jails/example/etc/rc",
    "tar -cf /dev/null /iscsi/jails/example/etc",
    "dd if=/dev/ufs/jails of=/dev/null bs=64k count=1 skip=9",
    "cp /iscsi/jails/example/etc/rc /tmp/rc",
    "umount /iscsi",
    "jexec example true",
    "service ezjail onestart",
)


async def test_a_disk_that_went_away_blocks_readers_for_ever_and_nobody_else(jailed: Node) -> None:
    jailed.away(seconds=10)
    for script in (
        "iscsictl -L | grep Disconnected",
        "jls -j example jid",
        "mount -p | grep /dev/ufs/jails",
        "ls /iscsi/jails | grep example",
        "[ -d /iscsi/jails/example ] && echo y >/iscsi/jails/t && cat /etc/rc.conf",
    ):
        assert (await jailed.run(script, timeout=5))[0] == 0, script
    waiting = [
        asyncio.ensure_future(jailed.run(f"timeout 1 {script}" if " && " not in script else script, 60))
        for script in BLOCKED
    ]
    await asyncio.sleep(2.5)
    assert [script for script, one in zip(BLOCKED, waiting, strict=True) if one.done()] == []
    assert (await jailed.run("iscsictl -L; jls; mount", timeout=5))[0] == 0
    jailed.back()
    done = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [status for status, _, _ in done if status not in (0, 1, 124)] == []
    assert "Connected: da0" in await jailed.good("iscsictl -L")


async def test_waiting_costs_no_processor_time(jailed: Node) -> None:
    jailed.away()
    process = await jailed.machine.spawn(["/usr/local/bin/ezjail-admin", "list"])
    await asyncio.sleep(0.5)
    ticks = _ticks(process.pid)
    await asyncio.sleep(2)
    assert _ticks(process.pid) - ticks <= 5
    jailed.back()
    out, _ = await asyncio.wait_for(process.communicate(), 5)
    assert b"example" in out


def _ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_five_seconds_pass_before_anyone_says_disconnected(jailed: Node) -> None:
    jailed.away()
    assert "Connected: da0" in await jailed.good("iscsictl -L")
    jailed.back()
    jailed.away(seconds=6)
    assert "Disconnected" in await jailed.good("iscsictl -L; sleep 0")
    jailed.back()
    started = time.monotonic()
    await jailed.good("iscsictl -L -w 5 >/dev/null; ezjail-admin list >/dev/null")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("rules", "state"),
    [
        ({"initiators": ["iqn.1994-09.org.freebsd:other"], "addresses": ["127.0.0.1"]}, "Authorization failure"),
        ({"addresses": ["198.51.100.99"], "initiators": []}, "Authorization failure"),
        ({"name": "iqn.2026-11.example:other"}, "Not found"),
    ],
)
async def test_a_target_that_refuses_is_told_by_its_words(node: Node, rules: dict[str, object], state: str) -> None:
    await node.good("iscsictl -Ra")
    node.serve(64 << 20, rules)
    await node.good("iscsictl -A -n jails")
    assert state in await node.good("iscsictl -L")


PROBE = """#!/bin/sh
[ ! -e /tmp/silent ] || exit 2
[ "$INITIATOR" = iqn.1994-09.org.freebsd:disklessfreebsdbox ] || { echo Authorization failure; exit 1; }
echo '{"volume": "/lab/san/root/volumes/jails.img", "lun": 1, "vendor": "IET", "product": "VIRTUAL-DISK",'
echo '"revision": "0001", "serial": "beaf11"}'
"""


async def test_a_program_can_stand_for_the_san(node: Node) -> None:
    """The real lab asks a real initiator this way."""
    await node.good("iscsictl -Ra")
    probe = node.machine.path("/lab/probe")
    probe.write_text(PROBE)
    probe.chmod(0o755)
    node.machine.path("/lab/disk.json").write_text('{"mode": "command", "probe": ["/lab/probe"]}')
    await node.good("iscsictl -Aa; newfs -L jails /dev/da0 >/dev/null; mount /dev/ufs/jails /iscsi; touch /tmp/silent")
    await asyncio.sleep(PING + 0.1)  # what the last login said holds so long
    reading = asyncio.ensure_future(node.run("df -k /iscsi", 30))
    assert "Connected" in await node.good("iscsictl -L")
    await asyncio.sleep(5.2)
    assert "Disconnected" in await node.good("iscsictl -L")
    assert not reading.done()
    await node.good("rm /tmp/silent")
    assert (await asyncio.wait_for(reading, 5))[0] == 0


async def test_chap_is_checked(node: Node) -> None:
    await node.good("iscsictl -Ra")
    node.serve(64 << 20, {"accounts": ["node1"]}, {"node1": "secretsecret"})
    entry = "jails { TargetAddress = 198.51.100.10; TargetName = iqn.2026-11.example:jails; AuthMethod = CHAP;"
    name = "InitiatorName = iqn.1994-09.org.freebsd:disklessfreebsdbox; chapIName = node1;"
    for secret, state in (("wrongwrongwrong", "Authentication failure"), ("secretsecret", "Connected: da0")):
        await node.good(f"iscsictl -Ra; echo '{entry} {name} chapSecret = {secret}; }}' >/etc/iscsi.conf; iscsictl -Aa")
        assert state in await node.good("iscsictl -L")


async def test_what_the_reference_does_not_cover_is_refused_and_noted(node: Node) -> None:
    status, _, err = await node.run("grep --color=always x /etc/rc.conf")
    assert status == 70
    assert err.startswith("stand-in: not covered by the reference: ")
    assert (await node.run("vmstat -z"))[0] == 70
    assert (await node.run("jls --libxo xml"))[0] == 70
    assert len(node.machine.uncovered()) == 3
    (node.machine.directory / "lab" / "uncovered").unlink()
