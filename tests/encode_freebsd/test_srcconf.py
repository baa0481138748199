from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode import srcconf
from tests.encode_freebsd.claims import CASES

NAMES = st.from_regex(r"X_[A-Z0-9_]{0,10}", fullmatch=True)
VALUES = st.from_regex(srcconf._VALUE.pattern, fullmatch=True)
KNOBS = st.from_regex(srcconf._KNOB.pattern, fullmatch=True)
KERNELS = sorted((CASES / "srcconf" / "kernel").glob("*.txt"))


def made(file: Path, text: str, names: list[str], env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the real make reads. It is GNU's here; both makes agree about plain ?= and these characters."""
    prints = "".join(f"\t@printf '%s\\n' '$({name})'\n" for name in names)
    file.write_text(f"{text}show:\n{prints}")
    # The tests themselves may run under make, which speaks to its children through the environment.
    own = {name: value for name, value in env.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-f", str(file), "show"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, env=own)
    return dict(zip(names, done.stdout.split("\n"), strict=False))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_make_reads_what_was_written(tmp_path_factory: pytest.TempPathFactory, options: dict[str, str]) -> None:
    text = srcconf.render_make(options)
    assert made(tmp_path_factory.getbasetemp() / "make.conf", text, list(options)) == options
    assert srcconf.parse_make(text) == options


@given(st.lists(KNOBS, max_size=5))
def test_knobs_are_read_back(knobs: list[str]) -> None:
    assert srcconf.parse_src(srcconf.render_src(knobs)) == tuple(knobs)


@pytest.mark.parametrize("knob", ["WITHOUT_ZFS=no", "without_zfs", "ZFS", "WITH_", "WITH_A B", "WITH_A\nX!=id"])
def test_what_is_no_knob_is_refused(knob: str) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        srcconf.render_src([knob])


@pytest.mark.parametrize(
    ("name", "value"),
    [("CPUTYPE", "$(shell id)"), ("CPUTYPE", ""), ("CPUTYPE", "a\n"), ("CPUTYPE", "a#b"), ("A!", "b"), ("A", " b")],
)
def test_what_make_would_evaluate_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="cannot write"):
        srcconf.render_make({name: value})


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_problems_of_a_kernel_configuration(path: Path) -> None:
    """The file is named NAME.WHAT.txt; what must be said stands in the .problems beside it, one per line."""
    problems = srcconf.kernel_config_problems(path.stem.split(".")[0], path.read_text())
    assert list(problems) == path.with_suffix(".problems").read_text().splitlines()
