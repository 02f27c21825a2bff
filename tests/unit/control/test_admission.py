"""Shares of the control socket: nobody shuts root out, nor makes anybody else wait."""

from hypothesis import given
from hypothesis import strategies as st

from throttled.control import admission
from throttled.control.admission import BURST, CONNECTIONS, FOR_ROOT, PER_USER, RATE, Admission


def test_a_user_has_a_share_and_all_of_them_leave_some_to_root() -> None:
    doors = Admission()
    entered = [uid for uid in range(1000, 1010) for _ in range(PER_USER + 1) if doors.enter(uid)]
    assert entered.count(1000) == PER_USER
    assert len(entered) == CONNECTIONS - FOR_ROOT
    assert [doors.enter(0) for _ in range(FOR_ROOT + 1)] == [True] * FOR_ROOT + [False]
    doors.leave(1000)
    assert not doors.enter(1001)  # has its share
    assert doors.enter(1009)
    doors.leave(1009)
    assert doors.enter(1008)


def test_a_burst_is_free_and_then_it_is_a_rate() -> None:
    doors = Admission()
    assert not any(doors.delay(1000, 5.0) for _ in range(int(BURST)))
    assert doors.delay(1000, 5.0) == 1 / RATE
    assert doors.delay(1000, 5.0) == 2 / RATE
    assert doors.delay(1001, 5.0) == 0
    assert doors.delay(1000, 6.0) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 10)), max_size=300))
def test_nobody_is_served_more_than_burst_and_rate(asked: list[tuple[int, float]]) -> None:
    doors, now = Admission(), 0.0
    served: dict[int, list[float]] = {}
    for uid, pause in asked:
        now += pause / 100
        served.setdefault(uid, []).append(now + doors.delay(uid, now))
    for times in served.values():
        assert times == sorted(times)
        assert len(times) <= BURST + 1 + times[-1] * RATE


def test_users_are_forgotten_before_they_are_too_many() -> None:
    doors = Admission()
    for uid in range(admission._USERS + 10):
        for _ in range(int(BURST) + 1):
            doors.delay(uid, 0.0)
    assert doors.delay(0, 0.0) == 0  # forgotten: a burst again
    assert doors.delay(admission._USERS, 0.0) > 0
