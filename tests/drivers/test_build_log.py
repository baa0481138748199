"""The log of a build as a person reads it: to its end, while it grows, while the VM is away, and of earlier tries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller import buildlog
from controller.buildlog import layer_named, read_log
from controller.encode.job import job_forget_script
from controller.errors import Retry, Stall
from controller.model import Answer, Resource, Script

from .builder import Builder
from .scene import manifests

WHAT = "world/freebsd13"
RETRY = f"the same inputs are tried again with: jailops retry {WHAT}"


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    monkeypatch.setattr(buildlog, "_EVERY", 0.02)
    builder = Builder(tmp_path)
    yield builder
    for job in tmp_path.glob("work/jobs/*"):
        builder.stop(job.name)


def layer(builder: Builder) -> Resource:
    found = layer_named(WHAT, manifests(()), ())
    return replace(found, spec=replace(found.spec, work=str(builder.work), job="build"))


class Line:
    """The connection to the VM. `before` is told the number of each question; what it raises is no answer."""

    def __init__(self, builder: Builder, before: Callable[[int], None] = lambda _: None) -> None:
        self.builder, self.before, self.asked = builder, before, 0

    async def ask(self, host: str, lane: str, scripts: Sequence[Script], timeout: float) -> list[Answer]:
        del host, lane, timeout
        self.asked += 1
        self.before(self.asked)
        return [self.builder.asked(script) for script in scripts]


async def read(builder: Builder, line: Line | None = None, **how: Any) -> tuple[str, list[str], str]:
    """What was printed, what was said beside it, and how it ended."""
    hands: Any = line or Line(builder)
    printed, said = "", list[str]()
    try:
        async for piece in read_log(layer(builder), hands, say=said.append, **how):
            printed += piece
    except Stall as error:
        return printed, said, f"{error}; {error.hint}"
    return printed, said, ""


def begin(builder: Builder, script: str) -> None:
    builder.start("build", Script(script))


def end(builder: Builder) -> None:
    (builder.lab / "gate").touch()


def gated(builder: Builder, then: str) -> str:
    return f"echo one; while test ! -e {builder.lab}/gate; do sleep 0.02; done; echo two; {then}"


@pytest.mark.parametrize(
    ("then", "ended"),
    [
        ("exit 0", ""),
        ("exit 2", f"the build of {WHAT} failed (exit 2); what jailops makes of it says jailops status; {RETRY}"),
        (
            "kill -s KILL 0",
            f"the build of {WHAT} vanished without a result; what jailops makes of it says jailops status; {RETRY}",
        ),
    ],
)
async def test_a_log_is_followed_to_the_end_of_its_build(builder: Builder, then: str, ended: str) -> None:
    begin(builder, gated(builder, then))
    line = Line(builder, lambda number: end(builder) if number == 3 else None)
    assert await read(builder, line, follow=True) == ("one\ntwo\n", [], ended)
    assert await read(builder) == ("one\ntwo\n", [], ""), "to read it is no failure"


async def test_a_vm_that_goes_away_is_said_to_be_away_once(builder: Builder) -> None:
    def before(number: int) -> None:
        if number in (2, 3, 5):
            raise Retry(f"cannot reach build-vm: {number}", after=0.01)
        if number == 6:
            end(builder)

    begin(builder, gated(builder, "exit 0"))
    printed, said, ended = await read(builder, Line(builder, before), follow=True)
    again = "the log goes on here when build-vm answers again, and the build needs nobody meanwhile"
    assert (printed, ended) == ("one\ntwo\n", "")
    assert said == [
        f"cannot reach build-vm: 2; {again}",
        "build-vm answers again",
        f"cannot reach build-vm: 5; {again}",
        "build-vm answers again",
    ]


async def test_a_vm_that_was_never_there_is_an_error_at_once(builder: Builder) -> None:
    def before(_: int) -> None:
        raise Retry("cannot reach build-vm")

    with pytest.raises(Retry, match="cannot reach build-vm"):
        await read(builder, Line(builder, before), follow=True)


async def test_a_build_that_is_stopped_or_begins_anew_while_it_is_followed(builder: Builder) -> None:
    def before(number: int) -> None:
        if number in (3, 5):
            builder.stop("build")
            builder.asked(job_forget_script(f"{builder.work}/jobs", "build", "cancelled"))
        if number == 3:
            # The next second at the earliest: that is how a try is told from the one before it.
            begin(builder, gated(builder, "exit 0"))
            (builder.work / "jobs/build/started").write_text("4000000000\n")

    begin(builder, gated(builder, "exit 0"))
    printed, said, ended = await read(builder, Line(builder, before), follow=True)
    assert (printed, said) == ("one\none\n", [f"another try of {WHAT} has begun"])
    assert ended == (
        f"cannot follow {WHAT} any further: its build was stopped, or makes room for another try; "
        "see what became of it: jailops status"
    )


async def test_earlier_tries_by_their_number(builder: Builder) -> None:
    for number in (1, 2):
        begin(builder, f"echo try {number}; exit {number}")
        while builder.look("build").state == "running":
            pass
        assert builder.asked(job_forget_script(f"{builder.work}/jobs", "build", "asked")).exit == 0
    assert await read(builder, attempt=1) == ("try 1\n", [], "")
    assert await read(builder, attempt=2) == ("try 2\n", [], "")
    kept = r"1 \(of \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ, exit 1, asked\); 2 \(of .+Z, exit 2, asked\)"
    _, _, ended = await read(builder, attempt=3)
    assert re.fullmatch(
        rf"cannot show attempt 3 of {WHAT}: there is no such attempt; there is {kept}; "
        "without --attempt it is the newest try's log",
        ended,
    )
    _, _, ended = await read(builder)
    assert re.fullmatch(
        rf"cannot show the log of {WHAT}: no job build is on build-vm; it was not built there yet, or waits for what it "
        rf"needs: jailops status; with --attempt there is {kept}",
        ended,
    )
