"""Events that wait."""

import pytest

from throttled.decide import pending as room
from throttled.decide.pending import WAIT, Pending
from throttled.model import Event, Message


def event(time: float) -> Event:
    return Event("delivery", "", "smtp", "postfix", 1, time)


A, B = Message("A"), Message("B")


def test_events_wait_until_they_are_popped() -> None:
    pending = Pending()
    assert not pending
    pending.add(event(1.0), A)
    pending.add(event(2.0), A)
    pending.removed("B", event(3.0))
    assert pending
    found = pending.pop("A")
    assert found is not None
    assert ([one.time for one, _ in found.events], found.removed) == ([1.0, 2.0], False)
    assert pending.get("A") is pending.pop("A") is None
    found = pending.get("B")
    assert found is not None
    assert (found.events, found.removed) == ([], True)


def test_the_message_that_waits_longest_is_due() -> None:
    pending = Pending()
    assert not pending.due(0.0)
    pending.add(event(10.0), A)
    pending.add(event(11.0), B)
    assert not pending.due(10.0 + WAIT)
    assert pending.due(10.5 + WAIT) == "A"
    assert pending.due(9.5 - WAIT) == "A", "the clock was set back"


def test_at_the_cap_it_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_EVENTS", 2)
    pending = Pending()
    pending.add(event(1.0), A)
    pending.removed("B", event(1.0))
    assert pending.due(1.0) == "A"
    pending.pop("A")
    assert not pending.due(1.0)
