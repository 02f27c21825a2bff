import pytest

from throttled.duration import duration
from throttled.limits import AnyCount, Limit, LimitMode, ThrottleRate, default_limits
from throttled.model import Rate
from throttled.subjects import Of


def test_defaults_are_those_of_the_design() -> None:
    limits = default_limits()
    senders = {"account-bounces", "account-volume", "account-networks"}
    assert {limits[name].of for name in senders} == {"account"}
    guessing = {"auth", "auth-users", "auth-slow", "auth-day"}
    assert set(limits) == {"connections", "errors", "errors-day", "callouts"} | guessing | senders
    assert limits["connections"].hard is None
    assert (limits["errors"].soft, limits["errors"].hard) == (20, 50)
    assert (limits["errors-day"].soft, limits["errors-day"].hard) == (500, None)
    assert (limits["auth"].soft, limits["auth"].hard) == (10, 100)
    assert (limits["auth-users"].soft, limits["auth-users"].hard) == (None, 20)
    assert (limits["auth-slow"].soft, limits["auth-slow"].hard) == (5, 10)
    assert (limits["auth-day"].soft, limits["auth-day"].hard) == (100, None)


def test_a_rate_of_its_own() -> None:
    assert ThrottleRate(6, duration("1h"), 2).as_rate() == Rate(6, 3600.0, 2)


@pytest.mark.parametrize(
    ("of", "count", "incoming"),
    [
        ("mailbox", "messages", True),
        ("domain", "received", True),
        ("domain", "messages", False),
        ("account", "messages", False),
    ],
)
def test_what_counts_mail_that_arrives(of: Of, count: AnyCount, *, incoming: bool) -> None:
    assert Limit(of=of, count=count, within=duration("1h"), soft=1).incoming == incoming


@pytest.mark.parametrize(
    ("of", "mode", "enabled", "acts"),
    [
        ("account", None, True, False),
        ("account", "report", True, False),
        ("account", "throttle", False, False),
        ("account", "throttle", True, True),
        ("account", "enforce", True, True),
        ("client", "enforce", True, False),
    ],
)
def test_whether_a_limit_of_mail_acts(
    of: Of, mode: LimitMode | None, *, enabled: bool, acts: bool
) -> None:
    limit = Limit(
        of=of, count="messages", within=duration("1h"), soft=1, mode=mode, enabled=enabled
    )
    assert limit.acts == acts
