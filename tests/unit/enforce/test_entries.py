import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.enforce import entries
from throttled.model import ACTIONS, Action, Entry, Rate

SLOW = Rate(6, 3600.0, 2)

rates = st.builds(
    Rate, st.integers(1, 100_000), st.sampled_from(list(entries.UNITS)), st.integers(1, 100_000)
).filter(lambda rate: rate.burst * rate.per <= 86400 * rate.count)


@given(rates)
def test_a_rate_is_read_back(rate: Rate) -> None:
    assert entries.read(entries.write(rate)) == rate


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (SLOW, "6h2"),
        (Rate(1, 1.0, 10), "1s10"),
        (Rate(90, 60.0, 9), "90m9"),
        (Rate(2, 86400, 2), "2d2"),
    ],
)
def test_a_rate_as_text(rate: Rate, text: str) -> None:
    assert entries.write(rate) == text


@pytest.mark.parametrize(
    ("rate", "why"),
    [
        (Rate(6, 90.0, 2), "not per 90 s"),
        (Rate(0, 60.0, 2), "from 1 to 100000"),
        (Rate(6, 60.0, 0), "from 1 to 100000"),
        (Rate(100_001, 60.0, 1), "from 1 to 100000"),
        (Rate(100_000, 60.0, 100_001), "from 1 to 100000"),
        (Rate(1, 3600.0, 25), "in a day"),
    ],
)
def test_what_no_backend_keeps_exactly(rate: Rate, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        entries.write(rate)


@pytest.mark.parametrize(
    "text", ["", "6", "6h", "h2", "06h2", "6h02", "6w2", "6h0", "1h25", "x6h2", "6h2x"]
)
def test_other_texts_are_no_rates(text: str) -> None:
    assert entries.read(text) is None


@pytest.mark.parametrize("action", ACTIONS)
def test_only_a_throttle_has_a_rate(action: Action) -> None:
    entry = Entry("198.18.0.1", "mx", action, 60.0, SLOW)
    assert entries.parse(entry) == (b"\xc6\x12\0\1", 32, "6h2" if action == "throttle" else "")


def test_only_a_single_address_is_exempt() -> None:
    assert entries.parse(Entry("198.18.0.1/32", "mx", "exempt", 60.0))[1] == 32
    assert entries.parse(Entry("2001:db8::1", "mx", "exempt", 60.0))[1] == 128
    for network in ("198.18.0.0/31", "2001:db8::/64"):
        with pytest.raises(ValueError, match="single address"):
            entries.parse(Entry(network, "mx", "exempt", 60.0))
