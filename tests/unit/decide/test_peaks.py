from collections.abc import Iterator
from typing import Any

from throttled.decide.peaks import Rate, Scoped, Watch
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import Limit
from throttled.model import Event, Message, Scope
from throttled.settings import Policy

STRANGER = "203.0.113.7"
DELIVERED = {"data": (1, 1), "commands": (5, 5)}


def event(kind: str, client: str, at: float = 1000.0, **fields: Any) -> Event:
    known: dict[str, Any] = {"process": "smtpd", "instance": "postfix", "pid": 1}
    return Event(kind=kind, client=client, time=at, **(known | fields))  # type: ignore[arg-type]


def mail(client: str, mails: int = 1, errors: int = 0, at: float = 1000.0) -> Iterator[Event]:
    """Deliver, and make errors of one point."""
    for _ in range(mails):
        yield event("disconnect", client, at, commands=DELIVERED)
    for pid in range(errors):
        yield event("reject", client, at, reason="unknown_user", pid=100 + pid)


def seen(made: Watch, scope: Scope = "mx") -> Scoped:
    made.settle()
    return made.scopes[scope]


def peaks(made: Watch, limit: str, scope: Scope = "mx") -> dict[str, int]:
    (watched,) = (w for w in seen(made, scope).watched if w.gauge.limit == limit)
    return watched.peaks.highest


def watch(events: list[Event], policy: Policy | None = None) -> Watch:
    made = Watch(policy or Policy(), Facts())
    for one in events:
        made.step(one)
    return made


def test_the_highest_within_the_window_not_the_last() -> None:
    events = [e for at in (1000.0, 9000.0) for e in mail(STRANGER, 0, 6, at)]
    events += mail(STRANGER, 0, 2, 50_000.0)
    assert peaks(watch(events), "errors") == {STRANGER: 6}


def test_beyond_every_threshold_and_without_a_crossing() -> None:
    made = watch([*mail(STRANGER, 0, 5000), event("connect", "198.51.100.1")])
    assert made.scopes["mx"].engine.drain().crossings == []
    assert peaks(made, "errors") == {STRANGER: 5000}
    assert peaks(made, "connections") == {"198.51.100.1": 1}


def test_the_thresholds_are_remembered() -> None:
    limits = {"e": Limit(count="errors", within=duration("1m"), hard=9)}
    (watched,) = Watch(Policy(limits=limits), Facts()).scopes["mx"].watched
    assert (watched.now.soft, watched.now.hard) == (0, 9)


def test_user_names() -> None:
    events = [event("auth_failure", STRANGER, user=f"u{n % 300}", pid=n) for n in range(600)]
    assert peaks(watch(events), "auth-users") == {STRANGER: 256}


def test_scopes_are_apart() -> None:
    made = watch(
        [
            event("login", "198.51.100.1", instance="postfix/submission"),
            event("connect", "198.51.100.1"),
        ]
    )
    assert seen(made).good == {}
    assert seen(made, "submission").good == {"198.51.100.1": (0, 1)}
    assert (peaks(made, "connections"), peaks(made, "connections", "submission")) == (
        {"198.51.100.1": 1},
        {},
    )


def test_at_the_cap_strangers_are_left_out_and_good_clients_are_not() -> None:
    policy = Policy(max_clients=10)
    made = watch([e for n in range(10) for e in mail(f"203.0.113.{n}", 0, 1)], policy)
    for one in mail("198.51.100.1", 1):
        made.step(one)
    made.settle()
    for one in [*mail("198.51.100.1", 0, 3), *mail("203.0.113.1", 0, 9)]:
        made.step(one)
    before = made.full
    for one in mail(STRANGER + "7", 0, 5):
        made.step(one)
    assert (before, made.full) == (False, True)
    assert seen(made).good == {"198.51.100.1": (1, 0)}
    highest = peaks(made, "errors")
    assert len(highest) == 11
    assert (highest["198.51.100.1"], highest["203.0.113.1"]) == (3, 9)


def test_at_the_cap_of_good_clients() -> None:
    events = [e for n in range(11) for e in mail(f"198.51.100.{n}")]
    made = watch([*events, *mail("198.51.100.0", 2)], Policy(max_clients=10))
    assert len(seen(made).good) == 10
    assert made.full
    for one in mail("198.51.100.0"):
        made.step(one)
    assert seen(made).good["198.51.100.0"] == (4, 0)


def test_rates_that_anvil_reported() -> None:
    made = Watch(Policy(), Facts())
    for client, rate, what in (
        ("198.51.100.1", 9, "connection rate"),
        ("198.51.100.1", 7, "connection rate"),
        ("198.51.100.2", 12, "connection rate"),
        ("198.51.100.3", 99, "message rate"),
    ):
        made.step(event("peak", client, process="anvil", where=what, count=rate, service="smtp"))
    assert made.anvil() == [Rate("198.51.100.2", "smtp", 12), Rate("198.51.100.1", "smtp", 9)]
    for n in range(9_998):
        made.step(event("peak", f"c{n}", process="anvil", where="connection rate", service="smtp"))
    assert (len(made.anvil()), len(made._anvil)) == (10, 10_000)
    made.step(event("peak", "more", process="anvil", where="connection rate", service="smtp"))
    assert made.anvil()[:3] == [
        Rate("198.51.100.2", "smtp", 12),
        Rate("198.51.100.1", "smtp", 9),
        Rate("c0", "smtp", 1),
    ]
    assert len(made._anvil) == 5_000


def test_a_forger_of_syslog_names() -> None:
    made = Watch(Policy(), Facts())
    for n in range(1000):
        made.step(event("connect", STRANGER, instance=f"x{n}"))
    assert len(made._engines) == 1000
    made.step(event("connect", STRANGER, instance="x1000"))
    assert len(made._engines) == 1
    assert peaks(made, "connections") == {STRANGER: 1001}


def test_what_the_rule_is_asked_about_has_the_latest_good_evidence() -> None:
    mx, submission = watch(list(mail("198.51.100.1"))).reached()
    assert (mx.good, submission.good) == ({"198.51.100.1": (1, 0)}, {})
    assert len(mx.watched) == len(submission.watched) == 8


def test_whose_lines_count_is_known_of_each_log() -> None:
    """This host's in one; all in one that has none of them."""
    made = Watch(Policy(), Facts(hostnames=frozenset({"mx"})))
    made.begin(every=False)
    for host, client in (("mx", "198.51.100.1"), ("other", "198.51.100.2")):
        made.step(event("connect", client, host=host))
    made.begin(every=True)
    made.step(event("connect", "198.51.100.3", host="other"))
    assert peaks(made, "connections") == {"198.51.100.1": 1, "198.51.100.3": 1}


def test_messages_of_senders_and_connections_of_inside_hosts() -> None:
    own = Limit(of="inside", count="connections", within=duration("1m"), soft=9)
    mails = Limit(of="account", count="messages", within=duration("1h"), soft=9)
    inside = "198.51.100.1"
    facts = Facts(mynetworks=(f"{inside}/32",), hostnames=frozenset({"mx"}))
    made = Watch(Policy(limits={"own": own, "mails": mails}), facts)
    for host in ("mx", "mx", "other"):
        login = event("login", STRANGER, host=host, user="alice", message=Message("1A"))
        sent = Message("1A", sender="a@b.test", size=400, recipients=1)
        active = event("active", "", host=host, process="qmgr", message=sent)
        for one in (login, active, event("connect", inside, host=host)):
            made.step(one)
    assert [one.peaks for one in made.senders.watched()] == [{inside: 2}, {"account:alice": 2}]
