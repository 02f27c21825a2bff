import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.decide.peaks import Watch
from throttled.decide.suggest import Sender, Suggestion, pleasant, propose, suggest
from throttled.duration import duration
from throttled.limits import Limit, default_limits
from throttled.model import Event
from throttled.settings import Policy
from unit.decide.test_peaks import STRANGER, event, mail, watch

WEEK = 7 * 86400.0


def senders(count: int) -> list[str]:
    return [f"198.51.100.{n}" for n in range(count)]


def found(made: Watch, limit: str, scope: str = "mx", span: float = WEEK) -> Suggestion:
    every = list(suggest(made.reached(), lambda _: span, lambda client: client == "127.0.0.1"))
    return next(s for s in every if (s.limit, s.scope) == (limit, scope))


def errors(events: list[Event], policy: Policy | None = None) -> Suggestion:
    return found(watch(events, policy), "errors")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (9, 9), (10, 10), (11, 12), (61, 80), (81, 100), (101, 120), (7001, 8000)],
)
def test_pleasant(value: int, expected: int) -> None:
    assert pleasant(value) == expected


@given(st.integers(0, 10_000_000))
def test_pleasant_is_not_below_and_stays(value: int) -> None:
    assert value <= pleasant(value) <= value * 1.5
    assert pleasant(pleasant(value)) == pleasant(value)


@pytest.mark.parametrize(
    ("now", "highest", "expected"),
    [
        ((20, 50, 10), 1, (10, 25)),  # not below half
        ((20, 50, 10), 12, (15, 40)),
        ((20, 50, 10), 16, (20, 50)),  # as it is
        ((20, 50, 10), 24, (30, 80)),
        ((22, 57, 10), 17, (22, 57)),  # needs 22: not raised for the sake of a round number
        ((60, 0, 30), 105, (150, 0)),
        ((0, 20, 10), 3, (0, 10)),
        ((0, 20, 10), 11, (0, 25)),
        ((8, 9, 4), 1, (4, 5)),
        ((20, 50, 10), 8_000_000, (500_000, 1_000_000)),
        ((0, 50, 10), 8_000_000, (0, 1_000_000)),
    ],
)
def test_the_rule(now: tuple[int, int, int], highest: int, expected: tuple[int, int]) -> None:
    assert propose(*now, highest) == expected


@given(st.integers(0, 1000), st.integers(0, 5000), st.integers(1, 500), st.integers(1, 2000))
def test_what_is_proposed_is_proposed_again(soft: int, more: int, least: int, high: int) -> None:
    hard = soft + more if more or not soft else 0
    if not soft and not hard:
        return
    least = min(least, soft or hard)
    once = propose(soft, hard, least, high)
    assert propose(*once, least, high) == once
    assert (once[0] or once[1]) >= min(high, 500_000)
    assert not once[0] or not once[1] or once[0] < once[1]


def test_soft_is_raised_above_what_good_clients_reach() -> None:
    events = [e for s in senders(30) for e in mail(s, mails=2, errors=4)]
    events += mail("198.51.100.99", mails=2, errors=30)
    events += mail(STRANGER, mails=0, errors=60)
    seen = errors(events)
    assert (seen.good, seen.strangers, seen.highest) == (31, 1, 30)
    assert (seen.count, seen.within, seen.why_not) == ("errors", 600.0, "")
    assert (seen.now.soft, seen.now.hard) == (20, 50)
    assert seen.now.senders == [Sender("198.51.100.99", 30, 2, 0)]
    assert (seen.now.strangers_above_soft, seen.now.strangers_above_hard) == (1, 1)
    assert (seen.now.good_above_soft, seen.now.good_above_hard) == (1, 0)
    assert seen.proposed is not None
    assert (seen.proposed.soft, seen.proposed.hard) == (40, 100)
    assert (seen.proposed.strangers_above_soft, seen.proposed.strangers_above_hard) == (1, 0)
    assert seen.proposed.senders == []


def test_bins() -> None:
    events = [e for s in senders(3) for e in mail(s)]
    events += [*mail("198.51.100.3", errors=1), *mail(STRANGER, 0, 5), *mail("203.0.113.8", 0, 8)]
    events.append(event("connect", "203.0.113.9"))
    assert [(b.low, b.high, b.good, b.strangers) for b in errors(events).bins] == [
        (0, 0, 3, 1),
        (1, 1, 1, 0),
        (2, 2, 0, 0),
        (3, 4, 0, 0),
        (5, 8, 0, 2),
    ]
    assert [b.high for b in found(watch(events), "auth").bins] == [0]


def test_the_peak_is_the_highest_within_the_window_not_the_last() -> None:
    events = [e for at in (1000.0, 9000.0) for e in mail(STRANGER, 0, 6, at)]
    events += mail(STRANGER, 0, 2, 50_000.0)
    assert [b.high for b in errors(events).bins if b.strangers] == [8]


def test_scopes_are_apart() -> None:
    made = watch(
        [
            event("login", "198.51.100.1", instance="postfix/submission"),
            event("connect", "198.51.100.1", instance="postfix/submission"),
            event("connect", "198.51.100.1"),
        ]
    )
    assert (found(made, "connections").good, found(made, "connections").strangers) == (0, 1)
    submission = found(made, "connections", "submission")
    assert (submission.good, submission.now.soft) == (1, 120)


def test_user_names() -> None:
    events = [event("auth_failure", STRANGER, user=f"u{n % 300}", pid=n) for n in range(600)]
    assert [b.high for b in found(watch(events), "auth-users").bins if b.strangers] == [256]


def test_one_in_a_thousand_may_be_higher() -> None:
    everybody = [f"198.18.{n // 250}.{n % 250}" for n in range(1000)]
    events = [e for s in everybody for e in mail(s, errors=1)]
    events += mail(everybody[0], errors=15)
    events += mail(everybody[1], errors=9)
    assert errors(events).highest == 10


def test_whose_bad_outweighs_its_good_is_listed_and_does_not_count() -> None:
    events = [e for s in senders(30) for e in mail(s, errors=1)]
    events += mail("198.51.100.99", errors=21)
    seen = errors(events)
    assert seen.highest == 1
    assert [s.client for s in seen.now.senders] == ["198.51.100.99"]


def test_protected_clients_are_left_out() -> None:
    events = [e for s in ["127.0.0.1", *senders(30)] for e in mail(s, errors=1)]
    events += mail("127.0.0.1", mails=10, errors=50)
    seen = errors(events)
    assert (seen.good, seen.highest) == (30, 1)


def test_nothing_is_proposed_from_too_little() -> None:
    enough = [e for s in senders(30) for e in mail(s, errors=1)]
    assert errors(enough).proposed is not None
    few = errors([e for s in senders(29) for e in mail(s, errors=1)])
    assert (few.proposed, few.why_not) == (None, "only 29 good clients; at least 30 are needed")
    short = found(watch(enough), "errors", span=3600.0)
    assert (short.proposed, short.why_not) == (None, "only 1.0 hours seen; at least 24 are needed")
    long = found(watch(enough), "auth-slow", span=2 * 86400.0)
    assert long.why_not == "only 48.0 hours seen; at least 72 are needed"
    none = found(watch(enough), "auth")
    assert (none.proposed, none.why_not) == (None, "no good client did it")
    assert errors([]).why_not == "only 0 good clients; at least 30 are needed"


def test_not_below_half_of_what_comes_with_throttled() -> None:
    enough = [e for s in senders(30) for e in mail(s, errors=1)]
    lower = Limit(count="errors", within=duration("10m"), soft=12)
    own = replace(lower, within=duration("5m"))
    for limit, expected in ((lower, 10), (own, 6), (replace(lower, soft=4), 4)):
        proposed = errors(enough, Policy(limits={**default_limits(), "errors": limit})).proposed
        assert proposed is not None
        assert proposed.soft == expected


def test_twenty_senders_are_named() -> None:
    events = [e for s in senders(35) for e in mail(s, mails=2, errors=25)]
    now = errors(events).now
    assert (len(now.senders), now.good_above_soft) == (20, 35)
