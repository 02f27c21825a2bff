from typing import Literal

import pytest
from msgspec.structs import replace

from throttled.duration import duration
from throttled.limits import Limit, LimitMode
from throttled.settings import Accounts, Guessing, Overload, Policy
from throttled.subjects import Of


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


def test_ban_times() -> None:
    assert [str(time) for time in Policy().ban.times] == ["10m", "1h", "4h", "12h", "1d"]


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


def test_whether_limits_of_mail_act() -> None:
    limit = Limit(of="mailbox", count="messages", within=duration("1h"), soft=1)
    for mode, acts in (("report", False), ("throttle", True)):
        policy = Policy(limits={"x": replace(limit, mode=mode)})
        assert (policy.acts(incoming=True), policy.acts(incoming=False)) == (acts, False)
    assert not Policy().acts(incoming=False)
