"""What postscreen's lines say, beyond the samples in tests/samples."""

import pytest

from throttled.parse.header import Origin
from throttled.parse.postscreen import TABLE

ORIGIN = Origin("mx", "postfix", "postscreen", 7)


@pytest.mark.parametrize(
    ("body", "kind", "where", "text"),
    [
        ("CONNECT from [203.0.113.8]:5 to [198.51.100.1]:25", "screened", "", "[198.51.100.1]:25"),
        ("PREGREET 4 after 0.1 from [203.0.113.8]:5: a: b", "pregreet", "", "a: b"),
        ("DNSBL rank 12 for [203.0.113.8]:5", "dnsbl", "", "12"),
        (
            "HANGUP after 2.5 from [203.0.113.8]:5 in tests before SMTP handshake",
            "hangup",
            "tests before SMTP handshake",
            "2.5",
        ),
        ("COMMAND TIME LIMIT from [203.0.113.8]:5 after EHLO", "command_limit", "time", "EHLO"),
        ("COMMAND PIPELINING from [203.0.113.8]:5 after : x", "pipelining", "", "x"),
        ("COMMAND PIPELINING from [203.0.113.8]:5 after F[1]: x", "pipelining", "F", "[1]: x"),
        (
            "NON-SMTP COMMAND from [203.0.113.8]:5 after CONNECT: GET /",
            "non_smtp_command",
            "CONNECT",
            "GET /",
        ),
        ("BARE NEWLINE from [203.0.113.8]:5 after HELO x", "bare_newline", "HELO", "x"),
        ("DENYLISTED [203.0.113.8]:5", "denylisted", "", ""),
        ("PASS OLD [203.0.113.8]:5", "passed", "OLD", ""),
        ("ALLOWLISTED [203.0.113.8]:5", "passed", "ALLOWLISTED", ""),
        ("DISCONNECT [203.0.113.8]:5", "disconnect", "", ""),
    ],
)
def test_line(body: str, kind: str, where: str, text: str) -> None:
    event = TABLE.read(body, ORIGIN, 0.0)
    assert event is not None
    assert (event.kind, event.where, event.text) == (kind, where, text)
    assert (event.client, event.port, event.count) == ("203.0.113.8", 5, 1)


@pytest.mark.parametrize(
    "body",
    [
        "HANGUP after 2.5 from [203.0.113.8]:5 in some new test",
        "PASS NEW [unknown]:5",
        "ALLOWLIST VETO [203.0.113.8]:5",
        "leaving STRESS mode with 7 connections",
    ],
)
def test_no_event(body: str) -> None:
    assert TABLE.read(body, ORIGIN, 0.0) is None


def test_stress_names_nobody() -> None:
    event = TABLE.read("entering STRESS mode with 70 connections", ORIGIN, 0.0)
    assert event is not None
    assert (event.kind, event.client) == ("saturated", "")
