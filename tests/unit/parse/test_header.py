from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.parse.clock import Clock
from throttled.parse.header import CONTAINER, Origin, any_form, plain, repetition

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
THEN = datetime(2026, 11, 2, 4, 6, 8, tzinfo=UTC).timestamp()
MX = Origin("mx", "postfix", "smtpd", 77)
BODY = "connect from unknown[203.0.113.8]"


def head(line: str) -> tuple[Origin, float, str] | None:
    clock = Clock(UTC, NOW)
    return any_form(line, clock, None)


@pytest.mark.parametrize(
    "line",
    [
        "Nov  2 04:06:08 mx postfix/smtpd[77]: ",
        "Nov 2 04:06:08 mx postfix/smtpd[77]: ",
        "2026-11-02 04:06:08 mx postfix/smtpd[77]: ",
        "2026-11-02T04:06:08 mx postfix/smtpd[77]: ",
        "2026-11-02T05:06:08+01:00 mx postfix/smtpd[77]: ",
        "2026-11-02T04:06:08.000000Z mx postfix/smtpd[77]: ",
        "Nov  2 04:06:08 <mail.info> mx postfix/smtpd[77]: ",
        "Nov  2 04:06:08 mx mail.info postfix/smtpd[77]: ",
    ],
)
def test_plain(line: str) -> None:
    assert plain(line + BODY, Clock(UTC, NOW), None) == (MX, THEN, BODY)


@pytest.mark.parametrize(
    "front",
    [
        "<22>",
        "mail_1  | ",
        "mail-1 |",
        "\x1b[36mmail_1  |\x1b[0m ",
        "2026-11-02T04:06:09.515840123Z ",
        "2026-11-02T04:06:09.515840123+00:00 stdout F ",
        "2026-11-02T04:06:09.5Z stderr P ",
        "mail_1  | <22>",
    ],
)
def test_what_others_put_in_front(front: str) -> None:
    line = f"{front}Nov  2 04:06:08 mx postfix/smtpd[77]: {BODY}"
    assert plain(line, Clock(UTC, NOW), None) is None
    assert head(line) == (MX, THEN, BODY)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Nov  2 04:06:08 mx last message repeated 3 times", ("mx", THEN, 3)),
        ("Nov  2 04:06:08 <mail.info> mx last message repeated 1 time\r", ("mx", THEN, 1)),
        ("2026-11-02T04:06:08Z syslogd: last message repeated 3 times", ("", THEN, 3)),
        ("Nov  2 04:06:08 mx x: last message repeated 3 times", None),
        ("Nov 31 04:06:08 mx last message repeated 3 times", None),
    ],
)
def test_repetition(line: str, expected: tuple[str, float, int] | None) -> None:
    assert repetition(line, Clock(UTC, NOW), None) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"log":7}',
        '{"stream":"stdout"}',
        '{"log":"x',
        '{"log":"\xe9"}',  # not UTF-8
        '{"log":"' + r"\ud800" + '"}',
        "{" * 2000,
        '{"x":' + "[" * 8000,
    ],
)
def test_docker_never_raises(text: str) -> None:
    assert head(text) is None


def test_docker_gives_bytes_as_they_were() -> None:
    line = f"Nov  2 04:06:08 mx postfix/smtpd[77]: {BODY} \xc3\xa9"  # UTF-8, read as latin-1
    assert head(f'{{"log":"{line}\\n","stream":"stdout"}}') == (MX, THEN, f"{BODY} \xc3\xa9")


@pytest.mark.parametrize(
    ("line", "time", "body"),
    [
        (f"<22>1 2026-11-02T04:06:08Z mx postfix/smtpd 77 - - {BODY}", THEN, BODY),
        (f"1 2026-11-02T04:06:08Z mx postfix/smtpd 77 - - {BODY}", THEN, BODY),
        (f"<22>1 - mx postfix/smtpd 77 - - {BODY}", 0.0, BODY),
        (f"<22>1 2026-11-02T04:06:08Z mx postfix/smtpd 77 x - \xef\xbb\xbf{BODY}", THEN, BODY),
        (f'<22>1 - mx postfix/smtpd 77 - [a b="\\]"][c] {BODY}', 0.0, BODY),
        ("<22>1 2026-11-02T04:06:08Z mx postfix/smtpd 77 - -", THEN, ""),
    ],
)
def test_rfc5424(line: str, time: float, body: str) -> None:
    assert head(line) == (MX, time, body)


@pytest.mark.parametrize(
    ("tag", "origin"),
    [
        ("postfix/submission/smtpd[9]", Origin("mx", "postfix/submission", "smtpd", 9)),
        ("postfix-out/smtpd[9]", Origin("mx", "postfix-out", "smtpd", 9)),
        ("smtpd[9]", Origin("mx", "", "smtpd", 9)),
        ("a/198.51.100.1:25/smtpd[9]", Origin("mx", "a/198.51.100.1:25", "smtpd", 9)),
        ("dovecot[9]", Origin("mx", "", "dovecot", 9)),
    ],
)
def test_tag(tag: str, origin: Origin) -> None:
    assert head(f"Nov  2 04:06:08 mx {tag}: x") == (origin, THEN, "x")


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("Nov  2 04:06:08.25", THEN + 0.25),
        ("Nov  2 04:06:08,250", THEN + 0.25),
        ("2026 Nov  2 04:06:08", THEN),
        ("Nov  2 04:06:08 2026", THEN),
        ("Mon Nov  2 04:06:08.5 2026", THEN + 0.5),
        ("Nov 02 2026 04:06:08", THEN),
        (f"{THEN:.0f}", THEN),
        (f"{THEN:.0f}.125", THEN + 0.125),
    ],
)
def test_other_ways_to_write_the_time(stamp: str, time: float) -> None:
    assert head(f"{stamp} mx postfix/smtpd[77]: {BODY}") == (MX, time, BODY)


@pytest.mark.parametrize(
    ("line", "time"),
    [
        (f"postfix/smtpd[77]: {BODY}", 0.0),
        (f"mail_1 | postfix/smtpd[77]: {BODY}", 0.0),
        (f"2026-11-02T04:06:08.5Z stdout F postfix/smtpd[77]: {BODY}", THEN + 0.5),
        (f'{{"log":"postfix/smtpd[77]: {BODY}","time":"2026-11-02T04:06:08.5Z"}}', THEN + 0.5),
    ],
)
def test_no_time_but_that_of_what_read_the_line(line: str, time: float) -> None:
    assert head(line) == (MX._replace(host=""), time, BODY)


@pytest.mark.parametrize(
    "front",
    [
        "2026-11-02T25:06:08.5Z stdout F ",
        "2026 Foo  2 04:06:08 mx ",
        "Nov 31 04:06:08.5 mx ",
        "mx ",
    ],
)
def test_no_time_where_one_should_be(front: str) -> None:
    assert head(f"{front}postfix/smtpd[77]: {BODY}") is None


@pytest.mark.parametrize("tag", ["2f3a4b5c6d7e", "docker/mail", "a" * 64])
def test_a_container(tag: str) -> None:
    line = f"Nov  2 04:06:08 dockerhost {tag}[834]: {BODY}"
    assert head(line) == (Origin("dockerhost", "", CONTAINER, 834), THEN, BODY)


@pytest.mark.parametrize("severity", ["INFO   ", "warning", "err"])
def test_severity_in_place_of_the_host(severity: str) -> None:
    line = f"Nov  2 04:06:08 {severity} postfix/smtpd[77]: {BODY}"
    assert head(line) == (MX._replace(host=""), THEN, BODY)


def test_no_host() -> None:
    assert head("Nov  2 04:06:08 postfix/smtpd[77]: x") == (MX._replace(host=""), THEN, "x")


@pytest.mark.parametrize(
    ("tag", "process"),
    [("rsyslogd", "rsyslogd"), ("rsyslogd-2177", "rsyslogd"), ("journal", "journal")],
)
def test_no_pid(tag: str, process: str) -> None:
    found = head(f"Nov  2 04:06:08 mx {tag}: imuxsock[pid 7]: begin")
    assert found == (Origin("mx", "", process, 0), THEN, "imuxsock[pid 7]: begin")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        BODY,
        f"mx postfix/smtpd[77]: {BODY}",
        f"Nov 31 04:06:08 mx postfix/smtpd[77]: {BODY}",
        f"Nov  2 04:06:08 mx postfix/smtpd: {BODY}",
        f"Nov  2 04:06:08 mx web: postfix/smtpd[77]: {BODY}",
        f"Nov  2 04:06:08 web: postfix/smtpd[77]: {BODY}",
        f"Nov  2 04:06:08 mx post fix/smtpd[77]: {BODY}",
        f"Nov  2 04:06:08 mx postfix/smtpd[x]: {BODY}",
        f"Nov  2 04:06:08 {'x' * 400} postfix/smtpd[77]: {BODY}",
        f"<22>1 2026-13-02T04:06:08Z mx postfix/smtpd 77 - - {BODY}",
        f"<22>1 - mx post[fix/smtpd 77 - - {BODY}",
        f"<22>1 - mx postfix/smtpd - - - {BODY}",
        f"mail_1 | {BODY}",
        f"{'<22>' * 4}Nov  2 04:06:08 mx postfix/smtpd[77]: {BODY}",
    ],
)
def test_not_a_log_line(line: str) -> None:
    assert head(line) is None


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_no_line_raises(line: str) -> None:
    head(line)
    head("mail_1 | " + line)
    head("Nov  2 04:06:08 " + line)
