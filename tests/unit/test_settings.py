from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.model import Rate
from throttled.settings import (
    Accounts,
    AnyCount,
    Duration,
    Guessing,
    Limit,
    LimitMode,
    Overload,
    Policy,
    ThrottleRate,
    default_limits,
    duration,
)
from throttled.subjects import Of


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


def test_defaults_are_those_of_the_design() -> None:
    limits = default_limits()
    senders = {"account-bounces", "account-volume", "account-networks"}
    assert {limits[name].of for name in senders} == {"account"}
    guessing = {"auth", "auth-users", "auth-slow", "auth-day"}
    assert set(limits) == {"connections", "errors", "errors-day", "callouts"} | guessing | senders
    assert [str(time) for time in Policy().ban.times] == ["10m", "1h", "4h", "12h", "1d"]
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
    ("of", "own", "daemon", "mode"),
    [
        ("client", None, "enforce", "enforce"),
        ("client", None, "observe", "enforce"),
        ("client", None, "throttle", "throttle"),
        ("client", "enforce", "throttle", "throttle"),
        ("client", "report", "enforce", "report"),
        ("account", None, "enforce", "report"),
        ("account", "throttle", "enforce", "throttle"),
        ("account", "enforce", "throttle", "throttle"),
    ],
)
def test_mode_of_a_limit(
    of: Of, own: LimitMode | None, daemon: Literal["observe", "throttle", "enforce"], mode: str
) -> None:
    limit = Limit(count="messages", within=duration("1h"), of=of, soft=1, mode=own)
    policy = Policy(mode=daemon, limits={"x": limit})
    assert policy.mode_of("x") == mode
    assert policy.of_senders("x") == (of != "client")


def test_mode_of_what_is_no_limit() -> None:
    assert Policy().mode_of("operator") == "enforce"
    assert not Policy().of_senders("operator")


def test_guessing() -> None:
    settings = Policy().guesses()
    assert (settings.tries, settings.tries_each, settings.accounts) == (30, 3, 2)
    assert (str(settings.within), settings.enabled) == ("1d", True)
    assert not Policy(accounts=Accounts(enabled=False)).guesses().enabled
    assert Policy().mode_of("guessing") == "enforce"
    assert Policy(mode="throttle").mode_of("guessing") == "throttle"
    assert Policy(guessing=Guessing(mode="report")).mode_of("guessing") == "report"


def test_overload_has_a_mode_for_each_scope() -> None:
    assert Overload().mode("mx") == "enforce"
    assert Overload(submission="off").mode("submission") == "off"


@pytest.mark.parametrize(
    ("of", "count", "incoming"),
    [
        ("mailbox", "messages", True),
        ("domain", "received", True),
        ("domain", "messages", False),
        ("account", "messages", False),
    ],
)
def test_whether_a_limit_of_mail_acts(of: Of, count: AnyCount, *, incoming: bool) -> None:
    limit = Limit(of=of, count=count, within=duration("1h"), soft=1)
    assert limit.incoming == incoming
    modes: list[tuple[LimitMode, bool]] = [
        ("report", True),
        ("throttle", False),
        ("throttle", True),
    ]
    for mode, enabled in modes:
        policy = Policy(limits={"x": replace(limit, mode=mode, enabled=enabled)})
        acts = mode == "throttle" and enabled
        assert (policy.acts(incoming=incoming), policy.acts(incoming=not incoming)) == (acts, False)
    assert not Policy().acts(incoming=False)
