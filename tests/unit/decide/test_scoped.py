"""Counting in one scope, and who crosses a limit, by way of the engine."""

import pytest

from lab.daemon.events import A, B, auth, engine, event, run, session, value
from throttled.decide.engine import Engine
from throttled.decide.scoped import Scoped
from throttled.decide.tried import Tried
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import Limit, ThrottleRate, default_limits
from throttled.model import Event, Rate
from throttled.settings import Guessing, Points, Policy


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


def test_above_hard_is_a_ban_and_stands_for_both() -> None:
    (crossing,) = run([event("non_smtp_command", pid=pid) for pid in range(11)])
    assert (crossing.action, crossing.value, crossing.limit) == ("ban", 55, "errors")


def test_a_throttle_never_replaces_a_pending_ban() -> None:
    under = engine()
    for at, count in ((1000.0, 11), (1700.0, 5)):
        for pid in range(count):
            under.step(event("non_smtp_command", pid=pid), at)
    (crossing,) = under.drain().crossings
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
    assert under.drain().crossings == []
    assert 30 <= value(under, "connections", 1598.0) <= 34


def test_what_is_subtracted_of_a_network_too() -> None:
    under = engine()
    client = "2001:db8:0:1::9"
    ends = {"auth": (1, 1), "commands": (1, 1)}
    under.step(event("pregreet", client), 1000.0)
    assert max(meter.value for meter in under.meters("2001:db8:0:1::/64", 1000.0)) == 5
    under.step(event("disconnect", client, commands=ends), 1000.0)
    assert {meter.value for meter in under.meters("2001:db8:0:1::/64", 1000.0)} == {0}


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
    assert {(c.limit, c.action, c.value) for c in under.drain().crossings} == {
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
    under.drain()
    under.hold(A, "submission", "throttle", 90_000.0, 31_000.0, rate=rate)
    for pid in (101, 101):
        under.step(auth("anna", pid=pid), 31_000.0)
    outcome = under.drain()
    assert {c.pid for c in outcome.further} == ended
    assert {c.limit for c in outcome.crossings} == ({"auth-day"} if rate is None else set())
    under.step(event("non_smtp_command", pid=102), 31_000.0)
    assert under.drain().further == []


def test_a_network_has_no_session_to_be_ended() -> None:
    under = engine()
    rate = Rate(2, 3600.0, 1)
    network = "2001:db8::/64"
    under.hold(network, "submission", "throttle", 9000.0, 1000.0, rate=rate)
    for number in range(501):
        under.step(auth("anna", client=f"2001:db8::{number + 1:x}", pid=number), 1000.0)
    outcome = under.drain()
    assert ({c.limit for c in outcome.crossings}, outcome.further) == ({"auth"}, [])


def test_what_is_active_is_not_asked_again_but_more_is() -> None:
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


def test_forget() -> None:
    under = engine()
    assert run([event("connect")] * 61, under=under) != []
    under.hold(A, "mx", "throttle", 1600.0, 1000.0)
    under.reset(A, "submission")
    assert run([event("connect")], under=under) == []
    for _ in range(61):
        under.step(event("connect"), 1601.0)
    assert value(under, "connections", 1601.0) == 61
    under.reset(A)
    assert under.drain().crossings == []
    assert under.lines(A) == ()
    assert {m.value for m in under.meters(A, 1601.0)} == {0}


def test_forget_all() -> None:
    under = engine()
    run([event("connect"), event("connect", B, instance="postfix/submission")] * 130, under=under)
    under.hold(B, "submission", "throttle", 1600.0, 1000.0)
    under.reset_all("mx")
    assert {m.value for m in under.meters(A, 1000.0)} == {0}
    assert max(m.value for m in under.meters(B, 1000.0)) == 130
    assert run([event("connect", B, instance="postfix/submission")], under=under) == []
    for _ in range(61):
        under.step(event("connect"), 1601.0)
    under.reset_all()
    assert under.drain().crossings == []
    assert {m.value for m in under.meters(B, 1000.0)} == {0}


def test_reconfigure_keeps_counts_and_what_is_active() -> None:
    under = engine()
    run([event("connect")] * 50, under=under)
    limits = default_limits()
    limits["connections"] = Limit(count="connections", within=duration("1m"), soft=40)
    under.reconfigure(Policy(limits=limits))
    (crossing,) = run([event("connect")], under=under)
    assert (crossing.value, crossing.threshold) == (51, 40)


def test_two_logins_of_a_client_without_a_network() -> None:
    client = "64:ff9b::c633:6401"
    under = engine()
    failure = event("auth_failure", client, user="anna", reason="")
    login = event("login", client, user="anna")
    run([event("connect", client), failure], under=under)
    failures = [m for m in under.meters(client, 1000.0) if "auth" in m.limit and m.scope == "mx"]
    assert {meter.value for meter in failures} == {1}
    run([login, login], under=under)
    failures = [meter for meter in under.meters(client, 1000.0) if "auth" in meter.limit]
    assert {meter.value for meter in failures} == {0}
    assert under.checks.hint(client, 1000.0) == ""


def test_a_line_of_no_weight_counts_nothing() -> None:
    under = engine(Policy(points=Points(relay=0)))
    refused = [event("reject", reason="relay", where="RCPT")] * 100
    assert run(refused, under=under) == []
    assert value(under, "errors") == 0
    assert run(refused) != []


def garbage(first: int = 0) -> list[Event]:
    """Return what bans, in sessions that were not seen before."""
    return [event("non_smtp_command", pid=first + number) for number in range(11)]


@pytest.mark.parametrize("everybody", [True, False])
def test_after_a_reset_nothing_is_known_of_a_client(*, everybody: bool) -> None:
    under = engine()
    under.hold(A, "mx", "ban", 9000.0, 1000.0)
    assert run(garbage(), under=under) == []
    under.reset_all("mx") if everybody else under.reset(A, "mx")
    (crossing,) = run(garbage(100), under=under)
    assert (crossing.action, crossing.value) == ("ban", 55)
    under.excuse(crossing, 10_000, 9000.0, 1000.0)
    assert run(garbage(200), under=under) == []
    under.reset_all() if everybody else under.reset(A)
    assert [found.value for found in run(garbage(300), under=under)] == [55]


@pytest.mark.parametrize("everybody", [True, False])
def test_after_a_reset_nothing_is_known_of_a_network(*, everybody: bool) -> None:
    under = engine()
    network = "2001:db8::/64"
    run([event("connect", f"2001:db8::{n:x}") for n in range(1, 10)], under=under)
    assert max(meter.value for meter in under.meters(network, 1000.0)) == 9
    under.reset_all() if everybody else under.reset(network)
    assert {meter.value for meter in under.meters(network, 1000.0)} == {0}


def test_what_is_in_force_counts_until_it_ends() -> None:
    for action, events in (("ban", garbage()), ("throttle", [event("connect")] * 61)):
        for at, judged in ((1599.0, False), (1600.0, True)):
            under = engine()
            under.hold(A, "mx", action, 1600.0, 1000.0)  # type: ignore[arg-type]  # an Action
            assert bool(run(events, at, under)) is judged


def test_good_events_of_clients_raise_the_thresholds_of_their_network() -> None:
    under = engine()
    delivered = {"data": (2, 2), "commands": (5, 5)}
    run([event("disconnect", commands=delivered)], under=under)
    for subject in (A, "198.51.100.0/24"):
        meters = [meter for meter in under.meters(subject, 1000.0) if meter.scope == "mx"]
        good = {meter.limit: meter.good for meter in meters}
        assert (good["errors"], good["auth"]) == (2, 0)


def test_what_a_client_does_above_its_own_threshold_is_not_its_networks() -> None:
    under = engine()
    run([event("connect", name="mx.example")] * 70, under=under)
    (meter, *_) = under.meters("198.51.100.0/24", 1000.0)
    assert (meter.limit, meter.value) == ("connections", 60)
    run([event("connect", count=5)], under=under)
    assert under.meters("198.51.100.0/24", 1000.0)[0].value == 60
    run([event("connect", B, name="other.example")] * 60, under=under)
    assert under.meters("198.51.100.0/24", 1000.0)[0].value == 120


def test_a_network_is_judged_by_each_event_of_a_client_that_is_not_banned() -> None:
    under = engine()
    for number in range(1, 7):
        run([event("connect", f"198.51.100.{number}0")] * 60, under=under)
    over = [event("connect", name="mx.example")] * 61
    named = {(A, "mx.example"), ("198.51.100.0/24", "")}
    assert {(crossing.subject, crossing.name) for crossing in run(over, under=under)} == named
    # What is above its own threshold adds nothing to the network, and has it judged.
    (meter, *_) = under.meters("198.51.100.0/24", 1000.0)
    assert {(c.subject, c.name) for c in run(over[:1], under=under)} == named
    assert under.meters("198.51.100.0/24", 1000.0)[0].value == meter.value
    under.hold(A, "mx", "ban", 9000.0, 1000.0)
    assert run(over[:1], under=under) == []
    (network,) = run([event("connect", B)], under=under)
    assert (network.subject, network.count) == ("198.51.100.0/24", "connections")
    under.handshakes("203.0.113.9", "mx", 61, 1000.0)
    assert [crossing.count for crossing in under.drain().crossings] == ["handshakes"]


def guessed(policy: Policy | None = None, account: str = "boss") -> Engine:
    """Return an engine with an account under attack, whose crossings are drained."""
    under = engine(policy)
    run([auth(account, client=f"203.0.113.{n}") for n in range(31)], under=under)
    return under


def test_a_failure_on_an_account_under_attack_is_a_crossing() -> None:
    under = guessed()
    (crossing,) = run([auth("Boss", pid=9, port=7, name="x.example")], under=under)
    assert (crossing.subject, crossing.scope, crossing.limit) == (A, "submission", "guessing")
    assert (crossing.action, crossing.value, crossing.threshold) == ("throttle", 1, 0)
    assert (crossing.pid, crossing.port, crossing.name) == (9, 7, "x.example")
    assert run([auth("somebody-else", client=B)], under=under) == []


def test_a_failure_on_a_second_account_is_a_ban() -> None:
    under = guessed()
    run([auth("sales", client=f"203.0.113.{n}") for n in range(40, 71)], under=under)
    (first,) = run([auth("boss")], under=under)
    (second,) = run([auth("sales")], under=under)
    assert (first.action, second.action, second.value, second.threshold) == (
        *("throttle", "ban"),
        *(2, 1),
    )
    under.hold(A, "submission", "ban", 2000.0, 1000.0)
    assert run([auth("sales")], under=under) == []


def test_what_a_client_continues_under_the_slow_throttle_ends_its_session() -> None:
    under = guessed()
    rate = Rate(1, 86400.0, 1)
    for subject in (A, "2001:db8::1"):
        under.hold(subject, "submission", "throttle", 9000.0, 1000.0, rate=rate)
    under.step(auth("boss", pid=9), 1001.0)
    outcome = under.drain()
    assert outcome.crossings == []
    assert [(c.subject, c.pid, c.limit) for c in outcome.further] == [(A, 9, "guessing")]
    # The /64 is no client: its entry ends no session, and is not made again.
    under.hold("2001:db8::/64", "submission", "throttle", 9000.0, 1000.0, rate=rate)
    under.step(auth("boss", client="2001:db8::1"), 1001.0)
    under.step(auth("boss", client="2001:db8::1"), 1001.0)
    outcome = under.drain()
    assert (outcome.crossings, [c.subject for c in outcome.further]) == ([], ["2001:db8::1"])


def test_a_throttle_for_guessing_as_fast_as_others_ends_no_session() -> None:
    policy = Policy(guessing=Guessing(throttle=ThrottleRate(10, duration("1m"), 10)))
    under = guessed(policy)
    under.hold(A, "submission", "throttle", 9000.0, 1000.0)
    under.step(auth("boss"), 1001.0)
    outcome = under.drain()
    assert (outcome.crossings, outcome.further) == ([], [])


def test_of_several_failures_in_a_batch_the_latest_session_is_to_end() -> None:
    under = guessed()
    sessions = [auth("boss", pid=pid, port=port) for pid, port in ((9, 7), (9, 7), (9, 8))]
    (crossing,) = run(sessions, under=under)
    assert (crossing.value, crossing.pid, crossing.port) == (1, 9, 8)


def test_guessing_that_was_spared_is_not_judged_again_at_once() -> None:
    under = guessed()
    (crossing,) = run([auth("boss")], under=under)
    under.excuse(crossing, 1 << 62, 1060.0, 1000.0)
    assert run([auth("boss")], under=under) == []
    assert len(run([auth("boss")], at=1061.0, under=under)) == 1
    run([auth("boss")], under=under)
    under.step(auth("boss"), 1062.0)
    under.reset(A)
    assert under.drain().crossings == []


def test_a_login_acquits() -> None:
    """In the same batch nothing comes of the failure; later it ends what came of it."""
    under = guessed()
    login = event("login", instance="postfix/submission", user="boss", pid=4)
    under.step(auth("boss", pid=3), 1000.0)
    under.step(login, 1000.0)
    outcome = under.drain()
    assert (outcome.crossings, outcome.acquitted) == ([], [(A, "submission")])
    under.step(login, 1001.0)
    assert under.drain().acquitted == []
    assert run([auth("boss", pid=5)], under=under) == []  # it is known now


def test_a_login_acquits_behind_a_proxy_too() -> None:
    scoped = Scoped(Policy(), "submission", engine().guessing, behind=True)
    scoped.accuse(A, auth("boss"), 1000.0, 1)
    scoped.acquit(A)
    assert [scoped.drain(), scoped.drain()] == [([], [], [A]), ([], [], [])]


def test_who_was_accused_is_known_under_another_policy() -> None:
    under = guessed()
    assert len(run([auth("boss")], under=under)) == 1
    under.reconfigure(Policy(limits={}))
    under.step(event("login", instance="postfix/submission", user="boss"), 1001.0)
    assert under.drain().acquitted == [(A, "submission")]


SECRET = b"s" * 32


def fleet() -> Engine:
    under = engine()
    under.share_names(Tried(SECRET, 0.0))
    return under


def test_names_tried_here_and_elsewhere_add_up() -> None:
    """`auth-slow`: above 5 names within a day a throttle, above 10 a ban."""
    under, tags = fleet(), Tried(SECRET, 0.0)
    names = [f"name{n}" for n in range(12)]
    assert run([auth(name, pid=n) for n, name in enumerate(names[:3])], under=under) == []
    found = under.elsewhere(A, "submission", [tags.tag(n) for n in names[:5]], 1000.0, 1000.0)
    assert found == []  # three of them were counted here
    (found_one,) = under.elsewhere(A, "submission", [tags.tag(names[5])], 1000.0, 1000.0)
    assert (found_one.limit, found_one.action, found_one.value) == ("auth-slow", "throttle", 6)
    assert under.drain().crossings == []  # it is the caller's
    rest = [tags.tag(n) for n in names[6:11]]
    (found_one,) = under.elsewhere(A, "submission", rest, 1000.0, 1000.0)
    assert (found_one.action, found_one.value, found_one.subject) == ("ban", 11, A)
    (crossing,) = run([auth(names[11], pid=99)], under=under)
    assert (crossing.action, crossing.value) == ("ban", 12)


def test_the_most_that_a_client_reached_is_noted() -> None:
    under = Engine(Policy(), Facts(), peaks=True)
    under.share_names(Tried(SECRET, 0.0))
    run([auth("boss"), auth("chief"), auth("boss")], under=under)
    under.elsewhere(A, "submission", [1, 2], 1000.0, 1000.0)
    run([auth("boss")], at=200_000.0, under=under)
    noted = {g.limit: g.peaks.highest for g in under.gauges() if g.peaks and g.peaks.highest}
    names, failures = {A: 4}, {A: 3}
    assert noted == {
        "auth-users": names,
        "auth-slow": names,
        "auth": failures,
        "auth-day": failures,
    }


def test_names_from_elsewhere_say_nothing_of_a_network() -> None:
    under = fleet()
    for n in range(1, 200):
        under.elsewhere(f"198.51.100.{n}", "submission", [n], 1000.0, 1000.0)
    shown = under.meters("198.51.100.0/24", 1000.0)
    assert {m.value for m in shown} <= {0}


def test_late_names_count_in_the_windows_that_they_are_in() -> None:
    under = fleet()
    (found,) = under.elsewhere(A, "submission", range(21), 90_000.0, 90_700.0)
    assert (found.limit, found.value) == ("auth-slow", 21)  # not `auth-users`: within 10m
    assert under.elsewhere(B, "submission", range(21), 1000.0, 90_000.0) == []


def test_a_login_excuses_the_tag_of_its_name() -> None:
    under = fleet()
    mistyped = [auth("boss", pid=5), event("login", instance="postfix/submission", user="boss")]
    run(mistyped, under=under)
    shown = {m.limit: m.value for m in under.meters(A, 1000.0) if m.scope == "submission"}
    assert shown["auth-slow"] in {0, 1}


def test_names_are_collected_for_the_fleet_under_any_policy() -> None:
    under = engine()
    tried = Tried(SECRET, 0.0)
    under.share_names(tried)
    under.reconfigure(Policy())
    run([auth("boss")], under=under)
    assert tried.drain() == [(A, "submission", [tried.tag("boss")])]


def failures(under: Engine) -> int:
    """Return how many failed logins the meters of a client show."""
    meters = under.meters(A, 1000.0)
    return next(m.value for m in meters if (m.limit, m.scope) == ("auth", "submission"))


def test_failures_of_one_time_are_counted_when_somebody_asks() -> None:
    under = engine()
    for user in ("boss", "chief", "boss"):
        under.step(auth(user), 1000.0)
    assert failures(under) == 3
    under.step(auth("owner"), 1000.0)
    under.reconfigure(Policy())
    assert failures(under) == 4


@pytest.mark.parametrize("everybody", [True, False])
def test_failures_not_counted_yet_are_reset_too(*, everybody: bool) -> None:
    under = engine()
    under.step(auth("boss"), 1000.0)
    under.reset_all() if everybody else under.reset(A)
    assert failures(under) == 0


def test_a_login_excuses_nothing_that_crossed_at_the_same_time_before() -> None:
    login = event("login", pid=2, instance="postfix/submission", user="boss")
    twelve = [*(auth("boss", pid=1) for _ in range(11)), login]
    (crossing,) = run(twelve)
    assert (crossing.limit, crossing.action, crossing.value) == ("auth", "throttle", 11)
    assert run(twelve[::-1]) == []


def names_of(under: Engine, subject: str) -> int:
    return max(m.value for m in under.meters(subject, 1000.0) if m.limit == "auth-slow")


def test_names_of_a_client_that_is_banned_are_not_its_networks() -> None:
    under = engine()
    (scope,) = {c.scope for c in run([auth(f"user{n}") for n in range(11)], under=under)}
    under.hold(A, scope, "ban", 9000.0, 1000.0, enforced=True)
    before = names_of(under, "198.51.100.0/24")
    assert run([auth("another")], under=under) == []
    assert names_of(under, "198.51.100.0/24") == before


def test_the_same_session_is_accused_once() -> None:
    scoped = Scoped(Policy(), "submission", engine().guessing)
    for _ in range(2):
        scoped.accuse(A, auth("boss"), 1000.0, 1)
    assert len(scoped.drain()[0]) == 1
