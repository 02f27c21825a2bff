"""Clients behind a proxy, by way of the pipeline: judged, reported, and in no kernel and store."""

from collections.abc import Sequence

import pytest

from throttled.clock import Moment
from throttled.core import behind
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts, Service
from throttled.model import Entry

LINE = "postfix/smtpd[7]: connect from unknown[{}]"
NOW = Moment(2_000_000_000.0, 5_000.0)
SERVICE = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")


@pytest.fixture
def proxied(pipeline: Pipeline) -> Pipeline:
    pipeline.engine.facts(Facts(services=(SERVICE,)))
    return pipeline


def connect(pipeline: Pipeline, client: str, count: int, now: Moment = NOW) -> None:
    lines = [LINE.format(client)] * count
    pipeline.counting.read(lines, list(range(count)), now)
    assert pipeline.settle(now) == ([], [])


def test_a_client_is_reported_and_nothing_else_is_done(proxied: Pipeline) -> None:
    enforced: list[Entry] = []
    proxied.behind.enforce = enforced.extend
    connect(proxied, "203.0.113.9", 61)
    (decision,) = proxied.behind.drain()
    assert proxied.behind.drain() == []
    assert (decision.subject, decision.origin) == ("203.0.113.9", "proxy")
    assert proxied.recorder.store.decisions("203.0.113.9") == []
    (row,) = proxied.behind.active(NOW.wall)
    assert (row.subject, row.action, row.limit) == ("203.0.113.9", "throttle", "connections")
    assert [(e.subject, e.action, e.seconds > 0) for e in enforced] == [
        ("203.0.113.9", "throttle", True)
    ]
    connect(proxied, "203.0.113.9", 5)
    assert proxied.behind.drain() == [], "it is throttled already"


def test_what_would_be_in_force_ends(proxied: Pipeline) -> None:
    connect(proxied, "203.0.113.9", 61)
    (row,) = proxied.behind.active(NOW.wall)
    assert proxied.behind.active(NOW.wall, "203.0.113.0/24") == [row]
    assert proxied.behind.active(NOW.wall, "198.51.100.0/24") == []
    assert proxied.behind.active(row.until) == []


def test_an_unban_removes_it(proxied: Pipeline) -> None:
    enforced: list[Entry] = []
    connect(proxied, "203.0.113.9", 61)
    connect(proxied, "203.0.113.10", 61)
    proxied.behind.enforce = enforced.extend
    proxied.unban("203.0.113.9", "submission", NOW)
    assert len(proxied.behind.active(NOW.wall)) == 2
    proxied.unban("203.0.113.9", None, NOW)
    assert [row.subject for row in proxied.behind.active(NOW.wall)] == ["203.0.113.10"]
    assert {(e.subject, e.seconds) for e in enforced} == {("203.0.113.9", 0.0)}
    proxied.unban("", None, NOW)
    assert proxied.behind.active(NOW.wall) == []


def test_the_proxy_itself_is_spared(proxied: Pipeline) -> None:
    """Its health checks come by the same service."""
    connect(proxied, "127.0.0.1", 61)
    assert proxied.behind.active(NOW.wall) == []
    connect(proxied, "127.0.0.1", 61)


def test_at_the_cap_those_that_end_first_go(
    proxied: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "_MOST", 1)
    connect(proxied, "203.0.113.9", 61)
    connect(proxied, "203.0.114.9", 61, Moment(NOW.wall + 1, NOW.boot + 1))
    assert [row.subject for row in proxied.behind.active(NOW.wall)] == ["203.0.114.9"]


def test_a_judgement_that_raises_stops_nothing(proxied: Pipeline) -> None:
    def fail(_entries: Sequence[Entry]) -> None:
        raise ValueError

    proxied.behind.enforce = fail
    connect(proxied, "203.0.113.9", 61)
    assert proxied.skipped.counts == {"decision": 1}
