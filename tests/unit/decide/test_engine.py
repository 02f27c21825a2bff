"""The engine: what goes in and comes out, and its bounds."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lab.daemon.events import A, B, auth, engine, event, run, value
from throttled.address import network_of
from throttled.decide.tried import Tried
from throttled.duration import duration
from throttled.facts import Facts, Service
from throttled.limits import Limit, default_limits
from throttled.model import Crossing, Event, Line, Message, Rate
from throttled.settings import Accounts, Points, Policy

UNPROVEN = ("connect", "screened", "hangup", "lost_connection", "timeout", "peak", "saturated")


def test_above_soft_is_a_throttle_with_its_lines() -> None:
    assert run([event("connect")] * 60) == []
    (crossing,) = run([event("connect")] * 61)
    assert (crossing.action, crossing.value, crossing.threshold) == ("throttle", 61, 60)
    assert crossing.lines == tuple(Line(1, offset) for offset in range(45, 61))


def test_lines_that_nobody_will_ask_for_count_and_are_not_remembered() -> None:
    under = engine()
    for _ in range(61):
        under.step(event("connect"), 1000.0, offset=-1)
    (crossing,) = under.drain().crossings
    assert (crossing.value, crossing.lines) == (61, ())


def test_events_without_a_client_or_without_a_meaning_are_ignored() -> None:
    kinds = ("peak", "saturated", "lines_lost", "lost_connection", "timeout", "hangup")
    assert run([event(kind) for kind in kinds] * 100) == []
    assert run([event("connect", client="")] * 100) == []
    assert run([event("connect")] * 100) != []


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
    assert 1_000 <= under.sizes()["clients"] <= 2_001
    assert size < 2_000 * 500 + (1 << 18) * 16


@given(st.lists(st.tuples(st.sampled_from(UNPROVEN), st.floats(0, 900)), max_size=300))
def test_what_a_bare_connection_does_never_bans(events: list[tuple[str, float]]) -> None:
    under = engine()
    for kind, at in events:
        under.step(event(kind, count=50), 1000.0 + at)
    assert {crossing.action for crossing in under.drain().crossings} <= {"throttle"}


def test_what_two_bare_connections_do_throttles() -> None:
    (crossing,) = run([event("connect", count=50)] * 2)
    assert (crossing.action, crossing.value) == ("throttle", 100)


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
    assert limitless.sizes()["clients"] == 0
    service = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    proxied = engine(facts=Facts(services=(service,)))
    run([event("connect")] * 61, under=proxied)
    assert proxied.worst(9, 1000.0) == []


def test_sizes() -> None:
    under = engine(Policy(max_clients=8))
    for number in range(9):
        under.step(event("connect", f"198.51.{number}.7", pid=1), 1000.0)
    # Of connections four clients twice; of networks those beyond two.
    assert under.sizes()["sessions"] == 1
    assert under.sizes()["clients"] == 5
    assert under.sizes()["dropped"] == 4 + 9


def test_what_one_does_above_a_slow_throttle_ends_its_session() -> None:
    under = engine()
    for number in range(100):
        under.step(auth("anna", pid=number), 1000.0 + number * 300)
    under.drain()
    under.hold(A, "submission", "throttle", 90_000.0, 31_000.0, rate=Rate(2, 3600.0, 1))
    under.step(auth("anna", pid=101), 31_000.0)
    assert [crossing.pid for crossing in under.drain().further] == [101]


def test_other_limits_and_points_count_from_now_on() -> None:
    under = engine()
    run([event("connect")] * 20, under=under)
    limits = default_limits()
    limits["connections"] = replace(limits["connections"], soft=10)
    under.reconfigure(Policy(limits=limits, points=Points(non_smtp_command=9)))
    (crossing,) = run([event("connect"), event("non_smtp_command")], under=under)
    assert (crossing.value, value(under, "errors")) == (21, 9)


@pytest.mark.parametrize(
    ("most", "names", "known"), [(1000, False, 4), (1000, True, 10), (4, False, 4), (4, True, 4)]
)
def test_how_many_host_names_are_remembered(
    most: int, known: int, monkeypatch: pytest.MonkeyPatch, *, names: bool
) -> None:
    monkeypatch.setattr("throttled.decide.engine._NAMED", 4 if most > 4 else 1000)
    under = engine()
    under.reconfigure(Policy(max_clients=most), **({"names": True} if names else {}))
    run([event("connect", f"198.51.100.{n}", name="mx.example") for n in range(10)], under=under)
    assert len(under.named("mx", 99)) == known


def test_host_names_are_remembered_for_a_day() -> None:
    under = engine()
    under.reconfigure(Policy())
    for at, client in ((0.0, A), (86400.0, B), (172_800.0, "198.51.100.9")):
        under.step(event("connect", client, name="mx.example"), at)
    assert [client for client, _ in under.named("mx", 9)] == ["198.51.100.9", B]


def test_a_reset_is_of_lines_and_escapes_too() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0, enforced=True)
    under.hold(B, "mx", "ban", 2000.0, 1000.0)
    for at in (1006.0, 1010.0, 1012.0):
        for client in (A, B):
            under.step(event("connect", client), at)
    assert [found.client for found in under.escapes.found(1012.0)] == [A]
    assert len(under.lines(A)) == 3
    under.reset(A)
    assert (under.escapes.found(1012.0), under.lines(A)) == ([], ())
    assert len(under.lines(B)) == 3
    under.reset_all()
    assert under.lines(B) == ()
    under.step(event("connect"), 1000.0)
    assert under.lines(A) == (Line(0, 0),)
    under.clear_lines()
    assert under.lines(A) == ()


def test_who_looks_like_a_health_check() -> None:
    under = engine()
    end = event("disconnect", commands={"quit": (1, 1), "commands": (1, 1)})
    for minute in range(30):
        run([end], 1000.0 + 60 * minute, under)
    assert under.checks.clients(2800.0) == [A]


def test_handshakes_and_log_lines_are_never_added() -> None:
    under = engine()
    assert run([event("connect")] * 60, under=under) == []
    under.handshakes(A, "mx", 60, 1000.0)
    assert under.drain().crossings == []
    assert [(m.value, m.kernel) for m in under.meters(A, 1000.0)[:2]] == [(60, False), (60, True)]
    under.handshakes(A, "mx", 1, 1000.0)
    (crossing,) = under.drain().crossings
    assert (crossing.limit, crossing.count, crossing.value) == ("connections", "handshakes", 61)
    # Its line comes later, when the throttle is active.
    under.hold(A, "mx", "throttle", 2000.0, 1000.0)
    assert run([event("connect")], under=under) == []


def test_handshakes_of_one_scope_do_not_count_in_another() -> None:
    under = engine()
    under.handshakes(A, "submission", 121, 1000.0)
    (crossing,) = under.drain().crossings
    assert crossing.scope == "submission"
    assert under.worst(9, 1000.0)[0][0] == A
    under.reset(A)
    assert all(meter.value == 0 for meter in under.meters(A, 1000.0))


def test_meters_of_the_kernel_are_shown_where_it_saw_something() -> None:
    under = engine()
    assert not any(meter.kernel for meter in under.meters(A, 1000.0))
    under.handshakes(A, "mx", 1, 1000.0)
    assert any(meter.kernel for meter in under.meters(A, 1000.0))


def test_names_tried_on_another_host_count_in_their_scope() -> None:
    under, tags = engine(), Tried(b"s" * 32, 0.0)
    under.share_names(tags)
    found = [tags.tag(f"name{n}") for n in range(6)]
    (crossing,) = under.elsewhere(A, "mx", found, 1000.0, 1000.0)
    assert (crossing.scope, crossing.limit, crossing.value) == ("mx", "auth-slow", 6)


def test_unban_all_resets_what_was_recorded() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0, enforced=True)
    for at in (1006.0, 1010.0, 1012.0):
        under.step(event("connect", A), at)
    assert [found.client for found in under.escapes.found(1012.0)] == [A]
    under.reset_all("mx")
    assert under.escapes.found(1012.0) == []


def test_what_is_in_force_ends_by_the_latest_moment_known() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 2000.0, 1000.0)
    assert run([event("connect")] * 61, 1500.0, under) == []
    under.now = 2000.0
    assert under.now == 2000.0
    assert len(run([event("connect")], 1500.0, under)) == 1


def test_what_is_released_or_forgotten_is_judged_again_in_its_scope() -> None:
    under = engine()
    under.hold(A, "mx", "ban", 5000.0, 1000.0)
    assert (under.in_force(A, "mx", 1000.0), under.in_force(A, "submission", 1000.0)) == (5000.0, 0)
    assert run([event("connect")] * 61, under=under) == []
    under.release(A, "mx")
    (crossing,) = run([event("connect")], under=under)
    under.excuse(crossing, 100, 2000.0, 1000.0)
    assert run([event("connect")], under=under) == []
    under.reset(A, "submission")
    assert value(under, "connections") == 63
    under.reset_all("submission")
    assert value(under, "connections") == 63
    under.reset(A)
    assert value(under, "connections") == 0


def test_what_changes_on_the_host_or_in_the_configuration() -> None:
    under = engine()
    under.reconfigure(Policy(), names=True)
    under.reconfigure(Policy(), names=True)
    under.step(event("connect", name="mx.example.org"), 1000.0)
    under.handshakes(A, "mx", 61, 1000.0)
    (crossing,) = under.drain().crossings
    assert crossing.name == "mx.example.org"
    assert under.sessions(A) == 1
    under.facts(Facts(hostnames=frozenset({"mx.example.net"})))
    under.step(event("connect", host="other.example"), 1000.0)
    assert under.sessions(A) == 1
    assert under.hosts.total() == 1


def test_who_is_named_by_a_proxy_in_its_session_is_counted_apart() -> None:
    """One after the other may be named in a session; the next session is somebody's own again."""
    third = "198.51.100.9"
    under = engine(facts=Facts(xclient=(f"{B}/32",)))
    mail = {"data": (1, 1), "commands": (2, 2)}
    for what in (
        event("connect", B),
        *[event("non_smtp_command")] * 20,
        event("disconnect", commands=mail),
        event("connect", B),
        event("non_smtp_command"),
        *[event("non_smtp_command", third)] * 20,
    ):
        under.step(what, 1000.0)
    outcome = under.drain()
    assert (outcome.crossings, outcome.evidence) == ([], [])
    assert [crossing.subject for crossing in outcome.behind] == [A]
    assert any(meter.proxied for meter in under.meters(third, 1000.0))
    direct = {m.limit: m.value for m in under.meters(A, 1000.0) if not m.proxied}
    assert not any(direct.values())
    run([event("connect"), event("non_smtp_command")], under=under)
    assert value(under, "errors") > 0


def test_an_address_that_stands_for_many_crosses_nothing() -> None:
    under = engine()
    commands = {"data": (1, 1), "commands": (5, 5)}
    for _ in range(20):
        under.step(event("disconnect", "10.0.0.2", commands=commands), 1000.0)
    connects = [event("connect", client) for client in ("10.0.0.2", B) for _ in range(200)]
    assert {crossing.subject for crossing in run(connects, under=under)} == {B}
    service = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx")
    under.facts(Facts(services=(service,), connected=("10.0.0.0/24",)))
    assert list(under.shared.found()) == ["10.0.0.2"]
    under.facts(Facts(services=(service,), connected=("10.0.1.0/24",)))
    assert under.shared.found() == {}


def test_what_would_be_in_force_behind_a_proxy_is_remembered_and_forgotten() -> None:
    service = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    under = engine(facts=Facts(services=(service,)))

    def behind(at: float, count: int = 61) -> list[Crossing]:
        for _ in range(count):
            under.step(event("connect"), at)
        return under.drain().behind

    assert [crossing.action for crossing in behind(1000.0)] == ["throttle"]
    under.hold(A, "mx", "ban", 1500.0, 1000.0, behind=True)
    assert behind(1001.0) == []
    under.reset(A)
    (crossing,) = behind(1002.0)
    under.excuse(crossing, 1 << 40, 1500.0, 1003.0, behind=True)
    assert behind(1004.0, 1) == []
    under.reconfigure(Policy())
    assert under.meters(A, 1004.0)[-1].proxied
    under.reset_all()
    assert not any(meter.value for meter in under.meters(A, 1004.0))


# What happened, for reports


def mailing() -> list[Event]:
    commands = {"data": (2, 3), "commands": (9, 10)}
    return [event("connect"), event("disconnect", commands=commands)]


def test_sessions_deliveries_and_logins_are_counted_by_hour_and_scope() -> None:
    hour = 3600.0
    under = engine()
    run(mailing(), under=under)
    assert under.drain().activity == {}, "taken with the crossings"
    for what in (
        *mailing(),
        event("connect", instance="postfix/submission", pid=2, time=hour + 1, count=3),
        event("login", instance="postfix/submission", pid=2, time=hour + 2, user="alice"),
    ):
        under.step(what, 1000.0)
    assert under.drain().activity == {
        (0, "mx", "session"): 1,
        (0, "mx", "delivery"): 2,
        (1, "submission", "session"): 3,
        (1, "submission", "login"): 1,
    }


def test_a_session_that_postscreen_handed_over_is_one() -> None:
    under = engine()
    for kind, process in (
        ("screened", "postscreen"),
        ("passed", "postscreen"),
        ("connect", "smtpd"),
    ):
        under.step(event(kind, process=process), 1000.0)
    assert under.drain().activity == {(0, "mx", "session"): 1}


def test_messages_of_another_host_do_not_count() -> None:
    under = engine(facts=Facts(hostnames=frozenset({"mx.example.net"})))
    under.step(event("connect", host="mx.example.net"), 1000.0)
    assert under.ours(event("removed", "", host="mx.example.net"), 0)
    before = under.hosts.total()
    assert not under.ours(event("removed", "", host="other.example"), 0)
    assert under.hosts.total() == before + 1
    assert not under.ours(event("login", host="other.example"), 0)  # counted by its step
    assert under.hosts.total() == before + 1


MAIL = {
    "m": Limit(count="messages", within=duration("1m"), soft=2),
    "r": Limit(count="recipients", within=duration("1m"), soft=9),
}


def sent(one: str, recipients: int, **fields: str) -> list[Event]:
    """A message, whose recipients qmgr logs at each try."""
    active = event("active", "", message=Message(one, sender="a@b.test", recipients=recipients))
    kind = "login" if fields.get("user") else "accepted"
    return [event(kind, message=Message(one), **fields), active, active]


def test_messages_and_their_recipients_count_against_the_client() -> None:
    under = engine(Policy(limits=MAIL))
    assert run([*sent("3A5C01F2B", 4), *sent("3A5C01F2C", 5)], under=under) == []
    assert (value(under, "m"), value(under, "r")) == (2, 9)
    messages, recipients = run(sent("3A5C01F2D", 1, user="alice"), under=under)
    assert (messages.limit, messages.value, messages.action) == ("m", 3, "throttle")
    assert (recipients.limit, recipients.value, recipients.subject) == ("r", 10, A)
    assert recipients.lines == tuple(Line(1, n) for n in (0, 1, 3, 4, 0, 1))
    # Nobody's: a message that came before, or of a client that does not count.
    assert (
        run([event("active", "", message=Message("3A5C01F2E", recipients=99))], under=under) == []
    )
    under.step(event("active", "", message=Message("3A5C01F2E", recipients=9)), 1000.0, offset=-1)


def test_recipients_of_a_client_behind_a_proxy_are_counted_apart() -> None:
    service = Service("/etc/postfix", "25", "smtpd", "postfix", 25, "mx", "haproxy")
    under = engine(Policy(limits=MAIL), Facts(services=(service,)))
    for one in sent("3A5C01F2B", 10):
        under.step(one, 1000.0)
    outcome = under.drain()
    assert outcome.crossings == []
    assert [(c.limit, c.value) for c in outcome.behind] == [("r", 10)]


def test_recipients_of_which_no_line_is_kept() -> None:
    under = engine(Policy(limits=MAIL))
    for one in sent("3A5C01F2B", 10):
        under.step(one, 1000.0, offset=-1)
    (crossing,) = under.drain().crossings
    assert (crossing.limit, crossing.lines) == ("r", ())
    for one in sent("3A5C01F2C", 1):
        under.step(one, 1000.0, offset=0)
    (crossing,) = under.drain().crossings
    assert crossing.lines == (Line(0, 0), Line(0, 0))


def test_without_a_limit_of_mail_nothing_is_remembered_of_messages() -> None:
    under = engine()
    run(sent("3A5C01F2B", 4), under=under)
    assert not len(under._actions.queued)


def test_clients_are_found_by_their_host_names() -> None:
    under = engine()
    run([event("connect", name="mx.Customer.example")], under=under)
    assert under.named("customer", 9) == []  # as in a replay
    assert under.name(A) == ""
    under.reconfigure(Policy())
    run([event("connect", name="mx.Customer.example"), event("connect", B)], under=under)
    assert under.named("customer", 9) == [(A, "mx.Customer.example")]
    assert (under.name(A), under.name(B)) == ("mx.Customer.example", "")
    assert under.named("customer", 0) == []
    under.reconfigure(Policy())
    assert under.named("mx", 9) == [(A, "mx.Customer.example")]


def test_accounts_under_attack_outlast_another_policy_and_are_reset() -> None:
    under = engine()
    run([auth("boss", client=f"203.0.113.{n}") for n in range(40)], under=under)
    under.reconfigure(Policy(limits={}))
    assert [target.account for target in under.guessing.attacked(1000.0)] == ["account:boss"]
    under.reset("account:boss")
    assert list(under.guessing.attacked(1000.0)) == []
    run([auth("boss", client=f"203.0.113.{n}") for n in range(40)], under=under)
    under.reset_all()
    assert list(under.guessing.attacked(1000.0)) == []
    run([auth("boss", client=f"203.0.113.{n}") for n in range(40)], under=under)
    under.reconfigure(Policy(accounts=Accounts(enabled=False)))
    assert list(under.guessing.attacked(1000.0)) == []
