"""The alert rules and the dashboard: each rule is fired, and no unknown figure is asked for."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from throttled.metrics.exposition import expose

from .test_exposition import status

ROOT = Path(__file__).parents[3]
RULES = ROOT / "packaging/prometheus/throttled.rules.yml"
DASHBOARD = ROOT / "packaging/grafana/throttled.json"

#: What a quiet host shows for an hour, a sample a minute. `+`: so much more each time.
QUIET = {
    'up{job="throttled"}': "1x60",
    "throttled_start_time_seconds": "0x60",
    'throttled_problems{state="fault"}': "0x60",
    'throttled_problems{state="warning"}': "0x60",
    "throttled_elements_desired": "9x60",
    "throttled_elements_enforced": "9x60",
    'throttled_log_lag_bytes{log="m"}': "4096x60",
    'throttled_log_last_line_timestamp_seconds{log="m"}': "1+60x60",
    "throttled_lines_lost_total": "7x60",
    "throttled_errors_total": "7x60",
    "throttled_clients": "90x60",
    "throttled_clients_max": "100x60",
    'throttled_enforcement_seconds_bucket{le="0.002"}': "0+9x60",
    'throttled_enforcement_seconds_bucket{le="1.0"}': "0+9x60",
    'throttled_enforcement_seconds_bucket{le="+Inf"}': "0+9x60",
    'throttled_decisions_total{action="ban",limit="auth"}': "0+9x60",
    'throttled_decisions_total{action="ban",limit="errors"}': "0+9x60",
}
#: What is different where an alert is to fire: (seconds, a series, its samples).
FIRING = {
    "ThrottledDown": (3600, 'up{job="throttled"}', "1x30 0x30"),
    "ThrottledRestarts": (3600, "throttled_start_time_seconds", "0x46 100x3 200x3 300x10"),
    "ThrottledFault": (3600, 'throttled_problems{state="fault"}', "0x50 2x10"),
    "ThrottledWarning": (7000, 'throttled_problems{state="warning"}', "1x120"),
    "ThrottledKernelDisagrees": (3600, "throttled_elements_enforced", "9x50 8x10"),
    "ThrottledLogLags": (3600, 'throttled_log_lag_bytes{log="m"}', "1x50 2000000x10"),
    "ThrottledLogSilent": (
        7 * 3600,
        'throttled_log_last_line_timestamp_seconds{log="m"}',
        "1+60x9 600x500",
    ),
    "ThrottledLinesLost": (3600, "throttled_lines_lost_total", "7x55 9x10"),
    "ThrottledErrors": (3600, "throttled_errors_total", "7x55 8x10"),
    "ThrottledClientsFull": (3600, "throttled_clients", "90x50 96x10"),
    "ThrottledSlow": (
        3600,
        'throttled_enforcement_seconds_bucket{le="0.002"}',
        "0x60",
    ),
    "ThrottledUnderAttack": (
        3600,
        'throttled_decisions_total{action="ban",limit="auth"}',
        "0x55 0+200x10",
    ),
}


def _fired(tmp_path: Path, seconds: int, series: dict[str, str], expected: list[str]) -> str:
    """Return promtool's complaint; "" when the alerts that fire are the expected ones."""
    if (minutes := seconds // 60) > 60:  # series that end would be no figures at all
        series = {name: values.replace("x60", f"x{minutes}") for name, values in series.items()}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{seconds}s",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(test))  # JSON is YAML
    run = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_promtool_likes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", RULES], check=True, capture_output=True)


def test_promtool_likes_the_figures() -> None:
    subprocess.run(
        ["promtool", "check", "metrics"], input=expose(status()), check=True, capture_output=True
    )


def test_nothing_fires_on_a_quiet_host(tmp_path: Path) -> None:
    assert not _fired(tmp_path, 3600, dict(QUIET), [])


@pytest.mark.parametrize("alert", FIRING)
def test_each_alert_fires_alone(tmp_path: Path, alert: str) -> None:
    seconds, name, values = FIRING[alert]
    assert not _fired(tmp_path, seconds, {**QUIET, name: values}, [alert])


def test_each_rule_is_fired() -> None:
    assert set(re.findall(r"alert: (\w+)", RULES.read_text())) == set(FIRING)


def _asked(text: str) -> set[str]:
    return set(re.findall(r"\b(?:throttled|process)_[a-z_]+", text))


def test_the_dashboard_asks_for_figures_that_are(tmp_path: Path) -> None:
    exposed = _asked(expose(status()).decode())
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert queries
    for query in (*queries, *re.findall(r"expr: (.*)", RULES.read_text())):
        assert _asked(query) <= exposed, query
    for query in queries:  # and each is a query: promtool reads it as a rule
        rule = {"record": "x", "expr": query.replace("$__rate_interval", "5m")}
        path = tmp_path / "rules.yml"
        path.write_text(json.dumps({"groups": [{"name": "x", "rules": [rule]}]}))
        subprocess.run(["promtool", "check", "rules", path], check=True, capture_output=True)
