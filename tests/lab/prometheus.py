"""A real Prometheus in the network of the lab, with rules that are evaluated every second."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.child import Holder, until
from tests.lab.net import Port

LISTEN = "127.0.0.1:9090"
GET = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=5).read().decode())"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server, asked over its HTTP interface from inside its network."""

    port: Port

    def alerts(self) -> dict[str, str]:
        """The name of each active alert and its state: pending or firing."""
        return {one["labels"]["alertname"]: one["state"] for one in self._get("alerts")["alerts"]}

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query."""
        result: list[Any] = self._get("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        return result

    def _get(self, what: str) -> Any:
        return json.loads(get(self.port, f"http://{LISTEN}/api/v1/{what}"))["data"]


def get(port: Port, url: str) -> str:
    """Fetch a page from inside the network of a port; RuntimeError when nobody answers."""
    argv = port.command([sys.executable, "-c", GET, url])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot fetch {url}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


@contextmanager
def prometheus(port: Port, directory: Path, targets: Sequence[str], rules: Path) -> Iterator[Prometheus]:
    """Scrape `targets` ("address:port") every second and evaluate a copy of the rule file.

    In the copy every `for:` is shortened to a second, so that an alert that is right fires while a test looks.
    """
    home = directory / "prometheus"
    home.mkdir()
    (home / "rules.yml").write_text(re.sub(r"(?m)^(\s*for:).*$", r"\1 1s", rules.read_text()))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "jailops", "static_configs": [{"targets": list(targets)}]}],
    }
    (home / "prometheus.yml").write_text(json.dumps(config))
    argv = ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
    script = f"echo up; {shlex.join([*argv, f'--web.listen-address={LISTEN}'])} >{home}/log 2>&1 & exec cat >/dev/null"
    holder = Holder(port.command(["unshare", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", script]))
    try:
        until("prometheus is ready", lambda: _ready(port))
        yield Prometheus(port)
    finally:
        holder.close()


def _ready(port: Port) -> bool:
    try:
        return "ready" in get(port, f"http://{LISTEN}/-/ready").lower()
    except RuntimeError:
        return False
