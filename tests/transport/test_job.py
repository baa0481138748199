"""Detached jobs: started once, seen truly in every state, and alive when we are not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.encode.job import (
    ATTEMPTS,
    Attempt,
    Job,
    job_forget_script,
    job_look_script,
    job_start_script,
    job_stop_script,
    jobs_running_script,
    jobs_script,
    parse_job,
    parse_jobs,
)
from controller.encode.sh import fill, lines, put_file, q, secret, sh
from controller.encode.text import GrammarError
from controller.errors import Indeterminate, Retry
from controller.model import Answer
from controller.secret import Secret
from controller.transport import Fence, Fleet
from tests.transport.servers import Machine, until
from tests.transport.shells import SHELLS, Place


class Jobs:
    """Jobs of one shell in one directory."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self.directory = directory

    def start(self, name: str, script: str) -> Answer:
        return self.place.run(job_start_script(str(self.directory), name, script))

    def look(self, name: str, offset: int = 0, attempt: int | None = None) -> Job:
        return parse_job(self.place.run(job_look_script(str(self.directory), name, offset, attempt)))

    def stop(self, name: str) -> Answer:
        return self.place.run(job_stop_script(str(self.directory), name))

    def forget(self, name: str, why: str = "asked") -> Answer:
        return self.place.run(job_forget_script(str(self.directory), name, why))

    def running(self) -> list[str]:
        answer = self.place.run(jobs_running_script(str(self.directory)))
        assert (answer.exit, answer.err) == (0, "")
        return answer.out.splitlines()

    def all(self) -> dict[str, Job]:
        answer = self.place.run(jobs_script(str(self.directory)))
        assert (answer.exit, answer.err) == (0, "")
        return parse_jobs(line.removeprefix("job ") for line in answer.out.splitlines())

    def until(self, name: str, state: str) -> Job:
        for _ in range(400):
            if (job := self.look(name)).state == state:
                return job
            threading.Event().wait(0.02)
        raise AssertionError(f"never {state}: {self.look(name)}")


@pytest.fixture(params=[*SHELLS, "freebsd"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    freebsd = request.param == "freebsd"
    them = Jobs(Place(tmp_path, "dash" if freebsd else request.param, freebsd=freebsd), tmp_path / "jobs")
    yield them
    for job in tmp_path.glob("jobs/*"):
        them.stop(job.name)


def test_all_jobs_at_once(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.all() == {}
    gate = tmp_path / "gate"
    jobs.start("one", "exit 3")
    jobs.start("two", f"while [ ! -e {gate} ]; do sleep 0.05; done")
    jobs.start("three", "true")
    done = jobs.until("one", "done")
    jobs.until("three", "done")
    jobs.forget("three")
    pid = jobs.look("two").pid
    assert pid is not None
    seen = jobs.all()
    assert {name: one.state for name, one in seen.items()} == {"one": "done", "two": "running", "three": "absent"}
    assert (seen["one"].started, seen["one"].finished) == (done.started, done.finished)
    assert (seen["three"].started, seen["three"].finished) == (None, None)
    os.killpg(pid, signal.SIGKILL)
    jobs.until("two", "lost")
    assert jobs.all()["two"].state == "lost"


@pytest.mark.parametrize("line", ["", "one", "one running 1", "one gone 1 2", "one running x -", "one done 1 2 3"])
def test_a_line_that_is_none(line: str) -> None:
    with pytest.raises(GrammarError, match="line 1: not the state of a job"):
        parse_jobs([line])


def test_a_job_from_start_to_end(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    assert jobs.look("build") == Job("absent")
    assert jobs.start("build", f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two >&2; exit 3").exit == 0
    running = jobs.look("build")
    assert (running.state, running.exit, running.finished) == ("running", None, None)
    assert running.started == pytest.approx(time.time(), abs=60)
    assert running.pid
    gate.touch()
    done = jobs.until("build", "done")
    assert done.exit == 3
    assert done.finished is not None
    assert done.started is not None
    assert done.finished >= done.started
    assert (done.log_size, done.offset, done.tail) == (8, 0, b"one\ntwo\n")
    assert jobs.look("build", 4).tail == b"two\n"
    last = jobs.look("build", -3)
    assert last == Job("done", 3, done.pid, done.started, done.finished, 8, 5, b"wo\n", last.now)
    assert last.now is not None
    assert last.now >= done.finished
    assert (jobs.look("build", 99).offset, jobs.look("build", 99).tail) == (8, b"")
    assert jobs.look("build", -99).tail == b"one\ntwo\n"


def test_a_second_start_changes_nothing(jobs: Jobs, tmp_path: Path) -> None:
    log, gate = tmp_path / "runs", tmp_path / "gate"
    script = f"echo run >>{log}; while [ ! -e {gate} ]; do sleep 0.05; done"
    threads = [threading.Thread(target=jobs.start, args=("build", script)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = jobs.look("build")
    assert before.state == "running"
    assert jobs.start("build", "echo another >>{log}").exit == 0
    assert replace(jobs.look("build"), now=before.now) == before
    gate.touch()
    jobs.until("build", "done")
    assert jobs.start("build", script).exit == 0
    assert jobs.look("build").state == "done"
    assert log.read_text() == "run\n"
    assert sorted(p.name for p in (jobs.directory / "build").iterdir()) == [
        *("lock", "log", "pid", "result", "script", "start.lock", "started"),
    ]


def test_forget_makes_room(jobs: Jobs, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    jobs.start("build", f"while [ ! -e {gate} ]; do sleep 0.05; done; echo first")
    assert jobs.forget("build").exit == 75
    assert jobs.look("build").state == "running"
    gate.touch()
    jobs.until("build", "done")
    assert jobs.forget("build").exit == 0
    absent = jobs.look("build")
    assert (absent.state, absent.log_size, [one.number for one in absent.attempts]) == ("absent", 0, [1])
    jobs.start("build", "echo second")
    assert jobs.until("build", "done").tail == b"second\n"
    assert jobs.forget("never").exit == 0


def test_earlier_runs_are_kept_as_attempts_with_their_logs(jobs: Jobs) -> None:
    runs = ATTEMPTS + 2
    for number in range(1, runs + 1):
        jobs.start("build", f"echo run {number}; exit {number}")
        jobs.until("build", "done")
        assert jobs.forget("build", "passing" if number % 2 else "asked").exit == 0
        assert jobs.forget("build").exit == 0, "what is absent is no attempt"
    jobs.start("build", "true")
    found = jobs.until("build", "done").attempts
    assert [(one.number, one.exit) for one in found] == [(number, number) for number in range(3, runs + 1)]
    assert [one.why for one in found[:2]] == ["passing", "asked"]
    assert all(one.finished and one.finished >= one.started for one in found)
    logs = {path.name: path.read_text() for path in (jobs.directory / "build/attempts").glob("*.log")}
    assert logs == {f"{number}.log": f"run {number}\n" for number in range(3, runs + 1)}
    for number in range(3, runs + 1):
        assert jobs.look("build", attempt=number).tail == f"run {number}\n".encode()
    assert jobs.look("build", attempt=2).log_size == 0


def test_which_jobs_run(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.running() == []
    gate = tmp_path / "gate"
    jobs.start("one", f"while [ ! -e {gate} ]; do sleep 0.05; done")
    jobs.start("two", "true")
    jobs.until("two", "done")
    assert jobs.running() == ["one"]
    gate.touch()
    jobs.until("one", "done")
    assert jobs.running() == []


def test_stop_ends_the_whole_group(jobs: Jobs, tmp_path: Path) -> None:
    up = tmp_path / "up"
    jobs.start("build", f"sleep 600 & touch {up}; echo $!; sleep 600; echo not reached")
    while not up.exists():
        threading.Event().wait(0.01)
    assert jobs.stop("build").exit == 0
    job = jobs.look("build")
    assert (job.state, job.exit) == ("done", 143)
    child = int(job.tail.split()[0])
    with pytest.raises(ProcessLookupError):
        _gone(child)
    assert jobs.stop("build").exit == 0
    assert jobs.stop("never").exit == 0


def _gone(pid: int) -> None:
    """Raises ProcessLookupError once a process has ended, a zombie included."""
    for _ in range(200):
        os.kill(pid, 0)
        if f"{pid} (sleep) Z" in Path(f"/proc/{pid}/stat").read_text():
            raise ProcessLookupError
        threading.Event().wait(0.01)


def test_a_job_that_vanished_is_lost_not_absent_and_not_done(jobs: Jobs, tmp_path: Path) -> None:
    up = tmp_path / "up"
    jobs.start("build", f"touch {up}; sleep 600")
    while not up.exists():
        threading.Event().wait(0.01)
    pid = jobs.look("build").pid
    assert pid
    os.killpg(pid, signal.SIGKILL)
    assert jobs.until("build", "lost").exit is None
    # The pid belongs to somebody else now: nobody is fooled, and stop harms nobody.
    (jobs.directory / "build" / "pid").write_text(f"{os.getpid()}\n")
    assert jobs.look("build").state == "lost"
    assert jobs.stop("build").exit == 0
    assert jobs.start("build", "echo again").exit == 0
    assert jobs.look("build").state == "lost"
    assert jobs.forget("build").exit == 0
    jobs.start("build", "true")
    job = jobs.until("build", "done")
    assert job.exit == 0
    assert [(one.number, one.why, one.exit, one.finished) for one in job.attempts] == [(1, "asked", None, None)]


def test_a_job_sees_no_input_and_its_script_is_kept_private(jobs: Jobs) -> None:
    jobs.start("build", "cat; pwd; exit 5")
    assert jobs.until("build", "done").tail == b"/\n"
    assert (jobs.directory / "build" / "script").stat().st_mode & 0o777 == 0o600
    assert (jobs.directory / "build").stat().st_mode & 0o777 == 0o700


def test_a_log_of_any_bytes_comes_in_pieces(jobs: Jobs) -> None:
    jobs.start("build", "printf '\\000\\377\\n\\n'; head -c 100000 /dev/zero")
    job = jobs.until("build", "done")
    assert job.log_size == 100_004
    assert len(job.tail) == 65_536
    assert job.tail.startswith(b"\0\xff\n\n\0")
    rest = jobs.look("build", job.offset + len(job.tail))
    assert len(rest.tail) == 100_004 - 65_536


def test_secrets_keep_their_quotes(jobs: Jobs) -> None:
    """A hole inside a quoted word of the job's script is still one level deep in the script that starts it."""
    inner = lines(
        put_file(f"{jobs.directory}/conf", f"it's key={secret('chap')};"), sh("cat {d}/conf", d=str(jobs.directory))
    )
    value = "it's $HOME `id` \\ \""
    text = fill(job_start_script(str(jobs.directory), "secret", inner), {"chap": Secret("chap", value)})
    assert jobs.place.run(text).exit == 0
    assert jobs.until("secret", "done").tail.decode() == f"it's key={value};"


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "a\n", ".hidden"])
def test_a_name_is_one_plain_word(name: str) -> None:
    with pytest.raises(ValueError, match="not a job's name"):
        job_look_script("/jobs", name)


HEAD = b"state done\nstarted 5\npid 7\nresult 0 9\nlog 3 0\n\nabc"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(1, HEAD, b"ls: I/O error"),
        Answer(75, b"", b""),
        Answer(0, b"", b""),
        Answer(0, b"state\n", b""),
        Answer(0, b"state gone\n", b""),
        Answer(0, b"state done\nstarted 5\nlog 3 0\n\n", b""),
        Answer(0, HEAD.replace(b"result 0 9", b"result 0"), b""),
        Answer(0, HEAD.replace(b"started 5", b"started"), b""),
        Answer(0, HEAD.replace(b"log 3 0", b"log 3"), b""),
        Answer(0, b"\xff" + HEAD, b""),
        Answer(0, HEAD.replace(b"log", b"attempt 1 lost\nlog"), b""),
    ],
)
def test_what_is_no_look_is_never_absent(answer: Answer) -> None:
    with pytest.raises(Retry):
        parse_job(answer)


def test_a_look() -> None:
    assert parse_job(Answer(0, HEAD, b"")) == Job("done", 0, 7, 5.0, 9.0, 3, 0, b"abc")
    attempts = b"now 12\nattempt 1 lost 1 - -\nattempt 2 failed 2 2 4\nlog"
    assert parse_job(Answer(0, HEAD.replace(b"log", attempts), b"")) == Job(
        *("done", 0, 7, 5.0, 9.0, 3, 0, b"abc", 12.0),
        (Attempt(1, "lost", 1.0), Attempt(2, "failed", 2.0, 2, 4.0)),
    )


@pytest.mark.parametrize("why", ["", "two words", "Lost", "x;y"])
def test_why_is_one_word(why: str) -> None:
    with pytest.raises(ValueError, match="not one word"):
        job_forget_script("/jobs", "build", why)


async def test_a_job_outlives_the_connection_and_the_controller(machine: Machine) -> None:
    gate = machine.scratch / "gate"
    try:
        await _outlive(machine, gate)  # the job has a session of its own: only its gate ends it
    finally:
        gate.touch()


async def _outlive(machine: Machine, gate: Path) -> None:
    runs = machine.scratch / "runs"
    jobs, state = str(machine.scratch / "jobs"), str(machine.scratch / "state")
    script = f"echo run >>{runs}; while [ ! -e {q(str(gate))} ]; do sleep 0.05; done; exit 4"
    start = job_start_script(jobs, "build", script)
    async with Fleet({"node1": machine.endpoint}, state_dir=state) as fleet:
        assert (await fleet.act("node1", "main", start, 20, Fence(1, "a"))).exit == 0
        await machine.drop()
        async with asyncio.timeout(20):
            while fleet.connects["node1"] < 2:
                with contextlib.suppress(Indeterminate):
                    await fleet.ask("node1", "main", ["true"], 20)
        (look,) = await fleet.ask("node1", "main", [job_look_script(jobs, "build")], 20)
        assert parse_job(look).state == "running"
    async with Fleet({"node1": machine.endpoint}, state_dir=state) as fleet:
        # Another controller, which knows nothing, starts it again: it is already there.
        assert (await fleet.act("node1", "main", start, 20, Fence(2, "b"))).exit == 0
        await fleet.ask("node1", "main", [f"touch {gate}"], 20)
        job = await _ended(fleet, jobs)
    assert (job.state, job.exit) == ("done", 4)
    assert runs.read_text() == "run\n"


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.06])
async def test_a_connection_cut_while_a_job_is_started(machine: Machine, moment: float) -> None:
    """Whenever the cut comes, starting again makes it exactly one run."""
    jobs, runs, up = str(machine.scratch / "jobs"), machine.scratch / "runs", machine.scratch / "up"
    start = job_start_script(jobs, "build", f"echo run >>{runs}")
    async with Fleet({"node1": machine.endpoint}) as fleet:
        task = asyncio.create_task(fleet.ask("node1", "main", [f"touch {up}\n(\n{start}\n)\nsleep 5"], 60))
        await until(up.exists)
        await asyncio.sleep(moment)
        await machine.drop()
        with pytest.raises(Indeterminate):
            await task
        (again,) = await fleet.ask("node1", "main", [start], 40)
        assert (again.exit, again.stderr) == (0, b"")
        assert (await _ended(fleet, jobs)).exit == 0
    assert runs.read_text() == "run\n"


async def _ended(fleet: Fleet, jobs: str) -> Job:
    async with asyncio.timeout(20):
        while True:
            (answer,) = await fleet.ask("node1", "main", [job_look_script(jobs, "build")], 20)
            if (job := parse_job(answer)).state != "running":
                return job
            await asyncio.sleep(0.02)
