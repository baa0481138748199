"""Rules of every test run: what needs root says so, and in continuous integration nothing may be skipped."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import settings

from tests.lab.child import sweep

# A slow machine is no failure: Hypothesis' own deadline of 200 ms per example would make it one.
settings.register_profile("jailops", deadline=None)
settings.load_profile("jailops")

SLOW = Path(__file__).parent / "faults"
"""What takes minutes begins first, so that workers do not wait for it in the end."""
_PR_SET_PDEATHSIG = 1
NOT_ROOT = "the real lab needs root: network namespaces and the daemons of a server"


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as ctrl-C does: every fixture is torn down."""
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(config, "workerinput"):
        # A worker whose run was killed would otherwise go on until it next wants to tell something.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    config.pluginmanager.register(NothingSkipped(), "nothing-skipped")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Workers that had to be killed removed no files."""
    if not hasattr(config, "workerinput"):
        sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.is_relative_to(SLOW))
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.skip(reason=NOT_ROOT))


class NothingSkipped:
    """With CI=true a run in which something was skipped has failed, and says why."""

    def __init__(self) -> None:
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._forbidden() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._forbidden():
            terminalreporter.section("skipped in continuous integration", red=True)
            terminalreporter.write_line(f"CI=true and {len(self._skipped)} skipped, so the run has failed:")
            for nodeid in self._skipped:
                terminalreporter.write_line(f"  {nodeid}")

    def _forbidden(self) -> bool:
        return bool(self._skipped) and os.environ.get("CI") == "true"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
