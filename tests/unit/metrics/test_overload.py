"""Metrics of overload, by scope."""

from prometheus_client.core import Metric

from throttled.control.overload import OverloadStatus
from throttled.metrics.overload import overload

ROW = OverloadStatus("mx", "enforce", "bpf", 80, 79, 500, 1e9, 30.0, 390, 700, 11, 12, 13, 5)


def values(metrics: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("throttled_strangers_"), *sample.labels.values()): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def test_levels_and_totals() -> None:
    assert values(list(overload([ROW]))) == {
        ("delayed", "mx"): 1,
        ("enforcing", "mx"): 1,
        ("open", "mx"): 79,
        ("cap", "mx"): 80,
        ("known_good", "mx"): 500,
        ("networks", "mx"): 390,
        ("turn_seconds", "mx"): 30,
        ("dropped_total", "mx", "cap"): 11,
        ("dropped_total", "mx", "pace"): 12,
        ("dropped_total", "mx", "turn"): 13,
        ("admitted_total", "mx"): 700,
        ("ended_total", "mx"): 5,
    }
