"""A fleet of two hosts in one process: see `lab.fleet.streams`."""

import asyncio
from itertools import pairwise

import pytest
from msgspec.structs import replace

from lab.fleet.streams import NOW, SECRET, SERVER, WALL, Host, kinds
from throttled.clock import Moment
from throttled.config.fleet import Fleet as Settings
from throttled.core import extended
from throttled.core.inbox import BURST, PEERS, SLICE
from throttled.core.outbox import CLEARED, unbanned_all_offline
from throttled.decide.protect import Protection
from throttled.facts import Facts
from throttled.fleet import frames, wire
from throttled.fleet.frames import Down, Names, Up
from throttled.fleet.wire import Ban, Entry, Row, Seal, Unban
from throttled.model import Decision, Evidence, Scope
from throttled.store.store import StoredPosition

A, B = "198.51.100.7", "203.0.113.9"
KEY: tuple[str, Scope] = (A, "mx")
BAN = Decision(WALL, "ban", A, "mx", "errors", 1, WALL + 600, "because", 56, 50)
ROW = Ban(A, "mx", 600, "errors", 1, 56, 50)


def test_a_ban_goes_to_the_other_host_and_not_back(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    two.hear(one)
    assert two.bans() == {A: "peer:mx1"}
    assert [d.origin for d in two.announced] == ["peer:mx1"]
    two.publish()
    assert kinds(two) == ["heartbeat"]


def test_reading_twice_changes_nothing(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    two.hear(one)
    before = two.store.decisions("")
    two.hear(one)
    two.start()
    two.connect()
    two.hear(one)
    assert two.store.decisions("") == before
    assert two.fleet.inbox.received["mx1", "old"] == 0  # read again for the names alone
    two.hear(one)
    assert two.fleet.inbox.received["mx1", "old"] == len(one.stream)


def test_only_the_servers_clock_counts(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    hour = Moment(WALL + 3600, NOW.boot)
    two.hear(one, hour, SERVER + 100_000)
    (row,) = two.store.listing.snapshots(hour.wall)
    assert 499 <= row.until - hour.wall <= 501


def test_an_operators_unban_is_one_for_all(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    two.hear(one)
    two.pipeline.unban(A, None, NOW, WALL + 600)
    two.publish()
    one.hear(two)
    assert one.bans() == {}
    assert one.store.past([KEY], WALL)[KEY].exempt_until == WALL + 600
    one.publish()
    assert "unban" not in kinds(one)


def test_an_exemption_of_a_peer_ends_after_an_hour(one: Host, two: Host) -> None:
    one.say(1, Unban(A, "mx", 10**8), kind="unban")
    two.hear(one)
    assert two.store.past([KEY], WALL)[KEY].exempt_until == WALL + 3600


def test_own_decisions_may_be_kept_from_peers_unbans() -> None:
    host, other = Host("mx2", Settings(site="lab", unban=False)), Host("mx1")
    host.connect()
    host.pipeline.decide([BAN, replace(BAN, subject=B, origin="peer:mx3")], NOW)
    other.say(1, Unban(A, "mx"), Unban(B, "mx"), Unban("xx", "mx"), kind="unban")
    host.hear(other)
    assert host.bans() == {A: "log"}
    counts = host.fleet.inbox.received
    assert [counts["mx1", o] for o in ("kept", "unbanned", "refused")] == [1, 1, 1]


def test_mass_unbans_are_cut(one: Host, two: Host) -> None:
    bans = [replace(BAN, subject=f"198.18.0.{n}") for n in range(200)]
    two.pipeline.decide(bans, NOW)
    one.say(1, *(Unban(b.subject, "mx") for b in bans), kind="unban")
    two.hear(one)
    assert len(two.bans()) == 100
    assert two.fleet.inbox.received["mx1", "too-many"] == 100


def test_forged_entries_are_counted_and_many_stop_the_reading(one: Host, two: Host) -> None:
    one.seal = Seal(b"t" * 32, "lab", "mx1")
    for number in range(1, 101):
        one.say(number, ROW)
    two.hear(one)
    assert two.bans() == {}
    assert two.health() == {"fleet-forged:mx1"}
    read = two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    assert read is not None
    assert read.after == {}
    later = Moment(WALL + 61, NOW.boot + 61)
    read = two.fleet.named(Names({"mx1": one.stream[-1][0]}), later)
    assert read is not None
    assert read.after == {"mx1": one.stream[-1][0]}


def test_an_entry_of_another_peer_is_forged(one: Host, two: Host) -> None:
    one.seal = Seal(SECRET, "lab", "mx3")
    one.say(1, ROW)
    two.hear(one)
    assert (two.bans(), two.fleet.inbox.received["mx1", "forged"]) == ({}, 1)


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, subject="0.0.0.0/0", limit="operator"),
        replace(ROW, subject="198.0.0.0/8", limit="operator"),
        replace(ROW, subject="64:ff9b::/96", limit="operator"),
        replace(ROW, subject="::ffff:0:0/96", limit="operator"),
        replace(ROW, subject="2002:c633::/48", limit="operator"),
        replace(ROW, subject="127.0.0.1"),
        replace(ROW, subject="account:alice"),
        replace(ROW, subject="\x1b[2J", value=1 << 53),
        replace(ROW, seconds=0),
    ],
)
def test_a_hostile_peer_is_bounded(one: Host, two: Host, row: Ban) -> None:
    one.say(1, row)
    two.hear(one)
    assert two.bans() == {}


def test_ten_of_each_network_are_no_decision_about_it(one: Host, two: Host) -> None:
    one.say(1, *(replace(ROW, subject=f"198.51.100.{n}") for n in range(20, 120)))
    two.hear(one)
    assert len(two.bans()) == 100
    two.pipeline.decide([BAN], NOW)
    assert not any("/" in subject for subject in two.bans())
    key: tuple[str, Scope] = ("198.51.100.0/24", "mx")
    assert two.store.network_past([key], WALL)[key].banned == 1


def test_no_more_than_the_most() -> None:
    host, other = Host("mx2", Settings(site="lab", most=3)), Host("mx1")
    host.connect()
    other.say(1, *(replace(ROW, subject=f"198.51.100.{n}") for n in range(5)))
    host.hear(other)
    assert len(host.bans()) == 3
    assert "fleet-most:mx1" in host.health()


def test_too_many_rows_have_to_wait(one: Host, two: Host) -> None:
    for number in range(1, 203):
        one.say(number, *[replace(ROW, subject="xx")] * 500, before=number - 1)
    waits = two.hear(one)
    assert waits[int(BURST / 500) - 1] == 0.0
    assert waits[-1] == pytest.approx(0.2)


def test_a_missing_entry_is_a_gap(one: Host, two: Host) -> None:
    one.say(5, ROW)
    one.say(9, ROW, before=7)
    two.hear(one)
    assert two.health() == {"fleet-gap:mx1"}


def test_what_is_too_long_to_be_read_is_named(one: Host, two: Host) -> None:
    one.say(1, ROW)
    two.hear(one)
    two.fleet.named(Names({}, too_long=["mx1", "mx2", "mx9", "x y"], crowded=True), NOW)
    # mx9 never was read, as an entry of it was too long before.
    assert two.health() == {"fleet-long:mx1", "fleet-long:mx9", "fleet-crowded"}
    two.fleet.named(Names({}), NOW)
    assert two.health() == set()


def test_a_silent_peer_is_named(one: Host, two: Host) -> None:
    one.say(1, ROW)
    two.hear(one)
    assert two.health() == set()
    assert two.health(181.0) == {"fleet-silent:mx1"}


def test_what_a_server_lost_is_published_again(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    one.stream.clear()
    one.connect()
    one.publish()
    assert kinds(one)[0] == "ban"
    two.hear(one)
    assert two.bans() == {A: "peer:mx1"}


def test_unbans_that_a_lost_server_missed_are_published_too(one: Host, two: Host) -> None:
    one.pipeline.decide([BAN, replace(BAN, subject=B)], NOW)
    one.publish()
    two.hear(one)
    one.pipeline.unban(A, None, NOW)
    one.stream.clear()
    one.start()
    one.connect()
    one.publish()
    two.hear(one)
    assert two.bans() == {B: "peer:mx1"}


def test_a_write_that_timed_out_and_was_done_is_not_sent_again(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    while (entry := one.fleet.next(NOW)) is not None:
        one.add(entry)
        if kinds(one)[-1] == "ban":
            break
        one.fleet.added(NOW)
    one.fleet.lost(Down("unreachable", "timed out"), NOW)
    later = Moment(WALL + 6, NOW.boot + 6)
    one.connect(later)
    one.publish(later)
    assert kinds(one).count("ban") == 1


def test_a_refused_entry_is_sent_again(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    assert one.fleet.next(NOW) is not None
    one.fleet.lost(Down("full", "OOM"), NOW)
    assert one.fleet.next(NOW) is None
    assert one.health(11.0) == {"fleet-full"}
    one.publish(Moment(WALL + 6, NOW.boot + 6))
    assert kinds(one)[0] == "ban"
    assert one.health(11.0) == set()


def test_after_a_restart_publishing_goes_on(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    one.start()
    one.pipeline.decide([replace(BAN, subject=B)], NOW)
    one.connect()
    one.publish()
    rows = [wire.decode(one.seal, *e[1:]).rows for e in one.stream]
    assert [r.subject for each in rows for r in each if isinstance(r, Ban)] == [A, B]


@pytest.mark.parametrize(
    ("share", "kind"), [((), "ban"), (("unbans",), "ban"), (("bans",), "unban")]
)
def test_what_is_not_to_be_shared_is_not(share: tuple[str, ...], kind: str) -> None:
    host = Host("mx1", Settings(site="lab", share=share))  # type: ignore[arg-type]
    host.connect()
    host.pipeline.decide([BAN], NOW)
    host.publish()
    host.pipeline.unban(A, None, NOW)
    host.publish()
    assert kind not in kinds(host)


def test_a_lost_stream_is_read_from_its_first_entry(one: Host, two: Host) -> None:
    one.say(1, ROW)
    two.hear(one)
    read = two.fleet.named(Names({"mx1": "5-0"}), NOW)
    assert read is not None
    assert wire.place(read.after["mx1"]) < wire.place(one.stream[0][0])


def test_names_are_bounded_and_checked(two: Host) -> None:
    names = {f"host{n}": "0-0" for n in range(PEERS + 10)}
    two.fleet.named(Names({"mx2": "0-0", "../x": "0-0", "": "0-0", **names}), NOW)
    assert len(two.fleet.inbox.peers) == PEERS
    assert {"mx2", "../x", ""}.isdisjoint(two.fleet.inbox.peers)


def test_only_named_peers() -> None:
    host = Host("mx2", Settings(site="lab", peers=("mx1",)))
    host.connect()
    host.fleet.named(Names({"mx1": "0-0", "mx3": "0-0"}), NOW)
    assert set(host.fleet.inbox.peers) == {"mx1"}
    assert list(host.fleet.inbox.steps("mx3", SERVER, [("1-0", b"", b"")], lambda: NOW)) == []


async def _remove(host: Host) -> int:
    return await host.fleet.remove("mx1", lambda: NOW)


def test_a_distrusted_peer_is_removed_and_not_listened_to(one: Host, two: Host) -> None:
    one.say(1, ROW, replace(ROW, subject=B))
    two.hear(one)
    two.fleet.distrust("mx1", NOW)
    assert asyncio.run(_remove(two)) == 2
    assert two.bans() == {}
    one.say(2, ROW, before=1)
    two.hear(one)
    assert two.bans() == {}
    two.fleet.trust("mx1", NOW)
    two.hear(one)
    assert two.bans() == {A: "peer:mx1"}


def rows(count: int) -> list[Ban]:
    return [replace(ROW, subject=f"198.18.{n >> 8}.{n & 255}") for n in range(count)]


def test_a_catch_up_is_processed_in_slices_and_its_position_comes_last(
    one: Host, two: Host
) -> None:
    """Own lines come in between; a kill in between loses nothing, as no position is ahead."""
    for number, at in enumerate(range(0, 3 * SLICE, SLICE), 1):
        one.say(number, *reversed(rows(3 * SLICE)[at : at + SLICE]), before=number - 1)
    two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    steps = two.fleet.inbox.steps("mx1", SERVER, one.stream, lambda: NOW)
    seen = [(len(two.bans()), "fleet:mx1" in two.store.positions.all()) for _ in steps]
    counts = [count for count, _ in seen]
    assert max(b - a for a, b in pairwise(counts)) == SLICE
    assert [done for _, done in seen].count(True) == 1
    assert seen[-1] == (3 * SLICE, True)
    two.start()
    two.connect()
    two.hear(one)
    assert two.fleet.inbox.received["mx1", "banned"] == 0


def test_what_is_in_between_bans_keeps_its_place(one: Host, two: Host) -> None:
    one.say(1, ROW)
    one.say(2, Unban(A, "mx"), kind="unban", before=1)
    one.say(3, replace(ROW, subject=B), before=2)
    two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    for _ in two.fleet.inbox.steps("mx1", SERVER, one.stream, lambda: NOW):
        pass
    assert two.bans() == {B: "peer:mx1"}


def test_a_peer_that_is_distrusted_meanwhile_is_processed_no_further(one: Host, two: Host) -> None:
    one.say(1, *rows(800)[:400])
    one.say(2, *rows(800)[400:], before=1)
    two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    for _ in two.fleet.inbox.steps("mx1", SERVER, one.stream, lambda: NOW):
        if two.bans():
            two.fleet.distrust("mx1", NOW)
    assert len(two.bans()) == SLICE


def test_a_peer_whose_entries_are_not_processed_is_behind(one: Host, two: Host) -> None:
    one.say(1, ROW)
    two.hear(one)
    two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    for seconds in (0, 10, 80):
        later = Moment(WALL + seconds, NOW.boot + seconds)
        two.fleet.named(Names({"mx1": f"{SERVER + 90_000}-0"}), later)
    assert "fleet-behind:mx1" not in two.health(60)
    assert "fleet-behind:mx1" in two.health(80)
    entry = f"{SERVER + 90_000}-0", *wire.encode(one.seal, Entry(2, 1, "ban", [ROW]))
    assert list(two.fleet.inbox.steps("mx1", SERVER, [entry], lambda: later))
    two.fleet.named(Names({"mx1": f"{SERVER + 90_000}-0"}), later)
    assert "fleet-behind:mx1" not in two.health(200)


def test_a_peer_is_read_again_after_it_was_distrusted_for_a_moment(one: Host, two: Host) -> None:
    """The process may be ahead: what it passed on meanwhile was not processed."""
    one.say(1, ROW)
    two.hear(one)
    two.fleet.distrust("mx1", NOW)
    two.fleet.trust("mx1", NOW)
    assert two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW) is not None


def test_what_a_host_published_while_it_was_distrusted_is_read_after_that(
    one: Host, two: Host
) -> None:
    one.say(1, ROW)
    two.hear(one)
    two.fleet.distrust("mx1", NOW)
    one.say(2, replace(ROW, subject=B), before=1)
    assert not list(two.fleet.inbox.steps("mx1", SERVER, one.stream[-1:], lambda: NOW))
    two.fleet.trust("mx1", NOW)
    read = two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    assert read is not None
    assert wire.place(read.after["mx1"]) <= wire.place(one.stream[0][0])


def test_a_connection_that_never_lasts_is_a_finding(one: Host) -> None:
    for second in range(0, 40, 5):
        now = Moment(WALL + second, NOW.boot + second)
        one.connect(now)
        one.fleet.named(Names({}), now)
        one.fleet.lost(Down("refused", "no permission to read"), now)
    assert one.health(36.0) == {"fleet-refused"}
    one.connect(Moment(WALL + 40, NOW.boot + 40))
    assert one.health(40.0) == set()
    one.fleet.named(Names({}), Moment(WALL + 50, NOW.boot + 50))
    one.fleet.lost(Down("unreachable", "it was restarted"), Moment(WALL + 51, NOW.boot + 51))
    assert one.health(52.0) == set()
    assert one.health(62.0) == {"fleet-unreachable"}


def test_after_an_outage_what_was_decided_is_published_at_once(one: Host) -> None:
    one.fleet.lost(Down("unreachable", "killed"), NOW)
    one.pipeline.decide([BAN], NOW)
    one.connect()
    one.publish()
    assert kinds(one)[0] == "ban"


def test_a_heartbeat_a_minute_with_another_secret_is_one_finding(one: Host, two: Host) -> None:
    one.seal = Seal(b"t" * 32, "lab", "mx1")
    one.say(1, ROW)
    two.hear(one)
    assert two.health() == {"fleet-forged:mx1"}
    assert two.health(61.0) == {"fleet-forged:mx1"}
    assert two.health(181.0) == {"fleet-silent:mx1"}


def test_unban_all_is_published_at_the_pace_that_peers_take(one: Host, two: Host) -> None:
    bans = [replace(BAN, subject=f"198.18.0.{n}") for n in range(200)]
    others = [
        replace(BAN, subject="203.0.113.1", origin="peer:mx3"),
        replace(BAN, subject="account:alice"),
        replace(BAN, subject="203.0.113.2", scope="submission"),
    ]
    one.pipeline.decide([*bans, *others], NOW)
    one.publish()
    two.hear(one)
    one.pipeline.unban("", "mx", NOW)
    assert one.fleet.outbox.unbanned_all("mx", NOW)
    one.pipeline.decide([replace(BAN, subject="198.18.0.7", time=WALL + 1)], NOW)  # again
    found: list[Row] = []
    for seconds in (0, 30, 70, 140, 210):
        if seconds == 70:
            one.start()  # a kill loses nothing
        later = Moment(WALL + seconds, NOW.boot + seconds)
        one.connect(later)
        known = len(one.stream)
        one.publish(later)
        entries = [wire.decode(one.seal, *each[1:]) for each in one.stream[known:]]
        assert sum(len(e.rows) for e in entries if e.kind == "unban") <= CLEARED
        found += [row for e in entries if e.kind == "unban" for row in e.rows]
        two.hear(one, later)
    unbanned = {row.subject for row in found if isinstance(row, Unban)}
    assert unbanned == {b.subject for b in bans if b.subject != "198.18.0.7"} | {"203.0.113.1"}
    assert two.bans(NOW) == {"203.0.113.2": "peer:mx1", "198.18.0.7": "peer:mx1"}
    assert two.fleet.inbox.received["mx1", "too-many"] == 0
    assert "fleet-unbans:mx1" not in two.health()


def test_bans_of_before_an_unban_all_are_not_published_after_it(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.pipeline.unban("", None, NOW)
    one.publish()
    assert kinds(one) == ["heartbeat"]


@pytest.mark.parametrize("published", [True, False])
def test_unban_all_without_a_daemon_is_published_at_its_start(
    one: Host, two: Host, *, published: bool
) -> None:
    one.pipeline.decide([BAN, replace(BAN, subject=B, scope="submission")], NOW)
    one.publish()
    two.hear(one)
    one.pipeline.unban("", "mx", NOW)
    if not published:
        one.store.record(WALL, (), (), [StoredPosition("fleet", b"")])
    assert unbanned_all_offline(one.store, one.settings, "mx", WALL)
    one.start()
    one.connect()
    one.publish()
    two.hear(one)
    assert two.bans() == {B: "peer:mx1"}
    for other in (Settings(), Settings(site="lab", share=("bans",))):
        assert not unbanned_all_offline(one.store, other, None, WALL)


def test_unban_all_stays_here_where_unbans_are_not_shared() -> None:
    host = Host("mx1", Settings(site="lab", share=("bans",)))
    assert not host.fleet.outbox.unbanned_all(None, NOW)


def test_too_many_unbans_are_a_finding(one: Host, two: Host) -> None:
    one.say(1, *(Unban(f"198.18.0.{n}", "mx") for n in range(101)), kind="unban")
    two.hear(one)
    assert "fleet-unbans:mx1" in two.health()
    assert "fleet-unbans:mx1" not in two.health(601)


def test_an_emptied_server_is_filled_again(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    last = one.stream[-1]
    one.stream.clear()
    one.fleet.connected(Up(SERVER, frames.Server(), last, emptied=True), NOW)
    one.publish()
    assert kinds(one) == ["ban"]


def test_a_peer_with_many_forged_entries_waits_with_the_next(one: Host, two: Host) -> None:
    one.seal = Seal(b"t" * 32, "lab", "mx1")
    for number in range(1, 101):
        one.say(number, ROW)
    assert two.hear(one)[-2:] == [0.0, 60.0]


def test_after_a_restart_a_peer_is_read_before_it_is_announced(one: Host, two: Host) -> None:
    one.say(1, ROW)
    two.hear(one)
    two.start()
    two.connect()
    read = two.fleet.named(Names({}), NOW)
    assert read is not None
    assert wire.place(read.after["mx1"]) <= wire.place(one.stream[0][0])  # names count again


def test_an_unban_of_a_peer_is_in_the_audit_record_and_the_journal(one: Host, two: Host) -> None:
    two.pipeline.decide([BAN], NOW)
    one.say(1, Unban(A, "mx", 60), kind="unban")
    two.hear(one)
    (change,) = two.store.audit.changes(0.0, [A], 10)
    assert (change.user, change.op, change.subject) == ("peer:mx1", "unban", A)
    assert change.outcome == "unbanned by an operator of mx1"
    assert [d.origin for d in two.announced] == ["peer:mx1"]


def test_an_unban_that_is_read_before_the_ban_counts_too(one: Host, two: Host) -> None:
    third = Host("mx3")
    third.connect()
    one.say(1, ROW)
    two.say(1, Unban(A, "mx"), kind="unban")
    two.stream[0] = (f"{SERVER + 1000}-0", *two.stream[0][1:])  # a second after the ban
    third.hear(two)
    third.hear(one)
    assert third.bans() == {}


def test_a_network_with_a_good_sender_who_is_throttled_is_throttled(one: Host, two: Host) -> None:
    two.store.record(WALL, (), [Evidence(A, WALL - 86400, 0, 2)])
    one.say(1, ROW)
    network = replace(ROW, subject="198.51.100.0/24", limit="operator")
    one.say(2, network, replace(network, subject="203.0.113.0/24"), before=1)
    two.hear(one)
    assert two.bans() == {"203.0.113.0/24": "peer:mx1"}
    active = {row.subject: row.action for row in two.store.listing.snapshots(WALL)}
    assert active[A] == active["198.51.100.0/24"] == "throttle"


def test_an_emptied_server_is_filled_though_an_entry_was_on_its_way(one: Host) -> None:
    one.pipeline.decide([BAN], NOW)
    one.publish()
    one.pipeline.decide([replace(BAN, subject=B)], NOW)
    sent = one.fleet.next(NOW)
    assert sent is not None
    one.stream.clear()
    one.add(sent)  # it was written, and the answer did not come
    emptied = Up(SERVER, frames.Server(), one.stream[-1], emptied=True)
    one.fleet.connected(emptied, NOW)
    one.start()  # killed before it published anything again
    one.connect()
    one.publish()
    rows = [wire.decode(one.seal, *e[1:]).rows for e in one.stream]
    assert A in {r.subject for each in rows for r in each if isinstance(r, Ban)}


def test_an_unreadable_row_does_not_end_publishing_again(one: Host) -> None:
    one.pipeline.decide(
        [replace(BAN, subject=f"198.18.{n >> 8}.{n & 255}") for n in range(600)], NOW
    )
    one.publish()
    connection = one.store._database.connection
    connection.execute("UPDATE active SET level = 'x' WHERE number = 3")
    one.stream.clear()
    one.connect()
    one.publish()
    entries = [wire.decode(one.seal, *each[1:]) for each in one.stream]
    assert sum(len(e.rows) for e in entries if e.kind == "ban") == 599


@pytest.mark.parametrize(
    ("own", "left"),
    [
        (BAN, [("ban", "log", WALL + 300)]),
        (replace(BAN, action="throttle", level=0), [("throttle", "log", WALL + 300)]),
        (replace(BAN, origin="operator", limit="operator"), [("ban", "operator", WALL + 300)]),
        (replace(BAN, origin="list:drop"), [("ban", "list:drop", WALL + 300)]),
        (replace(BAN, origin="peer:mx3"), [("ban", "peer:mx3", WALL + 300)]),
        (
            replace(BAN, origin="peer:mx3", action="throttle"),
            [("throttle", "peer:mx3", WALL + 300)],
        ),
    ],
)
def test_removing_what_a_peer_extended_leaves_what_others_decided(
    one: Host, two: Host, own: Decision, left: list[tuple[str, str, float]]
) -> None:
    two.pipeline.decide([replace(own, until=WALL + 300)], NOW)
    one.say(1, ROW, replace(ROW, subject=B))
    two.hear(one)
    assert two.bans() == dict.fromkeys((A, B), "peer:mx1")
    later = Moment(WALL + 10, NOW.boot + 10)
    assert asyncio.run(two.fleet.remove("mx1", lambda: later)) == 2
    rows = two.store.listing.snapshots(later.wall)
    assert [(r.action, r.origin, r.until) for r in rows] == left
    backend = two.pipeline.enforcer.backend
    assert backend is not None
    assert {(e.subject, e.action) for e in backend.dump()} == {(A, a) for a, *_ in left}


def test_removing_a_peer_leaves_the_strongest_of_what_others_decided(one: Host, two: Host) -> None:
    """Each of them in turn, whoever's the entry is; of what two say the ban is more."""
    two.pipeline.decide([replace(BAN, action="throttle", level=0, until=WALL + 500)], NOW)
    two.pipeline.decide([replace(BAN, origin="peer:mx3", until=WALL + 200)], NOW)
    two.pipeline.decide([replace(BAN, origin="list:drop", until=WALL + 300)], NOW)
    one.say(1, ROW)
    two.hear(one)

    def owner() -> list[tuple[str, str, float]]:
        return [(r.action, r.origin, r.until) for r in two.store.listing.snapshots(WALL)]

    assert owner() == [("ban", "peer:mx1", WALL + 600)]
    asyncio.run(two.fleet.remove("mx1", lambda: NOW))
    assert owner() == [("ban", "list:drop", WALL + 300)]
    two.store.claims.remove("drop")
    two.pipeline.decide([replace(BAN, origin="peer:mx4", until=WALL + 400)], NOW)
    two.store.claims.remove("drop")
    asyncio.run(two.fleet.remove("mx4", lambda: NOW))
    assert owner() == [("ban", "peer:mx3", WALL + 200)]
    asyncio.run(two.fleet.remove("mx3", lambda: NOW))
    assert owner() == [("throttle", "log", WALL + 500)]


def test_what_a_removed_peer_decided_is_not_active_again(one: Host, two: Host) -> None:
    """It was removed while another peer's ban was in its place."""
    two.pipeline.decide([replace(BAN, origin="peer:mx3", until=WALL + 300)], NOW)
    one.say(1, ROW)
    two.hear(one)
    assert asyncio.run(two.fleet.remove("mx3", lambda: at(1))) == 0
    assert asyncio.run(two.fleet.remove("mx1", lambda: at(2))) == 1
    assert two.bans() == {}
    again = replace(BAN, time=WALL + 3, origin="peer:mx3", until=WALL + 300)
    two.pipeline.decide([again], at(3))
    two.pipeline.decide([replace(again, origin="peer:mx1", until=WALL + 600)], at(3))
    asyncio.run(two.fleet.remove("mx1", lambda: at(4)))
    assert two.bans() == {A: "peer:mx3"}
    two.store.known.put("fleet-removed", b"\xc1", WALL)  # altered
    assert extended.removed(two.store, WALL) == {}


def test_who_is_protected_now_is_not_banned_again(one: Host, two: Host) -> None:
    two.pipeline.decide([replace(BAN, until=WALL + 300)], NOW)
    one.say(1, ROW)
    two.hear(one)
    facts = Facts(mynetworks=("198.51.100.0/24",))
    two.pipeline.ladder.protection = Protection.of(facts, two.pipeline.ladder.policy.protect)
    asyncio.run(two.fleet.remove("mx1", lambda: NOW))
    assert two.bans() == {}


@pytest.mark.parametrize(("clock", "left"), [(0.0, {A: "log"}), (3600.0, {})])
def test_unbans_and_bans_of_before_the_clock_was_set_back(
    one: Host, two: Host, clock: float, left: dict[str, str]
) -> None:
    """An unban of later than now ends no ban; one of now ends a ban of later than now."""
    if clock:
        two.pipeline.decide([replace(BAN, time=WALL + clock, until=WALL + 7200)], at(clock))
        two.pipeline.unban("", None, NOW)  # leaves nothing in the history
        two.pipeline.recorder.store._database.connection.execute("DELETE FROM active")
    else:
        two.pipeline.unban(B, None, at(3600))
        two.pipeline.unban("", "mx", at(3600))
        two.pipeline.decide([BAN], NOW)
    one.say(1, replace(ROW, seconds=9000))
    two.hear(one)
    assert two.bans() == {A: "peer:mx1"}
    asyncio.run(two.fleet.remove("mx1", lambda: NOW))
    assert two.bans() == left


@pytest.mark.parametrize("scope", ["mx", None])
def test_an_own_ban_that_was_unbanned_is_not_active_again(
    one: Host, two: Host, scope: Scope | None
) -> None:
    two.pipeline.decide([BAN], NOW)
    two.pipeline.unban("" if scope is None else A, scope, Moment(WALL + 1, NOW.boot + 1))
    one.say(1, replace(ROW, seconds=900))
    later = Moment(WALL + 2, NOW.boot + 2)
    two.hear(one, later, SERVER)
    assert two.bans(later) == {A: "peer:mx1"}
    asyncio.run(two.fleet.remove("mx1", lambda: later))
    assert two.bans(later) == {}


def at(seconds: float) -> Moment:
    return Moment(WALL + seconds, NOW.boot + seconds)


def test_a_late_unban_leaves_a_newer_own_ban(one: Host, two: Host) -> None:
    """A host that was offline reads unbans of before what its own log led to."""
    one.say(1, Unban(A, "mx"), Unban(B, "mx", 3600), kind="unban")
    for subject in (A, B):
        two.pipeline.decide([replace(BAN, subject=subject, time=WALL + 60, until=WALL + 900)], NOW)
    two.hear(one, at(120), SERVER + 120_000)
    assert two.bans(at(120)) == {A: "log"}  # the other is still exempt
    counts = two.fleet.inbox.received
    assert [counts["mx1", o] for o in ("kept", "unbanned")] == [1, 1]


@pytest.mark.parametrize("extended", [False, True])
def test_an_unban_of_an_own_ban_of_before_the_clock_was_set_back(
    one: Host, two: Host, *, extended: bool
) -> None:
    """A peer's operator unbans what this host banned while its clock was an hour ahead."""
    two.pipeline.decide([replace(BAN, time=WALL + 3600, until=WALL + 7200)], at(-60))
    if extended:
        one.say(1, replace(ROW, seconds=9000))
    one.say(2, Unban(A, "mx"), kind="unban", before=1)
    two.hear(one)
    assert two.bans() == {}


@pytest.mark.parametrize("unban", [True, False])
def test_an_unban_of_what_extends_an_own_ban_that_stays(one: Host, *, unban: bool) -> None:
    two = Host("mx2", Settings(site="lab", unban=unban))
    two.connect()
    time = WALL + (60 if unban else -60)  # newer than the unban
    two.pipeline.decide([replace(BAN, time=time, until=WALL + 400)], NOW)
    one.say(1, replace(ROW, seconds=900))
    one.say(2, Unban(A, "mx"), kind="unban", before=1)
    two.hear(one, at(120), SERVER + 120_000)
    (row,) = two.store.listing.snapshots(at(120).wall)
    assert (row.origin, row.until) == ("log", WALL + 400)


def test_an_unban_that_was_recorded_is_not_read_again_after_a_kill(one: Host, two: Host) -> None:
    one.say(1, ROW)
    one.say(2, Unban(A, "mx"), kind="unban", before=1)
    two.fleet.named(Names({"mx1": one.stream[-1][0]}), NOW)
    for _ in two.fleet.inbox.steps("mx1", SERVER, one.stream, lambda: NOW):
        if not two.bans() and two.store.fleet.unbanned_since([KEY], 0.0, WALL):
            break  # killed
    two.start()
    two.pipeline.decide([replace(BAN, origin="peer:mx3")], NOW)
    two.connect()
    two.hear(one)
    assert two.bans() == {A: "peer:mx3"}


@pytest.mark.parametrize("subject", [A, ""])
def test_an_earlier_ban_has_no_effect_after_an_unban_and_a_restart(
    one: Host, two: Host, subject: str
) -> None:
    """An operator's here, of one or all, or a peer's; a later ban has one."""
    one.say(1, ROW)
    one.say(2, ROW, before=1)
    one.stream[1] = (f"{SERVER + 60_000}-0", *one.stream[1][1:])
    third = Host("mx3")
    third.connect()
    third.say(1, Unban(A, "mx"), kind="unban")
    third.stream[0] = (f"{SERVER + 30_000}-0", *third.stream[0][1:])
    two.pipeline.unban(subject, None, at(30))
    other = Host("mx4")
    for host, unban in ((two, None), (other, third)):
        host.connect()
        if unban is not None:
            host.hear(unban, at(120), SERVER + 120_000)
        host.start()
        host.connect()
        first, *rest = one.stream
        one.stream = [first]
        host.hear(one, at(120), SERVER + 120_000)
        assert host.bans(at(120)) == {}
        assert host.fleet.inbox.received["mx1", "unbanned-since"] == 1
        one.stream = [first, *rest]
        host.hear(one, at(120), SERVER + 120_000)
        assert host.bans(at(120)) == {A: "peer:mx1"}


def test_a_peers_unban_shortens_no_exemption(one: Host, two: Host) -> None:
    two.pipeline.unban(A, None, NOW, WALL + 86400)
    one.say(1, Unban(A, "mx", 60), kind="unban")
    two.hear(one)
    assert two.store.past([KEY], WALL)[KEY].exempt_until == WALL + 86400


def test_an_unban_of_before_the_clock_was_set_back_hides_no_ban(one: Host, two: Host) -> None:
    two.pipeline.unban(A, None, at(3600))
    one.say(1, ROW)
    two.hear(one)
    assert two.bans() == {A: "peer:mx1"}


def share_stream(one: Host, other: Host) -> None:
    """Let two hosts write into the same stream."""
    other.stream = one.stream


def look(host: Host, now: Moment, *, own: str = "") -> None:
    """Let a host look at its stream, as the fleet process does: the latest that it did not add."""
    other = next((e for e in reversed(host.stream) if e[0] != own), None)
    host.fleet.named(Names({}, other=other), now)


def test_two_hosts_of_one_name_publish_heartbeats_alone(one: Host) -> None:
    double = Host("mx1")
    share_stream(one, double)
    one.publish()
    double.connect()
    double.pipeline.decide([BAN], NOW)
    double.publish()
    assert kinds(one) == ["heartbeat", "ban", "heartbeat"]
    look(one, NOW)
    assert one.health() == {"fleet-name"}
    one.pipeline.decide([replace(BAN, subject=B)], NOW)
    one.publish(at(61))
    assert kinds(one)[3:] == ["heartbeat"]
    look(double, at(61))
    assert double.health(61) == {"fleet-name"}
    look(double, at(70))  # the same entry
    assert "fleet-name" in double.health(260)
    assert "fleet-name" not in double.health(262)
    one.start()  # with another name
    look(double, at(280))
    double.pipeline.decide([replace(BAN, subject="203.0.113.8", time=WALL + 280)], at(280))
    double.publish(at(280))
    assert kinds(one)[4:] == ["ban", "ban", "heartbeat"]  # the first one again


def test_what_was_decided_meanwhile_is_published_later(one: Host) -> None:
    double = Host("mx1")
    share_stream(one, double)
    double.connect()
    double.publish()
    look(one, NOW)
    one.pipeline.decide([BAN], NOW)
    one.publish()
    assert kinds(one) == ["heartbeat", "heartbeat"]
    one.publish(at(201))
    assert kinds(one)[2] == "ban"


@pytest.mark.parametrize("restart", [False, True])
def test_peers_read_on_after_a_second_host_whose_clock_was_ahead(
    one: Host, two: Host, *, restart: bool
) -> None:
    """A clone, for a minute, whose clock was a day ahead: what was ignored comes again."""
    double = Host("mx1")
    share_stream(one, double)
    double.connect()
    double.publish(at(86400))
    two.hear(one)
    one.pipeline.decide([BAN], NOW)
    one.publish()
    two.hear(one)
    assert two.bans() == {}
    assert one.fleet.next(at(60)) is not None  # a heartbeat, on its way
    one.fleet.named(Names({}, other=one.stream[0]), at(60))
    one.fleet.added(at(60))
    one.pipeline.decide([replace(BAN, subject=B)], at(60))
    if restart:
        one.start()
        one.connect(at(261))
    one.publish(at(261))
    two.hear(one, at(261))
    assert two.bans(at(261)) == {A: "peer:mx1", B: "peer:mx1"}


@pytest.mark.parametrize("restart", [False, True])
def test_the_highest_number_silences_no_host(one: Host, two: Host, *, restart: bool) -> None:
    """Who has the secret and may write to another's stream writes one that no other can follow."""
    one.publish()
    two.hear(one)
    one.say((1 << 63) - 1, replace(ROW, subject=B))
    two.hear(one)
    assert two.health() == {"fleet-forged:mx1"}
    if restart:
        one.start()
        one.connect()
    look(one, at(1))
    one.pipeline.decide([BAN], at(2))
    one.publish(at(2))
    two.hear(one, at(2), SERVER + 2000)
    assert two.bans() == {A: "peer:mx1"}


def test_own_entries_of_before_that_are_written_again_are_no_other_host(one: Host) -> None:
    """By a peer that the server's ACL lets do it, or where a backup of the server is restored."""
    one.publish()
    _, data, mac = one.stream.pop()
    one.start()
    one.connect()
    one.stream.append((f"{SERVER + 1000}-0", data, mac))
    look(one, NOW)
    one.connect(at(1))
    assert one.health() == set()


def test_an_earlier_start_of_this_host_is_no_other_host(one: Host) -> None:
    one.publish()
    one.start()
    one.connect()
    look(one, NOW)
    one.publish(at(61))
    look(one, at(61))  # its own, whose answer is under way
    one.connect(at(62))
    assert one.health(62) == set()


def test_an_entry_of_nobody_in_the_own_stream_is_no_other_host(one: Host) -> None:
    for identity in ("", f"{SERVER + 5}-0"):
        one.fleet.named(Names({}, other=(identity, b"d", b"m")), NOW)
    assert one.health() == set()


def test_peers_see_that_two_hosts_have_one_name(one: Host, two: Host) -> None:
    double = Host("mx1")
    share_stream(one, double)
    double.connect()
    for seconds, host in ((0, one), (1, double), (62, one)):
        host.publish(at(seconds))
        two.hear(one, at(seconds))
    assert "fleet-name:mx1" in two.health(62)
    assert "fleet-name:mx1" not in two.health(700)


def test_a_restart_of_a_peer_is_no_second_host(one: Host, two: Host) -> None:
    for seconds in (0, 61, 122):
        one.start()
        one.connect(at(seconds))
        one.publish(at(seconds))
        two.hear(one, at(seconds))
    assert "fleet-name:mx1" not in two.health(122)
