"""Scripts over both servers: each answer is exactly what its script did, whatever the script was."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from controller.encode.sh import put_file
from controller.errors import Indeterminate, Stall
from controller.model import Answer
from controller.transport import Fleet
from tests.transport.servers import Machine, until

BYTES = bytes(range(256))


@dataclass(frozen=True)
class Case:
    script: str
    exit: int
    stdout: bytes = b""
    stderr: bytes | None = b""


CASES = {
    "newline": Case("echo hello", 0, b"hello\n"),
    "no newline": Case("printf hello", 0, b"hello"),
    "nothing": Case("", 0),
    "comment": Case("# only words", 0),
    "both streams": Case("echo out; echo err >&2; exit 4", 4, b"out\n", b"err\n"),
    "every byte": Case("printf '" + "".join(f"\\{b:03o}" for b in BYTES) + "'", 0, BYTES),
    "NUL on both": Case("printf 'a\\000b'; printf 'c\\000d' >&2", 0, b"a\0b", b"c\0d"),
    "utf-8 inside": Case("printf %s 'ä€𝄞ÿ'", 0, "ä€𝄞ÿ".encode()),
    "quotes": Case("""printf %s "it's" '"' \\\\""", 0, b"it's\"\\"),
    "begins with a dash": Case("-x", 127, b"", None),
    "exit": Case("exit 3", 3),
    "exec": Case("exec false", 1),
    "exec output": Case("exec echo gone", 0, b"gone\n"),
    "syntax error": Case("if then fi (", 2, b"", None),
    "open quote": Case("echo 'abc", 2, b"", None),
    "open here-document": Case("cat <<END\nabc", 0, b"abc", None),
    "here-document": Case("cat <<'END'\na'b$c\nEND", 0, b"a'b$c\n"),
    "return": Case("return 5", 5, b"", None),
    "missing command": Case("no-such-command-here", 127, b"", None),
    "reads stdin": Case("cat; read x || echo empty", 0, b"empty\n"),
    "closes its streams": Case("exec >&- 2>&-; echo lost; exit 6", 6),
    "changes directory": Case("cd /usr; x=1; set -e; trap 'echo bye' 0; false", 1, b"bye\n"),
    "is where it was": Case("pwd; echo ${x-unset}", 0, b"/\nunset\n"),
    "forged marker": Case("echo 0123456789abcdef.1.0.; echo .1.0. >&2", 0, b"0123456789abcdef.1.0.\n", b".1.0.\n"),
    "killed child": Case("sh -c 'kill -9 $$'", 137, b"", None),
    "locale": Case("echo $LC_ALL", 0, b"C\n"),
}


async def test_every_case_in_one_request(fleet: Fleet) -> None:
    answers = await fleet.ask("node1", "main", [case.script for case in CASES.values()], 30)
    assert fleet.exchanges["node1"] == 1
    for (name, case), answer in zip(CASES.items(), answers, strict=True):
        assert answer.exit == case.exit, (name, answer)
        assert answer.stdout == case.stdout, (name, answer)
        assert case.stderr is None or answer.stderr == case.stderr, (name, answer)


async def test_300_scripts_are_one_exchange(fleet: Fleet) -> None:
    answers = await fleet.ask("node1", "main", [f"echo {n}; echo e{n} >&2; exit {n % 200}" for n in range(300)], 60)
    assert [a.stdout for a in answers] == [b"%d\n" % n for n in range(300)]
    assert [a.stderr for a in answers] == [b"e%d\n" % n for n in range(300)]
    assert [a.exit for a in answers] == [n % 200 for n in range(300)]
    assert fleet.exchanges["node1"] == 1
    assert fleet.connects["node1"] == 1
    assert fleet.last_seen["node1"] == pytest.approx(time.time(), abs=60)


async def test_two_megabytes_each_way(fleet: Fleet, machine: Machine) -> None:
    data = bytes(n * 7 % 256 for n in range(700_000))
    path = str(machine.scratch / "big")
    script = put_file(path, data)
    assert len(script) > 2_000_000
    put, got, after = await fleet.ask("node1", "main", [script, f"cat {path} {path} {path}", "echo on"], 60)
    assert (put.exit, put.stderr) == (0, b"")
    assert got.stdout == data * 3
    assert after.stdout == b"on\n"


async def test_a_command_cannot_learn_the_marker(fleet: Fleet) -> None:
    look = "set; env; cat /proc/self/cmdline /proc/$PPID/cmdline /proc/$$/cmdline /proc/$$/environ | tr '\\0' '\\n'"
    (seen,) = await fleet.ask("node1", "main", [look], 10)
    # The marker is 32 hex digits, a point, the index: nothing like it stands where a script can look.
    words = seen.stdout.replace(b"\n", b" ").split()
    assert not [word for word in words if len(word) >= 32 and b"." in word[32:34] and word[:32].isalnum()]


async def test_output_of_an_earlier_request_is_not_taken_for_ours(fleet: Fleet, machine: Machine) -> None:
    late = machine.scratch / "late"
    await fleet.ask("node1", "main", [f"(while [ ! -e {late} ]; do sleep 0.05; done; echo LATE; rm {late}) &"], 10)
    go = f"touch {late}; while [ -e {late} ]; do sleep 0.05; done"
    await fleet.ask("node1", "disk", [go], 10)
    (answer,) = await fleet.ask("node1", "main", ["echo mine"], 10)
    assert answer.stdout == b"mine\n"


async def test_a_flood_is_dropped_and_the_others_answer(machine: Machine) -> None:
    async with Fleet({"node1": machine.endpoint}, output_cap=100_000) as fleet:
        flood = "head -c 20000000 /dev/zero"
        scripts = ["echo a", flood, f"{flood} >&2; echo x", "head -c 100000 /dev/zero", "head -c 100001 /dev/zero"]
        a, out, err, fits, over = await fleet.ask_each("node1", "main", scripts, 60)
        assert isinstance(a, Answer)
        assert a.stdout == b"a\n"
        for reply in (out, err, over):
            assert isinstance(reply, Stall)
            assert "flooded" in str(reply)
            assert "node1" in str(reply)
        assert isinstance(fits, Answer)
        assert fits.stdout == bytes(100_000)
        with pytest.raises(Stall, match="flooded"):
            await fleet.ask("node1", "main", scripts, 60)
        assert fleet.connects["node1"] == 1


async def test_the_shell_dies(fleet: Fleet) -> None:
    first, killed, never = await fleet.ask_each("node1", "main", ["echo first", "kill -9 $$", "echo never"], 10)
    assert isinstance(first, Answer)
    assert first.stdout == b"first\n"
    assert isinstance(killed, Indeterminate)
    assert isinstance(never, Indeterminate)
    (again,) = await fleet.ask("node1", "main", ["echo again"], 10)
    assert again.stdout == b"again\n"
    assert fleet.connects["node1"] == 1


async def test_a_lane_that_hangs_is_replaced_and_the_other_answers_meanwhile(fleet: Fleet) -> None:
    hung = asyncio.create_task(fleet.ask_each("node1", "disk", ["echo before", "sleep 600", "echo after"], 2))
    (main,) = await fleet.ask("node1", "main", ["echo main"], 2)
    assert main.stdout == b"main\n"
    assert not hung.done()
    before, sleep, after = await hung
    assert isinstance(before, Answer)
    assert isinstance(sleep, Indeterminate)
    assert "deadline" in str(sleep)
    assert isinstance(after, Indeterminate)
    (new,) = await fleet.ask("node1", "disk", ["echo new"], 5)
    assert new.stdout == b"new\n"
    assert fleet.connects["node1"] == 1


async def test_requests_of_one_lane_wait_for_each_other(fleet: Fleet, machine: Machine) -> None:
    log = machine.scratch / "order"
    slow = f"echo begin >>{log}; sleep 0.2; echo end >>{log}"
    await asyncio.gather(*(fleet.ask("node1", "main", [slow], 10) for _ in range(3)))
    assert log.read_text().split() == ["begin", "end"] * 3


async def test_a_cancelled_request_does_not_spoil_the_next(fleet: Fleet) -> None:
    await fleet.ask("node1", "main", ["true"], 10)
    task = asyncio.create_task(fleet.ask("node1", "main", ["sleep 600; echo old"], 60))
    await until(lambda: fleet.exchanges["node1"] == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (answer,) = await fleet.ask("node1", "main", ["echo new"], 10)
    assert answer.stdout == b"new\n"


async def test_a_cut_connection_is_never_a_success(fleet: Fleet, machine: Machine) -> None:
    up = machine.scratch / "up"
    task = asyncio.create_task(fleet.ask_each("node1", "main", ["echo one", f"touch {up}; sleep 600"], 60))
    await until(up.exists)
    await machine.drop()
    one, two = await task
    assert isinstance(one, Answer)
    assert isinstance(two, Indeterminate)
    (again,) = await fleet.ask("node1", "main", ["echo again"], 10)
    assert again.stdout == b"again\n"
    assert fleet.connects["node1"] == 2


async def test_nothing_to_ask_is_no_exchange(fleet: Fleet) -> None:
    assert await fleet.ask("node1", "main", [], 1) == []
    assert fleet.exchanges["node1"] == 0


async def test_a_script_with_an_unfilled_secret_is_refused(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="NUL"):
        await fleet.ask("node1", "main", ["echo \0name\0"], 10)
