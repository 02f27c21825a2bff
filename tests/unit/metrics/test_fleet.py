"""Metrics of the fleet, read back with Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from throttled.control.results import FleetPeer, FleetResult
from throttled.histogram import Histogram
from throttled.metrics.exposition import expose
from unit.metrics.test_exposition import status


def test_each_metric_is_there_under_its_name() -> None:
    delay = Histogram()
    delay.add(0.004, times=5)
    peer = FleetPeer("mx2", "1.2", 30.0, 7, False, {"banned": 9, "forged": 1}, behind=2.5)
    result = FleetResult("office", "mx1", True, "", {"ban": 4}, [peer], "", 3, delay)
    text = expose(status(), result).decode()
    found = {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("throttled_fleet")
    }
    heard = found.pop(("throttled_fleet_heard_timestamp_seconds", ("mx2",)))
    assert heard > 1_700_000_000
    wanted = {
        ("throttled_fleet_connected", ()): 1,
        ("throttled_fleet_unpublished", ()): 3,
        ("throttled_fleet_published_total", ("ban",)): 4,
        ("throttled_fleet_received_total", ("banned", "mx2")): 9,
        ("throttled_fleet_received_total", ("forged", "mx2")): 1,
        ("throttled_fleet_subjects", ("mx2",)): 7,
        ("throttled_fleet_behind_seconds", ("mx2",)): 2.5,
        ("throttled_fleet_delay_seconds_count", ()): 5,
    }
    assert wanted.items() <= found.items()


def test_without_a_fleet_there_are_none() -> None:
    assert b"throttled_fleet" not in expose(status())
