from hypothesis import given
from hypothesis import strategies as st

from throttled.decide.brake import Brake

NOW = 1_800_000_000.0
SIX = [(f"198.18.0.{n}", "errors") for n in range(6)]


def test_more_than_the_limit_within_a_minute() -> None:
    brake = Brake()
    assert brake.press(SIX[:5], NOW, 5) == 0
    assert not brake.spares(SIX[0], NOW)
    assert brake.press(SIX[5:], NOW + 50, 5) == 6
    assert brake.spares(SIX[5], NOW + 50)
    assert not brake.spares(SIX[0], NOW + 50)  # it was banned before anybody knew


def test_a_minute_has_nine_eighths_at_most() -> None:
    for after, pressed in ((67.4, 6), (67.5, 0)):
        brake = Brake()
        brake.press(SIX[:5], NOW, 5)  # begins an eighth
        assert brake.press(SIX[5:], NOW + after, 5) == pressed


def test_spread_over_minutes_is_no_accident() -> None:
    brake = Brake()
    assert [brake.press([one], NOW + 70 * n, 5) for n, one in enumerate(SIX)] == [0] * 6


def test_a_client_counts_once_an_hour_and_is_spared_as_long() -> None:
    brake = Brake()
    assert brake.press(SIX, NOW, 5) == 6
    for minute in range(2, 60):
        assert brake.press(SIX, NOW + 60 * minute, 5) == 0
        assert brake.spares(SIX[0], NOW + 60 * minute)
    assert not brake.spares(SIX[0], NOW + 3600)
    assert brake.press(SIX, NOW + 3600, 5) == 6


def test_being_spared_again_does_not_prolong_it() -> None:
    brake = Brake()
    brake.press(SIX, NOW, 5)
    brake.press([*SIX, ("203.0.113.1", "errors")], NOW + 30, 5)
    assert not brake.spares(SIX[0], NOW + 3600)
    assert brake.spares(("203.0.113.1", "errors"), NOW + 3600)


def test_nobody_good_is_no_reason() -> None:
    brake = Brake()
    brake.press(SIX, NOW, 5)
    assert brake.press([], NOW + 1, 5) == 0


def test_a_clock_that_goes_back_a_minute_goes_on() -> None:
    brake = Brake()
    brake.press(SIX, NOW, 5)
    brake.press([], NOW - 60, 5)
    assert brake.spares(SIX[0], NOW)


def test_a_clock_that_goes_back_begins_anew() -> None:
    brake = Brake()
    brake.press(SIX, NOW, 5)
    assert brake.press(SIX[:1], NOW - 86400, 5) == 0
    assert not brake.spares(SIX[1], NOW - 86400)
    assert brake.press(SIX, NOW - 86390, 5) == 6


@given(st.lists(st.tuples(st.floats(0, 3599), st.sampled_from(SIX))))
def test_few_clients_never_press_it_whatever_they_do(
    ban: list[tuple[float, tuple[str, str]]],
) -> None:
    brake = Brake()
    assert not any(brake.press([client], NOW + after, 6) for after, client in sorted(ban))


def test_the_addresses_of_a_64_are_one_client() -> None:
    brake = Brake()
    one = [(f"2001:db8::{n:x}", "errors") for n in range(1, 30)]
    assert brake.press(one, NOW, 5) == 0
    several = [(f"2001:db8:0:{n:x}::1", "errors") for n in range(1, 7)]
    assert brake.press(several, NOW, 5) == 7
    assert brake.press([("2001:0:1::1", "errors")], NOW, 5) == 8  # Teredo: no network


def test_one_limit_spares_nobody_from_another() -> None:
    brake = Brake()
    brake.press(SIX, NOW, 5)
    assert brake.spares(SIX[0], NOW + 60)
    assert not brake.spares((SIX[0][0], "auth"), NOW + 60)
