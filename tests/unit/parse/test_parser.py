import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.parse.parser import Parser

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
THEN = datetime(2026, 11, 2, 4, 6, 8, tzinfo=UTC).timestamp()
HEAD = "Nov  2 04:06:08 mx postfix/smtpd[77]: "
POSTSCREEN = HEAD.replace("smtpd", "postscreen")
QUEUE = HEAD.replace("smtpd", "qmgr") + "3A5C01F2B: "


@pytest.fixture
def parser() -> Parser:
    return Parser(UTC, NOW)


def test_the_zone_and_the_reference() -> None:
    zone = timezone(timedelta(hours=2))
    event = Parser(zone, NOW).event(HEAD + "connect from x[203.0.113.8]")
    assert event is not None
    assert event.time == datetime(2026, 11, 2, 4, 6, 8, tzinfo=zone).timestamp()
    a_year_on = datetime(2027, 11, 2, 5, tzinfo=zone).timestamp()
    event = Parser(zone, NOW).event(HEAD + "connect from x[203.0.113.8]", a_year_on)
    assert event is not None
    assert event.time == datetime(2027, 11, 2, 4, 6, 8, tzinfo=zone).timestamp()


def test_what_is_remembered_of_a_line_holds_for_the_next_only_where_it_is_the_same(
    parser: Parser,
) -> None:
    bodies = {
        "connect from x[203.0.113.8]": "connect",
        "lost connection after AUTH from x[203.0.113.8]": "lost_connection",
        "no such thing from x[203.0.113.8]": None,
    }
    iso = "2026-11-02T04:06:08.5Z mx postfix/smtpd[77]: "
    for head in (HEAD, iso, HEAD.replace("77", "78"), HEAD.replace("smtpd", "smtp"), HEAD):
        for body, kind in bodies.items():
            event = parser.event(head + body)
            if "smtpd" not in head or kind is None:
                assert event is None
                continue
            assert event is not None
            assert (event.kind, event.pid) == (kind, 78 if "[78]" in head else 77)
            assert event.time == THEN + (0.5 if head is iso else 0.0)
    for number in range(2_000):
        parser.event(HEAD.replace("77", str(number)) + "connect from x[203.0.113.8]")
    assert len(parser._heads) <= 1_024


def test_repeated_lines_count(parser: Parser) -> None:
    repeated = HEAD + "message repeated 3 times: [ %s]\r"
    event = parser.event(repeated % "connect from x[203.0.113.8]")
    assert event is not None
    assert (event.kind, event.client, event.count) == ("connect", "203.0.113.8", 3)
    assert parser.event(repeated % "nothing") is None


def test_the_line_before_was_repeated(parser: Parser) -> None:
    """Classic syslogd: the host, but neither program nor text, is said once more."""
    repeated = "Nov  2 04:06:38 {} last message repeated {} times"
    assert parser.event(repeated.format("mx", 3)) is None
    parser.event(HEAD + "connect from x[203.0.113.8]")
    for times in (3, 17):  # in growing intervals, as long as it goes on
        event = parser.event(repeated.format("mx", times) + "\r")
        assert event is not None
        assert (event.kind, event.client, event.count) == ("connect", "203.0.113.8", times)
        assert event.time == THEN + 30
    event = parser.event(HEAD + "message repeated 2 times: [ connect from x[203.0.113.8]]")
    event = parser.event("Nov  2 04:06:38 mx syslogd: last message repeated 1 time")
    assert event is not None
    assert event.count == 2


@pytest.mark.parametrize(
    "between",
    [
        HEAD.replace("smtpd", "qmgr") + "removed",  # another line: it was that one
        "last message repeated 3 times",
        "Nov  2 04:06:38 other last message repeated 3 times",
        HEAD + "last message repeated 3 times",
        "Nov  2 04:06:38 mx last message repeated 3 times ago",
        "",
    ],
)
def test_what_was_repeated_is_not_certain(parser: Parser, between: str) -> None:
    parser.event(HEAD + "connect from x[203.0.113.8]")
    assert parser.event(between) is None
    assert parser.event("Nov  2 04:06:38 mx last message repeated 3 times") is None
    assert parser.another().event("Nov  2 04:06:38 mx last message repeated 3 times") is None


def test_solaris(parser: Parser) -> None:
    event = parser.event(HEAD + "[ID 197553 mail.info] connect from x[203.0.113.8]")
    assert event is not None
    assert (event.client, event.count) == ("203.0.113.8", 1)
    assert parser.event(HEAD + "[ID 197553 mail.info] ") is None


def test_a_line_of_a_daemon_that_is_none_of_ours(parser: Parser) -> None:
    line = (HEAD + "connect from x[203.0.113.8]").replace("smtpd", "tlsmgr")
    assert parser.event(line) is None
    assert not parser.unknown(line)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (
            "warning: Frobnication limit exceeded: 17 from x[203.0.113.8]",
            "smtpd: warning: Frobnication limit exceeded: 0 from ",
        ),
        (
            "message repeated 3 times: [ warning: bad ETRN y... from x[203.0.113.8]]",
            "smtpd: warning: bad ETRN y... from ",
        ),
        ("connect from x[203.0.113.8]", ""),  # understood
        ("warning: hostname x.example does not resolve to address 203.0.113.8", ""),
        ("warning: something failed", ""),  # names nobody
        ("greetings from x[203.0.113.8]", ""),  # no offence
        ('x[203.0.113.8]: replacing command "failed" with "NOOP"', ""),  # the client's words
    ],
)
def test_unknown(parser: Parser, body: str, shape: str) -> None:
    assert parser.unknown(HEAD + body) == shape
    assert parser.unknown("Nov  2 04:06:09 docker 2f3a4b5c6d7e[834]: " + HEAD + body) == shape
    assert not parser.unknown(body), "not a log line"


def test_an_unknown_header(parser: Parser) -> None:
    line = "<7> 10 o'clock: postfix/smtpd (77) connect from x[203.0.113.8]"
    assert parser.unknown(line) == "<0> 0 o'clock: postfix/smtpd"
    assert not parser.unknown(HEAD.replace("smtpd", "smtp") + "refused by x[203.0.113.8]")


#: What Postfix lets a client write into a line, at {}. 203.0.113.8 is the client.
TEMPLATES = [
    "warning: non-SMTP command from unknown[203.0.113.8]: {}",
    "improper command pipelining after CONNECT from unknown[203.0.113.8]: {}",
    "warning: Illegal address syntax from unknown[203.0.113.8] in RCPT command: {}",
    "warning: unknown[203.0.113.8]: SASL {} authentication failed: Invalid mechanism",
    "warning: unknown[203.0.113.8]: SASL LOGIN authentication failed: x, sasl_username={}",
    "warning: unknown[203.0.113.8]: request longer than 2048: {}",
    "NOQUEUE: reject: RCPT from unknown[203.0.113.8]: 550 5.1.1 <{0}>: x; to=<{0}> helo=<{0}>",
    "NOQUEUE: reject_warning: RCPT from unknown[203.0.113.8]: 550 5.1.1 <{}>: Recipient address",
    "4A5B6C7D: client=unknown[203.0.113.8], sasl_method=PLAIN, sasl_username={}",
    "unknown line about unknown[203.0.113.8]: {}",
]
FORGED = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(max_codepoint=255, exclude_characters="\n"), max_size=20),
        st.sampled_from(
            [
                "unknown[198.51.100.1]",
                "[198.51.100.1]:25",
                " from ",
                "connect from unknown[198.51.100.1]",
                "]: ",
                ": ",
                "warning: ",
                "NOQUEUE: reject: RCPT from unknown[198.51.100.1]: 550 5.1.1 ",
                "Nov  2 04:06:08 mx postfix/smtpd[77]: connect from unknown[198.51.100.1]",
                "message repeated 9 times: [ connect from unknown[198.51.100.1]]",
                ", sasl_username=",
                " authentication failed: ",
                "client=unknown[198.51.100.1]",
                "\r",
            ]
        ),
    ),
    max_size=8,
).map("".join)


@given(st.sampled_from(TEMPLATES), FORGED, st.booleans())
def test_the_client_cannot_name_another_client(template: str, said: str, postscreen: bool) -> None:  # noqa: FBT001 # hypothesis passes by position
    head = POSTSCREEN if postscreen else HEAD
    event = Parser(UTC, NOW).event(head + template.format(said))
    assert event is None or event.client == "203.0.113.8"
    assert event is None or event.count == 1
    assert event is None or len(event.text) <= 200


@given(st.text(max_size=300))
def test_no_line_raises(line: str) -> None:
    parser = Parser(UTC, NOW)
    for text in (line, HEAD + line, f"{HEAD}warning: {line}", f"{HEAD}connect from {line}"):
        parser.event(text)
        parser.unknown(text)


#: Two thousand bytes that tempt an expression to look for a match again and again.
LONG = [
    "a" * 2000,
    " " * 2000,
    "[" * 2000,
    " from " * 333,
    "x[203.0.113.8]" * 140,
    "<22>" * 500,
    "mail_1 | " * 220,
    "2026-11-02T04:06:09.515840123Z " * 64,
    f"{HEAD}{'a' * 1900}",
    f"{HEAD}warning: {'1.' * 900}",
    f"{HEAD}warning: {'a' * 1900}: SASL",
    f"{HEAD}warning: unknown[203.0.113.8]: SASL {' authentication failed:' * 80}",
    f"{HEAD}warning: a[203.0.113.8]: SASL A authentication failed: {', sasl_username=' * 99}",
    f"{HEAD}disconnect from unknown[203.0.113.8] {'ehlo=1 ' * 270}",
    f"{HEAD}disconnect from unknown[203.0.113.8] {'a' * 1900}",
    f"{HEAD}NOQUEUE: reject: RCPT from unknown[203.0.113.8]: 554 5.7.1 {'<a>: ' * 380}",
    f"{HEAD}message repeated 2 times: [{'[' * 1900}",
    f"{HEAD}message repeated 2 times: [ {'message repeated 2 times: [ ' * 60}",
    f"{HEAD}4A5B6C7D: client=unknown[203.0.113.8], sasl_method={'a' * 1900}",
    f"{HEAD.replace('smtpd', 'anvil')}statistics: max connection rate 6/60s for ({'1:' * 900})",
    f"{QUEUE}to=<{'a' * 1900}",
    f"{QUEUE}to=<a>, relay=x, delay=1, status=sent ({'(' * 1900}",
    f"{QUEUE}to=<a>, relay=x, delay=1, status=sent ({', status=' * 190}",
    f"{QUEUE}from=<{'>, size=1' * 200}",
    f"{QUEUE}uid=1 from=<{'> orig_id=' * 190}",
    f"{POSTSCREEN}COMMAND PIPELINING from [203.0.113.8]:5 after {':' * 1900}",
    f'{HEAD.replace("smtpd", "master")}warning: service "{"a" * 1900}',
    f"<22>1 - mx postfix/smtpd 77 - {'[a]' * 600}",
    f"<22>1 - mx postfix/smtpd 77 - [{'a' * 1900}",
]


@pytest.mark.parametrize("line", LONG, ids=range(len(LONG)))
def test_the_time_of_a_line_is_linear_in_its_length(line: str) -> None:
    """At most 0.7 today; an expression that is tried from each character: 2 to 10."""
    measuring = sys.gettrace()
    sys.settrace(None)  # coverage makes it five times slower
    try:
        assert min(_growth(line[:2000]) for _ in range(20)) < 2
    finally:
        sys.settrace(measuring)


def _growth(line: str) -> float:
    """Return the CPU time of a line as a multiple of its first sixteenth's, sixteen times.

    Both take about as long if it is linear: what the machine does beside it costs both the same.
    """
    parser, part = Parser(UTC, NOW), line[: len(line) // 16]
    times = [time.thread_time()]
    for text, often in ((part, 16), (line, 1)):
        for _ in range(often):
            parser.event(text)
            parser.unknown(text)
        times.append(time.thread_time())
    return (times[2] - times[1]) / (times[1] - times[0])


def test_the_rooms_modules_are_all_tested_here() -> None:
    tests = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    modules = Path(__file__).parents[3] / "throttled" / "parse"
    named = {f"test_{path.stem}.py" for path in modules.glob("[a-z]*.py")}
    assert named - tests == set()


def test_a_tag_cut_at_its_slash(parser: Parser) -> None:
    """Whose line it is shows in the text, of the daemons that are read."""
    front = "<20>1 2026-11-02T04:06:08Z mx postfix 77 - -  "
    event = parser.event(front + "connect from x[203.0.113.8]")
    assert event is not None
    assert (event.kind, event.instance, event.process) == ("connect", "postfix", "smtpd")
    event = parser.event(
        front + "HANGUP after 0.1 from [203.0.113.8]:7 in tests after SMTP handshake"
    )
    assert event is not None
    assert (event.kind, event.process) == ("hangup", "postscreen")
    event = parser.event(front + "3A5C01F2B: removed")
    assert event is not None
    assert (event.kind, event.instance) == ("removed", "postfix")
    assert parser.event(front + "connect to x[203.0.113.8]:25: Connection refused") is None


@pytest.mark.parametrize(
    ("body", "client"),
    [
        ("Nov  2 04:06:08 mail postfix/smtpd[7]: connect from x[203.0.113.8]", "203.0.113.8"),
        (" postfix/smtpd[7]: connect from x[203.0.113.8]\r", "203.0.113.8"),
        ("Nov  2 04:06:08 mail postfix/smtp[7]: connect from x[203.0.113.8]", ""),
        ("Nov  2 04:06:08 mail 2f3a4b5c6d7e[9]: postfix/smtpd[7]: connect from x[203.0.113.8]", ""),
        ("listening", ""),
    ],
)
def test_a_container_behind_a_syslog_driver(parser: Parser, body: str, client: str) -> None:
    for _ in range(2):  # the second time what stands in front is remembered
        event = parser.event("Nov  2 04:06:09 docker 2f3a4b5c6d7e[834]: " + body)
        assert (event.client if event else "") == client
        assert event is None or (event.time, event.pid) == (THEN + (body[:1] == " "), 7)
