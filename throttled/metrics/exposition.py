"""From the daemon's status to the text that Prometheus reads. Owns no state.

Nothing that a client chose stands in a label: kinds of events, scopes, actions, the names of limits
and the paths of logs are ours or the operator's.
"""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from throttled.control.results import FleetResult, StatusResult
from throttled.metrics.families import counter, histogram
from throttled.metrics.fleet import fleet
from throttled.metrics.overload import overload

CONTENT_TYPE = CONTENT_TYPE_LATEST


def expose(status: StatusResult, hosts: FleetResult | None = None) -> bytes:
    """Return all metrics as Prometheus' text format.

    Args:
        status: as `throttled status` shows it.
        hosts: as `throttled fleet status` shows it; None: there is no fleet.
    """
    registry = CollectorRegistry()
    registry.register(_Metrics(status, hosts))
    ProcessCollector(
        registry=registry
    )  # process_cpu_seconds_total, process_resident_memory_bytes …
    text: bytes = generate_latest(registry)
    return text


class _Metrics(Collector):
    """What prometheus-client asks for metrics."""

    def __init__(self, status: StatusResult, hosts: FleetResult | None) -> None:
        self._status, self._hosts = status, hosts

    def describe(self) -> Iterable[Metric]:
        return ()  # nobody else is in the registry to clash with

    def collect(self) -> Iterator[Metric]:
        status = self._status
        about = {"version": status.version, "backend": status.backend, "mode": status.mode}
        info = GaugeMetricFamily("throttled_info", "What is running.", labels=list(about))
        info.add_metric(list(about.values()), 1)
        yield info
        yield from _counters(status)
        yield from _gauges(status)
        yield from _logs(status)
        yield from overload(status.overload)
        yield histogram(
            "throttled_decision_seconds",
            "From a batch of lines read to its decisions recorded.",
            status.decided_in,
        )
        yield histogram(
            "throttled_enforcement_seconds",
            "From a batch of lines read to its decisions applied in the kernel.",
            status.enforced_in,
        )
        if self._hosts is not None:
            yield from fleet(self._hosts, time.time())


def _counters(status: StatusResult) -> Iterator[Metric]:
    for name, text, value in (
        ("lines", "Log lines read.", status.lines),
        ("lines_lost", "Log lines that the logger says it lost.", status.lines_lost),
        ("errors", "Errors, each in the daemon's log.", status.errors),
        ("packets_dropped", "Packets that the kernel dropped.", status.packets_dropped),
    ):
        yield CounterMetricFamily(f"throttled_{name}", text, value=value)
    for name, text, label, counts in (
        ("events", "Events in the log.", "kind", status.events),
        ("skipped", "Skipped because of unexpected errors.", "kind", status.skipped),
        ("policy_answers", "Answers to Postfix's policy requests.", "answer", status.answers),
    ):
        yield counter(f"throttled_{name}", text, label, counts)
    decisions = CounterMetricFamily("throttled_decisions", "Decisions.", labels=["action", "limit"])
    for limit, by_action in sorted(status.decisions.items()):
        for action, count in sorted(by_action.items()):
            decisions.add_metric([action, limit], count)
    yield decisions


def _gauges(status: StatusResult) -> Iterator[Metric]:
    for name, text, value in (
        ("start_time_seconds", "When the daemon started.", status.started),
        ("clients", "Clients that are counted now.", status.clients),
        ("clients_max", "Clients that can be counted at a time.", status.max_clients),
        ("elements_desired", "Entries that should be in the kernel.", status.desired),
        ("elements_enforced", "Elements in the kernel.", status.enforced),
    ):
        yield GaugeMetricFamily(f"throttled_{name}", text, value=value)
    subjects = GaugeMetricFamily(
        "throttled_subjects", "Active throttles, bans and exemptions.", labels=["action", "scope"]
    )
    by_action = {"throttle": status.throttled, "ban": status.banned, "exempt": status.exempt}
    for action, by_scope in by_action.items():
        for scope, count in by_scope.items():
            subjects.add_metric([action, scope], count)
    yield subjects
    findings = GaugeMetricFamily(
        "throttled_problems", "Findings of `throttled status`, by state.", labels=["state"]
    )
    for state in ("fault", "warning"):
        findings.add_metric([state], sum(p.state == state for p in status.health))
    yield findings
    finding = GaugeMetricFamily(
        "throttled_problem", "1: the finding with this key is present.", labels=["key", "state"]
    )
    for key, state in sorted({(p.key, p.state) for p in status.health}):
        finding.add_metric([key, state], 1)
    yield finding


def _logs(status: StatusResult) -> Iterator[Metric]:
    lag = GaugeMetricFamily("throttled_log_lag_bytes", "Not yet read.", labels=["log"])
    last = GaugeMetricFamily(
        "throttled_log_last_line_timestamp_seconds", "When a line last came.", labels=["log"]
    )
    lines = CounterMetricFamily("throttled_log_lines", "Lines read.", labels=["log"])
    broken = GaugeMetricFamily("throttled_log_broken", "1: it cannot be read.", labels=["log"])
    for tail in status.tails:
        lag.add_metric([tail.path], tail.lag)
        last.add_metric([tail.path], tail.last_line)
        lines.add_metric([tail.path], tail.lines)
        broken.add_metric([tail.path], bool(tail.problems) or not tail.exists)
    yield from (lag, last, lines, broken)
