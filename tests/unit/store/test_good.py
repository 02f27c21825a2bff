from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from throttled.store.good import MEMORY, Good, day_of

DAY = 86400.0
TODAY = 20_000
NOON = TODAY * DAY + DAY / 2


def test_a_day_is_a_utc_day() -> None:
    before = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp()
    assert day_of(before) + 1 == day_of(before + 1)


def test_nothing_is_nothing() -> None:
    assert Good().at(NOON) == (0, 0, 0)


def test_deliveries_of_a_day_add_up_and_are_one_day() -> None:
    good = Good()
    good.add(NOON, 2, 0, NOON)
    good.add(NOON + 60, 3, 0, NOON + 60)
    assert good.at(NOON + 60) == (5, 1, 0)
    assert good.seen == TODAY
    assert good.last_login == 0.0


def test_two_days_are_distinguished_from_one() -> None:
    good = Good()
    good.add(NOON - DAY, 1, 0, NOON - DAY)
    good.add(NOON, 1, 0, NOON)
    assert good.at(NOON) == (2, 2, 0)


def test_a_day_is_remembered_for_thirty() -> None:
    good = Good()
    good.add(NOON, 7, 0, NOON)
    assert good.at(NOON + 29 * DAY) == (1, 1, 0)
    assert good.at(NOON + 30 * DAY) == (0, 0, 0)


def test_the_older_of_two_days_is_forgotten_first() -> None:
    good = Good()
    good.add(NOON, 1, 0, NOON)
    good.add(NOON + 20 * DAY, 1, 0, NOON + 20 * DAY)
    assert good.at(NOON + 29 * DAY)[1] == 2
    assert good.at(NOON + 30 * DAY)[1] == 1


def test_a_steady_sender_is_remembered_with_thirty_days() -> None:
    good = Good()
    for day in range(200):
        good.add(NOON + day * DAY, 10, 0, NOON + day * DAY)
    deliveries, days, _ = good.at(NOON + 199 * DAY)
    assert days == MEMORY
    assert 300 <= deliveries < 340


def test_a_flood_of_deliveries_has_a_cap() -> None:
    good = Good()
    for _ in range(3):
        good.add(NOON, 1 << 40, 0, NOON)
    assert good.at(NOON)[0] == 1 << 40


def test_evidence_that_comes_late_counts_for_its_own_day() -> None:
    good = Good()
    good.add(NOON, 1, 0, NOON)
    good.add(NOON - DAY, 1, 0, NOON)
    assert good.at(NOON) == (2, 2, 0)
    assert good.day == TODAY
    good.add(NOON - 3 * DAY, 1, 0, NOON)
    assert good.at(NOON)[1] == 3
    assert good.days == 0b1011
    assert Good() == Good(day=0, days=0, deliveries=0, logins=0, last_login=0.0)


def test_evidence_older_than_thirty_days_counts_for_nothing() -> None:
    good = Good()
    good.add(NOON, 1, 0, NOON)
    good.add(NOON - 40 * DAY, 5, 5, NOON)
    assert good.at(NOON) == (1, 1, 0)


def test_logins_fade_by_their_own_time() -> None:
    good = Good()
    good.add(NOON, 0, 30, NOON)
    assert good.at(NOON) == (0, 0, 30)
    assert good.at(NOON + 10 * DAY)[2] == 20
    assert good.last_login == NOON
    good.add(NOON + DAY, 0, 1, NOON + DAY)
    assert good.at(NOON + DAY)[2] == 30
    assert good.last_login == NOON + DAY


def test_an_earlier_login_does_not_turn_the_last_one_back() -> None:
    good = Good()
    good.add(NOON, 0, 1, NOON)
    good.add(NOON - 60, 0, 1, NOON)
    assert good.at(NOON)[2] == 2
    assert good.last_login == NOON


def test_a_time_in_the_future_counts_as_now() -> None:
    good = Good()
    good.add(NOON + 500 * DAY, 1, 1, NOON)
    assert good.seen == TODAY
    assert good.at(NOON) == (1, 1, 1)


def test_a_row_from_the_future_heals_when_the_clock_is_right_again() -> None:
    good = Good()
    wrong = NOON + 5000 * DAY
    good.add(wrong, 1, 1, wrong)
    assert good.at(NOON) == (1, 1, 1)
    good.add(NOON, 1, 1, NOON)
    assert good.seen == TODAY
    assert good.at(NOON) == (2, 1, 2)
    assert good.at(NOON + 30 * DAY) == (0, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 50)), min_size=1).map(sorted))
def test_days_are_exact_and_counts_close(sent: list[tuple[int, int]]) -> None:
    good = Good()
    for day, count in sent:
        good.add(NOON + day * DAY, count, 0, NOON + day * DAY)
    last = sent[-1][0]
    deliveries, days, _ = good.at(NOON + last * DAY)
    recent = [(day, count) for day, count in sent if day > last - MEMORY]
    assert days == len({day for day, _ in recent})
    # Fading takes from young ones too, and never more than their age's share.
    assert deliveries >= sum(count for day, count in recent if day == last)
    assert deliveries <= sum(count for _, count in sent)
