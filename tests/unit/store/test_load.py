import pytest

from throttled.model import Decision, Evidence, NetworkPast, Past, Scope
from throttled.store import active, load, record
from throttled.store.store import Store

NOW = 1_700_000_000.0
DAY = 86400.0
NET4, NET6 = "198.51.100.0/24", "2001:db8:0:1::/64"


def ban(subject: str, at: float = NOW, seconds: float = 600.0) -> Decision:
    return Decision(at, "ban", subject, "mx", "errors", 1, at + seconds, "because")


def test_all_that_is_known_of_a_subject(store: Store) -> None:
    subject = "2001:db8::7"
    store.record(NOW, [ban(subject)], [Evidence(subject, NOW, 3, 2)])
    store.unbans.unban(subject, None, NOW, NOW + 900)
    store.record(NOW, [ban(subject)])
    assert store.past([(subject, "mx")], NOW) == {
        (subject, "mx"): Past(
            offences=1,
            last_offence=NOW + 600,
            action="ban",
            until=NOW + 600,
            deliveries=3,
            delivery_days=1,
            logins=2,
            last_login=NOW,
            exempt_until=NOW + 900,
        )
    }


def test_every_key_has_an_answer(store: Store) -> None:
    store.record(NOW, [ban("198.51.100.1")])
    keys: list[tuple[str, Scope]] = [
        ("198.51.100.1", "mx"),
        ("198.51.100.1", "submission"),
        ("198.51.100.2", "mx"),
    ]
    pasts = store.past([*keys, keys[0]], NOW)
    assert list(pasts) == keys
    assert [past == Past() for past in pasts.values()] == [False, True, True]
    assert store.past([], NOW) == {}


@pytest.mark.parametrize(
    "altered",
    [
        "UPDATE good SET logins = 'x' WHERE address = ?",
        "UPDATE good SET day = x'00' WHERE address = ?",
        "UPDATE offence SET bans = 'x' WHERE subject = ?",
        "UPDATE active SET until = 'x' WHERE subject = ?",
        "UPDATE active SET action = 7 WHERE subject = ?",
    ],
)
def test_a_row_that_another_program_altered_says_nothing(store: Store, altered: str) -> None:
    """Whoever asks: it must end neither a batch nor a timer."""
    subjects = ["198.51.100.1", "198.51.100.2"]
    evidence = [Evidence(subject, NOW, 3, 2) for subject in subjects]
    store.record(NOW, [ban(subject) for subject in subjects], evidence)
    with store._database.transaction() as connection:
        connection.execute(altered, (subjects[0],))
    pasts = store.past([(subject, "mx") for subject in subjects], NOW)
    assert pasts[subjects[0], "mx"] == Past()
    assert pasts[subjects[1], "mx"].logins == 2
    assert store.skipped.counts == {"row": 1}


def test_a_network_that_another_program_altered_is_unknown(store: Store) -> None:
    store.record(NOW, [ban(NET4), ban(NET6)])
    with store._database.transaction() as connection:
        connection.execute("UPDATE active SET until = 'x' WHERE subject = ?", (NET4,))
    assert list(store.network_past([(NET4, "mx"), (NET6, "mx")], NOW)) == [(NET6, "mx")]


@pytest.mark.parametrize("hostile", ["", '"', "a'b", "\0", "\xff", "x" * 1000, "[1]", "NULL"])
def test_a_subject_is_never_read_as_anything_else(store: Store, hostile: str) -> None:
    assert store.past([(hostile, "mx")], NOW) == {(hostile, "mx"): Past()}
    assert store.decisions(hostile) == []


def test_what_ended_is_not_in_force(store: Store) -> None:
    subject = "198.51.100.1"
    store.record(NOW, [ban(subject)])
    store.unbans.unban(subject, "submission", NOW, NOW + 600)
    (before,) = store.past([(subject, "mx")], NOW + 599.9).values()
    (after,) = store.past([(subject, "mx")], NOW + 600).values()
    assert (before.action, before.until) == ("ban", NOW + 600)
    assert (after.action, after.until, after.offences) == (None, 0.0, 1)
    (exempt,) = store.past([(subject, "submission")], NOW + 599).values()
    (expired,) = store.past([(subject, "submission")], NOW + 600).values()
    assert (exempt.exempt_until, expired.exempt_until) == (NOW + 600, 0.0)


def test_a_batch_of_thousands(store: Store) -> None:
    subjects = [f"198.18.{n >> 8}.{n & 255}" for n in range(5000)]
    store.record(NOW, [ban(subject) for subject in subjects[::2]])
    pasts = store.past([(subject, "mx") for subject in subjects], NOW)
    assert [past.offences for past in pasts.values()] == [1, 0] * 2500


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (load._PAST, 3),
        (load._of_one(load._PAST), 3),
        (load._NETWORK_PAST, 5),
        (load._of_one(load._NETWORK_PAST), 5),
        (load._DECISIONS, 2),
        (active._ACTIVE, 3),
        (active._ENDED, 4),
        (record._KNOWN, 1),
        (active._PACKETS, 4),
    ],
)
def test_an_index_finds_and_orders_the_rows(store: Store, query: str, values: int) -> None:
    # Going through a whole table, or sorting it, would pass every other test.
    connection = store._database.connection
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (1,) * values).fetchall()
    steps = [str(step).split() for *_, step in plan]
    assert any(step[0] == "SEARCH" for step in steps)
    assert not [step for step in steps if step[0] == "SCAN" and step[1] in {*tables, "a", "o", "g"}]
    assert not [step for step in steps if step[:3] == ["USE", "TEMP", "B-TREE"]]


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [(NET4, "198.51.100.{}", "198.51.101.{}"), (NET6, "2001:db8:0:1::{}", "2001:db8:0:2::{}")],
)
def test_addresses_of_a_network(store: Store, network: str, inside: str, outside: str) -> None:
    batch = [ban(pattern.format(n)) for pattern in (inside, outside) for n in range(1, 6)]
    good = [Evidence(inside.format(n), NOW, 1) for n in range(8)]
    store.record(NOW, batch, [*good, Evidence(outside.format(1), NOW, 0, 1)])
    store.record(NOW, batch[:1])  # banned twice, one address
    (past,) = store.network_past([(network, "mx")], NOW).values()
    assert past == NetworkPast(banned=5, good=8)
    (other,) = store.network_past([(network, "submission")], NOW).values()
    assert other == NetworkPast(banned=0, good=8)


def test_a_day_and_thirty_days_are_remembered(store: Store) -> None:
    store.record(NOW, [ban("198.51.100.1")], [Evidence("198.51.100.2", NOW, 1)])
    key: tuple[str, Scope] = (NET4, "mx")
    pasts = [
        store.network_past([key], NOW + after)[key] for after in (DAY - 1, DAY, 29 * DAY, 30 * DAY)
    ]
    assert [(past.banned, past.good) for past in pasts] == [(1, 1), (0, 1), (0, 1), (0, 0)]


def test_what_is_in_force_against_the_network_itself(store: Store) -> None:
    store.record(NOW, [ban(NET4)])
    (past,) = store.network_past([(NET4, "mx")], NOW).values()
    assert past == NetworkPast(action="ban", until=NOW + 600)
    (ended,) = store.network_past([(NET4, "mx")], NOW + 600).values()
    assert ended == NetworkPast()


def test_counts_of_a_sprayed_network_have_a_cap(store: Store) -> None:
    addresses = [f"2001:db8:0:1::{n:x}" for n in range(1, 1500)]
    store.record(NOW, [ban(a) for a in addresses], [Evidence(a, NOW, 1) for a in addresses])
    (past,) = store.network_past([(NET6, "mx")], NOW).values()
    assert (past.banned, past.good) == (1000, 1000)


def test_history_is_newest_first_and_of_one_subject(store: Store) -> None:
    for n in range(30):
        store.record(NOW + n, [ban("198.51.100.1", NOW + n), ban("198.51.100.2", NOW + n)])
    history = store.decisions("198.51.100.1")
    assert [d.time for d in history] == [NOW + n for n in range(29, 9, -1)]
    assert {d.subject for d in history} == {"198.51.100.1"}
    assert len(store.decisions("198.51.100.1", 5)) == 5
    assert [d.subject[-1] for d in store.decisions("", 3)] == ["2", "1", "2"]
