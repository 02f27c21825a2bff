import pytest

from throttled.model import Decision, Evidence
from throttled.store import prune
from throttled.store.store import Store

NOW = 1_700_000_000.0
DAY = 86400.0


def ban(number: int, at: float = NOW, seconds: float = 600.0) -> Decision:
    subject = f"198.18.{number >> 8}.{number & 255}"
    return Decision(at, "ban", subject, "mx", "errors", 1, at + seconds, "because")


def rows(store: Store, table: str) -> int:
    (number,) = store._database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)


def left(store: Store) -> list[str]:
    return [e.subject for chunk in store.active.entries(NOW) for e in chunk]


def test_what_is_young_stays(store: Store) -> None:
    store.record(NOW, [ban(1), ban(2, seconds=DAY)], [Evidence("198.51.100.1", NOW, 1)])
    store.unbans.unban("203.0.113.1", "mx", NOW, NOW + 60)
    store.allowlist.allow("203.0.113.2", 0.0, "", NOW)
    store.allowlist.allow("203.0.113.3", NOW + 60, "", NOW)
    assert store.prune(NOW + 59) is False
    tables = ("decision", "active", "offence", "good", "pardon", "allowed")
    assert [rows(store, table) for table in tables] == [2, 2, 2, 1, 1, 2]


def test_each_thing_has_its_time(store: Store) -> None:
    store.record(NOW, [ban(1), ban(2, seconds=1000 * DAY)], [Evidence("198.51.100.1", NOW, 1)])
    store.unbans.unban("203.0.113.1", "mx", NOW - 1, NOW + 60)
    store.unbans.unban("203.0.113.4", "mx", NOW - 1, NOW + 60 * DAY)
    store.allowlist.allow("203.0.113.2", 0.0, "", NOW)
    store.allowlist.allow("203.0.113.3", NOW + 60, "", NOW)
    store.record(NOW + 60, [ban(3, NOW + 60, 1000 * DAY)])
    tables = ("pardon", "allowed", "active", "good", "decision", "offence")
    found = {}
    for after in (60, 600 + 3600, 30 * DAY, 90 * DAY + 1, 180 * DAY + 1):
        store.prune(NOW + after)
        found[after] = [rows(store, table) for table in tables]
    assert list(found.values()) == [
        [2, 1, 3, 1, 3, 3],
        [2, 1, 2, 1, 3, 3],
        [1, 1, 2, 0, 3, 3],
        [0, 1, 2, 0, 1, 3],  # the latest decision stays
        [0, 1, 2, 0, 1, 1],
    ]


def test_a_long_ban_outlives_its_decision(store: Store) -> None:
    store.record(NOW, [ban(1, seconds=1000 * DAY)])
    store.record(NOW, [ban(2)])
    store.prune(NOW + 200 * DAY)
    (row,) = store.listing.snapshots(NOW + 200 * DAY)
    assert (row.why, row.limit, row.level, row.lines) == ("because", "errors", 1, ())


def test_numbers_are_never_used_twice(store: Store) -> None:
    store.record(NOW, [ban(1, seconds=1000 * DAY)])
    store.prune(NOW + 400 * DAY)
    store.record(NOW + 400 * DAY, [ban(2, NOW + 400 * DAY)])
    assert len(store.listing.snapshots(NOW + 400 * DAY)) == 2


def test_one_call_does_a_bounded_amount(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 10)
    store.record(NOW, [ban(n) for n in range(25)])
    later = NOW + 200 * DAY
    assert store.prune(later) is True
    assert [rows(store, t) for t in ("decision", "active", "offence")] == [15, 15, 15]
    assert store.prune(later) is True
    assert store.prune(later) is False
    assert [rows(store, t) for t in ("decision", "active", "offence")] == [1, 0, 0]
    assert sum(store.active.counts(NOW).values()) == 0


def test_at_the_cap_the_oldest_decisions_and_offences_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "DECISIONS", 10)
    for n in range(12):
        store.record(NOW, [ban(n)])
    store.record(NOW, [ban(0)])  # again: its offence is now the youngest
    store.prune(NOW)
    assert [rows(store, t) for t in ("decision", "offence")] == [10, 10]
    assert store.decisions("198.18.0.2") == []
    assert len(store.decisions("198.18.0.3")) == 1
    assert len(store.decisions("198.18.0.0")) == 1
    pasts = store.past([(f"198.18.0.{n}", "mx") for n in (0, 2, 3)], NOW)
    assert [past.offences for past in pasts.values()] == [1, 0, 1]
    assert len(left(store)) == 12


def test_at_the_cap_what_ends_soonest_goes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "ACTIVE", 3)
    store.record(NOW, [ban(n, seconds=100 * (n + 1)) for n in range(5)])
    store.prune(NOW)
    assert left(store) == ["198.18.0.4", "198.18.0.3", "198.18.0.2"]


def test_at_the_cap_the_longest_silent_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "GOOD", 3)
    for n in (4, 0, 3, 1, 2):
        store.record(NOW + n * DAY, [], [Evidence(f"198.51.100.{n}", NOW + n * DAY, 0, 1)])
    store.prune(NOW + 5 * DAY)
    pasts = store.past([(f"198.51.100.{n}", "mx") for n in range(5)], NOW + 5 * DAY)
    assert [past.logins for past in pasts.values()] == [0, 0, 1, 1, 1]


def test_at_the_cap_the_oldest_sources_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "SOURCES", 2)
    for inode in range(4):
        assert store.positions.source("/var/log/mail.log", 1, inode) == inode + 1
    store.prune(NOW)
    files = [store.positions.source_file(number) for number in (1, 2, 3, 4)]
    assert [file and file[2] for file in files] == [None, None, 2, 3]
    assert store.positions.source("/var/log/mail.log", 1, 4) == 5


def test_the_log_is_written_back(store: Store, path: str) -> None:
    store.record(NOW, [ban(n) for n in range(1000)])
    with open(path, "rb") as file:  # noqa: PTH123 - bytes of the main file, not the log
        before = len(file.read())
    store.prune(NOW)
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        assert len(file.read()) > before


def test_at_the_cap_the_oldest_unbans_go_and_no_exemption(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "UNBANS", 3)
    for number in range(6):
        exempt = NOW + 600 if number == 0 else 0.0
        store.unbans.unban(f"198.51.100.{number}", "mx", NOW - 10 + number, exempt)
    store.prune(NOW)
    assert {subject[-1] for subject in store.unbans.since()} == {"0", "3", "4", "5"}
