import pytest

from throttled.enforce import batch
from throttled.enforce.sets import BASE, SetId, place
from throttled.model import Entry, Rate

WIDE = SetId("mx", "throttle", 4, 20)
PLAIN, SLOW = (SetId("mx", "throttle", 4, 32, rate) for rate in ("", "6h2"))
BANNED = SetId("mx", "ban", 4, 32)
KEY = bytes((198, 18, 0, 1))


def throttle(seconds: float = 1.0, rate: Rate | None = None) -> Entry:
    return Entry("198.18.0.1", "mx", "throttle", seconds, rate)


def milliseconds(entry: Entry, _key: bytes) -> int:
    return int(entry.seconds * 1000)


def test_rivals_are_the_sets_of_other_rates() -> None:
    plain, slow, slower = (SetId("mx", "throttle", 4, 32, rate) for rate in ("", "6h2", "1h1"))
    rivals = batch.Rivals({*BASE, slow, slow._replace(prefix=24), slow._replace(version=6)})
    assert rivals.of(plain) == [slow]
    assert rivals.of(plain) == [slow]
    assert rivals.of(slow) == [plain]
    assert set(rivals.of(slower)) == {plain, slow}  # which is not there yet, but will be
    assert set(rivals.of(plain)) == {slow, slower}


def test_a_cap_on_rates() -> None:
    def of(number: int, prefix: int = 32) -> SetId:
        return SetId("mx", "throttle", 4, prefix, f"{number}h1")

    present = {*BASE, *(of(n) for n in range(1, batch.RATES))}
    assert batch.every(present, []) == [*BASE, *sorted(present - set(BASE))]
    more = {of(100), of(1, 24)}
    assert set(batch.every(present, more)) == present | more
    present |= {of(100)}
    more = {of(101), of(100, 24), WIDE}
    assert set(batch.every(present, more)) == present | more - {of(101)}


def test_the_cap_on_rates_counts_those_that_are_added() -> None:
    more = [PLAIN._replace(rate=f"{number}h1") for number in range(1, 41)]
    assert len(batch.every(set(), more)) == len(BASE) + batch.RATES


def test_bans_have_no_rivals() -> None:
    assert batch.Rivals(frozenset(BASE)).of(BANNED) == []


def test_the_last_entry_for_an_element_wins() -> None:
    ban = Entry("198.18.0.1", "mx", "ban", 5.0)
    last = Entry("::ffff:198.18.0.1", "mx", "ban", 7.0)
    assert batch.plan([ban, last], place, milliseconds) == ({BANNED: {KEY: (last, 7000)}}, [])


def test_a_throttle_leaves_the_sets_of_other_rates() -> None:
    slow = throttle(rate=Rate(6, 3600.0, 2))
    groups, failed = batch.plan([slow], place, milliseconds, batch.Rivals(frozenset(BASE)).of)
    gone = throttle(0.0, slow.rate)
    assert groups == {SLOW: {KEY: (slow, 1000)}, PLAIN: {KEY: (gone, 0)}}
    assert not failed


@pytest.mark.parametrize(
    ("subject", "seconds", "why"),
    [
        ("mail.example.com", 1.0, "not an IP address"),
        ("198.18.0.1", float("nan"), "NaN"),
        ("198.18.0.1", float("inf"), "infinity"),
    ],
)
def test_what_cannot_be_is_named(subject: str, seconds: float, why: str) -> None:
    wrong, right = Entry(subject, "mx", "ban", seconds), Entry("198.18.0.1", "mx", "ban", 1.0)
    groups, ((failed, said),) = batch.plan([wrong, right], place, milliseconds)
    assert (failed, groups) == (wrong, {BANNED: {KEY: (right, 1000)}})
    assert why in said


def test_sets_are_missing_that_something_is_added_to() -> None:
    gone = throttle(0.0)
    assert (
        batch.missing({PLAIN: {KEY: (gone, 0)}, BANNED: {KEY: (throttle(), 0)}}, {BANNED}) == set()
    )
    assert batch.missing({SLOW: {KEY: (throttle(), 0)}}, {PLAIN}) == {SLOW}
    both = {KEY: (gone, 0), bytes((198, 18, 0, 2)): (throttle(), 0)}
    assert batch.missing({SLOW: both}, {PLAIN}) == {SLOW}


def test_throttles_above_the_cap_get_the_configured_rate() -> None:
    slow, other = throttle(rate=Rate(6, 3600.0, 2)), throttle(0.0)
    groups = {
        SLOW: {KEY: (slow, 1000), b"gone": (other, 0)},
        PLAIN: {KEY: (other, 0)},
        WIDE: {KEY: (other, 0)},
    }
    placed, refused = batch.fit(groups, {PLAIN}, {SLOW})
    assert placed == {PLAIN: {KEY: (slow, 1000)}}
    assert refused == [(slow, batch.TOO_MANY)]
