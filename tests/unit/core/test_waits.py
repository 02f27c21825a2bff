"""The times of connections, by looks that are made up."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert waits.place(OWED) == Place(b"owed", 0.8, 300, answered=False, queued=False)
    assert waits.place(ASKED) == Place(b"asked", 1.92, 20, answered=True, queued=False)


def test_the_time_before_the_greeting_is_counted_apart(waits: Waits) -> None:
    silent = Socket(2, b"asked", 25, ASKED.far, 1024, 3, waits=True, spoken=False)
    waits.look((silent,), 103.0)
    assert waits.place(silent).age == 0.0


def test_with_tls_from_the_start_a_silent_client_is_waited_for() -> None:
    """There is no greeting before it speaks (port 465)."""
    silent = Socket(2, b"silent", 465, ASKED.far, 1024, 3, waits=True, spoken=False)
    begun = silent._replace(identity=b"begun", waits=False, received=300)
    made = Waits()
    for n in range(5):
        made.look((silent, begun), 100.0 + n / 2, {465})
    assert made.place(silent) == Place(b"silent", 2.0, 0, answered=True, queued=False)
    assert made.place(begun) == Place(b"begun", 0.8, 300, answered=False, queued=False)


def test_in_one_look_no_more_than_some_seconds_pass(waits: Waits) -> None:
    waits.look((ASKED,), 500.0)
    assert waits.place(ASKED).age == 4.42


def age(sent: Iterable[int], *, waits: bool = False) -> float:
    """Return how long a session counts as waiting that sent so much between looks, two a second."""
    made, session, at = Waits(), ASKED._replace(received=0, waits=waits), 100.0
    for each in sent:
        session = session._replace(received=session.received + each)
        made.look((session,), at)
        at += 0.5
    return made.place(session).age


def test_a_large_mail_over_a_modem_does_not_wait() -> None:
    assert age([150] * 7200) <= 0.0


def test_an_honest_server_has_eight_seconds_more_for_2_000_bytes() -> None:
    """EHLO, TLS, MAIL and RCPT of a slow server at the other end of the world."""
    assert age([0, *[500, *[0] * 7] * 4, 0, 0], waits=True) == 9.0


def test_who_sends_a_lot_at_once_does_not_keep_its_place_for_long() -> None:
    """64 KB of a message that does not end."""
    assert age([65_536, *[0] * 120]) == 50.0


@given(
    sent=st.lists(st.integers(0, 100_000), max_size=50),
    looks=st.integers(1, 200),
    waits=st.booleans(),
)
def test_silence_counts_but_for_ten_seconds(sent: list[int], looks: int, *, waits: bool) -> None:
    """Whatever was sent before."""
    found = age([*sent, 0, *[0] * looks], waits=waits)
    assert looks / 2 - 10 <= found <= (len(sent) + looks) / 2


def test_who_waits_for_a_process_is_late_after_a_second_and_stuck_after_five(waits: Waits) -> None:
    assert waits.late(QUEUED)
    assert not waits.late(OWED)
    assert waits.queued() == {b"queued"}
    waits.look((QUEUED,), 104.5)
    assert waits.queued() == {b"queued"}
    waits.look((QUEUED,), 105.5)
    assert waits.queued() == set()
