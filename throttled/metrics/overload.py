"""Metrics of overload. Owns no state."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from throttled.control.overload import OverloadStatus


def overload(rows: Sequence[OverloadStatus]) -> Iterator[Metric]:
    """Yield metrics of strangers, by scope."""
    for name, text, value in (
        ("delayed", "1: strangers are delayed, or would be.", lambda row: bool(row.since)),
        ("enforcing", "1: strangers can be delayed.", lambda row: row.drops),
        ("open", "Connections that strangers have open.", lambda row: row.open),
        ("cap", "Connections that strangers may have open.", lambda row: row.cap),
        ("known_good", "Addresses that are known good.", lambda row: row.known),
        ("networks", "Networks of strangers admitted lately.", lambda row: row.networks),
        ("turn_seconds", "Time in which a network is admitted once.", lambda row: row.turn),
    ):
        gauge = GaugeMetricFamily(f"throttled_strangers_{name}", text, labels=["scope"])
        for row in rows:
            gauge.add_metric([row.scope], value(row))
        yield gauge
    dropped = CounterMetricFamily(
        "throttled_strangers_dropped",
        "Packets of strangers that were dropped, or would have been.",
        labels=["scope", "reason"],
    )
    admitted = CounterMetricFamily(
        "throttled_strangers_admitted", "Connections of strangers.", labels=["scope"]
    )
    ended = CounterMetricFamily(
        "throttled_strangers_ended", "Idle sessions of strangers ended.", labels=["scope"]
    )
    for row in rows:
        reasons = {"cap": row.over_cap, "pace": row.over_pace, "turn": row.over_turn}
        for reason, count in reasons.items():
            dropped.add_metric([row.scope, reason], count)
        admitted.add_metric([row.scope], row.admitted)
        ended.add_metric([row.scope], row.ended)
    yield from (dropped, admitted, ended)
