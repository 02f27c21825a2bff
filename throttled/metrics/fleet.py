"""Metrics of the fleet. Names of hosts are labels: at most 256, of letters, digits and `._-`.

Owns no state.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from throttled.control.results import FleetResult
from throttled.metrics.families import counter, histogram


def fleet(status: FleetResult, wall: float) -> Iterator[Metric]:
    """Yield metrics of the connection to the Redis server, and of each peer.

    Args:
        status: as `throttled fleet status` shows it.
        wall: when that was, wall clock.
    """
    for name, text, value in (
        ("connected", "1: there is a connection to the Redis server.", int(status.connected)),
        ("unpublished", "Decisions that are not published yet.", status.unpublished),
    ):
        yield GaugeMetricFamily(f"throttled_fleet_{name}", text, value=value)
    yield counter("throttled_fleet_published", "Rows published.", "kind", status.published)
    received = CounterMetricFamily(
        "throttled_fleet_received", "What became of rows.", labels=["outcome", "peer"]
    )
    subjects = _gauge("subjects", "Active entries that came from it.")
    heard = _gauge("heard_timestamp_seconds", "When its latest entry came.")
    behind = _gauge("behind_seconds", "Of its stream, not processed yet.")
    for peer in status.peers:
        for outcome, count in sorted(peer.outcomes.items()):
            received.add_metric([outcome, peer.name], count)
        subjects.add_metric([peer.name], peer.entries)
        heard.add_metric([peer.name], wall - peer.heard)
        behind.add_metric([peer.name], peer.behind)
    yield received
    yield histogram(
        "throttled_fleet_delay_seconds",
        "From a row published at a peer to its being applied here.",
        status.delay,
    )
    yield from (subjects, heard, behind)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"throttled_fleet_{name}", text, labels=["peer"])
