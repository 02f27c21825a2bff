import sqlite3

import pytest
from msgspec.structs import replace

from throttled.model import Action, Decision, Evidence, Line, Rate, Scope
from throttled.store.rows import LINES, TEXT
from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0
A = "198.51.100.7"
KEY: tuple[str, Scope] = (A, "mx")


def ban(at: float = NOW, seconds: float = 600, level: int = 1, subject: str = A) -> Decision:
    return Decision(at, "ban", subject, "mx", "errors", level, at + seconds, "banned")


def throttle(at: float = NOW, seconds: float = 600, subject: str = A) -> Decision:
    return Decision(at, "throttle", subject, "mx", "auth", 0, at + seconds, "throttled")


def exempt(at: float = NOW, seconds: float = 600) -> Decision:
    return Decision(at, "exempt", A, "mx", "network", 0, at + seconds, "good sender")


def release(at: float, subject: str = A) -> Decision:
    return Decision(at, "release", subject, "mx", "ladder", 0, at, "released")


def in_force(store: Store, now: float) -> list[tuple[str, Action, float]]:
    return [(s.subject, s.action, s.until) for s in store.listing.snapshots(now, order="subject")]


# What is active


def test_a_ban_is_in_force_and_an_offence(store: Store) -> None:
    store.record(NOW, [ban(level=3)])
    assert in_force(store, NOW) == [(A, "ban", NOW + 600)]
    past = store.past([KEY], NOW)[KEY]
    assert (past.offences, past.last_offence, past.action) == (3, NOW + 600, "ban")


def test_a_throttle_is_in_force_and_no_offence(store: Store) -> None:
    store.record(NOW, [throttle()])
    past = store.past([KEY], NOW)[KEY]
    assert (past.offences, past.action, past.until) == (0, "throttle", NOW + 600)


def test_a_ban_replaces_a_throttle(store: Store) -> None:
    store.record(NOW, [throttle(seconds=9000)])
    store.record(NOW, [ban()])
    assert in_force(store, NOW) == [(A, "ban", NOW + 600)]


def test_a_throttle_never_replaces_a_ban_in_force(store: Store) -> None:
    store.record(NOW, [ban()])
    store.record(NOW + 599, [throttle(NOW + 599)])
    assert in_force(store, NOW + 599) == [(A, "ban", NOW + 600)]
    assert [d.action for d in store.decisions(A)] == ["throttle", "ban"]


def test_an_exemption_never_replaces_what_is_in_force(store: Store) -> None:
    for more in (ban(), throttle()):
        store.record(NOW, [release(NOW), exempt(), more])
        store.record(NOW + 1, [exempt(NOW + 1, 9000)])
        assert in_force(store, NOW + 1) == [(A, more.action, NOW + 600)]
    store.record(NOW + 600, [exempt(NOW + 600)])
    assert in_force(store, NOW + 600) == [(A, "exempt", NOW + 1200)]


@pytest.mark.parametrize("action", ["ban", "throttle", "exempt"])
def test_an_exemption_is_replaced_by_all(store: Store, action: Action) -> None:
    store.record(NOW, [exempt(seconds=9000)])
    store.record(NOW, [replace(exempt(), action=action)])
    assert in_force(store, NOW) == [(A, action, NOW + 600)]


def test_an_exemption_is_no_offence(store: Store) -> None:
    store.record(NOW, [exempt()])
    past = store.past([KEY], NOW)[KEY]
    assert (past.offences, past.action, past.until) == (0, "exempt", NOW + 600)


def test_a_throttle_follows_a_ban_that_ended(store: Store) -> None:
    store.record(NOW, [ban()])
    store.record(NOW + 600, [throttle(NOW + 600)])
    assert in_force(store, NOW + 600) == [(A, "throttle", NOW + 1200)]
    assert store.past([KEY], NOW + 600)[KEY].offences == 1


@pytest.mark.parametrize("seconds", [60, 6000])
def test_a_ban_replaces_a_ban(store: Store, seconds: float) -> None:
    store.record(NOW, [ban()])
    store.record(NOW, [ban(seconds=seconds, level=2)])
    assert in_force(store, NOW) == [(A, "ban", NOW + seconds)]
    assert store.past([KEY], NOW)[KEY].offences == 2


def test_scopes_are_apart(store: Store) -> None:
    store.record(NOW, [ban()])
    assert store.past([(A, "submission")], NOW)[A, "submission"].offences == 0


def test_a_release_removes_and_remembers_the_offence(store: Store) -> None:
    store.record(NOW, [ban()])
    store.record(NOW + 60, [release(NOW + 60)])
    assert in_force(store, NOW + 60) == []
    past = store.past([KEY], NOW + 60)[KEY]
    assert (past.offences, past.last_offence, past.action) == (1, NOW + 60, None)


def test_a_release_after_the_end_does_not_lengthen_the_offence(store: Store) -> None:
    store.record(NOW, [ban()])
    store.record(NOW + 900, [release(NOW + 900)])
    assert store.past([KEY], NOW + 900)[KEY].last_offence == NOW + 600


def test_a_release_of_nothing_is_history_only(store: Store) -> None:
    store.record(NOW, [release(NOW)])
    assert in_force(store, NOW) == []
    assert len(store.decisions(A)) == 1


@pytest.mark.parametrize(
    ("batch", "left"),
    [
        ([ban(), release(NOW)], []),
        ([release(NOW), ban()], ["ban"]),
        ([throttle(), ban(), release(NOW), throttle()], ["throttle"]),
        ([ban(), throttle()], ["ban"]),
        ([throttle(), ban()], ["ban"]),
    ],
)
def test_in_one_batch_the_last_wins(store: Store, batch: list[Decision], left: list[str]) -> None:
    others = [ban(subject="198.51.100.1"), throttle(subject="203.0.113.9")]
    store.record(NOW, [others[0], *batch, others[1]])
    assert [action for subject, action, _ in in_force(store, NOW) if subject == A] == left
    assert len(in_force(store, NOW)) == 2 + len(left)
    assert [d.action for d in store.decisions(A)] == [d.action for d in reversed(batch)]


def test_a_ban_without_a_level_is_no_offence(store: Store) -> None:
    store.record(NOW, [ban(level=2), ban(subject="198.51.100.8", level=0)])
    store.record(NOW, [ban(level=0)])
    pasts = store.past([KEY, ("198.51.100.8", "mx")], NOW)
    assert [past.offences for past in pasts.values()] == [2, 0]


def test_a_network_is_a_subject_like_any_other(store: Store) -> None:
    network = "198.51.100.0/24"
    store.record(NOW, [ban(subject=network)])
    assert in_force(store, NOW) == [(network, "ban", NOW + 600)]
    # But not one of its own addresses.
    assert store.network_past([(network, "mx")], NOW)[network, "mx"].banned == 0


# History


def test_a_decision_comes_back_as_it_was(store: Store) -> None:
    lines = (Line(1, 0), Line(2, 1 << 40))
    whole = Decision(
        NOW, "ban", A, "mx", "errors", 4, NOW + 1, 'wh\xff"y\0\n', 51, 50, lines, "alert"
    )
    whole = replace(whole, origin="peer:mx2", rate=Rate(6, 3600.0, 2), name="mx.example")
    store.record(NOW, [whole])
    assert store.decisions(A) == [whole]
    assert store.listing.snapshots(NOW)[0].lines == lines
    for (row,) in (
        store.listing.snapshots(NOW),
        *store.listing.rows(NOW),
        *store.listing.inside(f"{A}/24", NOW),
    ):
        assert (row.origin, row.rate, row.name) == (whole.origin, whole.rate, whole.name)
    for (row,) in store.active.ended(NOW + 1):
        assert (row.origin, row.rate, row.name) == (whole.origin, whole.rate, whole.name)
    assert store.listing.snapshots(NOW)[0].why == 'wh\xff"y\0\n'


def test_texts_and_lines_have_a_cap(store: Store) -> None:
    lines = tuple(Line(1, number) for number in range(LINES + 10))
    long = "x" * (TEXT + 10)
    store.record(NOW, [Decision(NOW, "ban", A, "mx", "e", 1, NOW + 1, long, 0, 0, lines, long)])
    (kept,) = store.decisions(A)
    assert (kept.why, kept.alert) == ("x" * TEXT, "x" * TEXT)
    assert kept.lines == lines[10:]


def test_a_failing_batch_leaves_nothing(store: Store) -> None:
    broken = Decision(NOW, "ban", "203.0.113.1", "mx", "errors", 1, NOW, None)  # type: ignore[arg-type] # a mistake of ours
    evidence = [Evidence(A, NOW, 1)]
    with pytest.raises(TypeError):
        store.record(NOW, [ban(), broken], evidence, [StoredPosition("/l", b"1")])
    assert in_force(store, NOW) == []
    assert store.decisions(A) == []
    assert store.positions.all() == {}
    store.record(NOW, [ban()])
    assert len(in_force(store, NOW)) == 1


# Evidence


def test_evidence_of_several_lines_adds_up(store: Store) -> None:
    batch = [Evidence(A, NOW, 2), Evidence("203.0.113.9", NOW, 0, 1), Evidence(A, NOW, 1, 1)]
    store.record(NOW, [], batch)
    store.record(NOW + 86400, [], [Evidence(A, NOW + 86400, 1)])
    past = store.past([KEY, ("203.0.113.9", "submission")], NOW + 86400)
    assert (past[KEY].deliveries, past[KEY].delivery_days, past[KEY].logins) == (4, 2, 1)
    assert past["203.0.113.9", "submission"].last_login == NOW


def test_evidence_of_an_address_that_is_never_grouped(store: Store) -> None:
    store.record(NOW, [], [Evidence("2002:c000:204::1", NOW, 1)])
    assert store.past([("2002:c000:204::1", "mx")], NOW)["2002:c000:204::1", "mx"].deliveries == 1
    assert store.network_past([("2002:c000:204::/64", "mx")], NOW) != {}


# Positions and counters


def test_a_record_of_nothing_is_nothing(store: Store, path: str) -> None:
    store.record(NOW, [])
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM decision").fetchone() == (0,)
    db.close()


def test_a_history_that_was_lost_in_part_stops_nothing(store: Store) -> None:
    store.record(NOW, [ban()])
    with store._database.guard() as connection:
        connection.execute("DELETE FROM decision")  # as `.recover` may leave it
    store.record(NOW, [ban(subject="203.0.113.1")])
    assert {row.subject for row in store.listing.snapshots(NOW)} == {A, "203.0.113.1"}
