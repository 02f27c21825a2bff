import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.address import network_of
from throttled.decide.engine import Engine, health_check_hint
from throttled.model import Crossing, Event, Evidence, Facts, Line, Peak, Rate, Service
from throttled.settings import Limit, Points, Policy, default_limits, duration

A = "198.51.100.7"
B = "198.51.100.8"


def event(kind: str, client: str = A, **fields: Any) -> Event:
    known: dict[str, Any] = {"process": "smtpd", "instance": "postfix", "pid": 1, "time": 50.0}
    return Event(kind=kind, client=client, **(known | fields))  # type: ignore[arg-type]


def engine(policy: Policy | None = None, facts: Facts | None = None) -> Engine:
    return Engine(policy or Policy(), facts or Facts())


def run(events: Iterable[Event], at: float = 1000.0, under: Engine | None = None) -> list[Crossing]:
    under = under or engine()
    for number, what in enumerate(events):
        under.step(what, at, 0, 1, number)
    return under.take().crossings


def session(*inside: Event, commands: dict[str, tuple[int, int]] | None = None) -> list[Event]:
    return [event("connect"), *inside, event("disconnect", commands=commands)]


EMPTY = {"commands": (0, 0)}


def test_above_soft_is_a_throttle_with_its_lines() -> None:
    assert run([event("connect")] * 60) == []
    (crossing,) = run([event("connect")] * 61)
    assert (crossing.action, crossing.value, crossing.threshold) == ("throttle", 61, 60)
    assert crossing.lines == tuple(Line(1, offset) for offset in range(45, 61))


def test_a_64_counts_what_its_addresses_do_wrong() -> None:
    kinds = ("non_smtp_command", "connect")
    crowd = [event(k, f"2001:db8:0:1:{n:x}::9", pid=n) for n in range(50) for k in kinds]
    under = engine()
    (crossing,) = run(crowd, under=under)
    assert (crossing.subject, crossing.limit) == ("2001:db8:0:1::/64", "errors")
    shown = [m for m in under.meters(crossing.subject, 1000.0) if m.scope == "mx"]
    meters = {m.limit: (m.value, m.soft, m.hard) for m in shown}
    assert (meters["errors"], meters["connections"]) == ((250, 100, 250), (50, 300, 0))
    assert (crossing.action, crossing.value, crossing.threshold) == ("throttle", 250, 100)
    (crossing,) = run(crowd[:1], under=under)
    assert (crossing.action, crossing.value, crossing.threshold) == ("ban", 255, 250)
    # Teredo: what looks like a network are strangers.
    assert run([event("non_smtp_command", f"2001:0:1:1:{n:x}::9", pid=n) for n in range(60)]) == []


def test_lines_that_nobody_will_ask_for_count_and_are_not_remembered() -> None:
    under = engine()
    for _ in range(61):
        under.step(event("connect"), 1000.0, offset=-1)
    (crossing,) = under.take().crossings
    assert (crossing.value, crossing.lines) == (61, ())


def test_above_hard_is_a_ban_and_stands_for_both() -> None:
    (crossing,) = run([event("non_smtp_command", pid=pid) for pid in range(11)])
    assert (crossing.action, crossing.value, crossing.limit) == ("ban", 55, "errors")


def test_a_throttle_never_replaces_a_pending_ban() -> None:
    under = engine()
    for at, count in ((1000.0, 11), (1700.0, 5)):
        for pid in range(count):
            under.step(event("non_smtp_command", pid=pid), at)
    (crossing,) = under.take().crossings
    assert (crossing.action, crossing.value) == ("ban", 55)


def test_what_a_limit_spared_is_judged_again_above_the_value_it_was_spared_for() -> None:
    under = engine()
    (crossing,) = run([event("connect")] * 61, under=under)
    under.excuse(crossing, 70, until=1030.0, at=1000.0)
    assert run([event("connect")] * 9, under=under) == []
    (again,) = run([event("connect")], under=under)
    assert (again.action, again.value) == ("throttle", 71)
    under.excuse(again, 1000, until=1030.0, at=1000.0)
    assert run([event("connect")], at=1029.9, under=under) == []
    (late,) = run([event("connect")], at=1030.0, under=under)
    assert late.value == 73


def test_what_was_spared_in_one_limit_is_not_spared_in_another() -> None:
    under = engine()
    (crossing,) = run([event("connect")] * 61, under=under)
    under.excuse(crossing, 10**6, until=2000.0, at=1000.0)
    (crossing,) = run([event("non_smtp_command", pid=pid) for pid in range(11)], under=under)
    assert (crossing.limit, crossing.action) == ("errors", "ban")


def test_each_delivery_forgives_a_connection() -> None:
    under = engine()
    run(session(commands={"data": (20, 20), "commands": (60, 60)}), under=under)
    assert run([event("connect")] * 79, under=under) == []
    (crossing,) = run([event("connect")], under=under)
    assert (crossing.value, crossing.threshold) == (81, 80)


def test_user_names_that_addresses_of_a_network_try_in_turns_are_summed() -> None:
    tried = [
        event("auth_failure", f"198.51.100.{n % 200}", user=f"{n:x}x@example.org", pid=n)
        for n in range(150)
    ]
    found = {(c.limit, c.subject): c.action for c in run(tried)}
    assert found["auth-users", "198.51.100.0/24"] == "throttle"


def test_who_is_banned_or_exempt() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 1060.0, 1000.0)
    assert run([event("connect")] * 61, under=under) == []
    under.hold(B, "mx", "exempt", 1060.0, 1000.0)  # who is exempt is judged by the caller
    assert under.in_force(B, "mx", 1000.0) == 0.0
    (crossing,) = run([event("connect", B)] * 61, under=under)
    assert crossing.subject == B


def test_no_limit_hides_another() -> None:
    errors = [event("non_smtp_command", pid=pid) for pid in range(11)]
    crossings = run(errors + [event("connect")] * 61)
    assert {(c.limit, c.action, c.value) for c in crossings} == {
        ("errors", "ban", 55),
        ("connections", "throttle", 61),
    }


def test_windows() -> None:
    under = engine()
    for second in range(0, 600, 2):  # 30 a minute
        under.step(event("connect"), 1000.0 + second)
    assert under.take().crossings == []


def test_scopes_are_counted_apart() -> None:
    events = [event("connect")] * 60 + [event("connect", instance="postfix/submission")] * 60
    assert run(events) == []
    (crossing,) = run([event("connect", instance="postfix/submissions")] * 121)
    assert crossing.scope == "submission"


def test_scope_is_learnt_from_the_host() -> None:
    facts = Facts(services=(Service("/etc/postfix", "587", "smtpd", "mail/x", 587, "submission"),))
    under = engine(facts=facts)
    (crossing,) = run([event("connect", instance="mail/x")] * 121, under=under)
    assert crossing.scope == "submission"
    under.facts(Facts())
    assert run([event("connect", B, instance="mail/x")] * 61, under=under)[0].scope == "mx"


def test_who_is_named_by_a_proxy_is_not_counted() -> None:
    behind = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    direct = Service("/etc/postfix", "2525", "smtpd", "postfix", 2525, "mx")
    events = [event("connect")] * 61
    assert run(events, under=engine(facts=Facts(services=(behind,)))) == []
    # The log cannot tell them apart: rather one ban too many that hits nobody.
    assert run(events, under=engine(facts=Facts(services=(behind, direct)))) != []


def test_another_hosts_lines_are_ignored() -> None:
    under = engine(facts=Facts(hostnames=frozenset({"mx"})))
    assert run([event("connect", host="other")] * 99, under=under) == []
    assert run([event("connect", host="mx")] * 99, under=under) != []
    assert run([event("connect", B)] * 99, under=under) != []


def test_events_without_a_client_or_without_a_meaning_are_ignored() -> None:
    kinds = ("peak", "saturated", "lines_lost", "lost_connection", "timeout", "hangup")
    assert run([event(kind) for kind in kinds] * 100) == []
    assert run([event("connect", client="")] * 100) == []


def test_one_connection_seen_by_postscreen_and_smtpd_counts_once() -> None:
    screened = event("screened", process="postscreen", port=1)
    passed = event("passed", process="postscreen", port=1)
    assert run([screened, passed, event("connect")] * 60) == []
    assert run([screened, passed, event("connect")] * 61) != []


def test_postscreen_sessions_are_told_apart_by_port() -> None:
    events = [event("pregreet", process="postscreen", port=port) for port in (1, 2, 3, 4)]
    assert run(events) == []
    (crossing,) = run([*events, event("pregreet", process="postscreen", port=5)])
    assert crossing.value == 25


def test_a_probe_every_ten_seconds_is_no_offender() -> None:
    under = engine()
    for second in range(0, 7200, 10):
        for what in session(commands=EMPTY):
            under.step(what, 1000.0 + second)
    assert under.take().crossings == []


def test_a_probe_of_every_port_every_ten_seconds_is_no_offender() -> None:
    under = engine()
    for second in range(0, 7200, 10):
        for instance in ("postfix/submission", "postfix/smtps"):
            under.step(event("disconnect", instance=instance, commands=EMPTY), 1000.0 + second)
    assert under.take().crossings == []


def test_a_quitting_probe_is_no_offender() -> None:
    assert run(session(commands={"quit": (1, 1), "commands": (1, 1)}) * 30) == []


def test_empty_sessions_in_a_row_weigh_nothing_unless_configured() -> None:
    assert run(session(commands=EMPTY) * 60) == []
    weighed = Policy(points=Points(empty_session=1))
    assert run(session(commands=EMPTY) * 52, under=engine(weighed))[0].action == "ban"


def test_an_empty_session_with_lines_of_its_own_is_not_empty() -> None:
    weighed = Policy(points=Points(empty_session=1))
    for kind in ("tls_failure", "rate_limit"):
        inside = session(event(kind), commands=EMPTY) * 20
        assert run(inside, under=engine(weighed)) == []


def test_a_client_whose_sessions_want_nothing_looks_like_a_health_check() -> None:
    under = engine()
    quits = {"ehlo": (1, 1), "quit": (1, 1), "commands": (2, 2)}
    farewell = event("pipelining", where="QUIT")
    for number in range(10):
        run(session(commands=EMPTY), 1000.0 + number * 60, under)
        run(session(farewell, commands=quits), 1000.0 + number * 60, under)
        assert under.health_check(A, 2000.0) == 0
        hung_up = replace(event("disconnect", port=number), process="postscreen")
        run([hung_up], 1000.0 + number * 60, under)
    assert (under.health_check(A, 2000.0), under.health_checks(2000.0)) == (30, [A])
    assert (under.health_check(A, 9000.0), under.health_checks(9000.0)) == (0, [])
    run(session(commands={"mail": (1, 1), "commands": (1, 1)}), 2000.0, under)
    assert (under.health_check(A, 2000.0), under.health_checks(2000.0)) == (0, [])


def test_a_flood_that_only_connects_is_no_health_check() -> None:
    under = engine()
    for number in range(8):
        client = f"198.51.100.{number}"
        run(
            [event("connect", client), event("disconnect", client, commands=EMPTY)] * 30,
            1000.0,
            under,
        )
    assert len(under.health_checks(1000.0)) == 8
    run([event("connect"), event("disconnect", commands=EMPTY)] * 30, 1000.0, under)
    assert len(under.health_checks(1000.0)) == 8  # A is one of them
    run([event("connect", B), event("disconnect", B, commands=EMPTY)] * 30, 1000.0, under)
    assert under.health_checks(1000.0) == []


def value(under: Engine, limit: str, at: float = 1000.0) -> int:
    meters = {(meter.limit, meter.scope): meter.value for meter in under.meters(A, at)}
    return meters[limit, "mx"]


LOGGED_IN = {"auth": (1, 2), "commands": (1, 2)}


def test_a_failed_mechanism_before_the_login_does_not_count() -> None:
    under = engine()
    failures = [event("auth_failure"), event("auth_failure", user="anna@example.org")]
    run([event("connect"), *failures], under=under)
    assert (value(under, "auth"), value(under, "auth-users")) == (2, 1)
    run([event("login", user="Anna")], under=under)
    assert (value(under, "auth"), value(under, "auth-users")) == (0, 0)


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
    assert [e.logins for e in under.take().evidence] == [1]


def test_failures_that_no_line_reported_count_beyond_three_after_a_login() -> None:
    under = engine()
    run(session(commands={"auth": (1, 6), "commands": (1, 6)}), under=under)
    assert value(under, "auth") == 2


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
    run(session(*inside, commands=LOGGED_IN), at=1000.0 + 86400 * 9 / 8, under=under)
    assert value(under, "auth-day", at=1000.0 + 86400 * 9 / 8) == 0


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


def test_what_is_taken_back_of_a_network_too() -> None:
    under = engine()
    client = "2001:db8:0:1::9"
    ends = {"auth": (1, 1), "commands": (1, 1)}
    under.step(event("pregreet", client), 1000.0)
    assert max(meter.value for meter in under.meters("2001:db8:0:1::/64", 1000.0)) == 5
    under.step(event("disconnect", client, commands=ends), 1000.0)
    assert {meter.value for meter in under.meters("2001:db8:0:1::/64", 1000.0)} == {0}


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
    assert run(session() * 30) == []


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


def test_a_lost_session_of_a_reused_pid_blames_nobody_else() -> None:
    reject = event("reject", A, reason="temporary", code=450)
    later = event("disconnect", B, commands={"rcpt": (0, 1), "commands": (0, 1)})
    under = engine()
    run([reject, event("connect", B), event("reject", B, reason="relay"), later], under=under)
    meters = {(m.limit, m.scope): m.value for m in under.meters(B, 1000.0)}
    assert meters["errors", "mx"] == 3
    again = event("reject", A, reason="relay")
    run([event("reject", B, reason="relay"), again], under=under)
    meters = {(m.limit, m.scope): m.value for m in under.meters(A, 1000.0)}
    assert meters["errors", "mx"] == 3


def test_a_disconnect_after_lost_lines_is_not_excused_by_another_client() -> None:
    under = engine()
    commands = {"rcpt": (0, 3), "commands": (0, 3)}
    lines = [event("reject", A, reason="unknown_user", where="RCPT", code=550)] * 3
    run([*lines, event("disconnect", B, commands=commands)], under=under)
    meters = {(m.limit, m.scope): m.value for m in under.meters(B, 1000.0)}
    assert meters["errors", "mx"] == 3


def test_a_line_after_lost_lines_does_not_fall_to_another_clients_cap() -> None:
    under = engine()
    lines = [event("reject", A, reason="relay", where="RCPT")] * 4
    run([*lines, event("reject", B, reason="relay", where="RCPT")], under=under)
    meters = {(m.limit, m.scope): m.value for m in under.meters(B, 1000.0)}
    assert meters["errors", "mx"] == 3


def auth(user: str = "", **fields: Any) -> Event:
    return event("auth_failure", instance="postfix/submission", user=user, **fields)


def test_distinct_user_names() -> None:
    (crossing,) = run([auth(f"user{n}", pid=n) for n in range(6)])
    assert (crossing.limit, crossing.action, crossing.value) == ("auth-slow", "throttle", 6)
    crossings = run([auth(f"user{n}", pid=n) for n in range(11)])
    assert {(c.limit, c.action, c.value) for c in crossings} == {
        ("auth-slow", "ban", 11),
        ("auth", "throttle", 11),
    }


def test_failures_without_a_name_count_as_failures_only() -> None:
    (crossing,) = run([auth(pid=n) for n in range(11)])
    assert crossing.limit == "auth"


def test_a_phone_retrying_an_old_password_all_night_is_not_banned() -> None:
    under = engine()
    for number in range(200):
        at = 1000.0 + number * 120
        for what in (auth("anna", pid=number), auth("anna", pid=number)):
            under.step(what, at)
    assert {(c.limit, c.action, c.value) for c in under.take().crossings} == {
        ("auth", "throttle", 12),
        ("auth-day", "throttle", 400),
    }


@pytest.mark.parametrize(("rate", "ended"), [(Rate(2, 3600.0, 1), {101}), (None, set())])
def test_who_goes_on_above_a_slow_throttle_has_the_session_ended(
    rate: Rate | None, ended: set[int]
) -> None:
    """Not where remembered logins spared it the limit's own rate, nor for what is below soft."""
    under = engine()
    for number in range(100):
        under.step(auth("anna", pid=number), 1000.0 + number * 300)
    under.take()
    under.hold(A, "submission", "throttle", 90_000.0, 31_000.0, rate=rate)
    for pid in (101, 101):
        under.step(auth("anna", pid=pid), 31_000.0)
    outcome = under.take()
    assert {c.pid for c in outcome.further} == ended
    assert {c.limit for c in outcome.crossings} == ({"auth-day"} if rate is None else set())
    under.step(event("non_smtp_command", pid=102), 31_000.0)
    assert under.take().further == []


def test_a_network_has_no_session_to_be_ended() -> None:
    under = engine()
    rate = Rate(2, 3600.0, 1)
    network = "2001:db8::/64"
    under.hold(network, "submission", "throttle", 9000.0, 1000.0, rate=rate)
    for number in range(501):
        under.step(auth("anna", client=f"2001:db8::{number + 1:x}", pid=number), 1000.0)
    assert under.take().further == []


def test_our_own_authentication_server_being_down_counts_against_nobody() -> None:
    events = [auth("anna", pid=pid, reason="temporary") for pid in range(200)]
    done = {"auth": (0, 1), "commands": (0, 1)}
    hangups = [
        event("disconnect", pid=pid, instance="postfix/submission", commands=done)
        for pid in range(200)
    ]
    assert run(events + hangups) == []


def test_auth_of_a_client_refused_before_is_no_failed_login() -> None:
    refused = event("reject", where="CONNECT", reason="temporary", code=450)
    commands = {"ehlo": (0, 1), "auth": (0, 1), "commands": (0, 2)}
    under = engine()
    run(session(refused, commands=commands) * 20, under=under)
    assert {m.value for m in under.meters(A, 1000.0) if m.limit != "connections"} == {0}


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
    assert under.take().evidence == [Evidence(A, 50.0, 1, 1)]


def test_evidence_of_bdat_counts_messages_not_chunks() -> None:
    under = engine()
    under.step(event("disconnect", commands={"bdat": (7, 7), "commands": (9, 9)}), 1000.0)
    assert under.take().evidence == [Evidence(A, 50.0, 1, 0)]


def test_data_that_failed_is_no_evidence() -> None:
    under = engine()
    under.step(event("disconnect", commands={"data": (0, 1), "commands": (4, 5)}), 1000.0)
    assert under.take().evidence == []


def test_what_is_held_is_not_asked_again_but_more_is() -> None:
    under = engine()
    assert run([event("connect")] * 61, under=under)
    under.hold(A, "mx", "throttle", 1600.0, 1000.0)
    assert run([event("connect")], under=under) == []
    assert (
        run([event("non_smtp_command", pid=p) for p in range(11)], under=under)[0].action == "ban"
    )
    assert run([event("connect")] * 61, at=1601.0, under=under)[0].action == "throttle"
    under.hold(A, "mx", "ban", 2600.0, 1601.0)
    assert run([event("non_smtp_command", pid=p) for p in range(11)], 1602.0, under) == []


def test_after_a_release_the_next_thing_it_does_is_judged_again() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2600.0, 1000.0)
    assert run([event("non_smtp_command", pid=p) for p in range(11)], 1001.0, under) == []
    under.release(A, "submission")
    assert run([event("non_smtp_command", pid=20)], 1002.0, under) == []
    under.release(A, "mx")
    assert run([event("non_smtp_command", pid=21)], 1003.0, under)[0].action == "ban"


def test_open_sessions() -> None:
    under = engine()
    run([event("reject", pid=1), event("reject", pid=2), event("reject", B, pid=3)], under=under)
    assert (under.sessions(A), under.sessions(B)) == (2, 1)


def test_forget() -> None:
    under = engine()
    run([event("connect")] * 61, under=under)
    under.hold(A, "mx", "throttle", 1600.0, 1000.0)
    under.forget(A, "submission")
    assert run([event("connect")], under=under) == []
    for _ in range(61):
        under.step(event("connect"), 1601.0)
    under.forget(A)
    assert under.take().crossings == []
    assert under.lines(A) == ()
    assert {m.value for m in under.meters(A, 1601.0)} == {0}


def test_forget_all() -> None:
    under = engine()
    run([event("connect"), event("connect", B, instance="postfix/submission")] * 130, under=under)
    under.hold(B, "submission", "throttle", 1600.0, 1000.0)
    under.forget_all("mx")
    assert {m.value for m in under.meters(A, 1000.0)} == {0}
    assert max(m.value for m in under.meters(B, 1000.0)) == 130
    assert run([event("connect", B, instance="postfix/submission")], under=under) == []
    for _ in range(61):
        under.step(event("connect"), 1601.0)
    under.forget_all()
    assert under.take().crossings == []
    assert {m.value for m in under.meters(B, 1000.0)} == {0}


def test_reconfigure_forgets_no_connection_that_postscreen_handed_over() -> None:
    under = engine()
    screened = event("screened", process="postscreen", port=1)
    passed = event("passed", process="postscreen", port=1)
    run([screened, passed] * 31, under=under)
    under.reconfigure(Policy())
    assert run([event("connect")] * 31, under=under) == []


def test_reconfigure_keeps_counts_and_what_is_held() -> None:
    under = engine()
    run([event("connect")] * 50, under=under)
    limits = default_limits()
    limits["connections"] = Limit(count="connections", within=duration("1m"), soft=40)
    under.reconfigure(Policy(limits=limits))
    (crossing,) = run([event("connect")], under=under)
    assert (crossing.value, crossing.threshold) == (51, 40)


def test_sessions_and_streams_are_bounded() -> None:
    under = engine()
    for number in range(30_000):
        under.step(event("reject", pid=number), 1000.0)
    assert under.sizes()["sessions"] <= 20_000
    assert under.sizes()["dropped"] > 0
    for number in range(1_000):
        under.step(event("reject", host=f"h{number}"), 1000.0)
    assert len(under._streams) <= 100


def test_lines_of_two_instances_in_turn() -> None:
    under = engine()
    for pid in range(61):
        under.step(event("connect", pid=pid), 1000.0)
        under.step(event("connect", pid=pid, instance="postfix/submission"), 1000.0)
    assert [crossing.scope for crossing in under.take().crossings] == ["mx"]


def test_sessions_survive_a_reload() -> None:
    under = engine()
    under.step(event("reject", reason="relay", code=554, where="RCPT"), 1000.0)
    under.facts(Facts(hostnames=frozenset({"mx"})))
    under.reconfigure(Policy())
    under.step(event("disconnect", commands={"rcpt": (0, 1), "commands": (0, 1)}), 1000.0)
    meters = {(m.limit, m.scope): m.value for m in under.meters(A, 1000.0)}
    assert meters["errors", "mx"] == 3


def test_memory_is_bounded_under_any_number_of_clients() -> None:
    """Small, for speed; `scripts/bench` sends ten million."""
    under = engine(Policy(max_clients=2_000))
    tracemalloc.start()
    for part in range(5):
        for number in range(part * 20_000, (part + 1) * 20_000):
            client = f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}"
            under.step(event("connect", client, pid=number & 1023), 1000.0 + number / 5_000)
    network_of.cache_clear()  # of a fixed size, whoever comes
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert under.sizes()["clients"] <= 2_001
    assert size < 2_000 * 500 + (1 << 18) * 16


UNPROVEN = ("connect", "screened", "hangup", "lost_connection", "timeout", "peak", "saturated")


@given(st.lists(st.tuples(st.sampled_from(UNPROVEN), st.floats(0, 900)), max_size=300))
def test_what_a_bare_connection_does_never_bans(events: list[tuple[str, float]]) -> None:
    under = engine()
    for kind, at in events:
        under.step(event(kind, count=50), 1000.0 + at)
    assert all(crossing.action == "throttle" for crossing in under.take().crossings)


def test_the_worst_are_those_nearest_to_a_threshold() -> None:
    under = engine()
    run([event("connect")] * 61, under=under)
    run([event("non_smtp_command", B, pid=pid) for pid in range(5)], under=under)
    run([event("login", "198.51.100.9")], under=under)
    (first, of_first), (second, of_second) = under.worst(9, 1000.0)
    assert (first, of_first.limit, of_first.value) == (A, "connections", 61)
    assert (second, of_second.limit, of_second.value) == (B, "errors", 25)
    assert [client for client, _ in under.worst(1, 1000.0)] == [A]
    assert under.worst(9, 1000.0 + 86400 * 9 / 8) == []
    limitless = engine(Policy(limits={}))
    run([event("connect")] * 61, under=limitless)
    assert limitless.worst(9, 1000.0) == []


def test_handshakes_and_log_lines_are_never_added() -> None:
    under = engine()
    assert run([event("connect")] * 60, under=under) == []
    under.handshakes(A, "mx", 60, 1000.0)
    assert under.take().crossings == []
    assert [(m.value, m.kernel) for m in under.meters(A, 1000.0)[:2]] == [(60, False), (60, True)]
    under.handshakes(A, "mx", 1, 1000.0)
    (crossing,) = under.take().crossings
    assert (crossing.limit, crossing.count, crossing.value) == ("connections", "handshakes", 61)
    # Its line comes later, when the throttle is in force.
    under.hold(A, "mx", "throttle", 2000.0, 1000.0)
    assert run([event("connect")], under=under) == []


def test_handshakes_of_one_scope_do_not_count_in_another() -> None:
    under = engine()
    under.handshakes(A, "submission", 121, 1000.0)
    (crossing,) = under.take().crossings
    assert crossing.scope == "submission"
    assert under.worst(9, 1000.0)[0][0] == A
    under.forget(A)
    assert all(meter.value == 0 for meter in under.meters(A, 1000.0))


def test_meters_of_the_kernel_are_shown_where_it_saw_something() -> None:
    under = engine()
    assert not any(meter.kernel for meter in under.meters(A, 1000.0))


def test_the_name_of_a_handshake_is_the_one_in_the_log() -> None:
    under = engine()
    run([event("connect", name="mx.example.com")], under=under)
    under.reconfigure(Policy(), names=True)
    run([event("connect", client=B, name="mx.example.com"), event("connect")], under=under)
    under.reconfigure(Policy(), names=True)
    for client in (A, B):
        under.handshakes(client, "mx", 61, 1000.0)
    names = {crossing.subject: crossing.name for crossing in under.take().crossings}
    assert names == {A: "", B: "mx.example.com"}
    under.reconfigure(Policy())
    under.handshakes(B, "mx", 1, 1000.0)
    (crossing,) = under.take().crossings
    assert crossing.name == ""


def test_who_is_banned_in_the_kernel_and_begins_sessions_is_noted() -> None:
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
    under.step(event("connect", A), 2001.0)  # the ban has run out
    assert found.sessions == 3
    under.forget(A)
    assert under.escapes.found(1013.0) == []


def test_unban_of_all_forgets_who_was_noted() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0, enforced=True)
    for at in (1006.0, 1010.0, 1012.0):
        under.step(event("connect", A), at)
    under.forget_all("mx")
    assert under.escapes.found(1012.0) == []


def test_who_is_named_by_xclient_is_not_counted() -> None:
    facts = Facts(xclient=("198.51.100.0/24", "127.0.0.1"), own=frozenset({"198.51.100.1"}))
    garbage = [event("non_smtp_command", B) for _ in range(2)]
    end = event("disconnect", B, commands={"unknown": (0, 2), "commands": (1, 3)})

    def points(proxy: str) -> int:
        under = engine(facts=facts)
        run([event("connect", proxy), *garbage, end] * 3, under=under)
        return max(meter.value for meter in under.meters(B, 1000.0))

    assert points("198.51.100.9") == 0
    # A proxy on this host: the packets of its clients come here too.
    assert points("127.0.0.1") == points("198.51.100.1") == points("203.0.113.9") > 0
    # What it does itself counts; it is protected. So does whom the same process serves next.
    under = engine(facts=facts)
    run([event("connect", "198.51.100.9"), event("non_smtp_command", "198.51.100.9")], under=under)
    run([event("connect", B), *garbage], under=under)
    assert all(max(m.value for m in under.meters(c, 1000.0)) for c in ("198.51.100.9", B))
    under.facts(Facts())
    run([event("connect", "198.51.100.9"), *garbage], under=under)
    assert max(meter.value for meter in under.meters(B, 1000.0)) == 20


def test_what_clients_reached_is_told_until_it_is_kept() -> None:
    under = Engine(Policy(), Facts(), noting=True)
    run([event("connect")] * 3 + [event("auth_failure", user="a")], under=under)
    under.handshakes(A, "mx", 9, 1000.0)  # what the kernel saw is not noted
    connections = Peak(A, "mx", "connections", "connections", 60.0, 3)
    told = under.noted(99)
    assert connections in told
    assert {(p.limit, p.value) for p in told} == {
        ("connections", 3),
        ("auth", 1),
        ("auth-users", 1),
        ("auth-slow", 1),
        ("auth-day", 1),
    }
    assert len(under.noted(2)) == 2
    run([event("connect")], under=under)
    under.recorded([*told, replace(connections, limit="gone")])
    assert under.noted(99) == [replace(connections, value=4)]
    under.reconfigure(Policy(max_clients=5000))
    assert under.noted(99) == [replace(connections, value=4)]
    assert engine().noted(99) == []
    assert ("mx", "connections", "connections", 60.0) in engine().watched()
    plain = engine()
    plain.recorded(told)


def test_who_delivers_is_noted_however_many_strangers_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("throttled.decide.engine._NOTED", 2)
    under = Engine(Policy(), Facts(), noting=True)
    strangers = [event("connect", f"203.0.113.{n}") for n in range(5)]
    delivered = {"data": (1, 1), "commands": (5, 5)}
    run([*strangers, *session(commands=delivered)], under=under)
    assert [p.client for p in under.noted(99)] == ["203.0.113.0", "203.0.113.1", A]


def test_a_network_is_no_client_of_which_to_note_what_it_reached() -> None:
    under = Engine(Policy(), Facts(), noting=True)
    run([event("non_smtp_command", "2001:db8::1")], under=under)
    assert {p.client for p in under.noted(99)} == {"2001:db8::1"}


def test_two_logins_of_a_client_without_a_network() -> None:
    client = "64:ff9b::c633:6401"
    under = engine()
    failure = event("auth_failure", client, user="anna", reason="")
    login = event("login", client, user="anna")
    run([event("connect", client), failure, login, login], under=under)
    assert all(meter.value == 0 for meter in under.meters(client, 1000.0) if "auth" in meter.limit)
    assert health_check_hint(under, client, 1000.0) == ""
