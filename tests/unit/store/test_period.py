"""What decisions of a period came to: each number beside one counted here."""

import math

from msgspec.structs import replace

from throttled.model import Decision, Evidence, Report, SenderDay
from throttled.store.hourly import HOUR
from throttled.store.period import SenderSum
from throttled.store.store import Store

NOW = 1_700_000_000.0 // HOUR * HOUR
DAY = 86400.0
A, B, GOOD = "198.51.100.7", "198.51.100.8", "203.0.113.25"


def decision(action: str, subject: str, at: float, limit: str = "errors") -> Decision:
    assert action in {"ban", "throttle", "exempt", "release"}
    return Decision(at, action, subject, "mx", limit, 1, at + 600, "because")  # type: ignore[arg-type]


def test_networks_and_clients_with_the_most_bans_first(store: Store) -> None:
    rows = [
        decision("ban", A, NOW),
        decision("throttle", A, NOW + 5, "ladder"),
        decision("ban", B, NOW),
        decision("ban", B, NOW + 9, "auth"),
        decision("release", B, NOW + 20),
        decision("throttle", "198.51.100.0/24", NOW),
        decision("throttle", "2001:db8::1", NOW),
        decision("throttle", "account:alice", NOW),
        decision("ban", "192.0.2.1", NOW - 1),  # before
        decision("ban", "192.0.2.1", NOW + DAY),  # after
    ]
    store.record(NOW + DAY, rows)
    period = store.period(NOW, NOW + DAY)
    assert period.subjects() == {"ban": 2, "throttle": 3}
    networks = [(n.network, n.clients, n.bans, n.throttles, n.last) for n in period.networks(10)]
    assert networks == [
        ("198.51.100.0/24", 3, 3, 2, NOW + 9),
        ("2001:db8::/64", 1, 0, 1, NOW),
    ]
    assert [n.network for n in period.networks(1)] == ["198.51.100.0/24"]
    clients = [(c.subject, c.bans, c.throttles, c.limit) for c in period.clients(2)]
    assert clients == [(B, 2, 0, "auth"), (A, 1, 1, "ladder")]
    assert [c.subject for c in period.clients(9, named=True)] == ["account:alice"]


def test_good_senders_that_were_hit_with_their_evidence(store: Store) -> None:
    spared, inside = "203.0.113.26", "203.0.113.27"
    store.record(
        NOW,
        [
            decision("throttle", GOOD, NOW - 60),
            decision("ban", B, NOW - 60),
            decision("throttle", "203.0.113.0/24", NOW - 50, "network"),
            decision("exempt", spared, NOW - 50),
        ],
        [
            Evidence(GOOD, NOW - 2 * DAY, 9, 0),
            Evidence(spared, NOW - DAY, 5, 0),
            Evidence(inside, NOW - DAY, 0, 1),
            Evidence("192.0.2.9", NOW - DAY, 7, 0),  # untouched
            Evidence(B, NOW - 31 * DAY, 40, 0),  # too long ago
        ],
    )
    found, total, banned = store.period(NOW - HOUR, NOW).good(NOW, 10)
    assert [(g.subject, g.bans, g.throttles, g.logins) for g in found] == [
        (GOOD, 0, 2, 0),
        (inside, 0, 1, 1),
    ]
    assert 0 < found[0].deliveries <= 9
    assert (total, banned) == (2, 0)
    named = replace(decision("ban", GOOD, NOW - 20), name="mx.example.org")
    store.record(NOW, [named, decision("ban", GOOD, NOW - 10)])
    found, total, banned = store.period(NOW - HOUR, NOW).good(NOW, 1)
    good = [(g.subject, g.bans, g.limit, g.name) for g in found]
    assert good == [(GOOD, 2, "errors", "mx.example.org")]
    assert (total, banned) == (2, 1)


def test_good_senders_in_networks_of_any_length_are_hit(store: Store) -> None:
    inside = ["203.0.112.7", "203.0.113.9", "2001:db8:5::7"]
    store.record(
        NOW,
        [
            decision("ban", "203.0.0.0/16", NOW - 60),
            decision("throttle", "203.0.113.8/29", NOW - 50),
            decision("ban", "2001:db8::/32", NOW - 40),
            decision("ban", "2001:dead::/32", NOW - 40),
            decision("ban", "203.0.0.0/16x", NOW - 40),  # altered by another program
            decision("exempt", "203.0.1.1", NOW - 60),
        ],
        [Evidence(each, NOW - DAY, 5, 0) for each in (*inside, "203.0.1.1", GOOD, "203.1.0.1")],
    )
    found, total, banned = store.period(NOW - HOUR, NOW).good(NOW, 10)
    assert {(g.subject, g.bans, g.throttles) for g in found} == {
        ("203.0.112.7", 1, 0),
        ("203.0.113.9", 1, 1),
        (GOOD, 1, 0),
        ("2001:db8:5::7", 1, 0),
    }
    assert (total, banned) == (4, 4)


def test_senders_reported_and_busiest(store: Store) -> None:
    def report(at: float, value: int) -> Report:
        return Report(at, "account:a", "x", "bounces", value, 10, HOUR, "account:A")

    store.senders.report([report(NOW - 1, 99), report(NOW, 11), report(NOW + 5, 12)])
    [row] = store.period(NOW, NOW + DAY).reported(10)
    assert (row.shown, row.times, row.highest, row.last) == ("account:A", 2, 12, NOW + 5)
    day = int(NOW // DAY)
    store.senders.add(
        [
            SenderDay("account:a", day, 3, 30, 1, 2),
            SenderDay("account:a", day - 1, 4, 40),
            SenderDay("uid:33", day, 9, 9),
            SenderDay("domain:example.org", day, 5, 500),
            SenderDay("account:b", day - 2, 3, 900),
        ]
    )
    busiest = store.period(NOW - DAY, NOW).senders(10)
    assert busiest == [SenderSum("account:a", 7, 70, 2), SenderSum("uid:33", 9, 9, 0)]


def test_when_counting_began(store: Store) -> None:
    assert store.period(0, NOW).counted_since() == math.inf
    store.record(NOW, [decision("ban", A, NOW - DAY)])
    assert store.period(0, NOW).counted_since() == NOW - DAY


def test_rows_that_another_program_altered_are_passed_over(store: Store) -> None:
    store.record(NOW, [decision("ban", A, NOW), decision("ban", B, NOW)], [Evidence(A, NOW, 3, 0)])
    with store._database.transaction() as connection:
        connection.execute("UPDATE decision SET subject = x'00ff' WHERE subject = ?", (B,))
        connection.execute(
            "INSERT INTO decision SELECT NULL, time, action, 'no/address', scope,"
            ' "limit", level, until, why, value, threshold, lines, alert, rate,'
            " origin, name FROM decision LIMIT 1"
        )
        connection.execute("UPDATE good SET days = 'x'")
    period = store.period(NOW, NOW + 1)
    assert {n.network for n in period.networks(10)} == {"no/address", "198.51.100.0/24"}
    assert period.good(NOW, 10) == ([], 0, 0)
    assert A in [c.subject for c in period.clients(10)]
