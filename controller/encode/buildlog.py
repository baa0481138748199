"""Logs of FreeBSD builds: how far a job has come, and the first line that says why it failed.

Reads the whole log of one job: buildworld, buildkernel, installworld, installkernel and distribution in any order, with
or without ``make -s`` and ``-j``, of 10 to 13 (build(7); Makefile.inc1). Never decides whether a build succeeded: its
exit status does. No error line found is no proof of success.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from controller.encode.sh import sh
from controller.model import Script

Target: TypeAlias = Literal["buildworld", "buildkernel", "installworld", "installkernel", "distribution"]
TARGETS: Final[tuple[Target, ...]] = ("buildworld", "buildkernel", "installworld", "installkernel", "distribution")


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a job has come. `ratio` counts from 0 to 1 over all its targets and never falls as the log grows."""

    target: Target | None
    """The target under way; None before the first and after the last."""
    stage: str
    """The marker in make's words, such as "4.2: building libraries"; empty before the first."""
    ratio: float
    completed: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class BuildError:
    """The first real error of a failed build. Lines count from 1."""

    line_number: int
    text: str
    target: str | None
    """What make could not make; None without -j, where make does not say."""
    context: tuple[str, ...]
    """The lines around it, the error line among them."""


@dataclass(frozen=True, slots=True)
class _Stage:
    marker: str
    target: Target
    seconds: float
    lines: int


_STAGES: Final = (
    _Stage(r"World build started on ", "buildworld", 1.0, 3),
    _Stage(r"Rebuilding the temporary build tree", "buildworld", 1.0, 8),
    _Stage(r"stage 1\.1: legacy", "buildworld", 1.0, 8),
    _Stage(r"stage 1\.2: bootstrap tools", "buildworld", 22.0, 69),
    _Stage(r"stage 2\.1: cleaning up", "buildworld", 0.0, 3),
    _Stage(r"stage 2\.2: rebuilding the object tree", "buildworld", 0.0, 3),
    _Stage(r"stage 2\.3: build tools", "buildworld", 3.0, 10),
    _Stage(r"stage 3: cross tools", "buildworld", 2.0, 8),
    _Stage(r"stage 3\.1: recording", "buildworld", 1.0, 6),
    _Stage(r"stage 4\.1: building includes", "buildworld", 15.0, 860),
    _Stage(r"stage 4\.2: building libraries", "buildworld", 35.0, 482),
    _Stage(r"stage 4\.3: make dependencies", "buildworld", 0.0, 800),
    _Stage(r"stage 4\.4: building everything", "buildworld", 70.0, 1055),
    _Stage(r"stage 5\.1: building (?:32 bit|lib32)", "buildworld", 0.0, 400),
    _Stage(r"Kernel build for \S+ started on ", "buildkernel", 1.0, 5),
    _Stage(r"stage 1: configuring the kernel", "buildkernel", 2.0, 6),
    _Stage(r"stage 2\.1: cleaning up", "buildkernel", 0.0, 3),
    _Stage(r"stage 2\.2: rebuilding the object tree", "buildkernel", 0.0, 3),
    _Stage(r"stage 2\.3: build tools", "buildkernel", 1.0, 3),
    _Stage(r"stage 3\.1: making dependencies", "buildkernel", 0.0, 800),
    _Stage(r"stage 3\.[12]: building everything", "buildkernel", 230.0, 1209),
    _Stage(r"Install check world", "installworld", 1.0, 3),
    _Stage(r"Making hierarchy", "installworld", 5.0, 963),
    _Stage(r"Installing everything(?: started on .*)?$", "installworld", 37.0, 893),
    _Stage(r"Install check kernel", "installkernel", 2.0, 3),
    _Stage(r"Installing kernel \S+(?: on .*)?$", "installkernel", 8.0, 20),
    _Stage(r"===> \S+ \((?:installconfig|distribution)\)", "distribution", 12.0, 864),
)
"""Marker, target, seconds and log lines of each stage, in order.

Measured on two complete -s -j3 builds of 13.2: world 151 s (31 s of them to the end of stage 3.1), kernel 234 s,
installing and distribution 66 s. Inside those spans the seconds are shared out by hand; stages that only 10 prints
weigh nothing. They only shape the bar: an estimate in seconds comes from earlier builds of the same image.
"""

_DONE: Final[Mapping[Target, re.Pattern[str]]] = {
    "buildworld": re.compile(r"World build completed on |World built in "),
    "buildkernel": re.compile(r"Kernel build for \S+ completed on |Kernel\(s\) .*built in "),
    "installworld": re.compile(r"Installing everything completed on "),
    "installkernel": re.compile(r"Installing kernel \S+ completed on "),
}
"""10 prints no such line for the install targets, and no version does for distribution: the next target ends them."""


def progress(log: str | Iterable[str], targets: Sequence[Target] = TARGETS) -> BuildProgress:
    """How far a job that makes `targets` has come, from its log so far (a text, or its lines)."""
    walk = _Walk()
    for line in log.split("\n") if isinstance(log, str) else log:
        walk.see(line)
    total = sum(_seconds(target) for target in targets) or 1.0
    done = sum(_seconds(target) for target in walk.completed if target in targets)
    under_way = walk.seconds() if walk.target in targets else 0.0
    return BuildProgress(walk.target, walk.name, min(1.0, (done + under_way) / total), tuple(walk.completed))


class _Walk:
    """Where a reader of the log stands."""

    def __init__(self) -> None:
        self.target: Target | None = None
        self.stage = -1
        self.name = ""
        self.lines = 0
        self.completed: list[Target] = []

    def see(self, line: str) -> None:
        self.lines += 1
        if line.startswith(">>> "):
            self._marker(line[4:].strip())
        elif re.match(_STAGES[-1].marker, line):
            self._enter(len(_STAGES) - 1, "installing configuration")

    def seconds(self) -> float:
        """Of the target under way: the stages behind, and this one by its lines, which never counts as finished."""
        behind = sum(stage.seconds for stage in _STAGES[: self.stage] if stage.target == self.target)
        here = _STAGES[self.stage]
        return behind + here.seconds * min(0.95, self.lines / here.lines)

    def _marker(self, text: str) -> None:
        for target, pattern in _DONE.items():
            if pattern.match(text):
                self._complete(target)
                return
        entered = next((index for index in self._candidates() if re.match(_STAGES[index].marker, text)), None)
        if entered is not None:
            self._enter(entered, text.removeprefix("stage "))

    def _candidates(self) -> Iterable[int]:
        """World and kernel share the names of some stages: the target under way is asked first."""
        return sorted(range(len(_STAGES)), key=lambda index: _STAGES[index].target != self.target)

    def _enter(self, index: int, name: str) -> None:
        target = _STAGES[index].target
        if target in self.completed:
            return
        if target != self.target and self.target:
            self._complete(self.target)
        if index > self.stage or target != self.target:
            self.stage, self.name, self.lines = index, name, 0
        self.target = target

    def _complete(self, target: Target) -> None:
        if target not in self.completed:
            self.completed.append(target)
        if self.target == target:
            self.target, self.stage, self.name = None, -1, ""


def _seconds(target: Target) -> float:
    return sum(stage.seconds for stage in _STAGES if stage.target == target)


_FAILED = re.compile(r"\*\*\* (?:\[(?P<target>[^\]]+)\] )?(?:Error code|Signal) -?[0-9]+(?P<ignored> \(ignored\))?")
_SECTION = re.compile(r"--- (?P<target>\S+) ---")
_MARKER = re.compile(r">>> ")
_STRONG = re.compile(
    r"(?:^|[\s:])(?:fatal )?error: |: undefined reference to |\bld: cannot find |: multiple definition of "
    r"|No space left on device|virtual memory exhausted|LLVM ERROR: |Segmentation fault|Assertion failed: "
    r"|^ERROR: |don't know how to make "
)
"""A line that is an error wherever it stands; a word such as "not found" is not, good builds print it too."""
_FATAL = re.compile(r"\S*make(?:\[[0-9]+\])?: (?:Fatal errors encountered|don't know how to make )")
_MAKEFILE = re.compile(r'\S*make(?:\[[0-9]+\])?: "[^"]+" line [0-9]+: |"[^"]+", line [0-9]+: ')
_NOISE = re.compile(r"\s*$|--- \S+ ---$|===> |bmake(?:\[[0-9]+\])?: |make(?:\[[0-9]+\])?: |[0-9]+ errors?$|Stop\.$")
_BEFORE, _AFTER, _WIDTH = 8, 4, 400


def first_error(text: str) -> BuildError | None:
    """The first line that explains the failure, or None when make reports none.

    make names the failed target only after the compiler has spoken, and with -j other targets speak in between; so this
    goes back from the first `*** Error code` that was not ignored to the first error of a failed target in that stage.
    """
    log = _Log(text.split("\n"))
    failure = log.first_failure()
    if failure is None:
        return log.fatal()
    at, target = failure
    found = log.cause(at, target)
    return log.error(found, log.sections[found] or target)


_NUMBERED: Final = re.compile(r"(?P<number>[1-9][0-9]{0,9}):(?P<text>.*)")


def failure_script(log: str) -> Script:
    """Of a log of any length, what `first_error_of` needs: the numbered lines of the stage that failed that can matter, and
    all of the last forty before make reported the failure, and which other targets failed right after. Nothing where make
    reports none.

    A compiler may say more about one error than one look brings of a log's end, and with -j others go on for long.
    """
    return sh(
        """set -- $(awk '/^>>> / {{ begun = NR }}
/^[*][*][*] .*(Error code|Signal) -?[0-9]/ && !/[(]ignored[)]/ {{ print begun + 0, NR; exit }}' {log})
test $# != 2 || awk -v from="$1" -v to="$2" 'NR > to + 200 {{ exit }}
NR > to {{ if (/^[*][*][*] /) print NR ":" $0; next }}
NR < from {{ next }}
/^--- / {{ target = NR ":" substr($0, 1, 400) }}
NR > to - 40 || /^>>> |^[*][*][*] |[Ee]rror: |undefined reference|ld: cannot find|multiple definition|No space left|\
memory exhausted|LLVM ERROR|Segmentation fault|Assertion failed|^ERROR: |know how to make/ {{
  if (target && !/^--- /) {{ print target; target = "" }}
  print NR ":" substr($0, 1, 400) }}' {log} | tail -n 600""",
        log=log,
    )


def first_error_of(numbered: str) -> BuildError | None:
    """`first_error` of what `failure_script` brings."""
    rows = {int(row["number"]): row["text"] for row in map(_NUMBERED.fullmatch, numbered.splitlines()) if row}
    if not rows:
        return None
    lines = [rows.get(number, "") for number in range(min(rows), max(rows) + 1)]
    found = first_error("\n".join(lines))
    return found and replace(found, line_number=found.line_number + min(rows) - 1)


class _Log:
    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.sections = list(_sections(lines))
        self.failures = [
            (index, match["target"], bool(match["ignored"]))
            for index, line in enumerate(lines)
            if (match := _FAILED.match(line))
        ]

    def first_failure(self) -> tuple[int, str | None] | None:
        return next(((index, target) for index, target, ignored in self.failures if not ignored), None)

    def fatal(self) -> BuildError | None:
        """make itself gave up, before it ran anything: the makefile's error stands above."""
        for index, line in enumerate(self.lines):
            if _FATAL.match(line):
                above = (back for back in range(index - 1, -1, -1) if _MAKEFILE.match(self.lines[back]))
                return self.error(next(above, index) if "Fatal errors" in line else index, None)
        return None

    def cause(self, at: int, target: str | None) -> int:
        """The first certain error since the stage began; else the last word before make reported the failure."""
        start = self._start(at)
        ignored = {name for _, name, was_ignored in self.failures if was_ignored}
        failed = {name for _, name, was_ignored in self.failures if name and not was_ignored}
        after_ignored = max((index for index, _, was in self.failures if was and index < at), default=start)
        certain = [
            index
            for index in range(start, at)
            if _STRONG.search(self.lines[index]) and (self.sections[index] or "") not in ignored - {target}
        ]
        own = [index for index in certain if self.sections[index] in failed]
        late = [index for index in certain if index > after_ignored]
        return next(iter(own or late or certain), self._last_word(at, target))

    def error(self, index: int, target: str | None) -> BuildError:
        around = self.lines[max(0, index - _BEFORE) : index + _AFTER + 1]
        context = tuple(line[:_WIDTH] for line in around)
        return BuildError(index + 1, self.lines[index][:_WIDTH], target, context)

    def _start(self, at: int) -> int:
        return next((index for index in range(at, -1, -1) if _MARKER.match(self.lines[index])), 0)

    def _last_word(self, at: int, target: str | None) -> int:
        for index in range(at - 1, self._start(at), -1):
            if not _NOISE.match(self.lines[index]) and self.sections[index] in (None, target):
                return index
        return at


def _sections(lines: list[str]) -> Iterator[str | None]:
    """With -j make prints `--- TARGET ---` whenever another target speaks, and one that failed speaks no more."""
    section: str | None = None
    for line in lines:
        if match := _SECTION.fullmatch(line):
            section = match["target"]
        elif _MARKER.match(line):
            section = None
        yield section
        if _FAILED.match(line):
            section = None
