"""The guard on the host: who may write, one at a time, in every shell that is here and over a real sshd."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.encode.sh import q
from controller.errors import Indeterminate, Retry, Stall
from controller.metrics import Metrics
from controller.model import Answer, Lane
from controller.store import Store
from controller.transport import Fence, Fleet
from controller.transport.fence import BUSY, REFUSED, admitted, guard, new_token
from tests.transport.servers import Machine, OpenSsh, until
from tests.transport.shells import SHELLS, Place

Act = Callable[..., Answer]


@pytest.fixture(params=[*SHELLS, "freebsd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One shell; "freebsd" has lockf(1) and daemon(8), and neither flock(1) nor setsid(1)."""
    freebsd = request.param == "freebsd"
    return Place(tmp_path, "dash" if freebsd else request.param, freebsd=freebsd)


@pytest.fixture
def act(place: Place, tmp_path: Path) -> Act:
    """Act on this machine."""

    def run(script: str, fence: Fence, lane: Lane = "main", seconds: float = 60) -> Answer:
        token = new_token()
        text = guard(script, fence, lane=lane, seconds=seconds, state_dir=str(tmp_path / "state"), token=token)
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


async def test_C4_of_two_controllers_the_last_one_acts_and_the_other_says_so(sshd: OpenSsh, tmp_path: Path) -> None:
    """With stores of their own, on one machine with a real sshd: by number, whatever their clocks say of a second."""
    state, metrics = str(sshd.scratch / "state"), Metrics()

    def told() -> float | None:
        metrics.endpoints({"node1": True}, {}, {}, first.overruled)
        return metrics.registry.get_sample_value("jailops_endpoint_overruled", {"host": "node1"})

    with Store(tmp_path / "one.sqlite") as one, Store(tmp_path / "two.sqlite") as two:
        old, new = Fence(one.next_fence(1000), "first"), Fence(two.next_fence(1001), "second")
        async with (
            Fleet({"node1": sshd.endpoint}, state_dir=state) as first,
            Fleet({"node1": sshd.endpoint}, state_dir=state) as second,
        ):
            assert (await first.act("node1", "main", "echo 1", 20, old)).stdout == b"1\n"
            assert (told(), first.overruled) == (0.0, set())
            assert (await second.act("node1", "main", "echo 2", 20, new)).stdout == b"2\n"
            lanes: tuple[Lane, ...] = ("main", "disk")
            for lane in lanes:
                with pytest.raises(
                    Stall, match="refused there: jailops: fence 1001 of second stands before 1000"
                ) as refused:
                    await first.act("node1", lane, f"touch {tmp_path}/wrong", 20, old)
                assert refused.value.hint.startswith("another controller has taken over: let exactly one run.")
            assert told() == 1.0, "the alert JailopsOverruled goes by it"
            assert not (tmp_path / "wrong").exists()
            assert (await first.ask("node1", "main", ["echo 3"], 20))[0].stdout == b"3\n", "it may look"
            # Started again, it is the one that came last.
            again = Fence(one.next_fence(1002), "first")
            assert (await first.act("node1", "main", "echo 4", 20, again)).stdout == b"4\n"
            assert told() == 0.0
            with pytest.raises(Stall, match="fence 1002 of first stands before 1001 of second"):
                await second.act("node1", "main", f"touch {tmp_path}/wrong", 20, new)
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
        with pytest.raises(Retry, match=r"an earlier act still runs there$"):
            act("echo second", Fence(1, "a"))
        assert act("echo other", Fence(1, "a"), "disk").stdout == b"other\n"
    finally:
        gate.touch()
        first.join()
    assert act("echo second", Fence(1, "a")).stdout == b"second\n"


def test_C3_who_takes_over_waits_for_every_lane(act: Act, tmp_path: Path) -> None:
    """What an older controller was let in for ends first; from the first word of the newer one it is let in for nothing else."""
    up, gate = tmp_path / "up", tmp_path / "gate"
    slow = f"touch {up}; while [ ! -e {gate} ]; do sleep 0.05; done"
    first = threading.Thread(target=act, args=(slow, Fence(1, "a"), "disk"))
    first.start()
    try:
        while not up.exists():
            first.join(0.01)
        for _ in range(2):
            with pytest.raises(Retry, match=r"an earlier act still runs there: that of 1 a in lane disk$"):
                act(f"touch {tmp_path}/wrong", Fence(2, "b"))
        with pytest.raises(Stall, match="fence 2 of b stands before 1 of a"):
            act(f"touch {tmp_path}/wrong", Fence(1, "a"))
    finally:
        gate.touch()
        first.join()
    assert act("echo mine", Fence(2, "b")).stdout == b"mine\n"
    assert not (tmp_path / "wrong").exists()


def test_C3_what_is_left_of_a_killed_guard_holds_up_nobody(act: Act, tmp_path: Path) -> None:
    act("true", Fence(1, "a"))
    (tmp_path / "state" / "act.disk.by").write_text("1 a\n")
    assert act("echo mine", Fence(2, "b")).stdout == b"mine\n"


def test_S4_an_act_is_ended_by_its_host_at_its_deadline(act: Act, place: Place, tmp_path: Path) -> None:
    """With all that it started; and what it had said is told."""
    script = f"echo begun; echo of the disk >&2; sleep 600 & sh -c 'sleep 600; touch {tmp_path}/wrong'; touch {tmp_path}/wrong"
    with pytest.raises(Retry) as caught:
        act(script, Fence(1, "a"), seconds=0.5)
    assert str(caught.value) == (
        "cannot finish an act on node1: it was ended there at its deadline of 0.5 s, with all that it had started; "
        "its last words: begun of the disk"
    )
    assert not isinstance(caught.value, Indeterminate)
    assert place.left() == []
    assert act("echo next", Fence(1, "a")).stdout == b"next\n"
    assert not (tmp_path / "wrong").exists()


def test_S4_nothing_is_left_of_an_act_that_ended(act: Act, place: Place, tmp_path: Path) -> None:
    """Neither when it ended by itself nor when it was killed, and nobody waits for its deadline then."""
    assert act("exit 124", Fence(1, "a"), seconds=600) == Answer(124, b"", b"")
    assert act("kill -s KILL $$", Fence(1, "a"), seconds=600).exit == 137
    assert act("kill -s KILL 0", Fence(1, "a"), seconds=600).exit == 137
    assert place.left() == []
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["act.main.lock", "fence", "fence.lock"]


_UNKILLABLE = """\
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not os.fork():
    signal.pause()
os.setsid()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""
"""A process that stays in its group whatever signal it is sent: its parent has left the group and does not wait for it."""


@pytest.mark.parametrize("place", ["dash"], indirect=True)
def test_S4_what_cannot_be_killed_keeps_its_lane_and_no_other(act: Act, tmp_path: Path) -> None:
    gate, hangs = tmp_path / "gate", tmp_path / "state" / "act.disk.hangs"
    script = f"exec {q(sys.executable)} -c {q(_UNKILLABLE)} {gate}"
    ended: list[Retry] = []

    def hang() -> None:
        with pytest.raises(Retry, match=r"ended there at its deadline of 0\.5 s.*it had said nothing$") as caught:
            act(script, Fence(1, "a"), "disk", 0.5)
        ended.append(caught.value)

    first = threading.Thread(target=hang)
    first.start()
    try:
        while not hangs.exists():
            first.join(0.01)
        with pytest.raises(
            Retry, match=r"deadline of 0\.5 s has passed, and SIGKILL has not ended process group [0-9]+ yet$"
        ):
            act("echo second", Fence(1, "a"), "disk")
        # All that could still be sent to it was sent: who takes over need not wait for it elsewhere.
        assert act("echo other", Fence(2, "b")).stdout == b"other\n"
    finally:
        gate.touch()
        first.join()
    assert ended
    assert act("echo second", Fence(2, "b"), "disk").stdout == b"second\n"
    assert not hangs.exists()


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


async def test_S4_the_deadline_holds_when_nobody_is_there_to_hear_of_it(fleet: Fleet, machine: Machine) -> None:
    pid, log = machine.scratch / "pid", machine.scratch / "log"
    script = f"echo $$ >{pid}.new; mv {pid}.new {pid}; sleep 600; echo late >>{log}"
    task = asyncio.create_task(fleet.act("node1", "disk", script, 2, Fence(1, "a")))
    await until(pid.exists)
    await machine.drop()
    with pytest.raises(Indeterminate):
        await task
    async with asyncio.timeout(60):
        while True:
            try:
                await fleet.act("node1", "disk", f"echo free >>{log}", 20, Fence(1, "a"))
            except Retry as error:
                assert "an earlier act still runs there" in str(error)  # noqa: PT017
                await asyncio.sleep(0.1)
            else:
                break
    (gone,) = await fleet.ask("node1", "main", [f"kill -s 0 -- -{pid.read_text().strip()}"], 10)
    assert gone.exit != 0
    assert log.read_text() == "free\n"


async def test_S4_our_side_waits_until_the_host_has_ended_it(fleet: Fleet) -> None:
    """Not seen and ended are not the same: the second is a failure like any other, and its shell goes on."""
    with pytest.raises(Retry, match=r"ended there at its deadline of 0\.5 s") as caught:
        await fleet.act("node1", "main", "sleep 600", 0.5, Fence(1, "a"))
    assert not isinstance(caught.value, Indeterminate)
    assert (await fleet.act("node1", "main", "echo on", 20, Fence(1, "a"))).stdout == b"on\n"
    assert fleet.connects["node1"] == 1
