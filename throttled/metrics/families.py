"""Families of metrics out of what the program counts. Owns no state."""

from prometheus_client.core import HistogramMetricFamily, Metric

from throttled.histogram import Histogram


def histogram(name: str, text: str, counts: Histogram) -> Metric:
    """Return a histogram as Prometheus has it."""
    rows = [("+Inf" if b == float("inf") else str(b), n) for b, n in counts.cumulative()]
    return HistogramMetricFamily(name, text, buckets=rows, sum_value=counts.total)
