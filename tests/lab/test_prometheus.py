"""A metric that is wrong makes its alert fire in a real Prometheus, and one that is right does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab.child import Holder, until
from tests.lab.net import Net
from tests.lab.prometheus import hurried, prometheus

pytestmark = pytest.mark.lab

RULES = """\
groups:
  - name: lab
    rules:
      - alert: Drifting
        expr: lab_drift > 0
        for: 15m
      - alert: Quiet
        expr: lab_drift < 0
"""


def test_an_alert_fires_and_resolves(net: Net, directory: Path) -> None:
    ctl = net.plug("ctl", "198.51.100.5")
    (directory / "metrics").write_text("lab_drift 1\n")
    web = [sys.executable, "-m", "http.server", "--bind", "198.51.100.5", "--directory", str(directory), "9464"]
    script = f"echo up; {' '.join(web)} >/dev/null 2>&1 & exec cat >/dev/null"
    serving = Holder(ctl.command(["unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", script]))
    try:
        with prometheus(ctl.command, directory, ["198.51.100.5:9464"], hurried(RULES)) as server:
            until("the alert fires", lambda: server.alerts() == {"Drifting": "firing"}, within=20)
            (directory / "metrics").write_text("lab_drift 0\n")
            until("the alert is gone", lambda: server.alerts() == {})
            assert server.query("lab_drift")[0]["value"][1] == "0"
    finally:
        serving.close()
