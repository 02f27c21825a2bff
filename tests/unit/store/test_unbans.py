import pytest
from msgspec.structs import replace

from throttled.model import Decision, Entry, Evidence, Scope
from throttled.store.store import Store

NOW = 1_700_000_000.0
A = "198.51.100.7"


def ban(subject: str = A, seconds: float = 600.0) -> Decision:
    return Decision(NOW, "ban", subject, "mx", "errors", 2, NOW + seconds, "because")


def throttle(subject: str = A) -> Decision:
    return Decision(NOW, "throttle", subject, "submission", "auth", 0, NOW + 600, "because")


# Unban


def test_unban_ends_enforcement_and_resets_offences(store: Store) -> None:
    store.record(NOW, [ban(), throttle(), ban("198.51.100.8")], [Evidence(A, NOW, 1)])
    removed = store.unbans.unban(A, None, NOW)
    assert removed == [Entry(A, "mx", "ban", 0.0), Entry(A, "submission", "throttle", 0.0)]
    past = store.past([(A, "mx")], NOW)[A, "mx"]
    assert (past.action, past.offences, past.exempt_until) == (None, 0, 0.0)
    assert past.deliveries == 1
    assert store.network_past([("198.51.100.0/24", "mx")], NOW)["198.51.100.0/24", "mx"].banned == 1
    assert [s.subject for s in store.listing.snapshots(NOW)] == ["198.51.100.8"]


def test_unban_is_history(store: Store) -> None:
    store.record(NOW, [ban()])
    store.unbans.unban(A, None, NOW + 1)
    release, banned = store.decisions(A)
    assert banned == ban()
    assert (release.action, release.limit, release.time) == ("release", "operator", NOW + 1)


def test_unban_of_one_scope_leaves_the_other(store: Store) -> None:
    store.record(NOW, [ban(), throttle()])
    assert store.unbans.unban(A, "submission", NOW) == [Entry(A, "submission", "throttle", 0.0)]
    assert store.past([(A, "mx")], NOW)[A, "mx"].action == "ban"


def test_unban_of_what_is_not_banned_finds_nothing(store: Store) -> None:
    store.record(NOW, [ban(seconds=1)])
    assert store.unbans.unban("203.0.113.1", None, NOW) == []
    assert store.unbans.unban(A, None, NOW + 1) == []  # it ended by itself
    assert len(store.decisions(A)) == 1


def test_unban_is_exact(store: Store) -> None:
    store.record(NOW, [ban()])
    assert store.unbans.unban("198.51.100.0/24", None, NOW) == []


def test_an_exemption_lasts_until_the_next_unban(store: Store) -> None:
    def exempt() -> float:
        return store.past([(A, "mx")], NOW)[A, "mx"].exempt_until

    store.unbans.unban(A, None, NOW, NOW + 60)
    assert exempt() == NOW + 60
    store.unbans.unban(A, None, NOW, NOW + 90)
    assert exempt() == NOW + 90
    store.unbans.unban(A, None, NOW)
    assert exempt() == 0.0


def test_unban_of_a_network_forgets_whom_it_was_banned_for(store: Store) -> None:
    key: tuple[str, Scope] = ("198.51.100.0/24", "mx")
    store.record(NOW, [ban(f"198.51.100.{n}") for n in range(9)])
    assert store.network_past([key], NOW)[key].banned == 9
    store.unbans.unban("198.51.100.0/24", "mx", NOW + 1, NOW + 60)
    past = store.network_past([key], NOW + 1)[key]
    assert (past.banned, past.exempt_until) == (0, NOW + 60)
    single = store.past([(A, "mx")], NOW)[A, "mx"]
    assert (single.action, single.offences) == ("ban", 2), "each has its own history"
    store.record(NOW + 2, [Decision(NOW + 2, "ban", A, "mx", "errors", 3, NOW + 600, "again")])
    assert store.network_past([key], NOW + 2)[key].banned == 1


def test_from_when_on_it_counts_is_remembered(store: Store) -> None:
    store.unbans.unban(A, None, NOW)
    store.unbans.unban(A, "mx", NOW + 1)
    store.unbans.clear(NOW + 2, "submission")
    assert store.unbans.since() == {
        "": {"submission": NOW + 2},
        A: {"mx": NOW + 1, "submission": NOW},
    }


# Unban all


def test_clear_empties_and_goes_on(store: Store) -> None:
    store.record(NOW, [ban(), throttle(), ban("198.51.100.8", 0.0)], [Evidence(A, NOW, 1)])
    store.allowlist.allow("203.0.113.0/24", 0.0, "", NOW)
    assert store.unbans.clear(NOW) == 2
    assert store.listing.snapshots(NOW) == []
    assert store.past([(A, "mx")], NOW)[A, "mx"].offences == 0
    assert store.past([(A, "mx")], NOW)[A, "mx"].deliveries == 1
    assert len(store.allowlist.entries(NOW)) == 1
    assert sum(store.active.counts(NOW).values()) == 0
    store.record(NOW, [ban(), throttle()])  # and it is counted again
    counts = {key: count for key, count in store.active.counts(NOW).items() if count}
    assert counts == {("mx", "ban"): 1, ("submission", "throttle"): 1}
    assert store.unbans.clear(NOW) == 2


@pytest.mark.parametrize("scope", [None, "mx"])
def test_unbanning_all_leaves_exemptions(store: Store, scope: Scope | None) -> None:
    exempt = [replace(ban(f"198.51.100.{n}"), action="exempt") for n in (8, 9)]
    store.record(NOW, [ban(), *exempt])
    assert store.unbans.clear(NOW, scope) == 1
    assert {s.subject: s.action for s in store.listing.snapshots(NOW)} == {
        "198.51.100.8": "exempt",
        "198.51.100.9": "exempt",
    }
    assert store.active.counts(NOW)["mx", "exempt"] == 2
    assert store.decisions("198.51.100.8")
    store.record(NOW, [ban(), ban("198.51.100.8")])  # and it is counted again
    assert {key: count for key, count in store.active.counts(NOW).items() if count} == {
        ("mx", "ban"): 2,
        ("mx", "exempt"): 1,
    }
    assert [e.subject for chunk in store.unbans.unban_scope("mx") for e in chunk] == [
        A,
        "198.51.100.8",
    ]
    assert [s.subject for s in store.listing.snapshots(NOW)] == ["198.51.100.9"]


def test_a_scope_is_unbanned_in_chunks(store: Store) -> None:
    store.record(NOW, [*(ban(f"198.18.0.{n}") for n in range(7)), throttle()])
    unbanned = list(store.unbans.unban_scope("mx", 3))
    assert [len(chunk) for chunk in unbanned] == [3, 3, 1]
    assert {e for chunk in unbanned for e in chunk} == {
        Entry(f"198.18.0.{n}", "mx", "ban", 0.0) for n in range(7)
    }
    assert sum(store.active.counts(NOW).values()) == 1
    assert [row.scope for row in store.listing.snapshots(NOW)] == ["submission"]


def test_clear_of_one_scope(store: Store) -> None:
    store.record(NOW, [ban(), throttle()])
    assert store.unbans.clear(NOW, "submission") == 1
    assert [s.scope for s in store.listing.snapshots(NOW)] == ["mx"]
    assert store.past([(A, "mx")], NOW)[A, "mx"].offences == 2
    assert sum(store.active.counts(NOW).values()) == 1


# The allowlist
