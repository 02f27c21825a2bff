"""Families of metrics out of what the program counts. Owns no state."""

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from throttled.histogram import Histogram


def counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    """Return counts by the values of a label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def histogram(name: str, text: str, counts: Histogram) -> Metric:
    """Return a histogram as Prometheus has it."""
    rows = [("+Inf" if b == float("inf") else str(b), n) for b, n in counts.cumulative()]
    return HistogramMetricFamily(name, text, buckets=rows, sum_value=counts.total)
