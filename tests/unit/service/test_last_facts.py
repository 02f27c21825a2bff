"""What is retained of Postfix from start to start."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from throttled.facts import Facts, Service
from throttled.service import last_facts as known
from throttled.store.store import Store

NOW = 1_700_000_000.0
FACTS = Facts(
    services=(Service("/etc/postfix", "smtp", "smtpd", "postfix", 25, "mx"),),
    log_files=("/var/log/mail.log",),
    own=frozenset({"192.0.2.1"}),
    relays=frozenset({"192.0.2.25"}),
    mynetworks=("198.51.100.0/24",),
    hostnames=frozenset({"mx"}),
    config_directories=("/etc/postfix",),
    warnings=("something",),
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    with closing(Store.open(path)) as opened:
        yield opened


def test_what_postfix_said_is_there_again(store: Store) -> None:
    assert known.load(store) == Facts()
    known.save(store, FACTS, NOW)
    found = known.load(store)
    assert (found.services, found.mynetworks, found.relays) == (
        FACTS.services,
        FACTS.mynetworks,
        FACTS.relays,
    )
    assert found.config_directories == FACTS.config_directories
    assert (found.own, found.warnings) == (frozenset(), ())  # asked for, and true, at each start


def test_former_names_of_the_host_end_with_the_process(store: Store) -> None:
    known.save(store, replace(FACTS, former=frozenset({"old"})), NOW)
    assert known.load(store).former == frozenset()


@pytest.mark.parametrize("value", [1 << 62, "text", -1.5])
def test_a_row_of_another_type_is_passed_over(store: Store, path: str, value: object) -> None:
    known.save(store, FACTS, NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE known SET value = ?", (value,))
    assert known.load(store) == Facts()


def test_a_host_without_postfix_leaves_it(store: Store) -> None:
    known.save(store, FACTS, NOW)
    known.save(store, Facts(), NOW)
    assert known.load(store).services


def test_the_same_is_not_written_again(store: Store, path: str) -> None:
    known.save(store, FACTS, NOW)
    known.save(store, FACTS, NOW + 1)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT time FROM known").fetchall() == [(NOW,)]


def test_what_is_not_understood_is_passed_over(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.known.put("facts", b'{"services": 7}', NOW)
    assert known.load(store) == Facts()
    assert "unreadable" in caplog.text


def test_a_database_that_fails_is_no_reason_to_end(
    store: Store, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE known")
    with caplog.at_level(logging.ERROR):
        known.save(store, FACTS, NOW)
        assert known.load(store) == Facts()
    assert len(caplog.records) == 2
