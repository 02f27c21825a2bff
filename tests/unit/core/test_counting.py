"""Lines on their way into the engine: which time they get, what they count, what is skipped."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.counting import Counting, Counts, Unbanned
from throttled.decide.engine import Engine
from throttled.decide.senders import Senders
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import Limit, default_limits
from throttled.model import Event
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.skipped import Skipped

WALL, BOOT = 1_796_000_000.0, 50_000_000.0
NOW = Moment(WALL, BOOT)
DAY = 86400.0
A, B = "198.51.100.7", "198.51.100.8"


class Watched(Engine):
    """An engine that remembers what it was given, and may raise."""

    steps: list[tuple[Event, float, int, int, int]]
    broken = ""  # a client with which it raises

    def step(self, event: Event, at: float, log: int = 0, source: int = 0, offset: int = 0) -> None:
        if event.client and event.client == self.broken:
            raise ValueError
        self.steps.append((event, at, log, source, offset))
        super().step(event, at, log, source, offset)


class Room:
    """A counting with all that it counts in."""

    def __init__(self, policy: Policy | None = None, facts: Facts | None = None) -> None:
        policy, facts = policy or Policy(), facts or Facts()
        self.engine = Watched(policy, facts)
        self.engine.steps = []
        self.senders = Senders(policy, facts)
        self.skipped, self.counts = Skipped(), Counts()
        parser = Parser(UTC, WALL)
        self.counting = Counting(self.engine, self.senders, parser, self.skipped, self.counts)

    def read(self, *lines: str, **more: Any) -> None:
        self.counting.read(lines, range(len(lines)), NOW, **more)

    def value(self, client: str, limit: str) -> int:
        meters = self.engine.meters(client, BOOT)
        return {(m.limit, m.scope): m.value for m in meters}[limit, "mx"]


def line(body: str, age: float = 0.0, host: str = "mx") -> str:
    stamp = datetime.fromtimestamp(WALL - age, UTC).isoformat(timespec="microseconds")
    return f"{stamp} {host} postfix/{body}"


def connect(client: str = A, age: float = 0.0, pid: int = 1) -> str:
    return line(f"smtpd[{pid}]: connect from x.example[{client}]", age)


def message(queue_id: str, user: str = "alice", host: str = "mx") -> tuple[str, str]:
    return (
        line(
            f"smtpd[1]: {queue_id}: client=x[{A}], sasl_method=PLAIN, sasl_username={user}", 0, host
        ),
        line(f"qmgr[1]: {queue_id}: from=<a@b.test>, size=9, nrcpt=3 (queue active)", 0, host),
    )


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("age", "counted"),
    [
        (-60.0, 0.0),  # never later than its arrival
        (0.0, 0.0),
        (2.0, 0.0),  # RFC 3164 has whole seconds
        (2.5, 2.5),
        (300 * DAY - 1, 300 * DAY - 1),
        (300 * DAY, None),  # of last year, or of a clock that cannot be compared
        (400 * DAY, None),
    ],
)
def test_the_time_of_a_line(age: float, counted: float | None, *, again: bool) -> None:
    room = Room()
    room.read(connect(age=age), log_number=3, source=4, unbanned={} if again else None)
    found = [(at, *where) for _, at, *where in room.engine.steps]
    if counted is None and again:
        assert found == []
    else:
        assert found == [(BOOT - (counted or 0.0), 3, 4, 0)]
    assert room.counts.events == {"connect": 1}
    assert room.skipped.counts == {}


def test_the_engine_knows_the_moment() -> None:
    room = Room()
    room.read()
    assert room.engine.now == BOOT


def test_lines_and_events_are_counted() -> None:
    room = Room()
    lost = "systemd-journald[1]: Suppressed 40 messages from postfix@-.service"
    stamp = line("").partition(" ")[0]
    room.read(connect(), connect(), f"{stamp} mx {lost}", "nothing")
    room.read(f"{stamp} mx {lost}")
    assert (room.counts.lines, room.counts.lines_lost) == (5, 80)
    assert room.counts.events == {"connect": 2, "lines_lost": 2}
    assert room.engine.steps[0][2:] == (0, 0, 0)
    assert room.skipped.counts == {}


def test_a_line_that_raises_is_skipped_alone(caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    room.engine.broken = B
    room.read(connect(), connect(B), connect(), connect(B))
    assert [offset for *_, offset in room.engine.steps] == [0, 2]
    assert room.skipped.counts == {"line": 2}
    assert f"connect from x.example[{B}]" in caplog.text
    assert A not in caplog.text
    assert room.counts.lines == 4


def test_what_is_about_a_message_counts_for_its_sender() -> None:
    room = Room(facts=Facts(hostnames=frozenset({"mx"})))
    room.read(*message("3A5C01F2B"), *message("3A5C01F2C", "bob", "other"), source=4)
    days = [(day.subject, day.messages) for day in room.senders.days()]
    assert days == [("account:alice", 1)]
    assert [(n.source, n.offset) for n in room.senders.lines("account:alice")] == [(4, 0), (4, 1)]
    room.read(*message("3A5C01F2D"), unbanned={})  # its day has it already
    assert [day.messages for day in room.senders.days()] == [1]


@pytest.mark.parametrize("asked", [False, True])
def test_connections_count_for_inside_hosts_where_a_limit_asks(*, asked: bool) -> None:
    limit = Limit(of="inside", count="connections", within=duration("1m"), soft=2)
    limits = {**default_limits(), "c": replace(limit, enabled=asked)}
    room = Room(Policy(limits=limits), Facts(mynetworks=("198.51.100.0/24",)))
    lost = line(f"smtpd[1]: lost connection after EHLO from x.example[{A}]")
    room.read(*[connect()] * 3, *[lost] * 9)
    assert [report.value for report in room.senders.drain()] == ([3] if asked else [])


def test_each_log_has_its_parser() -> None:
    repeated = (
        f"{datetime.fromtimestamp(WALL, UTC):%b %d %H:%M:%S} mx last message repeated 2 times"
    )
    room = Room()
    room.read(connect(), log_number=0)
    room.read(repeated, log_number=1)
    assert room.value(A, "connections") == 1
    room.read(repeated, log_number=0)
    assert room.value(A, "connections") == 3


def test_the_parsers_of_a_hundred_logs_are_kept() -> None:
    room = Room()
    for log in range(100):
        room.read(log_number=log)
    assert len(room.counting._parsers) == 100
    room.read(log_number=99)
    assert len(room.counting._parsers) == 100
    room.read(log_number=100)
    assert list(room.counting._parsers) == [100]


@pytest.mark.parametrize(
    ("unbanned", "counted"),
    [
        ({}, (3, 3)),
        ({A: {"mx": WALL - 20.0}}, (1, 3)),  # the one of that moment too
        ({A: {"submission": WALL}}, (3, 3)),
        ({"198.51.100.0/24": {"mx": WALL}}, (3, 3)),
        ({"": {"mx": WALL - 20.0}}, (1, 1)),
    ],
)
def test_what_was_unbanned_since_counts_no_more(
    unbanned: Unbanned, counted: tuple[int, int]
) -> None:
    room = Room()
    lines = [connect(client, age) for age in (30.0, 20.0, 10.0) for client in (A, B)]
    room.read(*lines, unbanned=unbanned)
    assert (room.value(A, "connections"), room.value(B, "connections")) == counted
    network = 2 if unbanned.get("") else 0 if "198.51.100.0/24" in unbanned else 6
    assert room.value("198.51.100.0/24", "connections") == network


def test_a_peak_and_an_event_without_client_reset_nothing() -> None:
    room = Room()
    peak = f"anvil[1]: statistics: max connection rate 9/60s for (smtp:{A}) at Nov 30 00:53:10"
    room.read(connect(age=10.0), unbanned={})
    stamp = line("").partition(" ")[0]
    lost = f"{stamp} mx systemd-journald[1]: Suppressed 4 messages from postfix@-.service"
    room.read(line(peak, 9.0), lost, unbanned={A: {"mx": WALL}, "": {"mx": WALL}})
    assert room.counts.events == {"connect": 1, "peak": 1, "lines_lost": 1}
    assert room.value(A, "connections") == 1
