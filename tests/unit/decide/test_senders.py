"""Limits of senders, and stories of accounts with their evil twins."""

from collections.abc import Callable
from math import inf

import pytest
from msgspec.structs import replace

from throttled.decide import senders as room
from throttled.decide.active import Excuse, InForce
from throttled.decide.senders import Senders
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import Limit, Override, default_limits
from throttled.model import Decision, Event, Line, Message, Report, Scope
from throttled.settings import Accounts, Policy

HOUR, DAY = 3600.0, 86400.0


class Host:
    """An engine, and a Postfix that sends what it is given."""

    def __init__(self, **limits: Limit) -> None:
        policy = Policy(limits={**default_limits(), **limits})
        self.senders = Senders(policy, Facts(mynetworks=("198.51.100.0/24",)))
        self._number = 0

    def step(
        self, kind: str, at: float, message: Message, user: str = "", client: str = ""
    ) -> None:
        event = Event(kind, client, "x", "postfix", 1, at, user=user, message=message)  # type: ignore[arg-type]
        self.senders.step(event, at)

    def send(  # noqa: PLR0913, PLR0917 - a message
        self,
        at: float,
        user: str = "alice",
        recipients: int = 1,
        bounces: int = 0,
        client: str = "203.0.113.7",
        size: int = 400,
    ) -> None:
        self._number += 1
        one = f"{self._number:09X}"
        kind = "login" if user else "accepted"
        self.step(kind, at, Message(one), user, client)
        self.step("active", at, Message(one, sender="a@b.test", size=size, recipients=recipients))
        for _ in range(bounces):
            self.step("delivery", at, Message(one, status="bounced", dsn="5.1.1"))
        self.step("removed", at, Message(one))

    def reported(self) -> list[tuple[str, str, int]]:
        return [(r.subject, r.limit, r.value) for r in self.senders.drain()]


def newsletter(host: Host) -> None:
    for _ in range(40):
        host.send(1.0, recipients=50, bounces=2)  # 4 % dead


def stolen_login(host: Host) -> None:
    for _ in range(40):
        host.send(1.0, recipients=1, bounces=1 if _ % 3 == 0 else 0)


def traveller(host: Host) -> None:
    for n in range(6):
        host.send(n * 600.0, client=f"203.0.{n}.7")


def botnet(host: Host) -> None:
    for n in range(12):
        host.send(n * 60.0, client=f"203.0.{n}.7")


def confirmations(host: Host) -> None:
    host.senders.learn({"account:alice": 800}, since=True)
    for n in range(900):
        host.send(n * 60.0)


def hacked_form(host: Host) -> None:
    host.senders.learn({"account:alice": 80}, since=True)
    for n in range(900):
        host.send(n * 6.0)


@pytest.mark.parametrize("story", [newsletter, traveller, confirmations])
def test_what_is_usual_is_not_reported(story: Callable[[Host], None]) -> None:
    host = Host()
    story(host)
    assert host.reported() == []


@pytest.mark.parametrize(
    ("story", "limit", "value"),
    [
        (stolen_login, "account-bounces", 11),
        (botnet, "account-networks", 11),
        (hacked_form, "account-volume", 801),
    ],
)
def test_what_is_not_is(story: Callable[[Host], None], limit: str, value: int) -> None:
    host = Host()
    story(host)
    assert host.reported() == [("account:alice", limit, value)]


def test_a_report_says_all() -> None:
    host = Host()
    host.send(1.0, "Alice", recipients=20, bounces=11)
    [report] = host.senders.drain()
    assert report == Report(
        *(1.0, "account:alice", "account-bounces", "bounces", 11, 10, HOUR, "account:Alice")
    )
    assert host.senders.drain() == []


def test_a_report_is_made_again_at_twice_the_value_or_after_the_window() -> None:
    host = Host()
    host.send(1.0, recipients=21, bounces=21)
    assert host.reported() == [("account:alice", "account-bounces", 11)]
    host.send(2.0, recipients=1, bounces=1)
    assert host.reported() == [("account:alice", "account-bounces", 22)]
    host.send(3 * HOUR, recipients=12, bounces=12)
    assert host.reported() == [("account:alice", "account-bounces", 11)]


def test_a_report_of_networks_is_made_again_at_twice_the_value() -> None:
    host = Host()
    for n in range(40):
        host.send(1.0, client=f"203.0.{n}.7")
    assert host.reported() == [("account:alice", "account-networks", n) for n in (11, 22)]
    assert {m.limit: m.value for m in host.senders.meters("account:alice", 1.0)}[
        "account-networks"
    ] == 22


def test_the_window_of_a_report_ends_with_its_last_moment() -> None:
    host = Host(x=limit("account", "messages"))
    for at in (1.0, 1.0, 1.0, 2.0, 2.0 + HOUR - 0.1, 2.0 + HOUR):
        host.send(at)
    assert host.reported() == [("account:alice", "x", 4), ("account:alice", "x", 6)]


def test_a_share_is_of_the_recipients_and_exceeded_above_it() -> None:
    host = Host()
    host.send(1.0, recipients=110, bounces=11)
    assert host.reported() == []
    host.send(1.0, recipients=10, bounces=2)
    assert host.reported() == [("account:alice", "account-bounces", 13)]


def test_without_an_earlier_day_nothing_is_unusual() -> None:
    host = Host()
    host.send(1.0, recipients=600)
    assert host.reported() == []
    host.senders.learn({}, since=True)
    host.send(2.0, "bob", recipients=600)
    assert host.reported() == [("account:bob", "account-volume", 600)]


def test_who_had_no_day_is_above_every_multiple_of_it() -> None:
    host = Host(x=replace(default_limits()["account-volume"], soft=1))
    host.senders.learn({}, since=True)
    host.send(1.0, recipients=2)
    assert host.reported() == [("account:alice", "x", 2)]


def limit(of: str, count: str, soft: int = 3, **more: object) -> Limit:
    return Limit(count=count, within=duration("1h"), of=of, soft=soft, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "value"), [("messages", 4), ("recipients", 8), ("bytes", 4096), ("bounces", 8)]
)
def test_inside_hosts(count: str, value: int) -> None:
    soft = 4000 if count == "bytes" else 7 if count in ("recipients", "bounces") else 3
    host = Host(x=limit("inside", count, soft))
    for _ in range(4):
        host.send(1.0, "", 2, 2, "198.51.100.7")
    assert host.reported() == [("198.51.100.7", "x", value)]


def test_bytes_are_counted_beyond_what_a_meter_holds_of_them() -> None:
    host = Host(x=limit("account", "bytes", 1_000_000_000))
    for _ in range(11):
        host.send(1.0, size=100_000_000)
    [report] = host.senders.drain()
    assert report.value == pytest.approx(1_000_000_000, rel=0.01)


def test_mailboxes_and_users() -> None:
    host = Host(x=limit("mailbox", "messages"), y=limit("uid", "messages"))
    for n in range(4):
        host.step("queued", 1.0, Message(f"{n}A5C01F2B", uid=33))
        host.step("active", 1.0, Message(f"{n}A5C01F2B", sender="w@b.test", recipients=1))
        sent = Message(f"{n}A5C01F2B", recipient="bob@b.test", status="sent")
        host.senders.step(Event("delivery", "", "lmtp", "postfix", 1, 1.0, message=sent), 1.0)
    assert sorted(host.reported()) == [("mailbox:bob@b.test", "x", 4), ("uid:33", "y", 4)]


@pytest.mark.parametrize("share", range(1, 100))
def test_exactly_the_share_is_not_above_it(share: int) -> None:
    host = Host(x=limit("account", "bounces", 1, share=f"{share}%"))
    host.send(0.0, recipients=100, bounces=share)
    assert [r for r in host.reported() if r[1] == "x"] == []


def test_overrides_for_named_subjects() -> None:
    named = {
        "account:alice": Override(soft=30),
        "account:bob": Override(enabled=False),
        "account:carol": Override(),
    }
    host = Host(x=limit("account", "messages", 3, for_=named))
    for user in ("alice", "bob", "carol", "dan"):
        for _ in range(20):
            host.send(1.0, user)
    assert {subject for subject, name, _ in host.reported() if name == "x"} == {
        "account:carol",
        "account:dan",
    }


def test_what_was_counted_before_a_restart_is_not_reported_again() -> None:
    host = Host(x=limit("account", "messages"))
    for n in range(5):
        for kind in ("login", "active"):
            message = Message(f"{n}A5C01F2B", sender="a@b.test", recipients=1)
            event = Event(kind, "203.0.113.7", "x", "p", 1, 1.0, user="alice", message=message)
            host.senders.step(event, 1.0, again=True)
    assert host.reported() == []
    assert host.senders.days() == []
    host.send(2.0)
    assert host.reported() == []
    assert [m.value for m in host.senders.meters("account:alice", 2.0) if m.limit == "x"] == [6]


def test_days() -> None:
    host = Host()
    host.send(1.0, recipients=3, bounces=1)
    host.send(2.0, recipients=2)
    host.send(DAY, recipients=1)
    first, second = host.senders.days()
    assert (first.subject, first.day, first.messages, first.recipients) == (
        "account:alice",
        0,
        2,
        5,
    )
    assert (first.bytes, first.bounces, first.deferrals) == (800, 1, 0)
    assert (second.day, second.messages) == (1, 1)
    host.senders.stored()
    assert host.senders.days() == []


def test_days_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TRACKED", 2)
    host = Host()
    for n in range(4):
        host.send(1.0, f"user{n}")
    assert len(host.senders.days()) == 2
    assert host.senders.dropped == 6


def test_meters() -> None:
    host = Host(x=limit("account", "messages"), y=limit("uid", "messages"))
    host.send(1.0, recipients=3)
    meters = {
        m.limit: (m.count, m.value, m.threshold) for m in host.senders.meters("account:alice", 1.0)
    }
    assert meters == {
        "account-bounces": ("bounces", 0, 10),
        "account-volume": ("recipients", 3, 500),
        "account-networks": ("networks", 1, 10),
        "x": ("messages", 1, 3),
    }
    assert host.senders.meters("198.51.100.7", 1.0) == []


def test_the_thresholds_of_a_meter() -> None:
    host = Host(
        soft=limit("uid", "messages"),
        both=limit("uid", "messages", hard=6, mode="enforce"),
        spared=limit("uid", "messages", hard=6),
        hard=Limit(count="messages", within=duration("1h"), of="uid", hard=3, mode="enforce"),
        bytes=limit("uid", "bytes", 3072),
    )

    def meters() -> list[tuple[str, int, int, int, bool]]:
        found = host.senders.meters("uid:33", 1.0)
        return [(m.limit, m.value, m.threshold, m.hard, m.above) for m in found]

    for n in range(4):
        if n == 3:
            assert not any(meter[4] for meter in meters())
        host.step("queued", 1.0, Message(f"{n}A5C01F2B", uid=33))
        host.step("active", 1.0, Message(f"{n}A5C01F2B", sender="w@b.test", size=1024))
    assert sorted(meters()) == [
        ("both", 4, 3, 6, True),
        ("bytes", 4096, 3072, 0, True),
        ("hard", 4, 3, 3, True),
        ("soft", 4, 3, 0, True),
        ("spared", 4, 3, 0, True),
    ]


def test_limits_that_stay_keep_their_counts() -> None:
    host = Host(x=limit("account", "messages"))
    for _ in range(3):
        host.send(1.0)
    host.senders.reconfigure(Policy(limits={"x": limit("account", "messages")}))
    host.send(1.0)
    assert host.reported() == [("account:alice", "x", 4)]
    off = Limit(count="messages", within=duration("1h"), of="account", soft=1, enabled=False)
    host.senders.reconfigure(Policy(limits={"x": limit("account", "messages", 1), "y": off}))
    host.send(1.0)
    assert host.reported() == []
    host.send(1.0)
    assert host.reported() == [("account:alice", "x", 2)]


def test_nothing_is_kept_where_it_is_switched_off() -> None:
    host = Host()
    host.senders.reconfigure(Policy(accounts=Accounts(enabled=False)))
    host.send(1.0, recipients=20, bounces=20)
    assert (host.reported(), host.senders.days(), len(host.senders.queue)) == ([], [], 0)
    assert host.senders.meters("account:alice", 1.0) == []


def test_connections_of_inside_hosts() -> None:
    host = Host(c=Limit(of="inside", count="connections", within=duration("1m"), soft=2))
    assert host.senders.connections
    for _ in range(3):
        for client in ("198.51.100.7", "203.0.113.7"):
            host.senders.step(Event("connect", client, "smtpd", "postfix", 1, 1.0), 1.0)
    assert host.reported() == [("198.51.100.7", "c", 3)]
    assert host.senders.days() == []
    assert not Host().senders.connections


def test_mail_that_a_domain_receives() -> None:
    host = Host(d=Limit(of="domain", count="received", within=duration("1h"), soft=1))
    message = Message("3A5C01F2B", recipient="b@example.test", status="sent")
    for _ in range(2):
        event = Event("delivery", "", "lmtp", "postfix", 1, 1.0, message=message)
        host.senders.step(event, 1.0)
    assert host.reported() == [("domain:example.test", "d", 2)]
    days = {day.subject: (day.messages, day.received) for day in host.senders.days()}
    assert days == {"mailbox:b@example.test": (0, 2), "domain:example.test": (0, 2)}


def test_mail_to_a_domain_and_mail_from_it_are_decided_separately() -> None:
    to = Limit(of="domain", count="received", within=duration("1h"), soft=1, mode="throttle")
    boxes = limit("mailbox", "messages", 1, mode="throttle")
    host = Host(to=to, boxes=boxes, out=limit("domain", "messages", 1, mode="throttle"))
    message = Message("3A5C01F2B", recipient="b@example.test", status="sent", sender="a@b.test")

    def deliver(count: int) -> list[tuple[str, str]]:
        event = Event("delivery", "", "lmtp", "postfix", 1, 1.0, message=message)
        for _ in range(count):
            host.senders.step(event, 1.0)
        return [(c.limit, c.scope) for c in host.senders.crossings()]

    assert host.senders.queue.mailboxes.enabled
    host.senders.acting = True  # Postfix asks about messages alone
    assert deliver(2) == []
    assert {report[1] for report in host.reported()} == {"to", "boxes"}
    host.senders.receiving = True
    assert deliver(1) == [("boxes", "mx"), ("to", "mx")]
    out = Decision(1.0, "throttle", "domain:example.test", "submission", "out", 0, 601.0, "")
    host.senders.hold(out, 601.0, 1.0)
    assert ("to", "mx") in deliver(1)
    host.senders.hold(replace(out, scope="mx"), 601.0, 1.0)
    assert deliver(1) == [("boxes", "mx")]
    sent = Event("active", "", "qmgr", "postfix", 1, 1.0)
    for n in range(2):
        of = replace(message, queue_id=f"3A5C01F2{n}", sender="x@example.test", recipients=1)
        login = replace(sent, kind="login", client="203.0.113.7", user="a", message=of)
        host.senders.step(login, 1.0)
        host.senders.step(replace(sent, message=of), 1.0)
    assert host.senders.crossings() == []  # throttled already
    host.senders.reset("domain:example.test")
    assert ("to", "mx") in deliver(2)


def test_overrides_are_found_however_they_are_written() -> None:
    named = {f"account:{name}": Override(soft=30) for name in ("Alice@Local.test", "b@x.test")}
    host = Host(x=limit("account", "messages", 3, for_=named))
    for _ in range(4):
        host.send(0.0, "B@X.test")
        host.send(0.0, "ALICE")
    assert host.reported() == [("account:alice", "x", 4)]  # another domain's
    host.senders.facts(Facts(sasl_domain="local.test"))
    for _ in range(5):
        host.send(0.0, "alice")
    assert host.reported() == []


def test_an_override_for_a_network_of_inside_hosts() -> None:
    named = {"198.51.100.0/28": Override(soft=30), "198.51.100.3": Override(soft=1)}
    host = Host(x=limit("inside", "messages", 3, for_=named))
    for client in ("198.51.100.3", "198.51.100.7", "198.51.100.77"):
        for _ in range(4):
            host.send(0.0, "", client=client)
    assert host.reported() == [
        ("198.51.100.3", "x", 2),
        ("198.51.100.3", "x", 4),
        ("198.51.100.77", "x", 4),
    ]


def acting(**others: Override) -> Host:
    """A host whose limit x acts: above 3 messages throttled, above 6 banned."""
    for_ = {f"account:{name}": override for name, override in others.items()}
    host = Host(x=limit("account", "messages", hard=6, mode="enforce", for_=for_))
    host.senders.acting = True
    return host


def crossed(host: Host) -> list[tuple[str, str, int, int]]:
    return [(c.subject, c.action, c.value, c.threshold) for c in host.senders.crossings()]


def test_a_limit_that_acts_makes_crossings() -> None:
    host = acting()
    for _ in range(4):
        assert not host.senders.crossed
        host.send(1.0)
    assert host.senders.crossed
    (crossing,) = host.senders.crossings()
    assert (crossing.scope, crossing.limit, crossing.count, crossing.lines) == (
        *("submission", "x", "messages"),
        (),
    )
    decision = Decision(1.0, "throttle", "account:alice", "submission", "x", 0, 601.0, "")
    host.senders.hold(decision, 3.0, 1.0)
    host.send(2.0)
    assert crossed(host) == []
    host.send(3.0)
    assert crossed(host) == [("account:alice", "throttle", 6, 3)]
    host.senders.hold(decision, 601.0, 3.0)
    host.send(3.0)
    assert crossed(host) == [("account:alice", "ban", 7, 6)]
    host.senders.hold(replace(decision, action="ban"), 700.0, 3.0)
    host.send(4.0)
    assert crossed(host) == []
    assert host.senders.active["submission"].get("account:alice") == InForce(700.0, inf, 601.0, 0.0)
    host.senders.hold(replace(decision, action="exempt"), 700.0, 4.0)
    host.send(4.0)
    assert crossed(host) == []
    host.senders.hold(replace(decision, action="release"), 5.0, 5.0)
    host.send(5.0)
    assert crossed(host) == [("account:alice", "ban", 10, 6)]
    assert host.reported() == []


def test_what_was_spared_a_sender_is_judged_again_above_that() -> None:
    host = acting()
    for _ in range(4):
        host.send(1.0)
    active = host.senders.active["submission"]
    active.excuse("account:alice", "x", Excuse("throttle", 5, 99.0), 1.0)
    host.send(1.0)
    assert crossed(host) == [("account:alice", "throttle", 4, 3)]  # as of before
    host.send(1.0)
    assert crossed(host) == [("account:alice", "throttle", 6, 3)]


def test_what_has_no_effect_is_reported() -> None:
    host = acting()
    host.senders.acting = Senders(Policy(), Facts()).acting
    for _ in range(4):
        host.send(1.0)
    assert (host.reported(), crossed(host)) == ([("account:alice", "x", 4)], [])


def test_no_crossing_for_what_was_counted_before_a_restart() -> None:
    host = acting()
    message = Message("3A5C01F2B", sender="a@b.test", recipients=1)
    for _ in range(9):
        for kind in ("login", "active"):
            event = Event(kind, "203.0.113.7", "x", "p", 1, 1.0, user="a", message=message)
            host.senders.step(event, 1.0, again=True)
    assert crossed(host) == []


def test_a_sender_is_forgotten_and_so_are_its_lines() -> None:
    host = acting(bob=Override(hard=5))
    message = Message("3A5C01F2B", sender="a@b.test", recipients=1)
    for offset in range(4):
        for kind in ("login", "active"):
            event = Event(kind, "203.0.113.7", "x", "p", 1, 1.0, user="a", message=message)
            host.senders.step(event, 1.0, source=1, offset=offset)
    lines = tuple(Line(1, n) for n in (0, 0, 1, 1, 2, 2, 3, 3))
    assert [c.lines for c in host.senders.crossings()] == [lines]
    host.senders.reset("account:a")
    assert [m.value for m in host.senders.meters("account:a", 1.0)] == [0, 0, 0, 0]
    assert [m.hard for m in host.senders.meters("account:bob", 1.0)] == [0, 0, 0, 5]
    assert host.senders.trace.lines("account:a", 9) == ()


def test_a_reset_ends_what_waits_and_what_is_in_force() -> None:
    host = acting()
    for _ in range(4):
        host.send(1.0)
    host.senders.reset("account:alice")
    assert crossed(host) == []
    host.senders.hold(
        Decision(1.0, "ban", "account:alice", "submission", "x", 0, 601.0, ""), 601.0, 1.0
    )
    host.senders.reset("account:alice")
    for _ in range(4):
        host.send(2.0)
    assert crossed(host) == [("account:alice", "throttle", 4, 3)]


@pytest.mark.parametrize("scope", [None, "mx", "submission"])
def test_a_reset_of_all_is_of_a_scope(scope: Scope | None) -> None:
    host = acting()
    limits = {
        "x": limit("account", "messages", mode="throttle"),
        "y": limit("inside", "messages", mode="throttle"),
    }
    host.senders.reconfigure(Policy(limits=limits))
    senders: list[tuple[str, Scope]] = [("account:alice", "submission"), ("198.51.100.7", "mx")]

    def send(times: int) -> None:
        for _ in range(times):
            host.send(1.0)
            host.send(1.0, "", client="198.51.100.7")

    send(4)
    host.senders.reset_all(scope)
    assert [c.subject for c in host.senders.crossings()] == [
        subject for subject, one in senders if scope not in (None, one)
    ]
    for subject, one in senders:
        host.senders.hold(Decision(1.0, "ban", subject, one, "x", 0, 9.0, ""), 9.0, 1.0)
        host.senders.trace.add(subject, 1.0, 1, 7)
    send(1)
    host.senders.reset_all(scope)
    send(4)
    assert [(c.subject, c.value) for c in host.senders.crossings()] == [
        (subject, 4) for subject, one in senders if scope in (None, one)
    ]
    known = [bool(host.senders.lines(subject)) for subject, _ in senders]
    assert known == [scope is not None] * 2


def test_the_latest_lines_go_with_a_crossing() -> None:
    host = Host(x=limit("account", "messages", 19, mode="throttle"))
    host.senders.acting = True
    for offset in range(20):
        message = Message(f"{offset:09X}", sender="a@b.test", recipients=1)
        event = Event("login", "203.0.113.7", "x", "p", 1, 1.0, user="a", message=message)
        host.senders.step(event, 1.0, source=1, offset=offset)
        host.senders.step(replace(event, kind="active"), 1.0)  # nobody will ask for this line
    (crossing,) = host.senders.crossings()
    assert crossing.lines == tuple(Line(1, offset) for offset in range(4, 20))


def test_switching_off_leaves_no_name_in_memory() -> None:
    host = acting()
    host.send(1.0, "Alice")
    host.senders.trace.add("account:alice", 1.0, 1, 0)
    host.senders.reconfigure(Policy(accounts=Accounts(enabled=False)))
    assert host.senders.lines("account:alice") == ()
    assert host.senders.trace.latest() == []
    host.senders.reconfigure(Policy(accounts=Accounts(enabled=False)))
    assert host.senders.days() == []
    assert host.senders.queue.shown("account:alice") == "account:alice"


def test_the_worst_are_nearest_to_a_threshold() -> None:
    host = acting(carol=Override(enabled=False))
    message = Message("3A5C01F2B", sender="a@b.test", recipients=1)
    for offset, user in enumerate(("alice", "bob", "bob", "carol")):
        for kind in ("login", "active"):
            event = Event(kind, "203.0.113.7", "x", "p", 1, 1.0, user=user, message=message)
            host.senders.step(event, 1.0, source=1, offset=offset)
    found = host.senders.worst(2, 1.0)
    assert [(subject, meter.limit, meter.value, scope) for subject, meter, scope in found] == [
        ("account:bob", "x", 2, "submission"),
        ("account:alice", "x", 1, "submission"),
    ]
    off = next(m for m in host.senders.meters("account:carol", 1.0) if m.limit == "x")
    assert (off.threshold, off.hard, off.above) == (0, 0, False)
    host.senders.reset("account:alice")
    host.senders.trace.add("account:alice", 1.0, 1, 9)
    assert "account:alice" not in {subject for subject, _, _ in host.senders.worst(9, 1.0)}
