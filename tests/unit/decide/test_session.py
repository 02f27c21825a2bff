from typing import Any

import pytest

from throttled.decide.session import Scale, Session
from throttled.model import Event
from throttled.policy import Points


def event(kind: str, **fields: Any) -> Event:
    known: dict[str, Any] = {
        "client": "198.51.100.7",
        "process": "smtpd",
        "instance": "postfix",
        "pid": 1,
        "time": 0.0,
    }
    return Event(kind=kind, **(known | fields))  # type: ignore[arg-type]  # any kind, as a test


@pytest.mark.parametrize(
    ("kind", "reason", "points"),
    [
        ("non_smtp_command", "", 5),
        ("pregreet", "", 5),
        ("pipelining", "", 5),
        ("bare_newline", "", 5),
        ("too_many_errors", "", 5),
        ("reject", "relay", 3),
        ("reject", "unknown_user", 1),
        ("reject", "dnsbl", 1),
        ("reject", "syntax", 1),
        ("reject", "access", 1),
        ("reject", "protocol", 5),
        ("reject", "content", 0),
        ("reject", "milter", 0),
        ("reject", "", 0),
        ("reject", "temporary", 0),
        ("bad_address", "", 1),
        ("dnsbl", "", 1),
        ("denylisted", "", 1),
        ("command_limit", "", 1),
        ("rate_limit", "", 1),
        ("concurrency_limit", "", 1),
    ],
)
def test_points_of_design(kind: str, reason: str, points: int) -> None:
    assert Scale(Points()).error(Session("198.51.100.7"), event(kind, reason=reason)) == points


def test_every_weighed_kind_is_listed() -> None:
    assert {"reject", "pipelining", "too_many_errors"} <= set(Scale.kinds())


def test_at_most_ten_points_a_session() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    given = [scale.error(session, event("non_smtp_command")) for _ in range(4)]
    assert given == [5, 5, 0, 0]


def test_repeated_message_counts_as_often() -> None:
    scale = Scale(Points())
    assert scale.error(Session("a"), event("reject", reason="relay", count=2)) == 6


def test_greylisted_list_server_with_too_many_errors_weighs_nothing() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    for _ in range(20):
        assert scale.error(session, event("reject", reason="temporary", code=450)) == 0
    assert scale.error(session, event("too_many_errors", where="RCPT")) == 0
    assert scale.unreported(session, {"rcpt": (0, 20), "commands": (2, 22)}) == 0


def test_too_many_errors_after_one_real_error_counts() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    scale.error(session, event("reject", reason="temporary"))
    scale.error(session, event("reject", reason="unknown_user"))
    assert scale.error(session, event("too_many_errors")) == 5


def test_rate_limit_of_an_ipv6_network_is_not_its_clients_fault() -> None:
    client = "2001:db8::1"
    scale, session = Scale(Points()), Session(client)
    assert scale.error(session, event("rate_limit", client=client)) == 0
    assert scale.error(session, event("too_many_errors", client=client, where="RCPT")) == 0


def test_postscreen_says_twice_what_counts_once() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    assert scale.error(session, event("pregreet", process="postscreen")) == 5
    reject = event("reject", process="postscreen", reason="protocol", code=550)
    assert scale.error(session, reject) == 0


def test_too_many_errors_that_were_mostly_harmless_weighs_nothing() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    scale.error(session, event("reject", reason="content", where="RCPT", count=2))
    scale.error(session, event("reject", reason="unknown_user", where="RCPT"))
    assert scale.error(session, event("too_many_errors", where="RCPT")) == 0


def test_too_many_errors_after_messages_that_cleanup_refused_weighs_nothing() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    assert scale.error(session, event("too_many_errors", where="END-OF-MESSAGE")) == 0
    scale.error(session, event("reject", reason="relay", where="RCPT"))
    assert scale.error(session, event("too_many_errors", where="END-OF-MESSAGE")) == 5


def counters(**commands: tuple[int, int]) -> dict[str, tuple[int, int]]:
    accepted = sum(ok for ok, _ in commands.values())
    return commands | {"commands": (accepted, sum(total for _, total in commands.values()))}


def test_what_no_line_said_is_counted_from_disconnect() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    scale.error(session, event("reject", reason="unknown_user", where="RCPT"))
    scale.error(session, event("bad_address"))
    commands = counters(mail=(1, 1), rcpt=(0, 4), unknown=(0, 1), auth=(0, 7), starttls=(0, 1))
    assert scale.unreported(session, commands) == 3


def test_nothing_unreported() -> None:
    assert Scale(Points()).unreported(Session("a"), counters(ehlo=(1, 1))) == 0


def test_a_message_that_failed_is_no_offence() -> None:
    """Lost after DATA, refused by cleanup, or no recipient was left when a pipelined DATA came."""
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event("reject", reason="content", where="END-OF-MESSAGE"))
    assert scale.unreported(session, counters(mail=(2, 2), data=(0, 2), bdat=(0, 9))) == 0
    assert scale.unreported(session, counters(data=(0, 2))) == 2


@pytest.mark.parametrize("where", ["CONNECT", "HELO", "EHLO", "MAIL"])
def test_what_follows_from_a_refusal_is_not_counted_again(where: str) -> None:
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event("reject", reason="temporary", where=where))
    denied = counters(ehlo=(0, 1), mail=(0, 1), rcpt=(0, 1), data=(0, 1), auth=(0, 1))
    assert scale.unreported(session, denied) == 0
    assert scale.unreported(session, counters(mail=(0, 1), unknown=(0, 2))) == 2


def test_the_command_that_met_a_rate_limit_is_not_counted_again() -> None:
    scale, session = Scale(Points()), Session("a")
    assert scale.error(session, event("rate_limit", where="message")) == 1
    assert scale.unreported(session, counters(mail=(0, 1), rcpt=(0, 1), data=(0, 1))) == 0
    session = Session("a")
    assert scale.error(session, event("rate_limit", where="recipient")) == 1
    assert scale.unreported(session, counters(mail=(1, 1), rcpt=(0, 1))) == 0
    session = Session("a")
    assert scale.error(session, event("rate_limit", where="auth")) == 1
    assert session.auth_lines == 1


def test_first_three_failures_with_one_name_count_once() -> None:
    scale, session = Scale(Points()), Session("a")
    assert [scale.auth_failures(session, "bob", 1) for _ in range(5)] == [1, 0, 0, 1, 1]


def test_another_name_counts_anew() -> None:
    scale, session = Scale(Points()), Session("a")
    assert [scale.auth_failures(session, name, 1) for name in ("a", "b", "c")] == [1, 1, 1]


def test_failures_counted_together_as_one_by_one() -> None:
    scale = Scale(Points())
    together = scale.auth_failures(Session("a"), "bob", 7)
    session = Session("a")
    assert together == sum(scale.auth_failures(session, "bob", 1) for _ in range(7)) == 5
