"""What lists name of subjects whose active entry is another's."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from throttled.model import Decision
from throttled.store import listed
from throttled.store.listed import Claim
from throttled.store.store import Store
from throttled.store.unbans import Unbans

NOW = 1_700_000_000.0
A, B = "198.51.100.7", "198.51.100.8"
ONE = Claim("one", A, "mx", "throttle", NOW + 60, "because")


def test_the_strongest_claim_of_another_list_is_returned(store: Store) -> None:
    ban = replace(ONE, list="two", action="ban", until=NOW + 30)
    longer = replace(ONE, list="three", until=NOW + 90)
    ended = replace(ban, list="four", until=NOW)
    store.claims.add([ONE, longer, ban, ended])
    assert store.claims.others("two", [(A, "mx"), (B, "mx")], NOW) == {(A, "mx"): longer}
    assert store.claims.others("five", [(A, "mx")], NOW) == {(A, "mx"): ban}
    assert store.claims.others("five", [(A, "submission")], NOW) == {}
    store.claims.remove("two", [(A, "mx")])
    store.claims.remove("three")
    assert store.claims.others("five", [(A, "mx")], NOW) == {(A, "mx"): ONE}


def test_what_replaces_the_entry_of_a_list_leaves_its_claim(store: Store) -> None:
    entry = Decision(NOW, "ban", A, "mx", "operator", 0, NOW + 90, "SBL1", origin="list:one")
    store.record(NOW, [entry])
    store.record(NOW + 1, [replace(entry, time=NOW + 1, until=NOW + 95)])  # its own again
    assert store.claims.others("", [(A, "mx")], NOW) == {}
    store.record(NOW + 2, [replace(entry, time=NOW + 2, origin="log", until=NOW + 60)])
    store.record(NOW + 3, [replace(entry, time=NOW + 3, until=NOW + 95)])
    store.record(NOW + 4, [replace(entry, time=NOW + 4, origin="log")])  # with a claim already
    claim = Claim("one", A, "mx", "ban", NOW + 95, "SBL1")
    assert store.claims.others("", [(A, "mx")], NOW) == {(A, "mx"): claim}


def test_claims_are_pruned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "MOST", 1)
    store.claims.add([ONE, replace(ONE, list="two", until=NOW + 90), replace(ONE, list="old")])
    store.claims.add([replace(ONE, list="old", until=NOW)])
    store.prune(NOW)
    assert store.claims.others("", [(A, "mx")], 0.0)[A, "mx"].list == "two"
    store.claims.remove("two")
    assert store.claims.others("", [(A, "mx")], 0.0) == {}


def test_rows_are_counted_only_when_there_may_be_too_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that the trigger adds."""
    monkeypatch.setattr(listed, "MOST", 40)
    statements: list[str] = []
    store._database.connection.set_trace_callback(statements.append)

    def counted() -> int:
        return sum("count(*) FROM listed" in each for each in statements)

    for _ in range(3):
        store.prune(NOW)
    assert counted() == 1
    subjects = [f"198.51.100.{n}" for n in range(41)]
    store.claims.add([replace(ONE, subject=subject) for subject in subjects[:40]])
    store.prune(NOW)
    entry = Decision(NOW, "ban", A, "mx", "operator", 0, NOW + 90, "SBL1", origin="list:two")
    store.record(NOW, [replace(entry, subject=subject) for subject in subjects])
    store.record(NOW + 1, [replace(entry, subject=s, origin="log") for s in subjects])
    for _ in range(2):
        store.prune(NOW)
        (rows,) = store._database.connection.execute("SELECT count(*) FROM listed").fetchone()
        assert rows == 38


@pytest.mark.parametrize(
    ("unban", "ended"),
    [
        (lambda unbans: unbans.unban(A, "mx", NOW), {(A, "mx")}),
        (lambda unbans: unbans.unban(A, None, NOW), {(A, "mx"), (A, "submission")}),
        (lambda unbans: unbans.unban_many({(A, "mx"): 0.0}, NOW), {(A, "mx")}),
        (lambda unbans: unbans.clear(NOW, "mx"), {(A, "mx"), (B, "mx")}),
        (lambda unbans: unbans.clear(NOW), {(A, "mx"), (A, "submission"), (B, "mx")}),
    ],
)
def test_unbans_end_claims(
    store: Store, unban: Callable[[Unbans], object], ended: set[listed.Key]
) -> None:
    """Else they would be banned again when another list no longer names them."""
    store.claims.add([ONE, replace(ONE, scope="submission"), replace(ONE, subject=B)])
    keys: list[listed.Key] = [(A, "mx"), (A, "submission"), (B, "mx")]
    unban(store.unbans)
    assert set(store.claims.others("", keys, NOW)) == set(keys) - ended
