"""Metrics of the fleet. Names of hosts are labels: at most 256, of letters, digits and `._-`."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from throttled.control.protocol import FleetResult
from throttled.metrics.families import histogram


class FleetMetrics(Collector):
    """What prometheus-client asks for metrics."""

    def __init__(self, fleet: FleetResult, wall: float) -> None:
        """Take what `throttled fleet status` shows, and when that was."""
        self._fleet, self._wall = fleet, wall

    def describe(self) -> Iterable[Metric]:
        """Return nothing: nobody else is in the registry to clash with."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        fleet = self._fleet
        for name, text, value in (
            ("connected", "1: there is a connection to the Redis server.", int(fleet.connected)),
            ("unpublished", "Decisions that are not published yet.", fleet.unpublished),
        ):
            yield GaugeMetricFamily(f"throttled_fleet_{name}", text, value=value)
        published = CounterMetricFamily(
            "throttled_fleet_published", "Rows published.", labels=["kind"]
        )
        for kind, count in sorted(fleet.published.items()):
            published.add_metric([kind], count)
        yield published
        received = CounterMetricFamily(
            "throttled_fleet_received", "What became of rows.", labels=["outcome", "peer"]
        )
        for peer in fleet.peers:
            for outcome, count in sorted(peer.outcomes.items()):
                received.add_metric([outcome, peer.name], count)
        yield received
        yield histogram(
            "throttled_fleet_delay_seconds",
            "From a row published at a peer to its being applied here.",
            fleet.delay,
        )
        yield from self._peers()

    def _peers(self) -> Iterator[Metric]:
        about = (
            ("subjects", "Active entries that came from it."),
            ("heard_timestamp_seconds", "When its latest entry came."),
            ("behind_seconds", "Of its stream, not processed yet."),
        )
        found = [
            GaugeMetricFamily(f"throttled_fleet_{name}", text, labels=["peer"])
            for name, text in about
        ]
        for peer in self._fleet.peers:
            values = (peer.entries, self._wall - peer.heard, peer.behind)
            for family, value in zip(found, values, strict=True):
                family.add_metric([peer.name], value)
        yield from found
