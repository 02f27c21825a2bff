"""The pipeline with the real parser, engine, ladder and SQLite.

The kernel is played by `Kernel`, which can refuse, as a real one does only when it is broken; the
contract suite and the system tests have the real ones.
"""

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.decide.ladder import Ruling
from throttled.decide.protect import Protection
from throttled.enforce.backend import Applied, Fill, Ruleset
from throttled.errors import BackendError, StoreError
from throttled.facts import Facts, Service
from throttled.health.senders import SenderReporter
from throttled.limits import default_limits
from throttled.model import (
    Crossing,
    Decision,
    Element,
    Entry,
    Event,
    Evidence,
    Finding,
    Rate,
    Scope,
)
from throttled.notify import line
from throttled.parse.parser import Parser
from throttled.settings import Guessing, Policy
from throttled.store.store import Filter, Store, StoredPosition

WALL = 1_796_000_000.0  # 2026-11-30 00:53:20 UTC
BOOT = 50_000_000.0
NOW = Moment(WALL, BOOT)
STAMP = "2026-11-30T00:53:20.000000+00:00"
A = "198.51.100.7"


def later(seconds: float) -> Moment:
    return Moment(WALL + seconds, BOOT + seconds)


def decision(number: int) -> Decision:
    subject = f"198.18.{number >> 8}.{number & 255}"
    return Decision(WALL, "ban", subject, "mx", "errors", 1, WALL + 600, "because")


class Kernel:
    """A backend that remembers, and that refuses while `fault` is set."""

    name = "test"
    enforces, at_interfaces, refuses = True, False, True

    def __init__(self) -> None:
        self.elements: dict[tuple[str, str, str], float] = {}
        self.error: BackendError | None = None
        self.refused: set[str] = set()

    def check(self) -> list[Finding]:
        return []

    def setup(self, ruleset: Ruleset) -> bool:
        del ruleset
        return True

    def apply(self, entries: Sequence[Entry]) -> Applied:
        if self.error is not None:
            raise self.error
        for entry in entries:
            key = (entry.subject, entry.scope, entry.action)
            self.elements.pop(key, None)
            if entry.seconds and entry.subject not in self.refused:
                self.elements[key] = entry.seconds
        return Applied(tuple((e, "no room") for e in entries if e.subject in self.refused))

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        found = []
        for entry in entries:
            seconds = self.elements.get((entry.subject, entry.scope, entry.action))
            if seconds is not None:
                found.append(Element(entry.subject, entry.scope, entry.action, seconds, 7))
        return found

    def dump(self) -> Iterator[Element]:
        for (subject, scope, action), seconds in self.elements.items():
            yield Element(subject, scope, action, seconds)  # type: ignore[arg-type]

    def dropped(self) -> int:
        return 0

    def collect(self) -> None:
        return

    def intact(self) -> bool:
        return True

    def fill(self) -> list[Fill]:
        return []

    def watch(self) -> None:
        return

    def present(self) -> bool:
        return bool(self.elements)

    def teardown(self) -> None:
        self.elements.clear()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(str(tmp_path / "t.db"))
    yield opened
    opened.close()


@pytest.fixture
def pipeline(store: Store, kernel: Kernel) -> Pipeline:
    return Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, WALL))


def lines(body: str, count: int, stamp: str = STAMP) -> list[str]:
    return [f"{stamp} mx postfix/smtpd[{1000 + n}]: {body}" for n in range(count)]


FLOOD = lines(f"connect from unknown[{A}]", 61)
GARBAGE = lines(f"warning: non-SMTP command from unknown[{A}]: GET / HTTP/1.1", 11)


def read(pipeline: Pipeline, text: Sequence[str], now: Moment = NOW) -> list[Decision]:
    pipeline.counting.read(text, range(len(text)), now, 0, 3)
    return pipeline.settle(now, ())[0]


def test_who_goes_on_above_a_slow_throttle_is_returned_and_not_decided_again(
    pipeline: Pipeline, kernel: Kernel, store: Store
) -> None:
    listed = f"NOQUEUE: reject: RCPT from unknown[{A}]: 550 5.1.1 <u@example.org>: Recipient "
    null = f"{listed}address rejected: User unknown; from=<> to=<u@example.org> proto=SMTP helo=<x>"
    (decision,) = read(pipeline, lines(null, 61))
    assert (decision.limit, decision.rate) == ("callouts", Rate(30, 3600.0, 5))
    assert pipeline.further(NOW) == []
    before = dict(kernel.elements)
    assert read(pipeline, lines(null, 62)[-1:]) == []
    assert [(d.action, d.subject, d.pid) for d in pipeline.further(NOW)] == [("throttle", A, 1061)]
    assert pipeline.further(NOW) == []
    assert (kernel.elements, len(store.decisions(A))) == (before, 1)
    for count in (63, 64, 65):  # nobody asks: while observing, or in a replay
        assert read(pipeline, lines(null, count)[-1:]) == []
    assert [d.pid for d in pipeline.further(NOW)] == [1064]


def test_lines_become_a_throttle_in_store_and_kernel(
    pipeline: Pipeline, kernel: Kernel, store: Store
) -> None:
    (decision,) = read(pipeline, FLOOD)
    assert kernel.elements == {(A, "mx", "throttle"): 600.0}
    # The session that caused it matters at once, or never.
    assert decision.pid == 1060
    assert store.decisions(A) == [replace(decision, pid=0, above="")]
    assert decision.lines[-1].offset == 60
    assert decision.lines[-1].source == 3
    assert pipeline.counts.events == {"connect": 61}
    assert pipeline.counts.lines == 61


def test_a_ban_follows_and_is_not_made_twice(pipeline: Pipeline, kernel: Kernel) -> None:
    read(pipeline, FLOOD)
    assert [d.action for d in read(pipeline, GARBAGE)] == ["ban"]
    assert (A, "mx", "ban") in kernel.elements
    assert read(pipeline, GARBAGE + FLOOD) == []


def test_what_was_repeated_is_the_line_before_in_the_same_log(pipeline: Pipeline) -> None:
    repeated = f"{STAMP} mx last message repeated 70 times"
    pipeline.counting.read(FLOOD[:1], [0], NOW, 0, 3)
    for log_number in range(1, 120):
        pipeline.counting.read([repeated], [0], NOW, log_number, 3)
        pipeline.counting.read(lines("removed", 1), [0], NOW, log_number, 3)
    assert pipeline.settle(NOW)[0] == []
    pipeline.counting.read(FLOOD[:1], [0], NOW, 0, 3)
    pipeline.counting.read([repeated], [100], NOW, 0, 3)
    (decision,) = pipeline.settle(NOW)[0]
    assert (decision.action, decision.value) == ("throttle", 72)


def test_a_log_that_stalled_is_no_burst(pipeline: Pipeline) -> None:
    text = []
    for minute in range(10, 53):
        stamp = f"2026-11-30T00:{minute}:00.000000+00:00"
        text += lines(f"connect from unknown[{A}]", 30, stamp)
    assert read(pipeline, text) == []


def test_a_line_from_the_future_counts_as_now(pipeline: Pipeline) -> None:
    text = lines(f"connect from unknown[{A}]", 61, "2026-11-30T00:58:20.000000+00:00")
    assert len(read(pipeline, text)) == 1


def test_evidence_counts_before_it_is_recorded(
    pipeline: Pipeline, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded before the decision, it would be read again after a kill, and count twice."""
    store.record(WALL - 86400, [], evidence=[Evidence(A, WALL - 86400, 1, 0)])
    good = lines(f"disconnect from a.test[{A}] ehlo=1 mail=1 rcpt=1 data=1 commands=4", 1)
    judge = pipeline.ladder.judge

    def judging(*args: Any) -> Ruling:
        assert store.past([(A, "mx")], WALL)[A, "mx"].deliveries == 1
        return judge(*args)

    monkeypatch.setattr(pipeline.ladder, "judge", judging)
    (decision,) = read(pipeline, [*good, *GARBAGE])
    # 50, three for the one within the window, one for each of the two.
    assert decision.why.endswith("2 deliveries on 2 days excuse it up to 55")
    assert store.past([(A, "mx")], WALL)[A, "mx"].deliveries == 2


def test_positions_are_recorded_with_the_decision(pipeline: Pipeline, store: Store) -> None:
    position = StoredPosition("/var/log/mail.log", b"x")
    pipeline.counting.read(FLOOD, range(61), NOW)
    pipeline.settle(NOW, [position])
    assert store.positions.all() == {"/var/log/mail.log": position}


def hours(store: Store) -> dict[tuple[str, str], int]:
    return {(row.what, row.kind): row.count for row in store.hourly.read(WALL, WALL + 1)}


def test_sessions_are_counted_with_the_position_of_their_lines(
    pipeline: Pipeline, store: Store, tmp_path: Path
) -> None:
    positions = [StoredPosition("log", b"behind them")]
    read(pipeline, FLOOD[:7])
    pipeline.recorder.record(NOW, [decision(1)])  # of something else
    with sqlite3.connect(tmp_path / "t.db") as other:
        other.execute("BEGIN IMMEDIATE")
        pipeline.recorder.record(NOW, (), positions)
        assert pipeline.recorder.error is not None
        read(pipeline, FLOOD[:7])
    assert hours(store) == {("decision", "ban"): 1}, "killed here, the lines are read again"
    for seconds in (2, 3):
        pipeline.recorder.record(later(seconds), (), positions)
    assert hours(store) == {("decision", "ban"): 1, ("session", ""): 14}
    assert store.positions.all().keys() == {"log"}


def test_sessions_wait_with_the_positions_for_the_last_piece(
    pipeline: Pipeline, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.recorder._PIECE", 2)
    read(pipeline, FLOOD[:1])
    pipeline.recorder.add([Evidence(f"198.51.100.{n}", WALL, 1) for n in range(3)], {})
    pipeline.recorder.record(NOW, (), ())
    assert hours(store) == {}
    pipeline.recorder.record(NOW, (), ())
    assert hours(store) == {("session", ""): 1}


def test_good_evidence_of_the_same_batch_speaks_for_the_client(
    pipeline: Pipeline, store: Store
) -> None:
    store.record(WALL, (), [Evidence(A, WALL - 86400, 99, 0)])
    mail = lines(f"disconnect from unknown[{A}] mail=1 rcpt=1 data=1 commands=3", 1)
    (decision,) = read(pipeline, [*mail, *GARBAGE])
    assert decision.action == "throttle"
    assert "2 days" in decision.why


def test_protected_is_spared_and_not_asked_again_soon(store: Store, kernel: Kernel) -> None:
    facts = Facts(mynetworks=("198.51.100.0/24",))
    pipeline = Pipeline(Policy(), facts, store, kernel, Parser(UTC, WALL))
    pipeline.counting.read(FLOOD, range(61), NOW)
    decisions, spared = pipeline.settle(NOW)
    assert decisions == []
    assert "mynetworks" in spared[0][1]
    pipeline.counting.read(FLOOD, range(61), NOW)
    assert pipeline.settle(NOW) == ([], [])
    assert kernel.elements == {}


def test_counters_are_read_before_a_renewal(
    pipeline: Pipeline, kernel: Kernel, store: Store
) -> None:
    read(pipeline, FLOOD)
    read(pipeline, GARBAGE)
    assert store.listing.snapshots(WALL)[0].action == "ban"
    kernel.elements[A, "mx", "ban"] = 1.0
    ban = Decision(WALL, "ban", A, "mx", "operator", 1, WALL + 60, "manual")
    pipeline.decide([ban], NOW, before={(A, "mx"): "ban"})
    assert store.listing.snapshots(WALL)[0].packets == 7


def test_counters_of_another_action_are_not_read(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would not be added: the question would only delay the ban."""
    asked: list[Entry] = []

    def look(entries: Iterable[Entry]) -> list[Element]:
        asked.extend(entries)
        return []

    monkeypatch.setattr(kernel, "lookup", look)
    read(pipeline, FLOOD)  # throttled, then banned
    read(pipeline, GARBAGE)
    assert (A, "mx", "ban") in kernel.elements
    assert asked == []
    pipeline.decide([decision(1)], NOW, before={(decision(1).subject, "mx"): None})
    assert [entry.action for entry in asked] == [decision(1).action]


def test_a_decision_is_in_the_file_before_it_is_applied(
    pipeline: Pipeline,
    kernel: Kernel,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a daemon that is killed between the two, the next one has the decision."""
    apply = kernel.apply

    def killed(entries: Sequence[Entry]) -> Applied:
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"t.db{suffix}", tmp_path / f"copy.db{suffix}")
        return apply(entries)

    monkeypatch.setattr(kernel, "apply", killed)
    place = StoredPosition("log", b"x")
    pipeline.counting.read(FLOOD, range(len(FLOOD)), NOW, 0, 3)
    pipeline.settle(NOW, [place], time.perf_counter())
    assert len(store.decisions(A)) == 1
    with closing(Store.open(str(tmp_path / "copy.db"))) as copy:
        assert copy.decisions(A) == store.decisions(A)
        assert copy.positions.all() == store.positions.all() == {"log": place}
    assert pipeline.recorder.pending() == 0


def test_a_full_disk_stops_recording_and_nothing_else(
    pipeline: Pipeline, kernel: Kernel, store: Store, tmp_path: Path
) -> None:
    blocker = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # whatever the reason, the store refuses to write
    assert len(read(pipeline, FLOOD)) == 1
    assert (A, "mx", "throttle") in kernel.elements
    assert pipeline.recorder.error is not None
    blocker.execute("ROLLBACK")
    blocker.close()
    pipeline.recorder.record(later(1))
    assert [d.action for d in store.decisions(A)] == ["throttle"]
    assert pipeline.recorder.error is None


def test_a_store_that_fails_is_asked_once_a_second(
    pipeline: Pipeline, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(_now: float, decisions: Sequence[Decision], *_rest: object) -> None:
        asked.append(len(decisions))
        raise StoreError("no space left", "free some")

    # Counting how often it is asked: the real faults are in tests/system/test_store.py.
    monkeypatch.setattr(store, "record", full)
    for batch in range(100):
        pipeline.recorder.record(later(batch / 50), [decision(n) for n in range(1200)])
    assert asked == [1200, 5_000]
    assert pipeline.recorder.pending() == 100_000, "the oldest were evicted"


def test_evidence_is_recorded_with_positions_only(pipeline: Pipeline, store: Store) -> None:
    """Apart from them it would be counted twice after a kill."""
    delivered = f"{STAMP} mx postfix/smtpd[1]: disconnect from x[{A}] data=1 commands=4"
    pipeline.counting.read([delivered], [0], NOW)
    pipeline.settle(NOW)
    pipeline.decide([decision(1)], NOW)  # an operator's
    assert len(store.decisions("", 9)) == 1
    assert store.past([(A, "mx")], WALL)[A, "mx"].deliveries == 0
    pipeline.recorder.record(NOW, positions=[StoredPosition("log", b"x")])
    assert store.past([(A, "mx")], WALL)[A, "mx"].deliveries == 1
    assert store.positions.all().keys() == {"log"}


def test_what_waited_for_the_store_is_recorded_in_pieces_and_positions_come_last(
    pipeline: Pipeline, store: Store, tmp_path: Path
) -> None:
    blocker = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    pipeline.recorder.record(NOW, [decision(n) for n in range(25_000)])
    blocker.execute("ROLLBACK")
    blocker.close()
    position = StoredPosition("/var/log/mail.log", b"x")
    left = []
    for second in (1, 2, 3, 4, 5):
        assert store.positions.all() == {}
        pipeline.recorder.record(later(second), positions=[position])
        left.append(pipeline.recorder.pending())
    assert left == [20_000, 15_000, 10_000, 5_000, 0]
    assert store.positions.all() == {"/var/log/mail.log": position}
    assert sum(store.active.counts(WALL).values()) == 25_000


@pytest.mark.parametrize("subject", [A, ""])
def test_who_is_unbanned_is_not_banned_by_what_waited_for_the_store(
    pipeline: Pipeline, store: Store, tmp_path: Path, subject: str
) -> None:
    blocker = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    read(pipeline, GARBAGE)
    with pytest.raises(StoreError):
        pipeline.unban(subject, None, NOW)
    blocker.execute("ROLLBACK")
    blocker.close()
    pipeline.recorder.record(later(1))
    assert (pipeline.recorder.error, store.listing.snapshots(WALL)) == (None, [])


def test_a_full_disk_hides_nobodys_good_history(
    pipeline: Pipeline, store: Store, tmp_path: Path
) -> None:
    store.record(WALL, (), [Evidence(A, WALL - n * 86400, 99, 0) for n in range(3)])
    blocker = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    mail = lines("disconnect from unknown[203.0.113.5] mail=1 rcpt=1 data=1 commands=3", 1)
    (decision,) = read(pipeline, [*mail, *GARBAGE])
    assert decision.action == "throttle"
    blocker.close()


def test_who_is_not_banned_for_good_reasons_is_not_judged_by_every_line(
    pipeline: Pipeline, store: Store
) -> None:
    store.record(WALL, (), [Evidence(A, WALL - n * 86400, 99, 0) for n in range(3)])
    assert [d.action for d in read(pipeline, GARBAGE)] == ["throttle"]
    assert read(pipeline, GARBAGE) == []


def test_a_store_that_cannot_be_read_decides_without_history(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_args: object) -> None:
        raise StoreError("the database is damaged", "restore it")

    # There is no sure way to damage the one page that SQLite will need to read.
    monkeypatch.setattr(pipeline.recorder.store, "pasts", unreadable)
    assert len(read(pipeline, GARBAGE)) == 1
    assert pipeline.recorder.unread is not None
    assert (A, "mx", "ban") in kernel.elements


def test_a_kernel_that_refuses_is_asked_again(pipeline: Pipeline, kernel: Kernel) -> None:
    kernel.error = BackendError("table gone", "wait")
    read(pipeline, FLOOD)
    assert pipeline.enforcer.error is kernel.error
    assert pipeline.enforcer.pending() == 1
    pipeline.enforcer.retry(lambda: None, NOW)
    assert pipeline.enforcer.pending() == 1
    kernel.error = None
    repaired: list[bool] = []
    pipeline.enforcer.retry(lambda: repaired.append(True), NOW)
    assert repaired == [True]
    assert (A, "mx", "throttle") in kernel.elements
    assert pipeline.enforcer.error is None


def test_what_waited_for_the_kernel_ends_when_it_was_meant_to(
    pipeline: Pipeline, kernel: Kernel
) -> None:
    kernel.error = BackendError("table gone", "wait")
    entries = [Entry(f"198.18.0.{n}", "mx", "ban", 100.0 * n) for n in range(3)]
    pipeline.enforcer.apply(entries, NOW)
    kernel.elements = {("198.18.0.0", "mx", "ban"): 5.0}
    kernel.error = None
    pipeline.enforcer.retry(lambda: None, later(150))
    assert kernel.elements == {("198.18.0.2", "mx", "ban"): 50.0}
    assert pipeline.enforcer.pending() == 0


def test_what_is_decided_later_holds(pipeline: Pipeline, kernel: Kernel) -> None:
    kernel.error = BackendError("table gone", "wait")
    pipeline.enforcer.apply([Entry(A, "mx", "ban", 600.0)], NOW)
    kernel.error = None  # somebody put the table back before we noticed
    pipeline.enforcer.apply([Entry(A, "mx", "ban", 0.0)], later(1))
    pipeline.enforcer.retry(lambda: None, later(2))
    assert kernel.elements == {}


def test_what_waits_for_the_kernel_has_a_cap(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.enforcer._PENDING", 3)
    kernel.error = BackendError("table gone", "wait")
    pipeline.enforcer.apply([Entry(f"198.18.0.{n}", "mx", "ban", 600.0) for n in range(9)], NOW)
    kernel.error = None
    pipeline.enforcer.retry(lambda: None, NOW)
    assert [subject for subject, _, _ in kernel.elements] == [f"198.18.0.{n}" for n in (6, 7, 8)]


def test_a_repair_that_fails_keeps_what_waits(pipeline: Pipeline, kernel: Kernel) -> None:
    kernel.error = BackendError("table gone", "wait")
    read(pipeline, FLOOD)

    def repair() -> None:
        raise BackendError("no", "no")

    pipeline.enforcer.retry(repair, NOW)
    assert pipeline.enforcer.pending() == 1


def test_one_bad_element_is_counted_and_stops_nothing(pipeline: Pipeline, kernel: Kernel) -> None:
    kernel.refused = {A}
    other = [line.replace(A, "198.51.100.8") for line in FLOOD]
    read(pipeline, FLOOD + other)
    assert set(kernel.elements) == {("198.51.100.8", "mx", "throttle")}
    assert pipeline.errors() == 1


def test_release_removes_ban_and_throttle(pipeline: Pipeline, kernel: Kernel) -> None:
    read(pipeline, FLOOD)
    read(pipeline, GARBAGE)
    release = Decision(WALL, "release", A, "mx", "operator", 0, WALL, "by hand")
    pipeline.decide([release], NOW)
    assert kernel.elements == {}


def test_an_exemption_is_applied_and_goes_with_what_replaces_it(
    pipeline: Pipeline, kernel: Kernel
) -> None:
    exempt = Decision(WALL, "exempt", A, "mx", "network", 0, WALL + 9000, "good sender")
    pipeline.decide([exempt], NOW)
    assert kernel.elements == {(A, "mx", "exempt"): 9000.0}
    (throttled,) = read(pipeline, FLOOD)  # it is judged as before
    assert throttled.action == "throttle"
    assert kernel.elements.keys() == {(A, "mx", "throttle")}


def test_an_exemption_that_the_store_refuses_is_not_applied(
    pipeline: Pipeline, kernel: Kernel
) -> None:
    read(pipeline, FLOOD)
    exempt = Decision(WALL, "exempt", A, "mx", "network", 0, WALL + 9000, "good sender")
    other = replace(exempt, subject="198.51.100.8")
    pipeline.decide([exempt, other], NOW)
    assert kernel.elements.keys() == {(A, "mx", "throttle"), ("198.51.100.8", "mx", "exempt")}


def test_a_store_that_cannot_be_read_refuses_no_exemption(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.recorder.store, "past", _refuse)
    exempt = Decision(WALL, "exempt", A, "mx", "network", 0, WALL + 9000, "good sender")
    pipeline.decide([exempt], NOW)
    assert kernel.elements.keys() == {(A, "mx", "exempt")}


def test_who_is_exempted_after_an_unban_that_waits_is_exempt(
    pipeline: Pipeline, kernel: Kernel
) -> None:
    """The store still says that a ban is active."""
    pipeline.decide([replace(decision(1), subject=A)], NOW)
    pipeline.recorder.unbans.add([(A, "mx")], WALL)
    pipeline.recorder.error = StoreError("full", "")
    pipeline.recorder._failed = BOOT
    exempt = Decision(WALL, "exempt", A, "mx", "operator", 0, WALL + 9000, "unbanned")
    pipeline.decide([exempt], NOW)
    assert (A, "mx", "exempt") in kernel.elements


def test_a_rate_reaches_the_kernel(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[Entry] = []
    monkeypatch.setattr(pipeline.enforcer, "apply", lambda entries, _now: applied.extend(entries))
    rate = Rate(6, 3600.0, 2)
    pipeline.decide([replace(decision(1), action="throttle", rate=rate)], NOW)
    assert applied == [Entry("198.18.0.1", "mx", "throttle", 600.0, rate)]


def test_a_flush_leaves_exemptions_by_operators(pipeline: Pipeline, kernel: Kernel) -> None:
    exempt = Decision(WALL, "exempt", A, "mx", "operator", 0, WALL + 9000, "unbanned")
    good = replace(exempt, subject="198.51.100.8", limit="network", why="good sender")
    pipeline.decide([exempt, good, decision(1)], NOW)
    pipeline.unban("", None, NOW)
    pipeline.flush(lambda: None, NOW)
    assert kernel.elements.keys() == {(A, "mx", "exempt")}


def test_a_flush_goes_on_without_the_store(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.decide([decision(1)], NOW)
    monkeypatch.setattr(pipeline.recorder.store.active, "entries", _refuse)
    pipeline.flush(lambda: None, NOW)
    assert kernel.elements == {}
    assert pipeline.enforcer.error is None


def _refuse(*_args: object) -> None:
    raise StoreError("no such file", "")


def test_lines_from_before_the_boot_are_counted(store: Store, kernel: Kernel) -> None:
    pipeline = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, WALL))
    up = now().boot - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert len(read(pipeline, FLOOD, Moment(WALL + 45, up + 5.0))) == 1


def test_weeks_of_lines_read_again_are_no_burst(pipeline: Pipeline) -> None:
    """A quiet server's last 16 MiB are weeks: each line counts when it was written, or not."""
    error = f"reject: RCPT from a.example[{A}]: 550 5.1.1 <x@y.example>: Recipient address rejected"
    text = []
    for age in range(60):
        stamp = datetime.fromtimestamp(WALL - (8 + age) * 86400, UTC).isoformat()
        text += lines(f"NOQUEUE: {error}: User unknown", 1, stamp)
    pipeline.counting.read([*text, *text], range(120), NOW)
    pipeline.counting.read(text, range(60), NOW, unbanned={})
    # No time at all: known to be of now only as it is written.
    timeless = [
        f"<22>1 - mx postfix/smtpd {pid} - - NOQUEUE: {error}: User unknown" for pid in range(1, 61)
    ]
    pipeline.counting.read(timeless, range(60), NOW, unbanned={})
    assert pipeline.settle(NOW)[0] == []
    assert all(meter.value == 0 for meter in pipeline.engine.meters(A, NOW.boot))
    pipeline.counting.read(timeless, range(60), NOW)
    assert [d.action for d in pipeline.settle(NOW)[0]] == ["ban"]


def test_what_expired_is_over_also_for_a_log_in_another_zone(pipeline: Pipeline) -> None:
    """Its lines look two hours old; the throttle of ten minutes is over after ten minutes."""
    for passed in (0.0, 700.0, 1400.0):
        stamp = datetime.fromtimestamp(WALL + passed - 7200, UTC).isoformat()
        flood = lines(f"connect from unknown[{A}]", 61, stamp)
        (decision,) = read(pipeline, flood, later(passed))
        assert decision.action == "throttle"


def test_what_was_forgotten_does_not_count_when_lines_are_read_again(pipeline: Pipeline) -> None:
    stamps = [f"2026-11-30T00:53:{second:02}.000000+00:00" for second in range(20)]
    text = [lines(f"connect from unknown[{A}]", 5, stamp)[0] for stamp in stamps * 5]
    text.sort()
    other = [line.replace(A, "198.51.100.8") for line in text]

    def values(unbanned: dict[str, dict[Scope, float]]) -> list[int]:
        pipeline.engine.reset_all()
        pipeline.counting.read([*text, *other], range(200), NOW, unbanned=unbanned)
        pipeline.engine.drain()
        return [
            max(meter.value for meter in pipeline.engine.meters(client, BOOT))
            for client in (A, "198.51.100.8")
        ]

    assert values({}) == [100, 100]
    assert values({A: {"mx": WALL - 10.5}}) == [50, 100]
    assert values({A: {"submission": WALL}}) == [100, 100]
    assert values({"": {"mx": WALL - 10.5}}) == [50, 50]


def test_a_64_that_was_forgotten_stays_forgotten(pipeline: Pipeline) -> None:
    crowd = [
        f"{STAMP} mx postfix/smtpd[{n}]: warning: non-SMTP command from x[2001:db8:0:1::{n:x}]: G"
        for n in range(1, 120)
    ]
    network = "2001:db8:0:1::/64"
    pipeline.counting.read(crowd, range(119), NOW, unbanned={network: {"mx": WALL}})
    assert pipeline.settle(NOW)[0] == []
    (decision,) = read(pipeline, crowd)
    assert (decision.action, decision.subject) == ("ban", network)
    assert read(pipeline, crowd[:9], later(1.0)) == [], "it is held"


def test_lost_lines_are_counted(pipeline: Pipeline) -> None:
    text = [f"{STAMP} mx rsyslogd: imuxsock[pid 77]: 13 messages lost due to rate-limiting"]
    read(pipeline, text)
    assert pipeline.counts.events.keys() <= {"lines_lost"}
    assert pipeline.counts.lines_lost == pipeline.counts.events.get("lines_lost", 0) * 13


PEAK = (
    f"{STAMP} mx postfix/anvil[9]: statistics: max connection count 4 for"
    " (smtp:2001:db8:1::/84) at Nov 30 00:53:20"
)


@pytest.mark.parametrize("unbanned", [None, {}, {"": {"mx": 1.0}}])
def test_a_peak_of_a_network(
    pipeline: Pipeline, unbanned: dict[str, dict[Scope, float]] | None
) -> None:
    """Since Postfix 3.8; read back at a start it ended the daemon, at each start."""
    text = [PEAK, *FLOOD, PEAK]
    pipeline.counting.read(text, range(len(text)), NOW, 0, 3, unbanned=unbanned)
    assert [d.subject for d in pipeline.settle(NOW)[0]] == [A]
    assert pipeline.counts.events == {"peak": 2, "connect": 61}
    assert pipeline.skipped.counts == {}


@pytest.mark.parametrize("place", [0, 30, 71])
@pytest.mark.parametrize("room", ["parser", "engine"])
def test_a_line_that_raises_is_skipped_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, room: str, place: int
) -> None:
    """What raises is made up: each line that is known to do so is mended."""
    poison = f"{STAMP} mx postfix/smtpd[1]: connect from unknown[198.51.100.66]"
    if room == "parser":
        parser = pipeline.counting._parser_of(0)
        event = parser.event

        def parse(line: str, wall: float) -> Event | None:
            if line == poison:
                raise ValueError("poison")
            return event(line, wall)

        monkeypatch.setattr(parser, "event", parse)
    else:
        step = pipeline.engine.step

        def count(event: Event, *where: Any) -> None:
            if event.client == "198.51.100.66":
                raise KeyError("poison")
            step(event, *where)

        monkeypatch.setattr(pipeline.engine, "step", count)
    text = [*FLOOD, *GARBAGE]
    text[place:place] = [poison] * 3
    (decision,) = read(pipeline, text)
    assert (decision.action, decision.value) == ("ban", 55)
    assert pipeline.skipped.counts == {"line": 3}
    assert pipeline.counts.lines == len(text)


def others(count: int) -> list[str]:
    return [line.replace(A, f"198.51.{n}.9") for n in range(count) for line in GARBAGE]


def test_a_decision_that_raises_is_skipped_alone(
    pipeline: Pipeline, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = pipeline.ladder.judge

    def fail(crossings: Sequence[Crossing], *rest: Any) -> Ruling:
        if any(c.subject == A for c in crossings):
            raise ZeroDivisionError("ladder")
        return judge(crossings, *rest)

    monkeypatch.setattr(pipeline.ladder, "judge", fail)
    assert len(read(pipeline, others(5) + GARBAGE + others(7)[55:])) == 7
    assert len(kernel.elements) == 7
    assert pipeline.skipped.counts == {"decision": 1}


def test_a_row_that_cannot_be_used_is_as_if_it_were_not_there(
    pipeline: Pipeline, kernel: Kernel, store: Store
) -> None:
    store.record(WALL - 900, [decision(1), replace(decision(1), subject=A)])
    connection = store._database.connection
    connection.execute("UPDATE active SET until = 'soon' WHERE subject = ?", (A,))
    connection.execute("UPDATE offence SET ended = 'late', bans = 'many' WHERE subject = ?", (A,))
    assert len(read(pipeline, others(5) + GARBAGE)) == 6
    assert (A, "mx", "ban") in kernel.elements
    assert pipeline.skipped_by_kind() == {"row": 1}
    (row,) = store.listing.snapshots(WALL, Filter(subject=A))
    assert row.until == WALL + 600


def test_an_element_that_raises_is_skipped_alone(pipeline: Pipeline, kernel: Kernel) -> None:
    apply = kernel.apply

    def fail(entries: Sequence[Entry]) -> Applied:
        if any(entry.subject == A for entry in entries):
            raise ValueError("not an IP address")
        return apply(entries)

    kernel.apply = fail  # type: ignore[method-assign]
    assert len(read(pipeline, others(5) + GARBAGE)) == 6
    assert len(kernel.elements) == 5
    assert pipeline.skipped.counts == {"element": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"until": float("nan")},
        {"value": 1 << 70},
        {"subject": "\udcff"},
        {"level": object()},
        {"scope": "elsewhere"},
    ],
)
def test_a_decision_that_cannot_be_recorded_stops_no_other(
    pipeline: Pipeline, kernel: Kernel, store: Store, bad: dict[str, Any]
) -> None:
    """Nor is it tried again for ever, which would let no other be recorded."""
    decisions = [decision(n) for n in range(5)]
    decisions[2] = replace(decisions[2], **bad)
    pipeline.decide(decisions, NOW)
    assert pipeline.recorder.error is None
    assert pipeline.recorder.pending() == 0
    assert {d.subject for d in store.decisions("", 9)} >= {
        decision(n).subject for n in (0, 1, 3, 4)
    }
    assert len(kernel.elements) >= 4
    assert pipeline.skipped.total() >= 1


def test_evidence_and_positions_that_cannot_be_recorded(pipeline: Pipeline, store: Store) -> None:
    pipeline.recorder._evidence = [
        Evidence("no address", WALL, 1),
        Evidence(A, float("nan"), 1),
        Evidence(A, WALL, 3),
    ]
    places = [StoredPosition("\udcff", b""), StoredPosition("log", b"x")]
    pipeline.recorder.record(NOW, positions=places)
    assert store.past([(A, "mx")], WALL)[A, "mx"].deliveries == 3
    assert store.positions.all().keys() == {"log"}
    assert pipeline.recorder.error is None
    assert pipeline.skipped.counts == {"evidence": 2, "position": 1}


def test_a_counter_that_raises_does_not_keep_a_decision_back(
    pipeline: Pipeline, kernel: Kernel
) -> None:
    def fail(_: object) -> list[Element]:
        raise ValueError("not an IP address")

    kernel.lookup = fail  # type: ignore[method-assign,assignment]
    pipeline.decide([decision(1)], NOW, before={(decision(1).subject, "mx"): None})
    assert len(kernel.elements) == 1
    assert pipeline.skipped.counts == {"counter": 1}


# Senders


def sends(host: str = "mx", bounces: int = 11) -> list[str]:
    """Return the lines of a login that sends to a bought list."""
    head = f"{STAMP} {host} postfix"
    return [
        f"{head}/smtpd[1]: 3A5C01F2B: client=x[{A}], sasl_method=LOGIN, sasl_username=Alice",
        f"{head}/qmgr[2]: 3A5C01F2B: from=<a@b.test>, size=400, nrcpt=20 (queue active)",
        *(
            f"{head}/smtp[3]: 3A5C01F2B: to=<x{n}@example.net>, relay=none, delay=1, "
            "delays=0/0/0/1, dsn=5.1.1, status=bounced (no such user)"
            for n in range(bounces)
        ),
        f"{head}/qmgr[2]: 3A5C01F2B: removed",
    ]


def test_a_sender_that_crosses_a_limit_is_reported_and_recorded(store: Store) -> None:
    pipeline = Pipeline(Policy(), Facts(), store, None, Parser(UTC, WALL))
    lines = sends()
    pipeline.counting.read(lines, range(len(lines)), NOW)
    [report] = pipeline.reports()
    assert (report.subject, report.shown, report.limit) == (
        "account:alice",
        "account:Alice",
        "account-bounces",
    )
    assert store.senders.reports() == [report]
    assert pipeline.reports() == []
    assert pipeline.settle(NOW)[0] == [], "nothing is done about it"


def test_a_report_that_cannot_be_recorded_is_made_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_reports: object) -> None:
        raise StoreError("full", "make room")

    pipeline = Pipeline(Policy(), Facts(), store, None, Parser(UTC, WALL))
    monkeypatch.setattr(store.senders, "report", refuse)
    lines = sends()
    pipeline.counting.read(lines, range(len(lines)), NOW)
    assert len(pipeline.reports()) == 1


def test_senders_of_another_host_do_not_count(store: Store) -> None:
    facts = Facts(hostnames=frozenset({"mx"}))
    pipeline = Pipeline(Policy(), facts, store, None, Parser(UTC, WALL))
    lines = sends("other")
    pipeline.counting.read(lines, range(len(lines)), NOW)
    assert pipeline.reports() == []
    assert pipeline.engine.hosts.total() == sum(pipeline.counts.events.values())


def test_what_was_counted_before_a_restart_is_not_reported_again(store: Store) -> None:
    pipeline = Pipeline(Policy(), Facts(), store, None, Parser(UTC, WALL))
    lines = sends()
    pipeline.counting.read(lines, range(len(lines)), NOW, unbanned={})
    assert (pipeline.reports(), pipeline.senders.days()) == ([], [])


def test_a_limit_that_only_reports(store: Store, kernel: Kernel) -> None:
    limits = default_limits()
    limits["connections"] = replace(limits["connections"], mode="report")
    limits["errors"] = replace(limits["errors"], mode="report")
    facts = Facts(mynetworks=("203.0.113.0/24",))
    pipeline = Pipeline(Policy(limits=limits), facts, store, kernel, Parser(UTC, WALL))
    assert read(pipeline, FLOOD) == []
    (report,) = pipeline.reports()
    assert (report.subject, report.limit, report.value, report.above) == (
        A,
        "connections",
        61,
        "soft",
    )
    assert line.report(report) == (
        f"report {A} limit=connections count=connections value=61 soft=60 within=1m"
    )
    assert store.senders.reports(0.0, A) == [report]
    # Again at twice the value, or for the other threshold.
    assert read(pipeline, FLOOD[:60]) == []
    assert pipeline.reports() == []
    assert read(pipeline, FLOOD[:1]) == []
    assert [report.value for report in pipeline.reports()] == [122]
    read(pipeline, GARBAGE)
    assert [(r.limit, r.value, r.above) for r in pipeline.reports()] == [("errors", 55, "hard")]
    read(pipeline, [text.replace(A, "203.0.113.7") for text in FLOOD])
    assert pipeline.reports() == []
    assert kernel.elements == {}


def test_a_limit_that_does_not_ban(store: Store, kernel: Kernel) -> None:
    limits = default_limits()
    limits["errors"] = replace(limits["errors"], mode="throttle")
    pipeline = Pipeline(Policy(limits=limits), Facts(), store, kernel, Parser(UTC, WALL))
    (decision,) = read(pipeline, GARBAGE)
    assert (decision.action, decision.limit) == ("throttle", "errors")
    assert decision.why.endswith("not banned: mode is throttle")


def bounced(user: str, one: int, bounces: int) -> list[str]:
    queue_id = f"3A5C0{one:04X}"
    lines = [
        f"smtpd[1]: {queue_id}: client=x[198.18.0.7], sasl_method=PLAIN, sasl_username={user}",
        f"qmgr[1]: {queue_id}: from=<a@b.test>, size=9, nrcpt={bounces} (queue active)",
        *[
            f"smtp[1]: {queue_id}: to=<{n}@c.test>, relay=none, delay=1, dsn=5.1.1, "
            "status=bounced (unknown)"
            for n in range(bounces)
        ],
    ]
    return [f"{STAMP} mx postfix/{line}" for line in lines]


def sending(store: Store, kernel: Kernel | None, **mode: Any) -> Pipeline:
    limits = default_limits()
    limits["account-bounces"] = replace(limits["account-bounces"], **mode)
    return Pipeline(Policy(limits=limits), Facts(), store, kernel, Parser(UTC, WALL))


def test_a_sender_is_throttled_where_postfix_asks(store: Store, kernel: Kernel) -> None:
    pipeline = sending(store, kernel, mode="throttle")
    assert read(pipeline, bounced("alice", 1, 11)) == []
    assert [r.subject for r in pipeline.reports()] == ["account:alice"]
    [finding] = SenderReporter(pipeline)(1.0)
    assert finding.key == "not-connected"
    pipeline.answered(connected=True)
    assert list(SenderReporter(pipeline)(1.0)) == []
    [decision] = read(pipeline, bounced("bob", 2, 11))
    assert (decision.action, decision.subject, decision.limit, decision.value) == (
        *("throttle", "account:bob", "account-bounces"),
        11,
    )
    assert decision.why == "11 bounces within 1h, soft limit 10"
    assert decision.lines
    assert line.line(decision, would=False) == (
        "throttle account:bob limit=account-bounces value=11 soft=10 for=10m origin=log"
    )
    assert list(kernel.elements) == [("account:bob", "submission", "throttle")]
    [row] = store.listing.snapshots(WALL, Filter(within="account:bob"))
    assert line.expired(row) == "expire account:bob limit=account-bounces for=10m origin=log"
    assert read(pipeline, bounced("bob", 3, 11)) == []  # active
    pipeline.unban("account:bob", None, NOW)
    assert store.listing.snapshots(WALL, Filter(subject="account:bob")) == []
    [decision] = read(pipeline, bounced("bob", 4, 11))  # from the beginning
    assert decision.value == 11
    pipeline.unban("", None, NOW)
    [decision] = read(pipeline, bounced("bob", 5, 11))  # again
    assert decision.value == 11


def test_another_store_has_its_own_numbers_for_log_files(store: Store, tmp_path: Path) -> None:
    pipeline = sending(store, None, mode="throttle")
    read(pipeline, [*bounced("bob", 1, 9), *FLOOD[:9]])
    assert pipeline.senders.lines("account:bob")
    assert pipeline.engine.lines(A)
    other = Store.open(str(tmp_path / "other.db"))
    pipeline.change_store(other, NOW, [])
    other.close()
    assert pipeline.senders.lines("account:bob") == pipeline.engine.lines(A) == ()


def test_a_sender_is_banned_only_if_the_limit_says_so(store: Store) -> None:
    """And where nothing is enforced, as in a replay, what is decided is decided."""
    pipeline = sending(store, None, mode="enforce", hard=20)
    [decision] = read(pipeline, bounced("alice", 1, 21))
    assert (decision.action, decision.threshold, decision.level) == ("ban", 20, 1)
    [after] = pipeline.ladder.ended(store.listing.snapshots(WALL, Filter()), decision.until)
    assert (after.action, after.limit) == ("throttle", "ladder")


def test_an_allowed_sender_is_spared(store: Store) -> None:
    pipeline = sending(store, None, mode="throttle")
    pipeline.ladder.protection = Protection.of(Facts(), Policy().protect, ["account:alice"])
    for one in range(2):
        assert read(pipeline, bounced("alice", one, 11)) == []


def test_senders_beyond_the_caps_are_a_warning(pipeline: Pipeline) -> None:
    reporter = SenderReporter(pipeline)
    assert list(reporter(1.0)) == []
    pipeline.senders.dropped = 7
    [finding] = reporter(2.0)
    assert (finding.key, "7 evicted" in finding.what) == ("senders-full", True)


def guesses(count: int, first: int = 0) -> list[str]:
    """Return failed logins on one account, each from another /24."""
    failed = "SASL LOGIN authentication failed: authentication failure, sasl_username=Boss"
    texts = (f"warning: unknown[198.18.{first + n}.1]: {failed}" for n in range(count))
    return [line for text in texts for line in lines(text, 1)]


def test_an_account_under_attack_is_reported_once(pipeline: Pipeline, store: Store) -> None:
    assert read(pipeline, guesses(30)) == []
    assert pipeline.reports() == []
    (decision,) = read(pipeline, guesses(1, 30))
    assert (decision.subject, decision.action, decision.limit) == (
        *("198.18.30.1", "throttle"),
        "guessing",
    )
    (report,) = pipeline.reports()
    assert line.report(report) == (
        "report account:boss limit=guessing count=guesses value=31 soft=30 within=1d"
    )
    assert store.senders.reports(subject="account:boss") == [report]
    read(pipeline, guesses(5, 40))
    assert pipeline.reports() == []


def test_an_account_under_attack_is_not_reported_again_after_a_restart(
    pipeline: Pipeline, store: Store, kernel: Kernel
) -> None:
    read(pipeline, guesses(31))
    assert len(pipeline.reports()) == 1
    again = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, WALL))
    again.counting.read(guesses(31), range(31), later(5.0), 0, 3, unbanned={})
    assert again.settle(later(5.0))[0] == []  # the one is throttled already
    assert again.reports() == []
    found = again.engine.guessing.target("account:boss", BOOT + 5.0)
    assert found is not None
    assert found.attacked


def test_an_account_that_is_allowed_is_not_reported(store: Store, kernel: Kernel) -> None:
    protection = Protection(Facts(), senders=["account:boss"])
    pipeline = Pipeline(Policy(), Facts(), store, kernel, Parser(UTC, WALL))
    pipeline.reconfigure(Policy(), protection)
    assert len(read(pipeline, guesses(31))) == 1
    assert pipeline.reports() == []


def test_guessing_that_only_reports(store: Store, kernel: Kernel) -> None:
    policy = Policy(guessing=Guessing(mode="report"))
    pipeline = Pipeline(policy, Facts(), store, kernel, Parser(UTC, WALL))
    assert read(pipeline, guesses(31)) == []
    assert {report.subject for report in pipeline.reports()} == {"account:boss", "198.18.30.1"}
    assert kernel.elements == {}


def test_behind_a_proxy_a_login_ends_it_too(pipeline: Pipeline) -> None:
    client, enforced = "198.18.30.1", list[Entry]()
    service = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    pipeline.engine.facts(Facts(services=(service,)))
    pipeline.behind.enforce = enforced.extend
    read(pipeline, guesses(31))
    assert client in {row.subject for row in pipeline.behind.active(WALL)}
    pipeline.behind.drain()
    enforced.clear()
    accepted = f"3A5C01F2B: client=unknown[{client}], sasl_method=PLAIN, sasl_username=boss"
    for _ in range(2):
        assert read(pipeline, lines(accepted, 1)) == []
    assert client not in {row.subject for row in pipeline.behind.active(WALL)}
    assert {(entry.subject, entry.seconds) for entry in enforced} == {(client, 0.0)}
    (decision,) = pipeline.behind.drain()
    assert (decision.action, decision.origin, decision.why) == ("release", "proxy", "it logged in")
    read(pipeline, guesses(1, 50))


def test_a_login_ends_the_throttle_for_guessing(pipeline: Pipeline, kernel: Kernel) -> None:
    client = "198.18.30.1"
    read(pipeline, guesses(31))
    assert (client, "mx", "throttle") in kernel.elements
    accepted = f"3A5C01F2B: client=unknown[{client}], sasl_method=PLAIN, sasl_username=boss"
    (decision,) = read(pipeline, lines(accepted, 1))
    assert (decision.action, decision.subject, decision.why) == ("release", client, "it logged in")
    assert kernel.elements == {}
    # A throttle for another limit stays.
    read(pipeline, guesses(1, 50))
    store = pipeline.recorder.store
    (row,) = store.listing.snapshots(WALL, Filter(subject="198.18.50.1"))
    other = Decision(WALL, "throttle", row.subject, "mx", "errors", 0, WALL + 600, "because")
    pipeline.decide([other], NOW)
    assert read(pipeline, lines(accepted.replace(client, row.subject), 1)) == []
