"""The guard on the host: who may write, one at a time, in every shell that is here and over a real sshd."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.encode.sh import q
from controller.errors import Indeterminate, Retry, Stall
from controller.model import Answer, Lane
from controller.transport import Fence, Fleet
from controller.transport.fence import BUSY, REFUSED, admitted, guard, new_token
from tests.transport.servers import Machine, until
from tests.transport.shells import SHELLS, Place

Act = Callable[..., Answer]


@pytest.fixture(params=[*SHELLS, "freebsd"])
def act(request: pytest.FixtureRequest, tmp_path: Path) -> Act:
    """Act on this machine with one shell; "freebsd" has lockf(1) and no flock(1)."""
    freebsd = request.param == "freebsd"
    place = Place(tmp_path, "dash" if freebsd else request.param, freebsd=freebsd)

    def run(script: str, fence: Fence, lane: Lane = "main") -> Answer:
        token = new_token()
        text = guard(script, fence, lane=lane, state_dir=str(tmp_path / "state"), token=token)
        return admitted(place.run(text), host="node1", token=token)

    return run


def test_an_act_answers_as_it_would_without_the_guard(act: Act) -> None:
    assert act("printf out; echo err >&2; cat; exit 3", Fence(1, "a")) == Answer(3, b"out", b"err\n")
    assert act("echo 'a!b\n$x'", Fence(1, "a")) == Answer(0, b"a!b\n$x\n", b"")
    assert act("cat <<'END'\n'quoted'\nEND", Fence(1, "a")).stdout == b"'quoted'\n"
    assert act("if (", Fence(1, "a")).exit != 0
    # The guard's own exit statuses mean nothing special when the script gives them.
    assert act(f"exit {REFUSED}", Fence(1, "a")).exit == REFUSED
    assert act(f"exit {BUSY}", Fence(1, "a")).exit == BUSY


def test_only_the_newest_number_may_write(act: Act, tmp_path: Path) -> None:
    fence = tmp_path / "state" / "fence"
    assert act("echo 1", Fence(7, "old")).stdout == b"1\n"
    assert fence.read_text() == "7 old\n"
    assert act("echo 2", Fence(7, "old")).stdout == b"2\n"
    assert act("echo 3", Fence(10, "new"), "disk").stdout == b"3\n"
    assert fence.read_text() == "10 new\n"
    with pytest.raises(Stall, match="fence 10 of new stands before 7 of old"):
        act(f"touch {tmp_path}/wrong", Fence(7, "old"))
    with pytest.raises(Stall, match="fence 10 of new stands before 10 of twin"):
        act(f"touch {tmp_path}/wrong", Fence(10, "twin"))
    assert fence.read_text() == "10 new\n"
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("content", ["", "\n", "x y\n", "-1 a\n", "99999999999999999999999 a\n", "1;id a\n"])
def test_a_fence_that_cannot_be_read_lets_nobody_in(act: Act, tmp_path: Path, content: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "fence").write_text(content)
    with pytest.raises(Stall, match="cannot read the fence number"):
        act(f"touch {tmp_path}/wrong", Fence(5, "a"))
    assert not (tmp_path / "wrong").exists()


def test_a_state_directory_that_cannot_be_made(act: Act, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(Retry, match="its guard failed"):
        act("true", Fence(5, "a"))


def test_no_two_acts_of_a_lane_at_once_and_lanes_do_not_wait(act: Act, tmp_path: Path) -> None:
    up, gate = tmp_path / "up", tmp_path / "gate"
    slow = f"touch {up}; while [ ! -e {gate} ]; do sleep 0.05; done"
    first = threading.Thread(target=act, args=(slow, Fence(1, "a")))
    first.start()
    try:
        while not up.exists():
            first.join(0.01)
        with pytest.raises(Retry, match="an earlier act still runs"):
            act("echo second", Fence(2, "b"))
        assert act("echo other", Fence(2, "b"), "disk").stdout == b"other\n"
    finally:
        gate.touch()
        first.join()
    assert act("echo second", Fence(2, "b")).stdout == b"second\n"


def test_a_daemon_that_an_act_starts_does_not_keep_the_lock(act: Act, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    daemon = f"for i in 1 2 3 4 5 6 7 8 9; do [ -e {gate} ] || sleep 1; done"
    try:
        act(f"/bin/sh -c {q(daemon)} </dev/null >/dev/null 2>&1 &", Fence(1, "a"))
        assert act("echo next", Fence(1, "a")).stdout == b"next\n"
    finally:
        gate.touch()


def test_many_controllers_at_once_leave_the_highest_number(act: Act, tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcomes: list[str] = []

    def take(number: int) -> None:
        try:
            act(f"echo in >>{log}; sleep 0.02; echo out >>{log}", Fence(number, f"c{number}"))
        except (Stall, Retry) as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("in")

    threads = [threading.Thread(target=take, args=(number,)) for number in (3, 9, 1, 7, 5, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.read_text().split() == ["in", "out"] * outcomes.count("in")
    with pytest.raises(Stall):
        act("true", Fence(0, "late"))


@pytest.mark.parametrize(("number", "name"), [(-1, "a"), (2**62, "a"), (1, ""), (1, "a b"), (1, "-a"), (1, "a\n")])
def test_a_fence_is_checked_where_it_is_made(number: int, name: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Fence(number, name)


async def test_act_over_ssh(fleet: Fleet, machine: Machine) -> None:
    secret = "s3cret-in-a-script"
    answer = await fleet.act("node1", "main", f"x={q(secret)}; ps axww -o args; echo $x >&2", 20, Fence(4, "a"))
    assert answer.exit == 0
    assert secret.encode() not in answer.stdout
    assert answer.stderr == secret.encode() + b"\n"
    with pytest.raises(Stall, match="stands before 3 of b"):
        await fleet.act("node1", "main", "true", 20, Fence(3, "b"))
    assert fleet.exchanges["node1"] == 2
    assert (machine.scratch / "state" / "fence").read_text() == "4 a\n"


async def test_an_act_that_outlives_its_connection_keeps_everybody_out(fleet: Fleet, machine: Machine) -> None:
    """S4: the command survives its client, also when it prints, so nothing is tried again beside it."""
    up, gate, log = (machine.scratch / name for name in ("up", "gate", "log"))
    talk = "ls / /nowhere; echo to nobody; echo to nobody >&2"
    script = f"touch {up}; while [ ! -e {gate} ]; do sleep 0.05; done; {talk}; echo done >>{log}"
    task = asyncio.create_task(fleet.act("node1", "main", script, 60, Fence(1, "a")))
    await until(up.exists)
    await machine.drop()
    with pytest.raises(Indeterminate):
        await task
    with pytest.raises(Retry, match="an earlier act still runs"):
        await fleet.act("node1", "main", f"echo twice >>{log}", 20, Fence(2, "b"))
    gate.touch()
    await until(log.exists)
    assert log.read_text() == "done\n"
