"""The figures, read back with Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from throttled.control.results import StatusResult, TailStatus
from throttled.histogram import Histogram
from throttled.metrics.exposition import expose
from throttled.model import Finding

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def status() -> StatusResult:
    enforced = Histogram()
    enforced.add(0.0016, times=3)
    return StatusResult(
        version="1.2",
        backend="nftables",
        mode="enforce",
        pid=1,
        started=1000.0,
        uptime=60.0,
        tails=[
            TailStatus("/var/log/mail.log", True, 12, 100, 1.5, 2000.0, []),
            TailStatus('/odd"path\n', False, 0, 0, 0.0, 0.0, []),
        ],
        clients=7,
        max_clients=100,
        throttled={"mx": 2, "submission": 0},
        banned={"mx": 3, "submission": 1},
        exempt={"mx": 4},
        packets_dropped=55,
        answers={"wait": 3},
        desired=6,
        enforced=5,
        counted=True,
        health=[
            Finding("fault", "a", key="store"),
            Finding("warning", "b"),
            Finding("warning", "c"),
        ],
        events={"connect": 9, "reject": 4},
        lines=100,
        lines_lost=1,
        errors=2,
        decisions={"errors": {"ban": 4, "throttle": 2}},
        enforced_in=enforced,
    )


def samples() -> Samples:
    text = expose(status()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_figure_is_there_under_its_name() -> None:
    read = samples()
    about = (("backend", "nftables"), ("mode", "enforce"), ("version", "1.2"))
    wanted: Samples = {
        ("throttled_info", about): 1,
        ("throttled_lines_total", ()): 100,
        ("throttled_lines_lost_total", ()): 1,
        ("throttled_errors_total", ()): 2,
        ("throttled_packets_dropped_total", ()): 55,
        ("throttled_policy_answers_total", (("answer", "wait"),)): 3,
        ("throttled_events_total", (("kind", "reject"),)): 4,
        ("throttled_decisions_total", (("action", "ban"), ("limit", "errors"))): 4,
        ("throttled_start_time_seconds", ()): 1000,
        ("throttled_clients", ()): 7,
        ("throttled_clients_max", ()): 100,
        ("throttled_elements_desired", ()): 6,
        ("throttled_elements_enforced", ()): 5,
        ("throttled_subjects", (("action", "ban"), ("scope", "submission"))): 1,
        ("throttled_subjects", (("action", "throttle"), ("scope", "mx"))): 2,
        ("throttled_subjects", (("action", "exempt"), ("scope", "mx"))): 4,
        ("throttled_problems", (("state", "fault"),)): 1,
        ("throttled_problems", (("state", "warning"),)): 2,
        ("throttled_problem", (("key", "store"), ("state", "fault"))): 1,
        ("throttled_log_lag_bytes", (("log", "/var/log/mail.log"),)): 12,
        ("throttled_log_last_line_timestamp_seconds", (("log", "/var/log/mail.log"),)): 2000,
        ("throttled_log_lines_total", (("log", "/var/log/mail.log"),)): 100,
        ("throttled_log_broken", (("log", "/var/log/mail.log"),)): 0,
        ("throttled_log_broken", (("log", '/odd"path\n'),)): 1,
        ("throttled_enforcement_seconds_bucket", (("le", "0.001"),)): 0,
        ("throttled_enforcement_seconds_bucket", (("le", "0.002"),)): 3,
        ("throttled_enforcement_seconds_bucket", (("le", "+Inf"),)): 3,
        ("throttled_enforcement_seconds_count", ()): 3,
        ("throttled_decision_seconds_count", ()): 0,
    }
    assert {key: read.get(key) for key in wanted} == wanted


def test_the_daemons_own_cost_is_there() -> None:
    read = samples()
    assert read["process_resident_memory_bytes", ()] > 1e6
    assert read["process_cpu_seconds_total", ()] > 0


def test_labels_are_few() -> None:
    """Nothing grows with the number of clients."""
    labels = {name for _, pairs in samples() for name, _ in pairs}
    words = "version backend mode kind action scope limit state log le key answer"
    assert labels == set(words.split())
