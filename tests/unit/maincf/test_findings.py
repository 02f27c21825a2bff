"""What `check` warns of."""

import pytest

from throttled.maincf.findings import findings, open_relay
from throttled.maincf.state import Serving, State

_SAFE = "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"
_SOUND = {
    "smtpd_relay_restrictions": _SAFE,
    "mynetworks": "127.0.0.0/8",
    "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
    "smtpd_hard_error_limit": "20",
    "soft_bounce": "no",
    "unknown_local_recipient_reject_code": "550",
    "line_length_limit": "2048",
    "smtpd_recipient_limit": "1000",
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_unauth_pipelining": "yes",
    "mail_version": "3.9.1",
}


def state(service: dict[str, str] | None = None, /, **values: str) -> State:
    every = {**_SOUND, **values}
    serving = Serving("smtp/inet", {**every, **(service or {})})
    return State("/p", every, every, {}, {}, (serving,))


def test_a_sound_configuration() -> None:
    assert list(findings(state())) == []


@pytest.mark.parametrize(
    ("values", "what", "fix"),
    [
        ({"smtpd_hard_error_limit": "1"}, "greylisted", "smtpd_hard_error_limit=20"),
        (
            {
                "smtpd_client_event_limit_exceptions": "",
                "smtpd_client_message_rate_limit": "5",
            },
            "webmail",
            "smtpd_client_event_limit_exceptions=$mynetworks",
        ),
        ({"soft_bounce": "yes"}, "temporary", "soft_bounce=no"),
        (
            {"unknown_local_recipient_reject_code": "450"},
            "days",
            "unknown_local_recipient_reject_code=550",
        ),
        ({"line_length_limit": "512"}, "cut", "line_length_limit=2048"),
        ({"smtpd_recipient_limit": "50"}, "RFC 5321", "smtpd_recipient_limit=1000"),
        ({"smtpd_forbid_bare_newline": "no"}, "SMTP", "smtpd_forbid_bare_newline=normalize"),
        (
            {"smtpd_forbid_bare_newline": "no", "mail_version": "3.7.9"},
            "SMTP",
            "smtpd_forbid_bare_newline=yes",
        ),
        (
            {"smtpd_forbid_unauth_pipelining": "no"},
            "before they are answered",
            "smtpd_forbid_unauth_pipelining=yes",
        ),
        (
            {"smtpd_relay_restrictions": "permit_mynetworks"},
            "open relay: smtp/inet",
            f"smtpd_relay_restrictions={_SAFE.replace(', ', ',')}",
        ),
        (
            {"mynetworks": "127.0.0.0/8 0.0.0.0/0", "smtpd_client_event_limit_exceptions": ""},
            "everybody",
            "",
        ),
    ],
)
def test_a_finding(values: dict[str, str], what: str, fix: str) -> None:
    ((text, command),) = findings(state(**values))
    assert what in text
    assert command == fix


def test_a_version_without_it_needs_nothing() -> None:
    values = {n: v for n, v in _SOUND.items() if not n.startswith("smtpd_forbid")}
    values.pop("line_length_limit")
    assert list(findings(State("/p", values, values, {}, {}))) == []


def test_a_service_of_its_own_that_relays() -> None:
    ((text, command),) = findings(state({"smtpd_relay_restrictions": "permit"}))
    assert (text[:10], command) == ("open relay", "")


@pytest.mark.parametrize(
    ("values", "is_open"),
    [
        ({"smtpd_relay_restrictions": _SAFE}, False),
        ({"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": _SAFE}, False),
        ({"smtpd_client_restrictions": "permit_sasl_authenticated,reject"}, False),
        ({"smtpd_relay_restrictions": "permit"}, True),
        ({}, True),
        ({"smtpd_relay_restrictions": _SAFE, "mynetworks": "[::]/0"}, True),
        ({"smtpd_relay_restrictions": "reject_unauth_destination", "mynetworks": "0/0"}, False),
    ],
)
def test_an_open_relay(values: dict[str, str], *, is_open: bool) -> None:
    assert bool(open_relay(Serving("smtp/inet", values))) == is_open
