"""Values that stop mail or open the host."""

from typing import Any

import pytest

from throttled.maincf.state import State
from throttled.maincf.traps import closes, has_virtual, refusals, without_exceptions

_NET = "127.0.0.0/8, 10.0.0.0/8"
_SOUND = {
    "smtpd_soft_error_limit": "10",
    "smtpd_hard_error_limit": "20",
    "message_size_limit": "10240000",
    "mailbox_size_limit": "51200000",
    "virtual_mailbox_limit": "51200000",
    "mynetworks": _NET,
    "smtpd_client_event_limit_exceptions": "10.0.0.0/8 127.0.0.0/8",
    "queue_minfree": "0",
    "mail_version": "3.7.11",
}


def state(stressed: dict[str, str] | None = None, /, **values: str) -> State:
    every = {**_SOUND, **values}
    return State("/p", every, {**every, **(stressed or {})}, {}, {}, queue_free=1000)


def found(one: State, *names: str) -> str:
    return "\n".join(refusals(one, names))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"smtpd_soft_error_limit": "12"}, ""),
        ({"smtpd_soft_error_limit": "banana"}, "not a whole number"),
        ({"smtpd_soft_error_limit": "0"}, "less than 1"),
        ({"smtpd_soft_error_limit": "21"}, "no effect"),
        ({"smtpd_hard_error_limit": "1"}, "greylisted"),
        ({"smtpd_client_message_rate_limit": "0"}, ""),
        ({"smtpd_client_message_rate_limit": "9"}, ""),
        ({"smtpd_error_sleep_time": "20s"}, "more than 10: each error"),
        ({"smtpd_forbid_bare_newline": "note"}, "none of"),
        ({"smtpd_forbid_bare_newline": "normalize"}, ""),
        ({"queue_minfree": "1001"}, "all mail would be refused"),
        ({"queue_minfree": "1000"}, ""),
        ({"smtpd_relay_restrictions": "permit_mynetworks"}, "open relay"),
        ({"smtpd_relay_restrictions": "permit_mynetworks, reject"}, ""),
        ({"smtpd_relay_restrictions": "permit_mynetworks reject banana"}, "banana is not known"),
        ({"smtpd_relay_restrictions": "reject, check_client_access hash:/x"}, "is not known"),
        ({"message_size_limit": "0"}, "= 0: less than 65536: RFC 5321"),
        ({"mailbox_size_limit": "1000"}, "never delivered"),
        ({"mailbox_size_limit": "0"}, ""),
        ({"mailbox_size_limit": "60000000"}, ""),
        ({"virtual_mailbox_limit": "1000"}, ""),
        ({"virtual_mailbox_limit": "1000", "virtual_mailbox_domains": "a.test"}, "never delivered"),
    ],
)
def test_a_value(values: dict[str, str], words: str) -> None:
    text = found(state(**values), *values.keys() - {"virtual_mailbox_domains"})
    assert words in text
    assert bool(text) == bool(words)


@pytest.mark.parametrize(
    ("busy", "words"),
    [("1", ""), ("0", "under stress it is 0"), ("x", "under stress it is x"), ("5", "")],
)
def test_a_value_under_stress(busy: str, words: str) -> None:
    one = state({"smtpd_hard_error_limit": busy})
    text = found(one, "smtpd_hard_error_limit")
    assert words in text
    assert bool(text) == bool(words)


def test_a_rate_limit_needs_exceptions() -> None:
    values: dict[str, Any] = {"smtpd_client_event_limit_exceptions": "127.0.0.0/8"}
    assert without_exceptions(state(**values)) == ""
    values["smtpd_client_auth_rate_limit"] = "5"
    assert without_exceptions(state(**values)) == "smtpd_client_auth_rate_limit = 5"
    assert "webmail" in found(state(**values), "smtpd_client_auth_rate_limit")


def test_what_was_wrong_before_is_not_asked() -> None:
    one = state(mailbox_size_limit="1", smtpd_soft_error_limit="99")
    assert found(one, "smtpd_relay_restrictions") == (
        "smtpd_relay_restrictions without any of reject, defer, reject_unauth_destination, "
        "defer_unauth_destination: an open relay, or no mail at all"
    )


def test_a_missing_value_is_no_number() -> None:
    one = State("/p", {}, {}, {}, {})
    assert "not a whole number" in found(one, "smtpd_soft_error_limit")
    one = State("/p", {"mailbox_size_limit": "5"}, {"mailbox_size_limit": "5"}, {}, {})
    assert found(one, "mailbox_size_limit") == ""
    one = state(smtpd_hard_error_limit="")
    assert found(one, "smtpd_soft_error_limit") == ""
    one = state(smtpd_soft_error_limit="")
    assert found(one, "smtpd_hard_error_limit") == ""


def test_both_are_named_by_their_own_name() -> None:
    one = state(message_size_limit="99000000", virtual_mailbox_domains="a.test")
    text = found(one, "message_size_limit")
    assert text.count("never delivered") == 2
    assert "mailbox_size_limit 51200000" in text
    assert found(state(mailbox_size_limit="1", virtual_mailbox_limit="1"), "message_size_limit")


def test_no_message_limit_at_all() -> None:
    one = state(message_size_limit="0")
    assert "never delivered" in found(one, "mailbox_size_limit")


def test_virtual() -> None:
    assert not has_virtual(state())
    assert has_virtual(state(virtual_mailbox_domains="a.test"))
    assert not has_virtual(state(virtual_mailbox_domains="a.test", virtual_transport="lmtp:x"))


@pytest.mark.parametrize(
    ("words", "closed"),
    [
        ("permit_mynetworks reject_unauth_destination", True),
        ("permit_mynetworks, defer_unauth_destination", True),
        ("warn_if_reject reject_unauth_destination", False),
        ("warn_if_reject reject_unauth_destination reject", True),
        ("permit, reject", False),
        ("check_client_access hash:/x", False),
        ("", False),
    ],
)
def test_a_list_that_closes(words: str, *, closed: bool) -> None:
    assert closes(words) == closed
