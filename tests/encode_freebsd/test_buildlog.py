from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from controller.encode import buildlog
from controller.encode.buildlog import TARGETS, BuildError
from tests.encode_freebsd.claims import CASES

REAL = CASES / "transcripts" / "build"
MADE = CASES / "buildlog"
COMPILER = "/usr/src/crypto/openssh/openbsd-compat/libressl-api-compat.c:165:9: error: "

FIRST_ERRORS = [
    (REAL / "buildworld-fail-early.log", 30, "dtc", "c++: error: unrecognized command-line option ‘-stdlib=libc++’"),
    (
        REAL / "buildworld-fail-compile.log",
        191,
        "libressl-api-compat.o",
        f"{COMPILER}incomplete definition of type 'struct dsa_st'",
    ),
    (
        REAL / "buildworld-fail-link.log",
        293,
        "libprivatedevdctl.so.0",
        "ld.lld: error: unable to find library -lstdc++",
    ),
    (REAL / "buildworld-fail-install.log", 253, "_libinstall", "install: spawn strip: No such file or directory"),
    (REAL / "buildkernel-fail.log", 28, "genoffset_test.o", "./offset.inc:4:1: error: extraneous closing brace ('}')"),
    (MADE / "interleaved.log", 13, "bar.o", "/usr/src/lib/libbar/bar.c:7:2: error: use of undeclared identifier 'x'"),
    (MADE / "ignored.log", 6, "tool", "/usr/bin/ld: cannot find -lz"),
    (
        MADE / "no-j.log",
        6,
        None,
        "/usr/src/bin/cat/cat.c:61: error: 'u_char' undeclared (first use in this function)",
    ),
    (MADE / "killed.log", 4, "SemaExpr.o", "Killed"),
    (MADE / "makefile.log", 2, None, 'make: "/etc/make.conf" line 3: Malformed conditional (${X} ==)'),
    (MADE / "no-target.log", 1, None, "make: don't know how to make buildwrld. Stop"),
    (MADE / "missing-config.log", 1, "buildkernel", "ERROR: Missing kernel configuration file(s) (DISKLES)."),
    (
        MADE / "full-disk.log",
        5,
        "_libinstall",
        "install: /mnt/jailops/images/a/b/lib/libc.so.7: No space left on device",
    ),
]


@pytest.mark.parametrize(("path", "line", "target", "text"), FIRST_ERRORS, ids=lambda value: getattr(value, "stem", ""))
def test_the_first_real_error(path: Path, line: int, target: str | None, text: str) -> None:
    error = buildlog.first_error(path.read_text())
    assert error is not None
    assert (error.line_number, error.target, error.text) == (line, target, text)
    assert text in error.context


@pytest.mark.parametrize(
    ("path", "line", "target", "text"),
    [row for row in FIRST_ERRORS if row[0].stem not in ("makefile", "no-target")],
    ids=lambda value: getattr(value, "stem", ""),
)
def test_a_machine_brings_what_it_takes_to_find_it(path: Path, line: int, target: str | None, text: str) -> None:
    error = buildlog.first_error_of(brought(path))
    assert error is not None
    assert (error.line_number, error.target, error.text) == (line, target, text)


NOTES = "".join(f"/usr/src/x.cc:{number}:1: note: candidate template ignored\n" for number in range(3000))
OTHERS = "".join(f"--- b{number}.o ---\n/usr/src/y.c:{number}: warning: unused\n" for number in range(3000))
ERROR = "/usr/src/x.cc:1:1: error: no member named 'q'"
BEGUN = f">>> stage 4.3: make dependencies\n{OTHERS}>>> stage 4.4: building everything\n--- a.o ---\n"


@pytest.mark.parametrize(
    "log",
    [
        f"{BEGUN}{ERROR}\n{NOTES}1 error generated.\n*** [a.o] Error code 1\n",
        f"{BEGUN}{ERROR}\n*** [a.o] Error code 1\n{OTHERS}*** [all] Error code 2\n",
        f"{BEGUN}{ERROR}\n{OTHERS}--- a.o ---\n*** [a.o] Error code 1\n",
    ],
    ids=["a compiler that says much", "others go on for long", "others speak in between"],
)
def test_the_first_error_may_stand_far_from_the_end(log: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    numbered = brought(tmp_path / "log")
    error = buildlog.first_error_of(numbered)
    assert error is not None
    assert (error.line_number, error.text) == (6004, ERROR)
    assert len(numbered) < 64 * 1024


def test_a_log_without_a_failure_brings_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"{BEGUN}{ERROR}\n*** [a.o] Error code 1 (ignored)\n")
    assert brought(tmp_path / "log") == ""
    assert buildlog.first_error_of("") is None


def brought(log: Path) -> str:
    script = buildlog.failure_script(str(log))
    return subprocess.run(["/bin/sh", "-eus"], input=script, capture_output=True, check=True, text=True).stdout


def test_every_failure_log_is_in_the_table() -> None:
    failures = {*REAL.glob("*fail*.log"), *MADE.glob("*.log")}
    assert failures == {path for path, *_ in FIRST_ERRORS}


@pytest.mark.parametrize("path", sorted(REAL.glob("*-ok.log")), ids=lambda path: path.stem)
def test_a_good_log_has_no_error(path: Path) -> None:
    """Though it holds "command not found", "No such file" and "error" as the name of a variable."""
    assert buildlog.first_error(path.read_text()) is None


def test_the_context_shows_what_came_before() -> None:
    """The header is broken because nm was missing, five lines above."""
    error = buildlog.first_error((REAL / "buildkernel-fail.log").read_text())
    assert isinstance(error, BuildError)
    assert "/usr/src/sys/kern/genoffset.sh: line 48: nm: command not found" in error.context


WHOLE = "".join(
    (REAL / name).read_text()
    for name in ("buildworld-ok.log", "buildkernel-ok.log", "installworld-installkernel-distribution-ok.log")
)


def test_a_whole_job_never_goes_back_and_ends_near_one() -> None:
    lines = WHOLE.split("\n")
    ratios = [buildlog.progress(lines[:end]).ratio for end in range(0, len(lines), 7)]
    assert ratios[0] == 0.0
    assert all(before <= after for before, after in pairwise(ratios))
    assert 0.95 < ratios[-1] < 1.0


@pytest.mark.parametrize(
    ("marker", "target", "stage", "completed", "low", "high"),
    [
        ("", None, "", 0, 0.0, 0.0),
        (">>> World build started on", "buildworld", "World build started on Sun", 0, 0.0, 0.01),
        (">>> stage 2.3: build tools", "buildworld", "2.3: build tools", 0, 0.04, 0.08),
        (">>> stage 4.4: building everything", "buildworld", "4.4: building everything", 0, 0.15, 0.2),
        (">>> World build completed on", None, "", 1, 0.33, 0.35),
        (">>> stage 1: configuring the kernel", "buildkernel", "1: configuring the kernel", 1, 0.33, 0.36),
        (">>> stage 3.1: building everything", "buildkernel", "3.1: building everything", 1, 0.33, 0.36),
        (">>> Kernel build for DISKLESS completed", None, "", 2, 0.84, 0.87),
        (">>> Installing everything started", "installworld", "Installing everything started", 2, 0.85, 0.9),
        (">>> Installing kernel DISKLESS on", "installkernel", "Installing kernel DISKLESS on", 3, 0.93, 0.98),
        ("===> usr.sbin/setpmac (installconfig)", "distribution", "installing configuration", 4, 0.96, 0.98),
    ],
)
def test_where_a_job_stands(
    marker: str, target: str | None, stage: str, completed: int, low: float, high: float
) -> None:
    so_far = WHOLE[: WHOLE.index(marker) + len(marker)] if marker else ""
    end = WHOLE.find("\n", len(so_far))
    progress = buildlog.progress(WHOLE[:end] if marker else "")
    assert (progress.target, progress.completed) == (target, TARGETS[:completed])
    assert progress.stage.startswith(stage)
    assert bool(progress.stage) == bool(stage)
    assert low <= progress.ratio <= high


def test_10_prints_no_completion_of_an_install() -> None:
    log = ">>> Installing everything\n===> lib\n>>> Install check kernel\n>>> Installing kernel DISKLESS\n"
    progress = buildlog.progress(log, ("installworld", "installkernel"))
    assert (progress.target, progress.completed) == ("installkernel", ("installworld",))
    assert 0.8 < progress.ratio < 1.0


def test_only_the_targets_of_the_job_count() -> None:
    text = (REAL / "buildkernel-ok.log").read_text()
    assert buildlog.progress(text, ("buildkernel",)).ratio == 1.0
    assert buildlog.progress(text, ("installworld",)).ratio == 0.0
