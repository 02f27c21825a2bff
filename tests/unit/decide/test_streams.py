"""Streams and sessions, by way of the engine."""

from msgspec.structs import replace

from lab.daemon.events import A, B, engine, event, run, value
from throttled.facts import Facts, Service
from throttled.limits import default_limits
from throttled.settings import Policy


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


def test_who_is_named_by_a_proxy_is_counted_apart() -> None:
    behind = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    direct = Service("/etc/postfix", "2525", "smtpd", "postfix", 2525, "mx")
    events = [event("connect")] * 61
    under = engine(facts=Facts(services=(behind,)))
    for what in events:
        under.step(what, 1000.0)
    outcome = under.drain()
    assert (outcome.crossings, outcome.activity) == ([], {})
    (crossing,) = outcome.behind
    assert (crossing.subject, crossing.scope, crossing.value) == (A, "mx", 61)
    (meter,) = [meter for meter in under.meters(A, 1000.0) if meter.value]
    assert meter.proxied
    assert under.worst(9, 1000.0) == []
    # The log cannot tell them apart: rather one ban too many that hits nobody.
    assert run(events, under=engine(facts=Facts(services=(behind, direct)))) != []


def test_another_hosts_lines_are_ignored() -> None:
    under = engine(facts=Facts(hostnames=frozenset({"mx"})))
    assert run([event("connect", host="other")] * 99, under=under) == []
    assert run([event("connect", host="mx")] * 99, under=under) != []
    assert run([event("connect", B)] * 99, under=under) != []


def test_lines_count_no_more_once_their_host_is_another() -> None:
    under = engine()
    assert run([event("connect", host="other")] * 60, under=under) == []
    under.facts(Facts(hostnames=frozenset({"mx"})))
    assert run([event("connect", host="other")] * 99, under=under) == []


def test_localhost_is_another_host_once_this_one_is_named() -> None:
    under = engine(facts=Facts(hostnames=frozenset({"mx"})))
    run([event("connect", host="localhost")] * 60, under=under)
    run([event("connect", B, host="mx")], under=under)
    assert value(under, "connections") == 60
    assert run([event("connect", host="localhost")] * 99, under=under) == []


def test_sessions_of_different_logs_are_different() -> None:
    under = engine()
    for log in (0, 1):
        under.step(event("reject"), 1000.0, log)
    assert under.sessions(A) == 2


def test_the_first_line_may_name_no_instance() -> None:
    under = engine()
    under.step(event("connect", instance=""), 1000.0, 1)
    assert value(under, "connections") == 1


def test_a_session_is_evicted_after_an_hour_of_silence() -> None:
    under = engine()
    under.step(event("reject", pid=1), 0.0)
    under.step(event("reject", B, pid=2), 3600.0)
    assert under.sessions(A) == 1
    under.step(event("reject", B, pid=3), 7200.0)
    assert (under.sessions(A), under.sessions(B)) == (0, 2)


def test_postscreen_sessions_are_distinguished_by_port() -> None:
    events = [event("pregreet", process="postscreen", port=port) for port in (1, 2, 3, 4)]
    assert run(events) == []
    (crossing,) = run([*events, event("pregreet", process="postscreen", port=5)])
    assert crossing.value == 25


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


def test_open_sessions() -> None:
    under = engine()
    run([event("reject", pid=1), event("reject", pid=2), event("reject", B, pid=3)], under=under)
    assert (under.sessions(A), under.sessions(B)) == (2, 1)


def test_sessions_and_streams_are_bounded() -> None:
    under = engine()
    for number in range(30_000):
        under.step(event("reject", pid=number), 1000.0)
    assert under.sizes()["sessions"] <= 20_000
    assert under.sizes()["dropped"] > 0
    for number in range(99):
        under.step(event("reject", host=f"h{number}"), 1000.0)
    assert len(under._streams._streams) == 100
    under.step(event("reject", host="one more"), 1000.0)
    assert len(under._streams._streams) == 1


def test_lines_of_two_instances_in_turn() -> None:
    under = engine()
    for pid in range(61):
        under.step(event("connect", pid=pid), 1000.0)
        under.step(event("connect", pid=pid, instance="postfix/submission"), 1000.0)
    assert [crossing.scope for crossing in under.drain().crossings] == ["mx"]


def test_sessions_survive_a_reload() -> None:
    under = engine()
    under.step(event("reject", reason="relay", code=554, where="RCPT"), 1000.0)
    under.facts(Facts(hostnames=frozenset({"mx"})))
    under.reconfigure(Policy())
    under.step(event("disconnect", commands={"rcpt": (0, 1), "commands": (0, 1)}), 1000.0)
    meters = {(m.limit, m.scope): m.value for m in under.meters(A, 1000.0)}
    assert meters["errors", "mx"] == 3


def test_lines_after_a_reload_count_with_those_before_and_by_the_new_limits() -> None:
    under = engine()
    run([event("connect")] * 20, under=under)
    limits = default_limits()
    under.reconfigure(
        Policy(limits=limits | {"connections": replace(limits["connections"], soft=10)})
    )
    (crossing,) = run([event("connect")], under=under)
    assert (crossing.value, crossing.threshold) == (21, 10)


def test_who_is_named_by_xclient_is_counted_apart() -> None:
    facts = Facts(xclient=("198.51.100.0/24", "127.0.0.1"), own=frozenset({"198.51.100.1"}))
    garbage = [event("non_smtp_command", B) for _ in range(2)]
    end = event("disconnect", B, commands={"unknown": (0, 2), "commands": (1, 3)})

    def points(proxy: str) -> int:
        under = engine(facts=facts)
        run([event("connect", proxy), *garbage, end] * 3, under=under)
        return max(meter.value for meter in under.meters(B, 1000.0) if not meter.proxied)

    assert points("198.51.100.9") == 0
    # A proxy on this host: the packets of its clients come here too.
    assert points("127.0.0.1") == points("198.51.100.1") == points("203.0.113.9") > 0
    # What it does itself counts; it is protected. So does whom the same process serves next.
    under = engine(facts=facts)
    run([event("connect", "198.51.100.9"), event("non_smtp_command", "198.51.100.9")], under=under)
    run([event("connect", B), *garbage], under=under)
    assert all(max(m.value for m in under.meters(c, 1000.0)) for c in ("198.51.100.9", B))
    assert not any(meter.proxied for meter in under.meters(B, 1000.0))
    under.facts(Facts())
    run([event("connect", "198.51.100.9"), *garbage], under=under)
    assert max(meter.value for meter in under.meters(B, 1000.0)) == 20


def test_lost_lines_put_nobody_behind_a_proxy() -> None:
    under = engine(facts=Facts(xclient=("203.0.113.9",)))
    run([event("reject", B, reason="relay"), event("reject", A, reason="relay")], under=under)
    assert value(under, "errors") == 3
    assert not any(meter.proxied for meter in under.meters(A, 1000.0))
