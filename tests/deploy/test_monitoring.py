"""Alert rules, scrape configuration and dashboard: accepted by promtool, built on metrics that exist, and documented."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.metrics import Metrics
from controller.model import Record, Ref, State, Status

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "jailops.rules.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "jailops.json").read_text())
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]


def promtool(*words: str, cwd: Path = PROMETHEUS) -> None:
    done = subprocess.run(["promtool", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> set[str]:
    """The names as Prometheus stores them, asked of the controller itself."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""], "info": ["_info"]}
    families = Metrics().registry.collect()
    return {family.name + suffix for family in families for suffix in suffixes[family.type]}


@pytest.fixture(scope="module")
def names() -> set[str]:
    return exported()


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bjailops_\w+", expression))


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", "jailops.rules.yml")
    promtool("check", "config", "prometheus.yml")


def test_promtool_proves_every_alert() -> None:
    promtool("test", "rules", "jailops.rules.test.yml")
    tested = (PROMETHEUS / "jailops.rules.test.yml").read_text()
    for rule in RULES:
        assert f"alertname: {rule['alert']}\n" in tested or f'alertname="{rule["alert"]}"' in tested, rule["alert"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any], names: set[str]) -> None:
    assert used(rule["expr"]) <= names
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    page, anchor = rule["annotations"]["runbook"].split("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]
    assert rule["alert"] in headings


def test_every_heading_of_the_runbook_is_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in RULES)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_panel_uses_metrics_that_exist(title: str, expression: str, names: set[str]) -> None:
    assert used(expression), title
    assert used(expression) <= names, title


def test_every_metric_is_shown_somewhere(names: set[str]) -> None:
    shown = {name for _, expression in EXPRESSIONS for name in used(expression)}
    assert {name for name in names if not name.endswith(("_sum", "_count", "_bucket"))} <= shown


def test_promtool_accepts_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", ".*")}
        for number, (_, expression) in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", cwd=tmp_path)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_scrape_target_is_where_the_controller_listens() -> None:
    from controller.settings import Web

    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == [Web.model_fields["listen"].default]


def test_what_cannot_be_looked_at_has_a_line_with_its_host_and_nothing_else_has() -> None:
    metrics = Metrics()
    exports, lun = Ref("exports", "san"), Ref("lun", "node1")

    def lines(state: State) -> list[dict[str, str]]:
        statuses = (Status(exports, state), Status(lun, "Waiting"))
        record = Record("", "", "", "", 0.0, 0.0, "", "held", statuses=statuses)
        metrics.passed(record, (), {}, {exports: "san", lun: "san"})
        samples = (one for family in metrics.registry.collect() for one in family.samples)
        return [dict(one.labels) for one in samples if one.name == "jailops_object_unknown" and one.value == 1]

    assert lines("Unknown") == [{"kind": "exports", "name": "san", "host": "san"}]
    assert lines("Ready") == []
