"""A real Prometheus beside the controller that it scrapes, with rules that are evaluated every second."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.lab.child import Holder, until
from tests.transport.servers import free_port

RULES = Path(__file__).parents[2] / "deploy/prometheus/jailops.rules.yml"
"""The rules that jailops ships."""
Place: TypeAlias = Callable[[Sequence[str]], list[str]]
"""Makes of a command one that runs in some network, such as `Port.command`."""
OWN = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL")
"""What the server started ends with its shell; needs no root."""
_ADDED = ("__name__", "alertname", "alertstate")
GET = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=5).read().decode())"


@dataclass(frozen=True, slots=True)
class Firing:
    """One alert that fired, with its labels."""

    labels: dict[str, str]
    first: float
    last: float
    """When it was first and last evaluated so, in Unix seconds."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server, asked over its HTTP interface from inside its network."""

    place: Place
    listen: str

    def alerts(self) -> dict[str, str]:
        """The name of each active alert and its state: pending or firing."""
        return {one["labels"]["alertname"]: one["state"] for one in self._get("alerts")["alerts"]}

    def fired(self, name: str, since: float) -> list[Firing]:
        """Who this alert fired for after a moment, in the last hour."""
        found = self.query(f'ALERTS{{alertname="{name}",alertstate="firing"}}[1h]')
        times = [(one["metric"], [at for at, _ in one["values"] if at >= since]) for one in found]
        return [
            Firing({k: v for k, v in labels.items() if k not in _ADDED}, at[0], at[-1]) for labels, at in times if at
        ]

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query."""
        result: list[Any] = self._get("query?" + urllib.parse.urlencode({"query": expression}))["result"]
        return result

    def ready(self) -> bool:
        try:
            return "ready" in get(self.place, f"http://{self.listen}/-/ready").lower()
        except RuntimeError:
            return False

    def _get(self, what: str) -> Any:
        return json.loads(get(self.place, f"http://{self.listen}/api/v1/{what}"))["data"]


def get(place: Place, url: str) -> str:
    """Fetch a page from inside a network; RuntimeError when nobody answers."""
    argv = place([sys.executable, "-c", GET, url])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot fetch {url}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def hurried(rules: str) -> str:
    """Rules of which every `for:` is a second, so that an alert that is right fires while a test looks."""
    return re.sub(r"(?m)^(\s*for:).*$", r"\1 1s", rules)


@contextmanager
def prometheus(place: Place, directory: Path, targets: Sequence[str], rules: str) -> Iterator[Prometheus]:
    """Scrape `targets` ("address:port") every second and evaluate the rules as often."""
    home = directory / "prometheus"
    home.mkdir()
    (home / "rules.yml").write_text(rules)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "jailops", "static_configs": [{"targets": list(targets)}]}],
    }
    (home / "prometheus.yml").write_text(json.dumps(config))
    server = Prometheus(place, f"127.0.0.1:{free_port()}")
    argv = ["prometheus", f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data"]
    argv.append(f"--web.listen-address={server.listen}")
    script = f"echo up; {shlex.join(argv)} >{home}/log 2>&1 & exec cat >/dev/null"
    holder = Holder(place([*OWN, "sh", "-c", script]))
    try:
        until("prometheus is ready", server.ready)
        yield server
    finally:
        holder.close()
