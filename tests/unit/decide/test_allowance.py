import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.allowance import kind_of, lenient, proven, remembered, threshold
from throttled.model import Past
from throttled.settings import Good

NOW = 1_800_000_000.0
DAY = 86400.0
DEFAULT = Good()


@pytest.mark.parametrize(
    ("count", "kind"),
    [
        ("connections", "deliveries"),
        ("handshakes", "deliveries"),
        ("errors", "deliveries"),
        ("callouts", "deliveries"),
        ("auth_failures", "logins"),
        ("auth_users", "logins"),
        ("messages", "none"),
        ("recipients", "none"),
    ],
)
def test_what_speaks_for_what(count: str, kind: str) -> None:
    assert kind_of(count) == kind


def test_one_good_event_excuses_one_from_a_throttle_and_three_from_a_ban() -> None:
    assert threshold(20, 0, DEFAULT, ban=False) == 20
    assert threshold(20, 7, DEFAULT, ban=False) == 27
    assert threshold(50, 7, DEFAULT, ban=True) == 71


def test_a_threshold_is_raised_to_twenty_times_at_most() -> None:
    assert threshold(20, 379, DEFAULT, ban=False) == 399
    assert threshold(20, 1_000_000, DEFAULT, ban=False) == 400
    assert threshold(50, 1_000_000, DEFAULT, ban=True) == 1000


def test_deliveries_are_remembered_from_the_second_day_on() -> None:
    assert remembered("errors", Past(deliveries=9, delivery_days=1), NOW) == 0
    assert remembered("errors", Past(deliveries=9, delivery_days=2), NOW) == 9
    assert remembered("messages", Past(deliveries=9, delivery_days=2), NOW) == 0
    assert remembered("errors", Past(logins=9, last_login=NOW), NOW) == 0


def test_logins_are_remembered_for_thirty_days() -> None:
    assert remembered("auth_users", Past(logins=9, last_login=NOW - 30 * DAY + 1), NOW) == 9
    assert remembered("auth_users", Past(logins=9, last_login=NOW - 30 * DAY), NOW) == 0
    assert remembered("auth_failures", Past(deliveries=9, delivery_days=9), NOW) == 0


def test_who_is_remembered_is_spared_up_to_five_times_the_threshold() -> None:
    assert lenient(50, 9, 0, DEFAULT) == 0
    assert lenient(50, 0, 2, DEFAULT) == 52
    assert lenient(50, 3, 2, DEFAULT) == 61
    assert lenient(50, 0, 199, DEFAULT) == 249
    assert lenient(50, 0, 1_000_000, DEFAULT) == 250
    assert lenient(50, 1_000_000, 1, DEFAULT) == 250


def test_proven_is_who_delivered_on_two_days_or_logged_in_twice() -> None:
    assert not proven("errors", Past(deliveries=1, logins=9, last_login=NOW), NOW)
    assert not proven("errors", Past(deliveries=900, delivery_days=1), NOW)
    assert proven("errors", Past(deliveries=2, delivery_days=2), NOW)
    assert not proven("auth_users", Past(deliveries=9, logins=1, last_login=NOW), NOW)
    assert proven("auth_users", Past(logins=2, last_login=NOW), NOW)
    assert not proven("auth_users", Past(logins=2, last_login=NOW - 30 * DAY), NOW)


@given(
    plain=st.integers(1, 1_000_000),
    good=st.integers(0, 1 << 40),
    known=st.integers(0, 1 << 40),
    settings=st.builds(
        Good,
        forgives=st.integers(0, 100),
        forgives_ban=st.integers(0, 100),
        factor=st.integers(1, 1000),
        memory=st.integers(1, 1000),
    ),
)
def test_no_amount_of_good_goes_beyond_the_bound(
    plain: int, good: int, known: int, settings: Good
) -> None:
    for ban in (False, True):
        assert plain <= threshold(plain, good, settings, ban=ban) <= settings.factor * plain
    assert lenient(plain, good, known, settings) <= settings.memory * plain
