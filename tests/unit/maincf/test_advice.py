"""What a limit should be."""

import pytest

from throttled.maincf.advice import Advice, advice
from throttled.maincf.evidence import Evidence
from throttled.maincf.state import State

_DEFAULTS = {
    "smtpd_soft_error_limit": "10",
    "smtpd_hard_error_limit": "20",
    "smtpd_recipient_limit": "1000",
    "message_size_limit": "10240000",
    "mailbox_size_limit": "51200000",
    "line_length_limit": "2048",
    "smtpd_client_connection_count_limit": "50",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
    "smtpd_forbid_bare_newline": "no",
    "smtpd_forbid_unauth_pipelining": "no",
    "smtpd_policy_service_default_action": "451 4.3.5 Server configuration problem",
    "soft_bounce": "no",
}
_REST = {"mail_version": "3.7.11", "mynetworks": "127.0.0.0/8"}


def advised(evidence: Evidence | None = None, /, **values: str) -> dict[str, str]:
    found = whole(evidence, **values)
    return {name: one.value for name, one in found.items() if one.value}


def whole(evidence: Evidence | None = None, /, **values: str) -> dict[str, Advice]:
    every = {**_DEFAULTS, **_REST, **values}
    return advice(State("/p", every, every, _DEFAULTS, {}), evidence or Evidence())


def reached(measure: str, value: int) -> Evidence:
    found = Evidence(good={"198.51.100.7"})
    found.note(measure, "198.51.100.7", value)  # type: ignore[arg-type]
    return found


FORBID = {"smtpd_forbid_bare_newline": "normalize", "smtpd_forbid_unauth_pipelining": "yes"}


def test_defaults_are_well_but_for_what_newer_versions_do() -> None:
    assert advised() == FORBID
    assert advised(mail_version="3.7.9")["smtpd_forbid_bare_newline"] == "yes"
    assert advised(**FORBID) == {}
    assert whole(**FORBID)["smtpd_forbid_bare_newline"].reason


@pytest.mark.parametrize(
    ("measure", "value", "name", "wanted"),
    [
        ("errors", 4, "smtpd_soft_error_limit", None),
        ("errors", 5, "smtpd_soft_error_limit", None),
        ("errors", 8, "smtpd_soft_error_limit", "16"),
        ("errors", 8, "smtpd_hard_error_limit", None),
        ("errors", 15, "smtpd_hard_error_limit", "30"),
        ("recipients", 600, "smtpd_recipient_limit", "1200"),
        ("size", 9_000_000, "message_size_limit", "18000000"),
        ("connections", 30, "smtpd_client_connection_count_limit", "60"),
        ("connection rate", 500, "smtpd_client_connection_rate_limit", None),
    ],
)
def test_twice_what_honest_senders_need(
    measure: str, value: int, name: str, wanted: str | None
) -> None:
    found = whole(reached(measure, value))
    assert found[name].value == (wanted or "")
    assert f"honest senders reached {value}" in found[name].reason


def test_a_rate_limit_is_raised_but_never_turned_on() -> None:
    name = "smtpd_client_connection_rate_limit"
    assert advised(reached("connection rate", 50), **{name: "60"})[name] == "100"
    assert "in the kernel" in whole()[name].reason
    assert (
        "it is off"
        in whole(smtpd_client_connection_count_limit="0")[
            "smtpd_client_connection_count_limit"
        ].reason
    )


def test_a_limit_below_the_default_goes_back_to_it() -> None:
    found = whole(smtpd_recipient_limit="50", smtpd_hard_error_limit="1", line_length_limit="512")
    assert found["smtpd_recipient_limit"].value == "1000"
    assert "Postfix's default" in found["smtpd_recipient_limit"].reason
    assert found["smtpd_hard_error_limit"].value == "20"
    assert found["line_length_limit"].value == "2048"
    assert "RFC 5322" in found["line_length_limit"].reason


def test_what_is_no_number_goes_back_to_the_default() -> None:
    every = {**_REST, "line_length_limit": "x", "smtpd_soft_error_limit": "x"}
    found = advice(State("/p", every, every, {}, {}), Evidence())
    assert found["line_length_limit"].value == "2048"
    assert found["smtpd_soft_error_limit"].value == ""


def test_limits_that_depend_on_each_other() -> None:
    found = advised(reached("size", 40_000_000))
    assert found["message_size_limit"] == found["mailbox_size_limit"] == "80000000"
    found = advised(reached("size", 40_000_000), mailbox_size_limit="0")
    assert "mailbox_size_limit" not in found
    found = advised(reached("errors", 10))
    assert (found["smtpd_soft_error_limit"], found["smtpd_hard_error_limit"]) == ("20", "40")
    found = advised(reached("errors", 12))
    assert (found["smtpd_soft_error_limit"], found["smtpd_hard_error_limit"]) == ("24", "24")
    every = {"smtpd_soft_error_limit": "10", "mail_version": "3.7.11"}
    found = {
        n: a.value
        for n, a in advice(State("/p", every, every, {}, {}), reached("errors", 9)).items()
    }
    assert found == {"smtpd_soft_error_limit": "18", "smtpd_hard_error_limit": "36"}


def test_soft_bounce_and_exceptions() -> None:
    found = advised(
        soft_bounce="yes",
        smtpd_client_event_limit_exceptions="",
        smtpd_client_connection_rate_limit="500",
    )
    assert found["soft_bounce"] == "no"
    assert found["smtpd_client_event_limit_exceptions"] == "$mynetworks"
