"""The table agrees with this machine's Postfix and with itself; its patterns with real lines."""

import re

import pytest

from throttled.host.command import run
from throttled.maincf.parameters import PARAMETERS, RATES, TABLE
from throttled.maincf.values import number, wrong

#: Other defaults in 3.9, where these are at home, and in 3.10.13.
_NEWER = {
    "milter_default_action",
    "smtpd_forbid_bare_newline",
    "smtpd_forbid_unauth_pipelining",
    "smtpd_client_ipv4_prefix_length",
    "smtpd_client_ipv6_prefix_length",
}


def test_names_are_unique_and_defaults_within_bounds() -> None:
    assert len(PARAMETERS) == len(TABLE)
    assert len(RATES) == 5
    for p in TABLE:
        if p.kind != "text":
            assert not wrong(p.kind, p.default, p.words), p.name
            value = number(p.kind, p.default)
            assert value is None or p.low <= value <= p.high or (p.off and value == 0), p.name
            assert p.kind != "words" or p.words


@pytest.mark.postfix
def test_names_and_defaults_are_those_of_postfix() -> None:
    output = run("postconf", "-c", "/etc/postfix", "-xd", *PARAMETERS)
    known = {n.strip(): v.strip() for n, _, v in (x.partition("=") for x in output.splitlines())}
    for name in PARAMETERS.keys() - _NEWER:
        if PARAMETERS[name].kind != "text":
            assert known[name] == PARAMETERS[name].default, name


C = "mx.example.org[198.51.100.7]"


@pytest.mark.parametrize(
    ("line", "name", "client"),
    [
        (f"too many errors after RCPT from {C}", "smtpd_hard_error_limit", "198.51.100.7"),
        (f"NOQUEUE: too many errors after AUTH from {C}", "smtpd_hard_error_limit", "198.51.100.7"),
        (
            f"too many errors after DATA (approximately 12 bytes) from {C}",
            "smtpd_hard_error_limit",
            "198.51.100.7",
        ),
        (f"too many errors after NOOP from {C}", "smtpd_junk_command_limit", "198.51.100.7"),
        (f"timeout after END-OF-MESSAGE from {C}", "smtpd_timeout", "198.51.100.7"),
        (f"timeout after DATA (0 bytes) from {C}", "smtpd_timeout", "198.51.100.7"),
        (
            f"SSL_accept error from {C}: Connection timed out",
            "smtpd_starttls_timeout",
            "198.51.100.7",
        ),
        (
            f"warning: Connection concurrency limit exceeded: 51 from {C} for service smtp",
            "smtpd_client_connection_count_limit",
            "198.51.100.7",
        ),
        (
            f"warning: Connection rate limit exceeded: 5 from {C} for service smtp",
            "smtpd_client_connection_rate_limit",
            "198.51.100.7",
        ),
        (
            f"warning: Message delivery request rate limit exceeded: 5 from {C} for service smtp",
            "smtpd_client_message_rate_limit",
            "198.51.100.7",
        ),
        (
            f"warning: Recipient address rate limit exceeded: 5 from {C} for service smtp",
            "smtpd_client_recipient_rate_limit",
            "198.51.100.7",
        ),
        (
            f"warning: New TLS session rate limit exceeded: 5 from {C} for service smtp",
            "smtpd_client_new_tls_session_rate_limit",
            "198.51.100.7",
        ),
        (
            f"warning: AUTH command rate limit exceeded: 5 from {C} for service smtp",
            "smtpd_client_auth_rate_limit",
            "198.51.100.7",
        ),
        (
            f"NOQUEUE: reject: MAIL from {C}: 552 5.3.4 Message size exceeds fixed limit; proto=",
            "message_size_limit",
            "198.51.100.7",
        ),
        ("warning: 4F1A2: queue file size limit exceeded", "message_size_limit", ""),
        (f"warning: {C}: request longer than 2048: xxx...", "line_length_limit", "198.51.100.7"),
        ("warning: 4F1A2: message rejected: hopcount exceeded", "hopcount_limit", ""),
        (
            f"NOQUEUE: reject: MAIL from {C}: 452 4.3.1 Insufficient system storage; from=<a>",
            "queue_minfree",
            "198.51.100.7",
        ),
        (
            'warning: service "smtp" (25) has reached its process limit "100": new clients may',
            "default_process_limit",
            "",
        ),
        (
            f"improper command pipelining after EHLO from {C}: QUIT",
            "smtpd_forbid_unauth_pipelining",
            "198.51.100.7",
        ),
        (
            f"NOQUEUE: reject: DATA from {C}: 521 5.5.2 {C}: Error: bare <LF> received",
            "smtpd_forbid_bare_newline",
            "198.51.100.7",
        ),
        (
            "NOQUEUE: reject: CONNECT from [198.51.100.7]:4711: too many connections",
            "postscreen_client_connection_count_limit",
            "198.51.100.7",
        ),
        (
            "reject: connect from [2001:db8::7]:4711: all screening ports busy",
            "postscreen_pre_queue_limit",
            "2001:db8::7",
        ),
        (
            "NOQUEUE: reject: CONNECT from [198.51.100.7]:4711: all server ports busy",
            "postscreen_post_queue_limit",
            "198.51.100.7",
        ),
        (
            "COMMAND COUNT LIMIT from [198.51.100.7]:4711 after NOOP",
            "postscreen_command_count_limit",
            "198.51.100.7",
        ),
        (
            "COMMAND TIME LIMIT from [198.51.100.7]:4711 after EHLO",
            "postscreen_command_time_limit",
            "198.51.100.7",
        ),
    ],
)
def test_a_line_of_a_hit(line: str, name: str, client: str) -> None:
    found = {
        (p.name, match["client"] if "client" in match.re.groupindex else "")
        for p in TABLE
        for hit in p.hits
        if (match := re.compile(hit).match(line))
    }
    assert found == {(name, client)}


def test_what_a_client_writes_is_no_hit() -> None:
    """A client's text stands behind its address."""
    line = f"warning: non-SMTP command from {C}: too many errors after RCPT from x[203.0.113.9]"
    assert not any(re.compile(hit).match(line) for p in TABLE for hit in p.hits)
