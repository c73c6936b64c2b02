"""The alert rules that are shipped: Prometheus understands them, and every metric they name is one of ours."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import voxthread.observability.metrics  # noqa: F401  registers the metrics
from spoken import SkipLoudly

pytestmark = pytest.mark.unit

RULES = Path(__file__).parents[2] / "deploy/prometheus/voxthread-alerts.yml"


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(skip_loudly: SkipLoudly, *arguments: str | Path) -> None:
    if shutil.which("promtool") is None:
        skip_loudly("promtool", "not installed, so only the shape of the alert rules is tested")
    checked = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_takes_the_rules(skip_loudly: SkipLoudly) -> None:
    promtool(skip_loudly, "check", "rules", RULES)


def series(metric: str, labels: dict[str, str]) -> str:
    return f"{metric}{{{', '.join(f'{name}={value!r}' for name, value in labels.items())}}}".replace("'", '"')


def test_ids_refused_at_a_door_and_one_on_the_log_each_raise_their_alert(
    skip_loudly: SkipLoudly, tmp_path: Path
) -> None:
    at_door = {"component": "whip", "dialect": "frontend", "rule": "too_short"}
    on_log = {"component": "media", "dialect": "media", "rule": "bad_prefix"}
    case = {
        "interval": "1m",
        "input_series": [
            {
                "series": series("session_id_invalid_total", labels),
                "values": values,
            }
            for labels, values in ((at_door, "0+2x10"), (on_log, "0 0 0 0 0 1 1 1 1 1 1"))
        ],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": name, "exp_alerts": [{"exp_labels": labels}]}
            for name, labels in (
                ("SessionIdsInvalid", {**at_door, "severity": "warning"}),
                (
                    "SessionIdInvalidOnTheLog",
                    {"component": "media", "rule": "bad_prefix", "severity": "critical"},
                ),
            )
        ],
    }
    # promtool compares the words too, which here are not the point
    bare = yaml.safe_load(RULES.read_text())
    for group in bare["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(bare))
    cases = tmp_path / "cases.yml"
    cases.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [case]}))
    promtool(skip_loudly, "test", "rules", cases)


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    for alert in alerts():
        assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert set(alert["annotations"]) == {"summary", "description"}


def test_each_alert_asks_for_metrics_and_labels_that_exist() -> None:
    families = {family.name: family for family in REGISTRY.collect()}
    for alert in alerts():
        for metric in re.findall(r"\w+_total", alert["expr"]):
            assert metric.removesuffix("_total") in families, alert["alert"]
