"""What is written before it is applied, and completed by the next process after a kill."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from throttled.control.requests import MailChange
from throttled.control.results import Done
from throttled.errors import StoreError
from throttled.model import Activity, Decision, Evidence, Line, Rate
from throttled.operator.audit import recorded
from throttled.service.first_week import end_observing
from throttled.store import record
from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0
BAN = Decision(NOW, "ban", "198.18.0.1", "mx", "errors", 1, NOW + 600, "why", lines=(Line(1, 2),))
SLOW = Decision(
    NOW, "throttle", "198.18.0.2", "mx", "errors", 0, NOW + 60, "why", rate=Rate(1, 60.0, 2)
)
GOOD = Evidence("198.18.0.9", NOW, 1, 2)
PLACE = StoredPosition("/log", b"\x00state")
SESSIONS: dict[Activity, int] = {(int(NOW) // 3600, "mx", "session"): 3}


def write(store: Store) -> None:
    store.write_ahead(NOW, [BAN, SLOW], [GOOD], [PLACE], SESSIONS)


def rows(path: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM write_ahead").fetchone()[0])


def complete(store: Store) -> None:
    """Check that all is recorded, once."""
    assert store.decisions("198.18.0.1") == [BAN]
    assert store.decisions("198.18.0.2") == [SLOW]
    assert {("mx", "ban"): 1, ("mx", "throttle"): 1}.items() <= store.active.counts(NOW).items()
    assert store.past([("198.18.0.9", "mx")], NOW)["198.18.0.9", "mx"].logins == 2
    assert store.positions.all() == {"/log": PLACE}
    hours = {(row.what, row.kind): row.count for row in store.hourly.read(NOW - 3600, NOW + 3600)}
    assert hours == {("session", ""): 3, ("decision", "ban"): 1, ("decision", "throttle"): 1}


def test_the_next_process_completes_what_was_written_ahead(path: str) -> None:
    with closing(Store.open(path)) as killed:
        write(killed)
    with closing(Store.open(path, readonly=True)) as store:
        assert store.decisions("") == []  # until a process that may write has opened it
    assert rows(path) == 1
    for _ in range(2):
        with closing(Store.open(path)) as store:
            complete(store)
        assert rows(path) == 0


def test_recording_removes_what_was_written_ahead(path: str) -> None:
    with closing(Store.open(path)) as store:
        write(store)
        assert rows(path) == 1
        store.record(NOW, [BAN, SLOW], [GOOD], [PLACE], SESSIONS)
        assert rows(path) == 0
        complete(store)
    with closing(Store.open(path)) as store:
        complete(store)


def test_a_record_that_fails_leaves_what_was_written_ahead(path: str) -> None:
    with closing(Store.open(path)) as store:
        write(store)
        with pytest.raises(Exception, match="NOT NULL"):
            store.record(float("nan"), [msgspec.structs.replace(BAN, until=float("nan"))])
    assert rows(path) == 1


@pytest.mark.parametrize("state", [b"\xff", msgspec.msgpack.encode([NOW, [["no"]], [], [], []]), 7])
def test_a_row_that_is_none_is_passed_over(path: str, state: object) -> None:
    with closing(Store.open(path)) as store:
        write(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE write_ahead SET state = ?", (state,))
    with closing(Store.open(path)) as store:
        assert store.skipped.total() == (state != 7)  # of another type it is not even read
        assert store.decisions("") == []
        write(store)
        store.record(NOW, [BAN, SLOW], [GOOD], [PLACE], SESSIONS)
        complete(store)
    assert rows(path) == 0


def test_nothing_is_written_ahead_into_a_file_that_is_gone(path: str) -> None:
    with closing(Store.open(path)) as store:
        Path(path).unlink()
        with pytest.raises(StoreError, match="removed"):
            write(store)


def test_a_command_beside_the_daemon_leaves_the_row_to_it(path: str) -> None:
    """Completed by both it would be recorded twice."""
    with closing(Store.open(path)) as store:
        write(store)
        with recorded(path, MailChange("hold", "198.18.0.1", [])) as results:
            results.append(Done("done"))
        end_observing(path)
        store.record(NOW, [BAN, SLOW], [GOOD], [PLACE], SESSIONS)
        complete(store)
        assert len(store.audit.changes()) == 1


def test_what_was_unbanned_since_is_not_completed(path: str) -> None:
    with closing(Store.open(path)) as killed:
        killed.unbans.unban(SLOW.subject, "mx", NOW - 1)  # and throttled again
        write(killed)
        killed.unbans.unban(BAN.subject, None, NOW + 1)
    with closing(Store.open(path)) as store:
        assert store.decisions("") == [SLOW]
        assert store.positions.all() == {"/log": PLACE}
    with closing(Store.open(path)) as killed:
        write(killed)
        killed.unbans.clear(NOW + 1)
    with closing(Store.open(path)) as store:
        assert store.decisions("") == [SLOW]


def test_without_room_to_complete_the_rest_can_be_read(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = msgspec.structs.replace(BAN, subject="198.18.0.3")
    with closing(Store.open(path)) as killed:
        killed.record(NOW, [active])
        write(killed)

    def full(*_: object) -> None:
        raise StoreError("no space left", "free some")

    with monkeypatch.context() as patch:
        patch.setattr(record, "decisions", full)
        store = Store.open(path)
    with closing(store):
        assert store.decisions("") == [active]
        assert (store.positions.all(), store.skipped.total()) == ({}, 0)  # its lines are read again
        store.record(NOW + 1, [BAN, SLOW], [GOOD], [PLACE], SESSIONS)
    assert rows(path) == 0
    with closing(Store.open(path)) as store:
        assert len(store.decisions("")) == 3
