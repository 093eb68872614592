"""Alert rules without promtool: every metric is ours, every alert has a runbook and is tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.metrics import METRICS, Kind, Metric

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOKS = "docs/troubleshooting.md"
HEADINGS = re.findall(r"^#+ (.+)$", (ROOT / RUNBOOKS).read_text(encoding="utf-8"), re.MULTILINE)
ALERTS: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
TESTS: list[Any] = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]


def series(metric: Metric) -> set[str]:
    """What a metric is called in a query."""
    return (
        {metric.name + end for end in ("_bucket", "_count", "_sum")} if metric.kind is Kind.HISTOGRAM else {metric.name}
    )


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_ask_for_our_metrics(alert: str) -> None:
    """Every metric that a rule names is declared, with the labels that the rule sums by or picks."""
    expression = ALERTS[alert]["expr"]
    declared = {name: metric for metric in METRICS for name in series(metric)}
    used = set(re.findall(r"unproxy_\w+", expression))
    words = re.findall(r"(?:by|on) \(([^)]*)\)|\{(\w+)=", expression)
    labels = {label.strip() for pair in words for label in ",".join(pair).split(",") if label.strip()}
    known = {label for name in used & declared.keys() for label in declared[name].labels}

    assert used <= declared.keys()
    assert labels <= known | {"job", "instance", "le", "__name__"}


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_state_what_to_do(alert: str) -> None:
    """A summary, a sentence, how urgent it is, and a runbook whose heading is there."""
    rule = ALERTS[alert]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"{RUNBOOKS}#{alert.lower()}"
    assert alert in HEADINGS


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_are_seen_to_fire_and_to_stay_silent(alert: str) -> None:
    """The rules' own test has both for each."""
    expected = [
        bool(case.get("exp_alerts")) for test in TESTS for case in test["alert_rule_test"] if case["alertname"] == alert
    ]

    assert set(expected) == {True, False}


def test_no_runbook_is_left_over() -> None:
    """A heading that looks like an alert is one."""
    assert {heading for heading in HEADINGS if heading.startswith("Unproxy")} == ALERTS.keys()
