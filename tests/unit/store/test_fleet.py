"""The history as an outbox, and what is active of peers."""

import pytest
from msgspec.structs import replace

from throttled.model import Decision, Scope
from throttled.store.fleet import Own
from throttled.store.listing import Filter
from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0
A = "198.51.100.7"
KEY: tuple[str, Scope] = (A, "mx")
BAN = Decision(NOW, "ban", A, "mx", "errors", 2, NOW + 600, "because", 56, 50)
PEERS = replace(BAN, origin="peer:mx2")


def subjects(rows: list[Own]) -> list[tuple[str, str]]:
    return [(row.action, row.subject) for row in rows]


@pytest.mark.parametrize("origin", ["log", "operator"])
def test_own_bans_are_in_the_outbox(store: Store, origin: str) -> None:
    store.record(NOW, [replace(BAN, origin=origin)])
    rows, end = store.fleet.outbox(0, NOW)
    assert rows == [Own(1, "ban", A, "mx", "errors", 2, NOW + 600, 56, 50, 0.0)]
    assert end == store.fleet.last() == 1
    assert store.fleet.outbox(end, NOW) == ([], 1)


def test_lists_by_name_are_not_shared(store: Store) -> None:
    store.record(NOW, [replace(BAN, origin="list:drop")])
    assert store.fleet.outbox(0, NOW)[0] == []
    assert store.fleet.own(0, NOW) == ([], None)


@pytest.mark.parametrize(
    "other",
    [
        PEERS,
        replace(BAN, action="throttle", level=0),
        replace(BAN, action="exempt", limit="network"),
        replace(BAN, action="release"),
        replace(BAN, action="release", origin="operator", why="ban expired", limit="operator"),
        replace(BAN, limit="network", subject="198.51.100.0/24"),
        replace(BAN, limit="ladder"),
        replace(BAN, limit="overload"),
        replace(BAN, subject="account:alice"),
        replace(BAN, subject="uid:33"),
        replace(BAN, subject="mailbox:bob@example.org"),
        replace(BAN, subject="domain:example.org"),
        replace(BAN, until=NOW),
    ],
)
def test_what_is_not_shared_is_passed_over(store: Store, other: Decision) -> None:
    store.record(NOW, [other])
    assert store.fleet.outbox(0, NOW) == ([], 1)
    assert store.fleet.own(0, NOW) == ([], None)


def test_the_outbox_is_read_in_pieces(store: Store) -> None:
    bans = [replace(BAN, subject=f"198.51.100.{n}") for n in range(10, 15)]
    store.record(NOW, [*bans, PEERS])
    rows, end = store.fleet.outbox(0, NOW, 4)
    assert (len(rows), end) == (4, 4)
    rows, end = store.fleet.outbox(end, NOW, 4)
    assert (len(rows), end) == (1, 6)


def test_an_operators_unban_is_in_the_outbox_with_its_exemption(store: Store) -> None:
    store.record(NOW, [BAN])
    store.unbans.unban(A, "mx", NOW + 1, NOW + 3601)
    rows, _ = store.fleet.outbox(1, NOW + 1)
    assert subjects(rows) == [("release", A)]
    assert rows[0].exempt_until == NOW + 3601


def test_a_peers_unban_is_not(store: Store) -> None:
    store.record(NOW, [BAN])
    position = StoredPosition("fleet:mx2", b"")
    exempt = {KEY: 0.0}
    store.unbans.unban_of_peer(
        exempt, [], NOW, NOW + 1, origin="peer:mx2", changes=[], position=position
    )
    assert store.fleet.outbox(1, NOW + 1) == ([], 2)
    assert store.decisions(A)[0].origin == "peer:mx2"


def test_own_bans_that_are_active(store: Store) -> None:
    store.record(NOW, [BAN, replace(BAN, subject="198.51.100.8", until=NOW + 5)])
    assert subjects(store.fleet.own(0, NOW + 6)[0]) == [("ban", A)]
    assert store.fleet.own(2, NOW) == ([], None)


def test_entries_of_a_peer_are_counted_and_listed(store: Store) -> None:
    other = replace(PEERS, subject="198.51.100.8")
    store.record(NOW, [PEERS, other, replace(BAN, subject="198.51.100.9")])
    assert store.fleet.counts(NOW) == {"mx2": 2}
    assert (store.fleet.count("mx2", NOW), store.fleet.count("mx3", NOW)) == (2, 0)
    assert store.fleet.count("mx2", NOW + 601) == 0
    what = Filter(origin="peer:mx2")
    assert len(store.listing.snapshots(NOW, what)) == store.listing.total(NOW, what) == 2


def network_bans(store: Store) -> int:
    return store.network_past([("198.51.100.0/24", "mx")], NOW + 1)["198.51.100.0/24", "mx"].banned


def test_a_peers_ban_is_an_offence_but_says_nothing_of_its_network(store: Store) -> None:
    store.record(NOW, [PEERS])
    assert store.past([KEY], NOW)[KEY].offences == 2
    assert network_bans(store) == 0
    store.record(NOW, [BAN])
    assert network_bans(store) == 1


def test_a_peers_ban_after_an_own_one_does_not_count_again(store: Store) -> None:
    day = 86400.0
    store.record(NOW - 2 * day, [replace(BAN, time=NOW - 2 * day, level=3)])
    store.record(NOW, [PEERS])
    assert network_bans(store) == 0
    past = store.past([KEY], NOW)[KEY]
    assert (past.offences, past.last_offence) == (3, NOW + 600)


def test_a_position_is_recorded_with_its_effect(store: Store) -> None:
    store.record(NOW, [PEERS], (), [StoredPosition("fleet:mx2", b"state")])
    assert store.positions.all()["fleet:mx2"].state == b"state"


def test_what_unban_all_unbanned_is_read_in_pieces(store: Store) -> None:
    """A row that another program altered ends no piece: what follows it is published too."""
    bans = [replace(BAN, subject=f"198.51.100.{n}") for n in range(10, 15)]
    store.record(NOW, bans)
    list(store.unbans.unban_scope("mx"))
    with store._database.transaction() as connection:
        connection.execute("UPDATE decision SET scope = 'x' WHERE number = 1")
    rows, looked = store.fleet.cleared(0, 5, "", NOW, 2)
    assert (subjects(rows), looked) == ([("release", "198.51.100.11")], 2)
    rows, looked = store.fleet.cleared(looked, 5, "", NOW, 4)
    assert (len(rows), looked) == (3, 5)


def test_a_row_that_another_program_altered_ends_no_piece_of_own_bans(store: Store) -> None:
    store.record(NOW, [replace(BAN, subject=f"198.51.100.{n}") for n in range(10, 15)])
    with store._database.transaction() as connection:
        connection.execute("UPDATE active SET level = 'x' WHERE number = 1")
    rows, end = store.fleet.own(0, NOW, 2)
    assert (subjects(rows), end) == ([("ban", "198.51.100.11")], 2)
    rows, end = store.fleet.own(2, NOW, 4)
    assert (len(rows), end) == (3, None)
