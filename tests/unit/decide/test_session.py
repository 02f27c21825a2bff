from typing import Any

import pytest

from throttled.decide.session import Scale, Session, family, proves, unnamed
from throttled.model import Event
from throttled.settings import Points


def event(kind: str, **fields: Any) -> Event:
    known: dict[str, Any] = {
        "client": "198.51.100.7",
        "process": "smtpd",
        "instance": "postfix",
        "pid": 1,
        "time": 0.0,
    }
    return Event(kind=kind, **(known | fields))  # type: ignore[arg-type]  # any kind, as a test


def points_of(unreported: list[tuple[float, int]]) -> int:
    return sum(points for _, points in unreported)


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


def test_ten_points_in_a_session_and_minute_and_a_tenth_of_those_beyond() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    times = (0.0, 1.0, 2.0, 59.0, 60.0, 61.0, 119.0, 200.0)
    given = [scale.error(session, event("non_smtp_command"), at) for at in times]
    assert given == [5, 5, 0, 1, 5, 5, 0, 5]
    # Up to Postfix's hard error limit, whatever it weighs, a session crosses no soft threshold.
    session = Session("a")
    assert sum(scale.error(session, event("non_smtp_command")) for _ in range(20)) == 19
    session = Session("a")
    dead = event("reject", reason="unknown_user", where="RCPT")
    assert sum(scale.error(session, dead) for _ in range(2770)) == 10 + 276


def test_a_line_that_stands_for_several_weighs_as_much() -> None:
    assert Scale(Points()).error(Session("a"), event("bad_address", count=2)) == 2
    assert Scale(Points(empty_session=2)).empty_session == 2


def test_a_refusal_by_postscreen_counts_where_no_test_failed_before() -> None:
    scale, session = Scale(Points()), Session("a")
    refusal = event("reject", process="postscreen", reason="unknown_user")
    assert scale.error(session, refusal) == 1
    scale.error(session, event("pregreet", process="postscreen"))
    assert scale.error(session, refusal) == 0


def test_only_pipelining_after_a_message_is_given_back_for_mail() -> None:
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event("pipelining", where="EHLO"))
    scale.error(session, event("bare_newline", where="DATA"))
    assert not session.pipelined
    scale.error(session, event("pipelining", where="DATA"), 60.0)
    assert session.pipelined == ((60.0, 5),)


def test_what_is_remembered_of_a_session_is_bounded() -> None:
    scale, session = Scale(Points()), Session("a")
    for minute in range(100):
        scale.error(session, event("pipelining", where="DATA"), minute * 60.0)
        scale.auth_failures(session, f"name{minute}", 1, minute * 60.0)
    assert len(session.given) == len(session.pipelined) == len(session.failures) == 20


@pytest.mark.parametrize(
    ("kind", "fields", "points"),
    [
        # a farewell: health checks
        ("pipelining", {"where": "QUIT"}, 0),
        ("pipelining", {"where": "QUIT", "text": "QUIT\\r\\n"}, 0),
        ("pipelining", {"where": "EHLO", "text": "QUIT\\r\\n"}, 0),
        ("pipelining", {"where": "CONNECT", "text": "EHLO x\\r\\nQUIT\\r\\n"}, 0),
        ("pipelining", {"where": "CONNECT", "text": "quit\\n"}, 0),
        ("pregreet", {"text": "QUIT\\r\\n", "process": "postscreen"}, 0),
        ("pregreet", {"text": "HELO x\\nNOOP\\nRSET\\nQUIT\\n", "process": "postscreen"}, 0),
        ("pipelining", {"where": "QUIT", "process": "postscreen"}, 0),
        # … and what is none
        ("pregreet", {"text": "EHLO x\\r\\n", "process": "postscreen"}, 5),
        ("pipelining", {"where": "EHLO", "text": "MAIL FROM:<a@b>\\r\\nQUIT\\r\\n"}, 5),
        ("pipelining", {"where": "EHLO", "text": "QUIT\\r\\nMAIL FROM:<a@b>\\r\\n"}, 5),
        ("non_smtp_command", {"text": "QUIT"}, 5),
        # TLS where it is not spoken
        ("non_smtp_command", {"text": "???????"}, 1),
        ("non_smtp_command", {"text": "GET / HTTP/1.1"}, 5),
        ("pregreet", {"text": "\\026\\003\\001\\002", "process": "postscreen"}, 1),
        ("pipelining", {"where": "CONNECT", "text": "\\026\\003\\001\\002"}, 1),
        # failed logins have lines of their own
        ("too_many_errors", {"where": "AUTH"}, 0),
        ("too_many_errors", {"where": "RCPT"}, 5),
    ],
)
def test_what_is_sent_out_of_turn(kind: str, fields: dict[str, Any], points: int) -> None:
    assert Scale(Points()).error(Session("a"), event(kind, **fields)) == points


def test_tls_on_a_submission_port_weighs_nothing() -> None:
    scale = Scale(Points())
    tls, http = (event("non_smtp_command", text=text) for text in ("???????", "GET / HTTP/1.1"))
    assert scale.error(Session("a"), tls, 0.0, "submission") == 0
    assert scale.error(Session("a"), http, 0.0, "submission") == 5


def test_garbage_that_no_line_reports_weighs_nothing_on_a_submission_port() -> None:
    """TLS, before Postfix 3.6; who began with EHLO speaks SMTP."""
    scale = Scale(Points())
    tls, smtp = counters(unknown=(0, 3)), counters(ehlo=(1, 1), unknown=(0, 3))
    assert points_of(scale.unreported(Session("a"), tls, 0.0, "submission")) == 0
    much = counters(unknown=(0, 7))
    assert points_of(scale.unreported(Session("a"), much, 0.0, "submission")) == 3
    assert points_of(scale.unreported(Session("a"), tls)) == 3
    assert points_of(scale.unreported(Session("a"), smtp, 0.0, "submission")) == 3


@pytest.mark.parametrize("kind", ["non_smtp_command", "pipelining"])
def test_the_command_that_was_out_of_turn_is_not_counted_again(kind: str) -> None:
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event(kind, text="GET /"))
    assert points_of(scale.unreported(session, counters(unknown=(0, 1)))) == 0


def test_nothing_counts_after_a_login() -> None:
    scale, session = Scale(Points()), Session("a", login=True)
    for kind in Scale.kinds():
        assert scale.error(session, event(kind, reason="relay")) == 0


def test_one_recipient_of_the_null_sender_is_a_callout_and_two_are_a_harvest() -> None:
    scale, session = Scale(Points()), Session("a")
    dead = event("reject", reason="unknown_user", where="RCPT", null_sender=True)
    assert [scale.error(session, dead) for _ in range(4)] == [0, 2, 1, 1]
    assert session.callouts == 4
    many = event("reject", reason="unknown_user", where="RCPT", null_sender=True, count=3)
    assert scale.error(Session("a"), many) == 3
    vrfy = event("reject", reason="unknown_user", where="VRFY", null_sender=True)
    assert scale.error(Session("a"), vrfy) == 1


def test_unreported_failures_are_spread_over_the_session() -> None:
    scale = Scale(Points())
    unreported = scale.unreported(Session("a"), counters(unknown=(0, 25)), 600.0)
    assert unreported == [(600.0 - 60.0 * n, 3) for n in range(11)]
    unreported = scale.unreported(Session("a", since=480.0), counters(unknown=(0, 25)), 600.0)
    assert unreported == [(600.0, 9), (540.0, 9), (480.0, 9)]
    assert scale.unreported(Session("a", since=601.0), counters(unknown=(0, 1)), 600.0) == [
        (600.0, 1)
    ]
    day = scale.unreported(Session("a", since=0.0), counters(unknown=(0, 90_000)), 86400.0)
    # 63 a minute: ten, and a tenth of the others
    assert (len(day), {points for _, points in day}) == (61, {15})


@pytest.mark.parametrize(
    ("tried", "user", "excused"),
    [
        ("", "anna@example.org", True),
        ("", "", True),
        ("anna@example.org", "anna@example.org", True),
        ("Anna", "anna@example.org", True),
        ("anna@example.org", "anna", True),
        ("anna@example.net", "anna@example.org", False),
        ("bob", "anna@example.org", False),
        ("bob", "", False),
    ],
)
def test_what_a_login_excuses(tried: str, user: str, *, excused: bool) -> None:
    scale, session = Scale(Points()), Session("a")
    scale.auth_failures(session, tried, 1)
    assert bool(session.excused(user)) == excused


def test_a_login_excuses_three_failures_without_a_name() -> None:
    scale, session = Scale(Points()), Session("a")
    scale.auth_failures(session, "", 1)
    scale.auth_failures(session, "", 8)
    assert session.user == ""
    assert sum(count for _, count, _ in session.excused("anna")) == 1
    for counts, excused in (((2, 1, 1), [2, 1]), ((3, 1), [3]), ((4, 2, 2), [2])):
        session = Session("a")
        for count in counts:
            scale.auth_failures(session, "", count)
        assert [count for _, count, _ in session.excused("anna")] == excused
    assert (unnamed(2), unnamed(5)) == (0, 2)


@pytest.mark.parametrize(
    ("commands", "idle"),
    [
        (None, True),
        ({"commands": (0, 0)}, True),
        ({"ehlo": (2, 2), "starttls": (1, 1), "quit": (1, 1), "commands": (4, 4)}, True),
        ({"ehlo": (1, 1), "mail": (1, 1), "commands": (2, 2)}, False),
        ({"unknown": (0, 1), "commands": (0, 1)}, False),
    ],
)
def test_a_session_that_wants_nothing(
    commands: dict[str, tuple[int, int]] | None, *, idle: bool
) -> None:
    assert Session("a").idle(commands) == idle
    assert not Session("a", given=((0.0, 5),)).idle(commands)
    assert not Session("a", auth_lines=1).idle(commands)
    reported = ({"harmless": 1}, {"errors": 1}, {"auth_lines": 1}, {"given": ((0.0, 5),)})
    for fields in reported:
        assert Session("a", **fields).said()
    assert not Session("a").said()


def test_repeated_message_counts_as_often() -> None:
    scale = Scale(Points())
    assert scale.error(Session("a"), event("reject", reason="relay", count=2)) == 6


def test_greylisted_list_server_with_too_many_errors_weighs_nothing() -> None:
    scale, session = Scale(Points()), Session("198.51.100.7")
    for _ in range(20):
        assert scale.error(session, event("reject", reason="temporary", code=450)) == 0
    assert scale.error(session, event("too_many_errors", where="RCPT")) == 0
    assert points_of(scale.unreported(session, {"rcpt": (0, 20), "commands": (2, 22)})) == 0


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
    assert points_of(scale.unreported(session, commands)) == 3


def test_nothing_unreported() -> None:
    for nothing in (counters(ehlo=(1, 1)), counters(auth=(0, 1)), counters(starttls=(0, 1))):
        assert Scale(Points()).unreported(Session("a"), nothing) == []
    assert Scale(Points()).unreported(Session("a"), counters(unknown=(0, 1))) == [(0.0, 1)]


def test_a_message_that_failed_is_no_offence() -> None:
    """Lost after DATA, refused by cleanup, or no recipient was left when a pipelined DATA came."""
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event("reject", reason="content", where="END-OF-MESSAGE"))
    assert (
        points_of(scale.unreported(session, counters(mail=(2, 2), data=(0, 2), bdat=(0, 9)))) == 0
    )
    assert points_of(scale.unreported(session, counters(data=(0, 2)))) == 2
    assert points_of(scale.unreported(session, counters(mail=(0, 1), data=(0, 2)))) == 3


@pytest.mark.parametrize("where", ["CONNECT", "HELO", "EHLO", "MAIL"])
def test_what_follows_from_a_refusal_is_not_counted_again(where: str) -> None:
    scale, session = Scale(Points()), Session("a")
    scale.error(session, event("reject", reason="temporary", where=where))
    denied = counters(ehlo=(0, 1), mail=(0, 1), rcpt=(0, 1), data=(0, 1), auth=(0, 1))
    assert points_of(scale.unreported(session, denied)) == 0
    assert points_of(scale.unreported(session, counters(mail=(0, 1), unknown=(0, 2)))) == 2


def test_the_command_that_met_a_rate_limit_is_not_counted_again() -> None:
    scale, session = Scale(Points()), Session("a")
    assert scale.error(session, event("rate_limit", where="message")) == 1
    assert (
        points_of(scale.unreported(session, counters(mail=(0, 1), rcpt=(0, 1), data=(0, 1)))) == 0
    )
    session = Session("a")
    assert scale.error(session, event("rate_limit", where="recipient")) == 1
    assert points_of(scale.unreported(session, counters(mail=(1, 1), rcpt=(0, 1)))) == 0
    session = Session("a")
    assert scale.error(session, event("rate_limit", where="auth")) == 1
    assert session.auth_lines == 1


def test_each_failed_login_counts() -> None:
    scale, session = Scale(Points()), Session("a")
    assert [scale.auth_failures(session, "bob", 1, float(n)) for n in range(3)] == [1, 1, 1]
    assert session.failures == ((0.0, 1, "bob"), (1.0, 1, "bob"), (2.0, 1, "bob"))
    assert session.user == "bob"
    assert session.excused("BOB@example.org") == list(session.failures)


def test_of_a_session_that_never_ends_twenty_failures_can_be_excused() -> None:
    scale, session = Scale(Points()), Session("a")
    assert sum(scale.auth_failures(session, "bob", 1) for _ in range(500)) == 500
    assert len(session.excused("bob")) == 20


def test_failures_counted_together_as_one_by_one() -> None:
    scale = Scale(Points())
    together = scale.auth_failures(Session("a"), "bob", 7)
    session = Session("a")
    assert together == sum(scale.auth_failures(session, "bob", 1) for _ in range(7)) == 7


def test_a_few_failures_that_no_line_reported_count_no_more_after_a_login() -> None:
    assert [unnamed(failures) for failures in (0, 3, 4, 500)] == [0, 0, 1, 497]


@pytest.mark.parametrize(
    ("user", "common"),
    [
        ("ci-1@example.org", "ci-0@example.org"),
        ("ci-22", "ci-0"),
        ("anna", "anna"),
        ("4711", "4711"),
        ("4711@example.org", "4711@example.org"),
        ("0", "0"),
    ],
)
def test_user_names_that_differ_only_in_a_number(user: str, common: str) -> None:
    assert family(user) == common


def test_which_failures_are_those_of_the_account_that_logs_in() -> None:
    assert proves("Anna@example.org", "anna@example.org")
    assert not proves("anna@example.org", "anna")
    assert not proves("anna@example.org", "")
    assert not proves("", "")
