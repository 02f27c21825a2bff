"""What each kind of event does to the counts of its client, by way of the engine."""

from typing import Any

import pytest
from msgspec.structs import replace

from lab.daemon.events import EMPTY, A, B, auth, engine, event, run, session, value
from throttled.decide.client_peaks import noted
from throttled.decide.engine import Engine
from throttled.duration import duration
from throttled.facts import Facts, Service
from throttled.limits import Limit
from throttled.model import Event, Evidence, Message
from throttled.settings import Points, Policy

PROXIED = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
LOGGED_IN = {"auth": (1, 2), "commands": (1, 2)}


def test_one_connection_seen_by_postscreen_and_smtpd_counts_once() -> None:
    screened = event("screened", process="postscreen", port=1)
    passed = event("passed", process="postscreen", port=1)
    assert run([screened, passed, event("connect")] * 60) == []
    assert run([screened, passed, event("connect")] * 61) != []


def test_a_connection_is_handed_over_once() -> None:
    under = engine()
    passed = event("passed", process="postscreen", port=1)
    run([passed, event("connect"), event("connect")], under=under)
    assert value(under, "connections") == 1
    run([passed, passed, *[event("connect")] * 3], under=under)
    assert value(under, "connections") == 2
    run([replace(passed, count=2), *[event("connect")] * 3], under=under)
    assert value(under, "connections") == 3
    run([event("connect", B)], under=under)  # does not come by postscreen
    assert {m.limit: m.value for m in under.meters(B, 1000.0) if m.value} == {"connections": 1}


REFUSED = event("reject", where="RCPT", reason="unknown_user", code=550)


@pytest.mark.parametrize(
    ("events", "counted"),
    [
        ([event("screened"), event("passed", process="postscreen"), event("connect")], [0]),
        ([event("auth_failure", reason="temporary")], []),
        ([event("auth_failure")], [0]),
        ([event("login", user="a"), event("accepted"), event("tls_failure")], []),
        ([event("disconnect")], []),
        ([event("disconnect", process="postscreen", pid=0)], []),
        ([event("disconnect", commands={"data": (1, 1), "commands": (3, 3)})], []),
        ([event("disconnect", commands={"unknown": (0, 3), "commands": (0, 3)})], [0]),
        ([event("disconnect", commands={"auth": (0, 3), "commands": (0, 3)})], [0]),
        (
            [event("disconnect", commands={"auth": (0, 3), "unknown": (0, 3), "commands": (0, 6)})],
            [0],
        ),
        ([event("disconnect", commands={"auth": (0, 3)})], []),  # as no Postfix writes it
        ([REFUSED, event("disconnect", commands={"rcpt": (0, 1), "commands": (1, 2)})], [0]),
        ([event("disconnect", commands=LOGGED_IN)], []),
        ([event("disconnect", commands={"auth": (1, 6), "commands": (1, 6)})], [0]),
    ],
)
def test_lines_are_remembered_that_count(events: list[Event], counted: list[int]) -> None:
    under = engine()
    run(events, under=under)
    assert [line.offset for line in under.lines(A)] == counted


def test_lines_of_a_client_behind_a_proxy_are_remembered_too() -> None:
    under = engine(facts=Facts(services=(PROXIED,)))
    run([event("connect"), event("connect")], under=under)
    assert len(under.lines(A)) == 2


def test_what_happened_is_counted_by_hour_and_scope() -> None:
    under = engine()
    ends = {"data": (2, 2), "bdat": (0, 3), "commands": (9, 12)}
    at: dict[str, Any] = {"time": 7200.0}
    for what in (
        event("connect", count=2, **at),
        event("connect", B, **at),
        event("disconnect", commands=ends, **at),
        event("disconnect", B, commands=ends, **at),
        event("login", user="a", **at),
        event("login", B, user="a", count=2, **at),
    ):
        under.step(what, 1000.0)
    outcome = under.drain()
    assert outcome.activity == {
        (2, "mx", "session"): 3,
        (2, "mx", "delivery"): 4,
        (2, "mx", "login"): 3,
    }
    assert outcome.evidence == [Evidence(A, 7200.0, 2, 1), Evidence(B, 7200.0, 2, 2)]
    under.step(event("login"), 1000.0)
    under.step(event("login", count=2), 1000.0)
    assert under.drain().evidence == [Evidence(A, 50.0, 0, 3)]


def test_good_evidence_raises_the_threshold() -> None:
    under = engine()
    run([event("disconnect", commands={"data": (9, 9), "commands": (9, 9)})], under=under)
    assert run([event("connect")] * 61, under=under) == []
    assert run([event("connect")] * 61) != []


def test_user_names_of_logins_show_who_stands_for_many() -> None:
    under = engine(facts=Facts(connected=("10.0.0.0/24",)))
    run([event("login", "10.0.0.2", user=str(n)) for n in range(5)], under=under)
    assert list(under.shared.found()) == ["10.0.0.2"]


def test_sessions_that_want_nothing_are_noted() -> None:
    for commands, process, found in (
        ({"ehlo": (1, 1), "quit": (1, 1), "commands": (2, 2)}, "smtpd", [A]),
        (None, "postscreen", [A]),
        (None, "smtpd", []),  # Postfix before 3.0 says nothing of commands
    ):
        under = engine()
        end = event("disconnect", commands=commands, process=process)
        for minute in range(30):
            run([end], 1000.0 + 60 * minute, under)
        assert under.checks.clients(2800.0) == found
        mail = event("disconnect", commands={"data": (1, 1), "commands": (3, 3)})
        run([mail], 2800.0, under)
        assert under.checks.clients(2800.0) == []


def test_the_hard_error_limit_weighs_nothing_where_most_errors_were_harmless() -> None:
    ours = event("auth_failure", reason="temporary")
    limit = event("too_many_errors", where="RCPT")
    for inside, harmless in (
        ([ours, limit], True),
        ([ours, event("auth_failure"), limit], False),
        ([ours, ours, event("auth_failure"), limit], True),
        ([replace(ours, count=2), event("auth_failure"), limit], True),
        ([ours, ours, event("auth_failure", count=2), limit], False),
    ):
        under = engine()
        run([event("connect"), *inside], under=under)
        assert (value(under, "errors") == 0) is harmless


def test_what_is_done_behind_a_proxy_is_no_evidence_and_stands_for_nobody() -> None:
    under = engine(facts=Facts(services=(PROXIED,), connected=("10.0.0.0/24",)))
    end = event("disconnect", "10.0.0.2", commands={"data": (1, 1), "commands": (5, 5)})
    login = [event("login", "10.0.0.2", user=str(number)) for number in range(9)]
    for what in [event("connect", "10.0.0.2"), *login, event("connect", "10.0.0.2"), end]:
        under.step(what, 1000.0)
    outcome = under.drain()
    assert (outcome.evidence, outcome.activity, under.shared.found()) == ([], {}, {})


def test_a_delivery_after_a_login_is_not_counted_as_a_shared_address_does() -> None:
    services = (Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx"),)
    under = engine(facts=Facts(services=services, connected=("10.0.0.0/24",)))
    for count, commands in ((30, {"auth": (1, 1)}), (20, {})):
        assert under.shared.found() == {}
        ends = {"data": (1, 1), "commands": (5, 5), **commands}
        for _ in range(count):
            under.step(event("disconnect", "10.0.0.2", commands=ends), 1000.0)
    assert list(under.shared.found()) == ["10.0.0.2"]


def test_a_probe_every_ten_seconds_is_no_offender() -> None:
    under = engine()
    for second in range(0, 7200, 10):
        for what in session(commands=EMPTY):
            under.step(what, 1000.0 + second)
    assert under.drain().crossings == []
    assert value(under, "connections", 8190.0) == 7


def test_a_probe_of_every_port_every_ten_seconds_is_no_offender() -> None:
    for points, limits in ((0, set[str]()), (1, {"errors", "errors-day"})):
        under = engine(Policy(points=Points(empty_session=points)))
        for second in range(0, 7200, 10):
            for instance in ("postfix/submission", "postfix/smtps"):
                under.step(event("disconnect", instance=instance, commands=EMPTY), 1000.0 + second)
        assert {crossing.limit for crossing in under.drain().crossings} == limits


def test_a_quitting_probe_is_no_offender() -> None:
    probe = session(commands={"quit": (1, 1), "commands": (1, 1)})
    assert run(probe * 60) == []
    assert [crossing.limit for crossing in run(probe * 61)] == ["connections"]


def test_empty_sessions_in_a_row_weigh_nothing_unless_configured() -> None:
    assert run(session(commands=EMPTY) * 60) == []
    weighed = Policy(points=Points(empty_session=1))
    assert run(session(commands=EMPTY) * 52, under=engine(weighed))[0].action == "ban"


def test_an_empty_session_with_lines_of_its_own_is_not_empty() -> None:
    weighed = Policy(points=Points(empty_session=1))
    for kind, points in (("tls_failure", 0), ("rate_limit", 20)):
        under = engine(weighed)
        run(session(event(kind), commands=EMPTY) * 20, under=under)
        assert value(under, "errors") == points  # its own
    run(session(commands=EMPTY) * 20, under=under)
    assert value(under, "errors") == 40


def test_a_failed_mechanism_before_the_login_does_not_count() -> None:
    under = engine()
    failures = [event("auth_failure"), event("auth_failure", user="anna@example.org")]
    run([event("connect"), *failures], under=under)
    assert (value(under, "auth"), value(under, "auth-users")) == (2, 1)
    run([event("login", user="Anna")], under=under)
    assert (value(under, "auth"), value(under, "auth-users")) == (0, 0)


def test_a_login_takes_a_name_from_the_network_too() -> None:
    under = engine()
    failures = [event("auth_failure", user="anna"), event("auth_failure", B, user="anna", pid=2)]
    run([*failures, event("login", user="anna")], under=under)
    shown = {m.limit: m.value for m in under.meters("198.51.100.0/24", 1000.0) if m.value}
    assert "auth-users" not in shown


def test_a_login_and_a_delivery_give_the_same_points_back_once() -> None:
    under = engine()
    run(session(event("non_smtp_command")), under=under)
    assert value(under, "errors") == 5
    inside = event("pipelining", where="DATA"), event("login", user="anna")
    run(session(*inside, commands={"data": (1, 1), "commands": (2, 2)}), under=under)
    assert value(under, "errors") == 5


def test_failures_with_other_names_stay_counted_after_a_login() -> None:
    under = engine()
    failures = [event("auth_failure", user=f"name{n}@example.org") for n in range(3)]
    run([*failures, event("login", user="name0@example.net")], under=under)
    assert (value(under, "auth"), value(under, "auth-users")) == (3, 3)


def test_a_login_that_only_disconnect_shows_excuses_a_few_failures_without_a_name() -> None:
    under = engine()
    run(session(*[event("auth_failure")] * 9, commands={"auth": (1, 10)}), under=under)
    assert value(under, "auth") == 6  # nine counted, three of them taken back
    under = engine()
    named = event("auth_failure", user="anna")
    run(session(named, commands={"auth": (1, 2), "commands": (1, 2)}), under=under)
    assert value(under, "auth") == 1  # nobody proved to be anna


def test_a_login_without_a_mail_is_good_evidence() -> None:
    under = engine()
    for what in session(commands=LOGGED_IN | {"auth": (1, 1), "commands": (1, 1)}):
        under.step(what, 1000.0)
    assert under.drain().evidence == [Evidence(A, 50.0, 0, 1)]


def test_failures_that_no_line_reported_count_beyond_three_after_a_login() -> None:
    under = engine()
    guesses = session(commands={"auth": (1, 6), "commands": (1, 6)})
    run(guesses, under=under)
    assert value(under, "auth") == 2
    run(guesses * 99, under=under)
    assert value(under, "auth") == 200  # of 500 failures that are excused, 300


@pytest.mark.parametrize(
    ("name", "user", "counted"),
    [
        ("", "own@example.org", 100),  # no name: might be any account's
        ("boss", "boss@own.example", 100),  # of another domain
        ("Own@example.org", "own@example.org", 0),  # its own
    ],
)
def test_logins_of_one_account_excuse_500_other_failures_a_day(
    name: str, user: str, counted: int
) -> None:
    under = engine()
    inside = [event("auth_failure", user=name), event("login", user=user)]
    run([each for _ in range(600) for each in session(*inside, commands=LOGGED_IN)], under=under)
    assert value(under, "auth-day") == counted
    run(session(event("auth_failure"), event("login", user="other@example.org")), under=under)
    assert value(under, "auth-day") == counted  # each account has its own
    run(session(*inside, commands=LOGGED_IN), at=86400 * 9 / 8, under=under)
    assert value(under, "auth-day", at=86400 * 9 / 8) == 0


def test_what_only_disconnect_shows_of_failures_before_a_login_is_excused_500_times() -> None:
    under = engine()
    run([each for _ in range(500) for each in session(commands=LOGGED_IN)], under=under)
    assert value(under, "auth-day") == 0
    run([each for _ in range(50) for each in session(commands=LOGGED_IN)], under=under)
    assert value(under, "auth-day") == 50


def test_what_is_refused_to_a_client_that_has_logged_in_does_not_count() -> None:
    under = engine()
    dead = event("reject", where="RCPT", reason="unknown_user", code=550)
    run([event("connect"), dead, dead], under=under)
    assert value(under, "errors") == 2
    ends = {"auth": (1, 1), "rcpt": (0, 9), "commands": (1, 10)}
    run([event("disconnect", commands=ends)], under=under)
    assert value(under, "errors") == 0
    run(session(replace(dead, user="anna"), dead, event("too_many_errors")), under=under)
    assert value(under, "errors") == 0


def test_a_session_that_delivers_may_pipeline_after_the_message() -> None:
    for where, left in (("DATA", 0), ("END-OF-MESSAGE", 0), ("EHLO", 5)):
        under = engine()
        ends = {"mail": (1, 1), "data": (1, 1), "commands": (2, 2)}
        run(session(event("pipelining", where=where), commands=ends), under=under)
        assert value(under, "errors") == left
        run(session(event("pipelining", where=where)), under=under)
        assert value(under, "errors") == left + 5


def test_callouts_are_counted_apart() -> None:
    under = engine()
    callout = event("reject", where="RCPT", reason="unknown_user", code=550, null_sender=True)
    ends = {"mail": (1, 1), "rcpt": (0, 1), "commands": (1, 2)}
    run(session(callout, commands=ends) * 3, under=under)
    assert (value(under, "callouts"), value(under, "errors")) == (3, 0)
    run(session(callout, callout, callout), under=under)  # a harvester
    assert (value(under, "callouts"), value(under, "errors")) == (3, 3)
    run(session(callout, callout), under=under)
    assert (value(under, "callouts"), value(under, "errors")) == (3, 5)
    run(session(replace(callout, null_sender=False)), under=under)
    assert (value(under, "callouts"), value(under, "errors")) == (3, 6)
    run(session(callout, replace(callout, null_sender=False)), under=under)
    assert (value(under, "callouts"), value(under, "errors")) == (4, 7)


def test_failed_commands_that_only_disconnect_reports_are_spread_over_the_session() -> None:
    under = engine()
    under.step(event("connect"), 1000.0)
    ends = {"unknown": (0, 900), "commands": (0, 900)}
    under.step(event("disconnect", commands=ends), 1000.0 + 1800, 0)
    # Thirty a minute: twelve of each count, and ten minutes (an eighth more) are in the window.
    assert 120 <= value(under, "errors", 2800.0) <= 144
    under = engine()
    for what in session(commands=ends):
        under.step(what, 1000.0)
    assert value(under, "errors") == 10 + 89


def test_old_postfix_without_counters() -> None:
    assert run(session() * 60) == []
    assert [crossing.limit for crossing in run(session() * 61)] == ["connections"]


def test_what_disconnect_repeats_is_not_counted_twice() -> None:
    reject = event("reject", reason="unknown_user", code=550)
    commands = {"ehlo": (1, 1), "rcpt": (0, 1), "commands": (1, 2)}
    assert run(session(reject, commands=commands) * 20) == []
    assert run(session(reject, commands=commands) * 21)[0].value == 21


def test_failed_logins_are_no_other_errors() -> None:
    failures = [event("auth_failure", user="anna"), event("auth_failure", user="anna")]
    commands = {"auth": (0, 2), "unknown": (0, 3), "starttls": (0, 1), "commands": (0, 6)}
    under = engine()
    run(session(*failures, commands=commands), under=under)
    meters = {(m.limit, m.scope): m.value for m in under.meters(A, 1000.0)}
    assert (meters["errors", "mx"], meters["auth", "mx"]) == (3, 2)


def test_what_only_disconnect_says_is_counted() -> None:
    commands = {"auth": (0, 4), "unknown": (0, 3), "commands": (0, 7)}
    crossings = run(session(commands=commands) * 8)
    assert {(c.limit, c.value) for c in crossings} == {("errors", 24), ("auth", 32)}
    crossings = run(session(commands={"auth": (0, 1), "commands": (0, 1)}) * 11)
    assert {(c.limit, c.value) for c in crossings} == {("auth", 11)}


def test_our_own_authentication_server_being_down_counts_against_nobody() -> None:
    done = {"auth": (0, 1), "commands": (0, 1)}
    hangups = [
        event("disconnect", pid=pid, instance="postfix/submission", commands=done)
        for pid in range(200)
    ]
    for reason, limits in (("temporary", set[str]()), ("", {"auth", "auth-day"})):
        events = [auth("anna", pid=pid, reason=reason) for pid in range(200)]
        assert {crossing.limit for crossing in run(events + hangups)} == limits


def test_auth_of_a_client_refused_before_is_no_failed_login() -> None:
    refused = event("reject", where="CONNECT", reason="temporary", code=450)
    commands = {"ehlo": (0, 1), "auth": (0, 1), "commands": (0, 2)}
    under = engine()
    run(session(refused, commands=commands) * 20, under=under)
    values = {m.value for m in under.meters(A, 1000.0) if m.limit != "connections"}
    assert (value(under, "connections"), values) == (20, {0})


def test_good_evidence_is_added_up() -> None:
    under = engine()
    run(session(commands={"data": (2, 2), "commands": (5, 5)}), under=under)
    run(
        [event("login"), event("disconnect", B, commands={"bdat": (7, 7), "commands": (9, 9)})],
        under=under,
    )
    for what in [
        event("disconnect", commands={"data": (1, 2), "commands": (3, 4)}),
        event("login"),
    ]:
        under.step(what, 1000.0)
    assert under.drain().evidence == [Evidence(A, 50.0, 1, 1)]


def test_evidence_of_bdat_counts_messages_not_chunks() -> None:
    under = engine()
    under.step(event("disconnect", commands={"bdat": (7, 7), "commands": (9, 9)}), 1000.0)
    assert under.drain().evidence == [Evidence(A, 50.0, 1, 0)]


def test_data_that_failed_is_no_evidence() -> None:
    under = engine()
    under.step(event("disconnect", commands={"data": (0, 1), "commands": (4, 5)}), 1000.0)
    assert under.drain().evidence == []
    under.step(event("disconnect", commands={"data": (1, 2), "commands": (4, 5)}), 1000.0)
    assert under.drain().evidence == [Evidence(A, 50.0, 1, 0)]


def test_reconfigure_forgets_no_connection_that_postscreen_handed_over() -> None:
    under = engine()
    screened = event("screened", process="postscreen", port=1)
    passed = event("passed", process="postscreen", port=1)
    run([screened, passed] * 31, under=under)
    under.reconfigure(Policy())
    assert run([event("connect")] * 31, under=under) == []
    assert value(under, "connections") == 31


def test_the_name_of_a_handshake_is_the_one_in_the_log() -> None:
    under = engine()
    run([event("connect", name="mx.example.com")], under=under)
    under.reconfigure(Policy(), names=True)
    run([event("connect", client=B, name="mx.example.com"), event("connect")], under=under)
    under.reconfigure(Policy(), names=True)
    for client in (A, B):
        under.handshakes(client, "mx", 61, 1000.0)
    names = {crossing.subject: crossing.name for crossing in under.drain().crossings}
    assert names == {A: "", B: "mx.example.com"}
    under.reconfigure(Policy())
    under.handshakes(B, "mx", 1, 1000.0)
    (crossing,) = under.drain().crossings
    assert crossing.name == "mx.example.com"


def test_who_is_banned_in_the_kernel_and_begins_sessions_is_recorded() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0, enforced=True)
    under.hold(B, "mx", "ban", 2000.0, 1000.0)  # spared: judged no more, but not banned
    under.hold("198.51.100.9", "mx", "throttle", 2000.0, 1000.0, enforced=True)
    for at in (1004.0, 1006.0, 1010.0):
        for client in (A, B, "198.51.100.9"):
            under.step(event("connect", client), at)
    assert under.escapes.found(1010.0) == []
    under.step(event("screened", A, process="postscreen", port=1), 1012.0)
    (found,) = under.escapes.found(1012.0)
    assert (found.client, found.scope, found.sessions) == (A, "mx", 3)
    under.step(event("connect", A, instance="postfix/submission"), 1013.0)
    under.step(event("connect", A), 2001.0)  # the ban has expired
    assert found.sessions == 3
    under.reset(A)
    assert under.escapes.found(1013.0) == []


def test_an_escape_begins_late_and_ends_with_the_ban() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0, enforced=True)
    for at in (1005.0, 1006.0, 1007.0, 1011.0):
        under.step(event("connect"), at)
    assert [found.sessions for found in under.escapes.found(1011.0)] == [3]
    under.step(event("connect"), 2000.0)
    assert [found.sessions for found in under.escapes.found(1011.0)] == [3]


def test_who_delivers_is_recorded_however_many_strangers_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("throttled.decide.engine._PEAKS", 2)
    under = Engine(Policy(), Facts(), peaks=True)
    strangers = [event("connect", f"203.0.113.{n}") for n in range(5)]
    delivered = {"data": (1, 1), "commands": (5, 5)}
    run([*strangers, *session(commands=delivered)], under=under)
    assert [p.client for p in noted(under.gauges(), 99)] == ["203.0.113.0", "203.0.113.1", A]


def test_the_end_of_a_postscreen_session_counts_nothing() -> None:
    under = engine()
    end = replace(event("disconnect"), process="postscreen")
    assert run([event("connect"), *[end] * 100], under=under) == []
    assert {meter.limit: meter.value for meter in under.meters(A, 1000.0) if meter.value} == {
        "connections": 1
    }
    assert under.sessions(A) == 1
    run([event("disconnect")], under=under)
    assert under.sessions(A) == 0


def test_a_second_login_of_a_session_subtracts_nothing() -> None:
    under = engine()
    first, then = event("login", user="anna"), event("login", user="berta")
    run([first, event("auth_failure", user="berta"), then], under=under)
    assert value(under, "auth") == 1


def test_mail_counts_where_a_limit_asks_for_it() -> None:
    limits = {
        "m": Limit(count="messages", within=duration("1m"), soft=9),
        "r": Limit(count="recipients", within=duration("1m"), soft=9),
    }
    under = engine(Policy(limits=limits))
    message = Message("3A5C01F2B")
    run(
        [event("accepted", message=message), event("login", user="a", message=message)], under=under
    )
    run([event("accepted")], under=under)  # as an older log may have it
    assert value(under, "m") == 3
    assert len(under._actions.queued) == 1


def test_who_sent_a_message_is_remembered_for_an_hour() -> None:
    under = engine(Policy(limits={"r": Limit(count="recipients", within=duration("1m"), soft=9)}))
    for at, one in ((0.0, "3A5C01F2B"), (3600.0, "3A5C01F2C"), (7200.0, "3A5C01F2D")):
        under.step(event("accepted", message=Message(one)), at)
    for one, counted in (("3A5C01F2B", 0), ("3A5C01F2C", 4)):
        queued = Message(one, sender="a@b.test", recipients=4)
        under.step(event("active", "", message=queued), 7200.0)
        assert value(under, "r", 7200.0) == counted


def test_host_names_are_remembered() -> None:
    under = engine()
    actions = under._actions
    run([event("connect", name="mx.example.net")], under=under)
    assert actions.named("mx", 9) == []
    actions.remember_names(60.0, 1)
    assert actions.names is not None
    actions.remember_names(60.0, 9)
    run([event("connect", name="mx.example.net"), event("connect", B)], under=under)
    actions.remember_names(60.0, 9)
    assert actions.named("MX", 9) == [(A, "mx.example.net")]
    assert actions.named("mail", 9) == []
    actions.remember_names(60.0, 8)  # `throttled allow NAME` asks for more
    assert actions.named("mx", 9) == [(A, "mx.example.net")]


def test_failed_logins_count_against_their_account_whatever_domain_and_case() -> None:
    under = engine(facts=Facts(sasl_domain="example.org"))
    names = ("boss", "BOSS@Example.org", "")
    for number in range(45):
        under.step(auth(names[number % 3], client=f"203.0.113.{number}"), 1000.0)
    under.drain()
    found = under.guessing.target("account:boss", 1000.0)
    assert found is not None
    assert (found.tries, found.sources, found.attacked) == (30, 30, False)
    under.step(auth("boss", reason="temporary"), 1000.0)
    assert found == under.guessing.target("account:boss", 1000.0)
    for number in range(2):
        under.step(auth("boss", client=f"2001:db8::{number + 1}"), 1000.0)
    crossings = {(c.subject, c.limit) for c in under.drain().crossings}
    assert crossings == {
        ("2001:db8::1", "guessing"),
        ("2001:db8::2", "guessing"),
        ("2001:db8::/64", "guessing"),
    }
