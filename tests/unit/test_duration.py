import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.duration import Duration, duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1d", 86400), ("2w", 1209600), ("1.5h", 5400)],
)
def test_duration(text: str, seconds: float) -> None:
    assert float(duration(text)) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-1m", "0s", "1y", "99999w", "1m!", "ten"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration|longer than ten years"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (90, "1m30s"), (86400, "1d"), (3601, "1h1s")]
)
def test_shortest_form(seconds: float, text: str) -> None:
    assert str(Duration(seconds)) == text


@given(st.integers(1, 3650 * 86400))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert int(duration(str(Duration(seconds)))) == seconds
