from itertools import pairwise

from lab.daemon.decided import NOW, decide, many
from throttled.model import Action, Decision, Element, Entry
from throttled.store.store import Store


def test_all_that_is_in_force_comes_in_chunks(store: Store) -> None:
    store.record(NOW, many(25))
    chunks = list(store.active.entries(NOW + 1, chunk=10))
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    found = {entry.subject: entry.seconds for chunk in chunks for entry in chunk}
    assert found == {d.subject: d.until - NOW - 1 for d in many(25)}


def test_what_ended_is_left_out(store: Store) -> None:
    store.record(NOW, many(25))
    assert sum(len(chunk) for chunk in store.active.entries(NOW + 610, chunk=3)) == 14
    assert list(store.active.entries(NOW + 10_000)) == []


def test_writing_between_two_chunks_loses_nothing_else(store: Store) -> None:
    store.record(NOW, many(30))
    found: dict[str, Entry] = {}
    for chunk in store.active.entries(NOW, chunk=7):
        found.update((entry.subject, entry) for entry in chunk)
        if len(found) < 20:  # renewed, and so moved to the begin, which is over
            store.record(NOW, [decide("198.18.0.0", seconds=9000)])
    assert found.keys() == {f"198.18.0.{n}" for n in range(1, 30)}


def test_a_sample_is_of_what_is_in_force(store: Store) -> None:
    assert store.active.sample(NOW, 5) == []
    store.record(NOW, many(30))
    seen = [store.active.sample(NOW, 5) for _ in range(1000)]
    assert all(0 < len(some) <= 5 for some in seen)
    assert {e.subject for some in seen for e in some} == {d.subject for d in many(30)}
    assert store.active.sample(NOW + 1e6, 5) == []


def test_a_clock_that_went_back_lengthens_nothing(store: Store) -> None:
    store.record(NOW, [decide("198.51.100.1", seconds=600)])
    ((entry,),) = store.active.entries(NOW - 50_000)
    assert entry.seconds == 600


def test_what_expired_comes_in_order(store: Store) -> None:
    store.record(NOW, [*many(10), *(decide(f"203.0.113.{n}", seconds=605) for n in range(5))])
    first = [s for chunk in store.active.ended(NOW + 605, chunk=2) for s in chunk]
    second = [s for chunk in store.active.ended(NOW + 10_000, chunk=2) for s in chunk]
    assert len(first) == 6 + 5
    assert len(second) == 15, "what nobody dealt with comes again"
    assert all(a.until <= b.until for a, b in pairwise(second))
    assert first[0].until == NOW + 600
    assert len({s.subject for s in second}) == 15


def test_what_was_replaced_or_released_did_not_expire(store: Store) -> None:
    one, two = "198.51.100.1", "198.51.100.2"
    store.record(NOW, [decide(one), decide(two)])
    store.record(
        NOW + 600,
        [
            decide(one, "throttle", at=NOW + 600),
            Decision(NOW + 600, "release", two, "mx", "errors", 0, NOW + 600, "ran out"),
        ],
    )
    assert list(store.active.ended(NOW + 700)) == []


def test_recording_between_two_chunks_of_what_expired(store: Store) -> None:
    store.record(NOW, many(20))
    seen = []
    for chunk in store.active.ended(NOW + 1000, chunk=3):
        seen += [s.subject for s in chunk]
        store.record(NOW + 1000, [decide(s.subject, "throttle", at=NOW + 1000) for s in chunk])
    assert sorted(seen) == sorted(d.subject for d in many(20))


def test_counts_follow_every_change(store: Store) -> None:
    def counted(now: float) -> list[int]:
        counts = store.active.counts(now)
        assert list(counts) == [
            ("mx", "throttle"),
            ("mx", "ban"),
            ("mx", "exempt"),
            ("submission", "throttle"),
            ("submission", "ban"),
            ("submission", "exempt"),
        ]
        return list(counts.values())

    assert counted(NOW) == [0, 0, 0, 0, 0, 0]
    store.record(NOW, [decide("198.51.100.1", "throttle"), decide("198.51.100.2")])
    store.record(NOW, [decide("198.51.100.1", "throttle", "submission", seconds=900)])
    assert counted(NOW) == [1, 1, 0, 1, 0, 0]
    store.record(NOW, [decide("198.51.100.1")])
    assert counted(NOW) == [0, 2, 0, 1, 0, 0]
    store.record(NOW, [decide("198.51.100.3", "exempt", seconds=300)])
    assert counted(NOW) == [0, 2, 1, 1, 0, 0]
    assert counted(NOW + 600) == [0, 0, 0, 1, 0, 0]
    assert store.listing.total(NOW + 600) == 1
    store.unbans.unban("198.51.100.1", None, NOW)
    assert counted(NOW) == [0, 1, 1, 0, 0, 0]
    store.record(NOW, [decide("198.51.100.3", "throttle")])
    assert counted(NOW) == [1, 1, 0, 0, 0, 0]


A = "198.51.100.7"


def ban(at: float = NOW, seconds: float = 600, level: int = 1, subject: str = A) -> Decision:
    return Decision(at, "ban", subject, "mx", "errors", level, at + seconds, "banned")


def throttle(at: float = NOW, seconds: float = 600, subject: str = A) -> Decision:
    return Decision(at, "throttle", subject, "mx", "auth", 0, at + seconds, "throttled")


def release(at: float, subject: str = A) -> Decision:
    return Decision(at, "release", subject, "mx", "ladder", 0, at, "released")


def packets(store: Store, counter: int, action: Action = "ban") -> int:
    store.active.packets([Element(A, "mx", action, 1.0, counter)])
    return store.listing.snapshots(NOW)[0].packets


def test_packets_add_up_when_the_counter_begins_anew(store: Store) -> None:
    store.record(NOW, [ban()])
    assert packets(store, 5) == 5
    assert packets(store, 5) == 5
    assert packets(store, 9) == 9
    assert packets(store, 2) == 11
    assert packets(store, 3) == 12


def test_packets_are_kept_across_a_renewal(store: Store) -> None:
    store.record(NOW, [ban()])
    assert packets(store, 5) == 5
    store.record(NOW + 1, [ban(NOW + 1, level=2)])
    assert store.listing.snapshots(NOW + 1)[0].packets == 5
    assert packets(store, 7) == 7  # the kernel went on counting
    assert packets(store, 2) == 9  # and here it began at zero


def test_packets_begin_anew_with_another_action_or_after_a_pause(store: Store) -> None:
    store.record(NOW, [throttle()])
    assert packets(store, 5, "throttle") == 5
    store.record(NOW, [ban()])
    assert packets(store, 5, "throttle") == 0  # of the other set
    assert packets(store, 6) == 6
    store.record(NOW + 600, [ban(NOW + 600)])
    assert store.listing.snapshots(NOW + 600)[0].packets == 0


def test_counters_of_unknown_elements_are_ignored(store: Store) -> None:
    store.active.packets([Element(A, "mx", "ban", 1.0, 5)])
    assert store.listing.snapshots(NOW) == []


def test_counters_come_in_any_number(store: Store) -> None:
    store.record(NOW, [ban()])
    unknown = (Element(f"198.18.{n >> 8}.{n & 255}", "mx", "ban", 1.0, 1) for n in range(20_001))
    store.active.packets(unknown)
    store.active.packets(iter([Element(A, "mx", "ban", 1.0, 5)]))
    assert store.listing.snapshots(NOW)[0].packets == 5
