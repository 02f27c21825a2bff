"""The times of connections, by looks that are made up."""

import pytest

from throttled.core.waits import Waits
from throttled.decide.overload import Place
from throttled.enforce.sockets import Socket

QUEUED, OWED, ASKED = (
    Socket(2, b"queued", 25, b"\xc6\x33\x64\1", 1024, 0, waits=True),
    Socket(2, b"owed", 25, b"\xc6\x33\x64\2", 1024, 2, waits=False, received=300),
    Socket(2, b"asked", 25, b"\xc6\x33\x64\3", 1024, 3, waits=True, received=20),
)


@pytest.fixture
def waits() -> Waits:
    """Looks at three connections, half a second apart, for two seconds."""
    made = Waits()
    for n in range(5):
        made.look((QUEUED, OWED, ASKED), 100.0 + n / 2)
    return made


def test_each_has_waited_for_whom_it_waits_for_now(waits: Waits) -> None:
    assert waits.place(QUEUED) == Place(b"queued", 2.0, 0, answered=True, queued=True)
    assert waits.place(OWED) == Place(b"owed", 2.0, 300, answered=False, queued=False)
    assert waits.place(ASKED) == Place(b"asked", 2.0, 20, answered=True, queued=False)


def test_the_time_before_the_greeting_is_counted_apart(waits: Waits) -> None:
    silent = Socket(2, b"asked", 25, ASKED.far, 1024, 3, waits=True, spoken=False)
    waits.look((silent,), 103.0)
    assert waits.place(silent).age == 0.0


def test_in_one_look_no_more_than_some_seconds_pass(waits: Waits) -> None:
    waits.look((ASKED,), 500.0)
    assert waits.place(ASKED).age == 4.5


def test_who_waits_for_a_process_is_late_after_a_second_and_stuck_after_five(waits: Waits) -> None:
    assert waits.late(QUEUED)
    assert not waits.late(OWED)
    assert waits.queued() == {b"queued"}
    waits.look((QUEUED,), 104.5)
    assert waits.queued() == {b"queued"}
    waits.look((QUEUED,), 105.5)
    assert waits.queued() == set()
