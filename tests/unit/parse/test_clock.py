from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.parse.clock import Clock, iso_date

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type] # no float parts


NOW = utc(2026, 11, 22, 12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nov 22 11:00:00", utc(2026, 11, 22, 11)),
        ("Nov  2 11:00:00", utc(2026, 11, 2, 11)),
        ("Nov 2 11:00:00", utc(2026, 11, 2, 11)),
        ("Nov 02 11:00:00", utc(2026, 11, 2, 11)),
        ("Jun 30 23:59:60", utc(2026, 6, 30, 23, 59, 59)),  # leap second
        ("2026-11-22 11:00:00", utc(2026, 11, 22, 11)),
        ("2026-11-22 11:00:00.5", utc(2026, 11, 22, 11) + 0.5),
        ("1999-11-22 11:00:00", utc(1999, 11, 22, 11)),
    ],
)
def test_time_without_zone(text: str, expected: float) -> None:
    assert Clock(UTC, NOW).time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Nov",
        "Nov 31 10:00:00",
        "Now 22 10:00:00",
        "Nov 22 24:00:00",
        "nov 22 10:00:00",
        "x" * 15,
    ],
)
def test_no_time(text: str) -> None:
    assert Clock(UTC, NOW).time(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T10:00:00Z", utc(2026, 11, 22, 10)),
        ("2026-11-22T10:00:00+02:00", utc(2026, 11, 22, 8)),
        ("2026-11-22T10:00:00-0530", utc(2026, 11, 22, 15, 30)),
        ("2026-11-22T10:00:00.25Z", utc(2026, 11, 22, 10) + 0.25),
        ("2026-11-22T10:00:00.123456789+00:00", utc(2026, 11, 22, 10) + 0.123456),
        ("2026-11-22T10:00:00", utc(2026, 11, 22, 9)),  # no zone: Berlin's
        ("2026-11-22T10:00:61Z", None),
        ("2026-11-22", utc(2026, 11, 21, 23)),
        ("nonsense", None),
    ],
)
def test_iso(text: str, expected: float | None) -> None:
    assert Clock(BERLIN, NOW).iso(text) == expected


def test_the_year_is_the_latest_within_a_day_of_the_reference() -> None:
    clock = Clock(UTC, utc(2027, 1, 1, 0, 5))
    assert clock.time("Dec 31 23:59:00") == utc(2026, 12, 31, 23, 59)
    assert clock.time("Jan  1 00:04:00") == utc(2027, 1, 1, 0, 4)
    assert clock.time("Jan  2 00:04:00") == utc(2027, 1, 2, 0, 4)
    assert clock.time("Jan  2 00:06:00") == utc(2026, 1, 2, 0, 6)


def test_a_reader_behind_the_writer_at_new_year() -> None:
    """The clock that wrote the line may be ahead of ours."""
    assert Clock(UTC, utc(2026, 12, 31, 23, 59)).time("Jan  1 00:00:30") == utc(
        2027, 1, 1, 0, 0, 30
    )


def test_29_february_goes_back_to_a_year_that_has_one() -> None:
    assert Clock(UTC, NOW).time("Feb 29 10:00:00") == utc(2024, 2, 29, 10)


def test_a_remembered_time_follows_the_reference() -> None:
    clock = Clock(UTC, NOW)
    for year in (2026, 2027, 2026, 2028):
        assert clock.time("Nov 22 11:00:00", utc(year, 11, 22, 12)) == utc(year, 11, 22, 11)


def test_the_hour_that_occurs_twice() -> None:
    """On 25 October 2026 at 03:00 summer time it was 02:00 again: 01:00 UTC."""
    clock = Clock(BERLIN, NOW)
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    for text in ("Oct 25 02:30:00", "2026-10-25 02:30:00", "2026-10-25T02:30:00"):
        assert clock.iso(text, first + 1) == first if "T" in text else True
        assert clock.time(text, first + 1) == first
        assert clock.time(text, second + 1) == second
        assert clock.time(text, second - 30) == second
    assert clock.time("Oct 25 01:59:59", first) == utc(2026, 10, 24, 23, 59, 59)
    assert clock.time("Oct 25 03:00:00", second + 1800) == utc(2026, 10, 25, 2)


def test_the_hour_that_does_not_occur() -> None:
    """Another program's clock: any moment near will do."""
    placed = Clock(BERLIN, NOW).time("Mar 29 02:30:00")
    assert placed is not None
    assert abs(placed - utc(2026, 3, 29, 1)) <= 3600


def test_a_time_after_every_reference_is_taken_as_it_stands() -> None:
    assert Clock(UTC, 0.0).time("2026-11-22 11:00:00") == utc(2026, 11, 22, 11)


def test_memory_is_bounded() -> None:
    clock = Clock(UTC, NOW)
    for second in range(10_000):
        moment = datetime.fromtimestamp(NOW - second, UTC)
        assert clock.time(moment.strftime("%b %d %H:%M:%S")) == NOW - second
    assert len(clock._placed) <= 4_096


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)),  # noqa: DTZ001 # zone given below
    st.integers(-12, 14),
    st.integers(0, 300),
)
def test_every_time_is_read_back(moment: datetime, hours: int, days: int) -> None:
    zone = timezone(timedelta(hours=hours))
    moment = moment.replace(microsecond=0, tzinfo=zone)
    time = moment.timestamp()
    clock = Clock(zone, time + days * 86_400)
    assert clock.time(moment.strftime("%b %e %H:%M:%S")) == time
    assert clock.iso(moment.isoformat()) == time
    assert clock.time(moment.strftime("%Y-%m-%d %H:%M:%S")) == time


@given(st.text(max_size=40), st.floats(-1e12, 1e12))
def test_no_text_raises(text: str, reference: float) -> None:
    clock = Clock(BERLIN, reference)
    clock.time(text)
    clock.iso(text)


def test_iso_date() -> None:
    assert iso_date("2026", "Aug  2") == iso_date("2026", "Aug 02") == "2026-08-02"
    assert Clock(UTC, 0.0).iso(f"{iso_date('2026', 'Foo  2')} 10:00:01") is None
