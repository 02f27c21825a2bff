"""What is written when, with a store that notes what it is asked and fails on demand.

What a real store and a real pipeline make of it: test_pipeline.py, tests/system/test_store.py.
"""

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from throttled.clock import Moment
from throttled.core.recorder import Recorder
from throttled.errors import StoreError
from throttled.model import Activity, Crossing, Decision, Element, Evidence
from throttled.skipped import Skipped
from throttled.store.store import Store, StoredPosition

NOW = Moment(1_800_000_000.0, 5_000.0)
A, B, NEAR = "198.51.100.7", "203.0.113.8", "198.51.100.9"
PLACE = [StoredPosition("log", b"x")]
SESSION: Activity = (0, "mx", "session")


def later(seconds: float) -> Moment:
    return Moment(NOW.wall + seconds, NOW.boot + seconds)


def decision(number: int, action: Any = "ban") -> Decision:
    subject = f"198.18.0.{number}"
    return Decision(NOW.wall, action, subject, "mx", "errors", 1, NOW.wall + 600, "")


class Spy(Store):
    """A store that notes what it is asked."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()
        for table, name in (
            (self.unbans, "unban"),
            (self.unbans, "clear"),
            (self.active, "packets"),
        ):
            setattr(table, name, self._noted(name, getattr(table, name)))

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        names = ("record", "write_ahead", "pasts", "past", "good_senders")
        return self._noted(name, found) if name in names else found

    def _noted(self, name: str, act: Any) -> Any:
        def noted(*args: Any, **named: Any) -> Any:
            self.asked.append((name, *(self._copied(arg) for arg in (*args, *named.values()))))
            if name in self.broken:
                raise StoreError("no space left", "free some")
            return act(*args, **named)

        return noted

    @staticmethod
    def _copied(given: Any) -> Any:
        return (
            list(given)
            if isinstance(given, list | tuple)
            else dict(given)
            if isinstance(given, dict)
            else given
        )

    def calls(self, name: str) -> list[tuple[Any, ...]]:
        """Return how a method was called since this was asked last."""
        found = [call[1:] for call in self.asked if call[0] == name]
        self.asked = []
        return found


@pytest.fixture
def store() -> Iterator[Spy]:
    opened = Spy.open(":memory:")
    yield opened
    opened.close()


@pytest.fixture
def recorder(store: Spy) -> Recorder:
    return Recorder(store, Skipped())


def test_evidence_is_written_with_positions_once(recorder: Recorder, store: Spy) -> None:
    evidence = Evidence(A, NOW.wall, 1)
    recorder.add([evidence], {SESSION: 2})
    recorder.add([], {SESSION: 1})
    recorder.record(NOW, [decision(1)])
    assert store.calls("record") == [(NOW.wall, [decision(1)], [], [], {})]
    assert recorder.pending() == 0
    recorder.record(NOW, [], PLACE)
    assert store.calls("record") == [(NOW.wall, [], [evidence], PLACE, {SESSION: 3})]
    recorder.record(NOW, [], PLACE)
    assert store.calls("record") == [(NOW.wall, [], [], PLACE, {})]


def test_what_waits_is_written_a_piece_at_a_time(
    recorder: Recorder, store: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.recorder._PIECE", 2)
    made = [decision(number) for number in range(5)]
    evidence = [Evidence(f"198.18.1.{number}", NOW.wall, 1) for number in range(3)]
    recorder.record(NOW, made)
    assert store.calls("record") == [(NOW.wall, made, [], [], {})], "new ones go together"
    store.broken = {"record"}
    recorder.add(evidence, {SESSION: 1})
    recorder.record(NOW, made, PLACE)
    assert recorder.pending() == 5
    store.broken = set()
    store.calls("record")
    parts: list[tuple[Any, ...]] = []
    for second in range(1, 4):
        recorder.record(later(second), [], PLACE)
        parts += [call[1:] for call in store.calls("record")]
    assert parts == [
        (made[:2], evidence[:2], [], {}),
        (made[2:4], evidence[2:], [], {}),
        (made[4:], [], PLACE, {SESSION: 1}),
    ]


def test_a_store_that_failed_is_asked_once_a_second(
    recorder: Recorder, store: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    store.broken = {"record"}
    recorder.record(NOW, [decision(1)])
    asked = []
    for seconds in (0.0, 0.9, 1.0, 1.9, -5.0):  # the last: another boot's clock
        store.calls("record")
        recorder.record(later(seconds))
        asked.append(len(store.calls("record")))
    assert (asked, recorder.errors) == ([0, 0, 1, 0, 1], 3)
    (record,) = caplog.records
    assert re.fullmatch("no space left; .* free some", record.getMessage())
    caplog.clear()
    store.broken = set()
    recorder.record(later(60))
    assert (recorder.error, recorder.pending()) == (None, 0)
    assert "1 decision" in caplog.text
    caplog.clear()
    recorder.record(later(61))
    assert caplog.text == ""


def test_the_latest_are_retained_and_the_others_counted(
    recorder: Recorder, store: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("throttled.core.recorder._PENDING", 3)
    store.broken = {"record"}
    recorder.add([Evidence(A, NOW.wall, n) for n in range(4)], {})
    recorder.record(NOW, [decision(n) for n in range(5)])
    assert (recorder.given_up, recorder.pending()) == (3, 3)
    store.broken = set()
    store.calls("record")
    recorder.record(later(1), [], PLACE)
    ((_, decisions, evidence, _, _),) = store.calls("record")
    assert decisions == [decision(n) for n in (2, 3, 4)]
    assert [one.deliveries for one in evidence] == [1, 2, 3]


def pending_after(recorder: Recorder, store: Spy, subject: str, scope: Any) -> list[str]:
    """Return what is still to be written after an unban."""
    store.broken = {"record"}
    made = [decision(1), replace(decision(1), scope="submission"), decision(2)]
    recorder.record(NOW, made)
    recorder.unban(subject, scope, NOW)
    store.broken = set()
    store.calls("record")
    recorder.record(later(1))
    ((_, decisions, *_),) = store.calls("record")
    return [f"{d.subject[-1]}{d.scope[0]}" for d in decisions]


@pytest.mark.parametrize(
    ("subject", "scope", "left"),
    [
        ("198.18.0.1", "mx", ["1s", "2m"]),
        ("198.18.0.1", None, ["2m"]),
        ("", "mx", ["1s"]),
        ("", None, []),
    ],
)
def test_what_is_unbanned_is_not_written_later(
    recorder: Recorder, store: Spy, subject: str, scope: Any, left: list[str]
) -> None:
    assert pending_after(recorder, store, subject, scope) == left


def test_an_unban_says_how_many_were_in_force(recorder: Recorder, store: Spy) -> None:
    recorder.record(NOW, [decision(n) for n in range(3)])
    assert recorder.unban("198.18.0.1", None, NOW, NOW.wall + 60) == 1
    assert store.calls("unban") == [("198.18.0.1", None, NOW.wall, NOW.wall + 60)]
    assert recorder.unban("", "mx", NOW) == 2
    assert store.calls("clear") == [(NOW.wall, "mx")]


def test_an_unban_that_cannot_be_written_is_made_up_for(recorder: Recorder, store: Spy) -> None:
    recorder.record(NOW, [decision(1)])
    store.broken = {"unban", "record"}
    with pytest.raises(StoreError):
        recorder.unban("198.18.0.1", None, NOW, NOW.wall + 60)
    assert recorder.unbans.covers("198.18.0.1", "mx")
    assert recorder.unbans.covers("198.18.0.1", "submission")
    assert not recorder.unbans.covers("198.18.0.2", "mx")
    store.broken = set()
    recorder.record(later(1))
    assert not recorder.unbans
    assert store.past([("198.18.0.1", "mx")], NOW.wall)["198.18.0.1", "mx"].action != "ban"


def test_another_store_gets_what_is_in_force_first(recorder: Recorder, store: Spy) -> None:
    other = Spy.open(":memory:")
    store.broken = {"record", "pasts"}
    recorder.record(NOW, [decision(1)])
    recorder.past([], NOW)
    assert recorder.unread
    recorder.change_store(other, NOW, [decision(2)])
    assert not any((recorder.error, recorder.unread))
    assert recorder.store is other
    assert other.calls("record") == [(NOW.wall, [decision(2), decision(1)], [], [], {})]
    other.close()


CROSSED = Crossing(A, "mx", "errors", "ban", 51, 50, 600.0, "errors")


def test_what_was_done_in_this_batch_speaks_for_a_client(recorder: Recorder, store: Spy) -> None:
    mine, near, far = (Evidence(subject, NOW.wall, 1) for subject in (A, NEAR, B))
    recorder.add([mine, near, far], {})
    of_network = replace(CROSSED, subject="203.0.113.0/24")
    clients, networks = recorder.past([CROSSED], NOW)
    assert store.calls("pasts") == [
        ([(A, "mx")], [("198.51.100.0/24", "mx")], NOW.wall, [mine, near])
    ]
    assert clients[A, "mx"].deliveries == 1
    assert ("198.51.100.0/24", "mx") in networks
    clients, networks = recorder.past([of_network], NOW)
    assert store.calls("pasts") == [([], [("203.0.113.0/24", "mx")], NOW.wall, [far])]
    assert (clients, list(networks)) == ({}, [("203.0.113.0/24", "mx")])
    store.broken = {"record"}
    recorder.record(NOW)
    recorder.past([CROSSED], NOW)
    assert [len(call) for call in store.calls("pasts")] == [3], "no evidence: it cannot be written"


def test_without_history_it_is_decided_all_the_same(
    recorder: Recorder, store: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.add([Evidence(A, NOW.wall, 1)], {})
    store.broken = {"pasts"}
    assert recorder.past([CROSSED], NOW) == ({}, {})
    assert [len(call) for call in store.calls("pasts")] == [4, 3], "first with evidence"
    recorder.past([CROSSED], NOW)
    assert [r.levelno for r in caplog.records] == [logging.ERROR], "once"
    assert recorder.unread is not None
    store.broken = set()
    assert recorder.past([CROSSED], NOW)[0] != {}
    assert recorder.unread is None


def test_an_unban_that_is_not_written_yet_counts(recorder: Recorder, store: Spy) -> None:
    recorder.record(NOW, [replace(decision(7), subject=A)])
    assert recorder.past([CROSSED], NOW)[0][A, "mx"].action == "ban"
    store.broken = {"unban"}
    with pytest.raises(StoreError):
        recorder.unban(A, "mx", NOW)
    assert recorder.past([CROSSED], NOW)[0][A, "mx"].action != "ban"


def test_good_senders_of_a_network(
    recorder: Recorder, store: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    mine = Evidence(A, NOW.wall, 1)
    recorder.add([mine, Evidence(B, NOW.wall, 1)], {})
    until = NOW.wall + 600
    recorder.senders("198.51.100.0/24", "mx", until, NOW, only=A)
    recorder.senders("2001:db8::/64", "mx", until, NOW)
    assert store.calls("good_senders") == [
        ("198.51.100.0/24", "mx", until, NOW.wall, 256, [mine], A),
        ("2001:db8::/64", "mx", until, NOW.wall, 16, [], ""),
    ]
    store.broken = {"good_senders"}
    assert recorder.senders("198.51.100.0/24", "mx", until, NOW) == []
    assert "198.51.100.0/24" in caplog.text
    assert "no space left" in caplog.text


def test_an_unforeseen_error_of_good_senders_is_counted(
    store: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped = Skipped()
    monkeypatch.setattr(Spy, "good_senders", lambda *_, **__: 1 / 0)
    assert Recorder(store, skipped).senders("198.51.100.0/24", "mx", 0.0, NOW) == []
    assert skipped.counts == {"row": 1}


def test_exemptions_that_the_store_refused_are_left_out(recorder: Recorder, store: Spy) -> None:
    recorder.record(NOW, [decision(1), decision(2, "throttle"), decision(4)])
    asked = [decision(n, "exempt") for n in (1, 2, 3, 4)] + [decision(1)]
    store.broken = {"unban"}
    with pytest.raises(StoreError):
        recorder.unban("198.18.0.4", "mx", NOW)
    store.asked = []
    assert recorder.without_refused(asked, NOW) == [asked[2], asked[3], asked[4]]
    assert store.calls("past") == [([(d.subject, "mx") for d in asked[:4]], NOW.wall)]
    assert recorder.without_refused([decision(1)], NOW) == [decision(1)]
    assert store.calls("past") == []
    store.broken = {"past"}
    assert recorder.without_refused(asked, NOW) == asked


def test_packet_counters(recorder: Recorder, store: Spy, caplog: pytest.LogCaptureFixture) -> None:
    element = Element(A, "mx", "ban", 600.0, 7)
    recorder.packets([])
    assert store.calls("packets") == []
    recorder.packets([element])
    assert store.calls("packets") == [([element],)]
    store.broken = {"packets", "record"}
    recorder.packets([element])
    assert "no space left" in caplog.text
    recorder.record(NOW)
    store.calls("packets")
    recorder.packets([element])
    assert store.calls("packets") == []


def test_what_cannot_be_written_together_is_written_apart(
    store: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.record
    alone: list[list[Any]] = []

    def record(self: Store, now: float, *parts: Any) -> None:
        given = [list(part) if isinstance(part, list | tuple) else dict(part) for part in parts]
        if sum(map(bool, given)) > 1:
            raise ZeroDivisionError
        alone.append(given)
        real(self, now, *parts)

    monkeypatch.setattr(Spy, "record", record)
    skipped = Skipped()
    recorder = Recorder(store, skipped)
    evidence = Evidence(A, NOW.wall, 1)
    recorder.add([evidence], {SESSION: 1})
    recorder.record(NOW, [decision(1)], PLACE)
    assert alone == [[[decision(1)]], [[], [evidence]], [[], [], PLACE], [[], [], [], {SESSION: 1}]]
    assert skipped.counts == {}
    assert (recorder.error, recorder.pending()) == (None, 0)


def test_a_new_recorder_has_nothing(recorder: Recorder) -> None:
    assert (recorder.error, recorder.unread, recorder.errors) == (None, None, 0)
    assert (recorder.given_up, recorder.pending()) == (0, 0)
    assert recorder.past([], NOW) == ({}, {})


# Written ahead


def test_what_is_written_ahead_is_pending_until_it_is_recorded(
    recorder: Recorder, store: Spy
) -> None:
    recorder.add([Evidence(A, NOW.wall, 1)], {SESSION: 2})
    assert recorder.write_ahead(NOW, [decision(1)], PLACE)
    assert recorder.pending() == 1
    recorder.record(NOW, positions=PLACE)
    assert [name for name, *_ in store.asked] == ["write_ahead", "record"]
    assert store.asked[0][1:] == store.asked[1][1:]  # the same
    assert recorder.pending() == 0


@pytest.mark.parametrize("why", ["many", "evidence", "exempt", "pending", "unban", "value"])
def test_else_nothing_is_written_ahead(recorder: Recorder, store: Spy, why: str) -> None:
    decisions = [decision(n) for n in range(17 if why == "many" else 1)]
    if why == "evidence":
        recorder.add([Evidence(A, NOW.wall, 1)] * 17, {})
    elif why == "exempt":
        decisions.append(decision(9, "exempt"))
    elif why == "pending":
        store.broken = {"record"}
        recorder.record(NOW, [decision(8)])
    elif why == "unban":
        recorder.unbans.add([(A, "mx")], NOW.wall)
    elif why == "value":
        decisions = [replace(decision(1), why="\ud800")]  # has no UTF-8
    assert not recorder.write_ahead(NOW, decisions, PLACE)
    assert recorder.pending() == (why == "pending")


def test_a_store_that_fails_is_not_tried_twice_before_a_decision_is_applied(
    recorder: Recorder, store: Spy
) -> None:
    """A locked one waits each time."""
    store.broken = {"write_ahead", "record"}
    assert recorder.write_ahead(NOW, [decision(1)], PLACE)
    recorder.record(NOW, positions=PLACE)
    assert [name for name, *_ in store.asked] == ["write_ahead"]
    assert (recorder.errors, recorder.pending()) == (1, 1)
    store.broken = set()
    recorder.record(later(1.0), positions=PLACE)
    assert (recorder.error, recorder.pending()) == (None, 0)
    assert [d.subject for d in store.decisions("")] == [decision(1).subject]
