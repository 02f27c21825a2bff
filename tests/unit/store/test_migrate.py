"""Databases of earlier versions, and of builds from before the migrations were frozen."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from throttled.errors import StoreError
from throttled.model import Decision, Evidence
from throttled.store.database import Database
from throttled.store.migrate import completable, differences, scripts, statements
from throttled.store.store import Store

NOW = 1_700_000_000.0
BAN = Decision(NOW, "ban", "198.18.0.1", "mx", "errors", 1, NOW + 600, "because")

#: A migration that was merged is never changed: databases of it exist. A change is a new file.
FROZEN = {
    "0001.sql": "0cfa672b5259f3f8b8f511018b31f4f97a05107a64078bd88b1bb659f73509f7",
    "0002.sql": "1a823b6317c2924bffbaaca45d175adf15be3701c79cae1a79eebdb3b3bdb3d2",
    "0003.sql": "552c79ae730e093cea9bb7624fe6793b7eb5b586501a058b52640772f9d4fb01",
    "0004.sql": "99e1eb4b01d724bfab3fae635dcee73370307be7bd1964bd597f07a130cdff1f",
    "0005.sql": "278778137c6487067e8429aa0cc3587c9fc3d4b0720554dddc8beb87471b5654",
    "0006.sql": "9c99b41cb157a1508fc013a712c57aa363f1f8677df1dbe4148f991eb3079afb",
    "0007.sql": "9fca9d1278a65edbb0339302f92c53d9d572eea07d6e256afc8ff39fb54b8e0d",
    "0008.sql": "4cf84eb335984066fc964a16559594606ea0679577b6bb535259cd95a1d8b13a",
    "0009.sql": "7c1e4f65662ecb1ed707dbfb172c12e1ed4788eccb2a99215f130b69942a2383",
    "0010.sql": "684ce9d72a5f0b450570679a05ca19159b5417c7769dd7348d6fec40bd06a0ea",
    "0011.sql": "1b62292ac16a9f4bab632516e88c8f0dfe055d23d09ab3ed18314c2a2bebf78c",
    "0012.sql": "4ece3f82efe554aa6ce358028f3c71ae89b8f1317ced615525b36533df2595a1",
}


def test_migrations_are_frozen() -> None:
    folder = resources.files("throttled.store").joinpath("migrations")
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
    }
    assert found == FROZEN, "never edit a migration, add a file; a new one is listed here"


def make(path: str, version: int = 1) -> sqlite3.Connection:
    """Return a new database of that version, with a ban and what belongs to it."""
    Database(path, readonly=False, migrations=scripts()[:version]).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(
        'INSERT INTO active (number, subject, scope, action, "limit", level, since, until, why)'
        " VALUES (7, ?, 'mx', 'ban', 'errors', 1, ?, ?, 'because')",
        (BAN.subject, BAN.time, BAN.until),
    )
    db.execute("INSERT INTO good VALUES (?, '', 1, 1, 1, 1, 0, 0)", (BAN.subject,))
    db.execute(
        "INSERT INTO allowed (what, until, note, since) VALUES ('192.0.2.1', 0, 'probe', ?)", (NOW,)
    )
    return db


@pytest.mark.parametrize("version", range(1, len(scripts()) + 1))
def test_each_version_is_upgraded_with_its_rows(path: str, version: int) -> None:
    make(path, version).close()
    with closing(Store.open(path)) as store:
        assert store.active.counts(NOW)["mx", "ban"] == 1
        assert [row.what for row in store.allowlist.entries(NOW)] == ["192.0.2.1"]
        store.record(NOW, [BAN], [Evidence(BAN.subject, NOW, 1, 0)])
    with closing(sqlite3.connect(path)) as db:
        assert differences(db, len(scripts()), scripts()) == ([], [])


def test_what_operators_decided_before_there_were_origins_is_theirs(path: str) -> None:
    with closing(make(path, 4)) as db:
        for number, limit in enumerate(("errors", "operator"), 8):
            db.execute(
                'INSERT INTO active (number, subject, scope, action, "limit", level, since, until,'
                " why) VALUES (?, ?, 'mx', 'ban', ?, 1, ?, ?, 'because')",
                (number, f"203.0.113.{number}", limit, NOW, NOW + 600),
            )
            db.execute(
                'INSERT INTO decision (number, time, action, subject, scope, "limit", level, until,'
                " why, value, threshold, lines, alert)"
                " VALUES (?, ?, 'ban', ?, 'mx', ?, 1, ?, 'because', 1, 1, '[]', '')",
                (number, NOW, f"203.0.113.{number}", limit, NOW + 600),
            )
    with closing(Store.open(path)) as store:
        found = {row.subject: row.origin for row in store.listing.snapshots(NOW)}
        history = {d.subject: d.origin for d in store.decisions("")}
        assert [row.origin for row in store.allowlist.entries(NOW)] == ["operator"]
    assert history == {"203.0.113.8": "log", "203.0.113.9": "operator"}
    assert found == history | {BAN.subject: "log"}


# Builds from before 0001.sql was frozen


def without_peaks(db: sqlite3.Connection) -> None:
    for name in ("peak", "watched"):
        db.execute(f"DROP TABLE {name}")
    db.execute("DELETE FROM tally WHERE name = 'peak'")


def without_audit(db: sqlite3.Connection) -> None:
    without_peaks(db)
    db.execute("DROP TABLE audit")


@pytest.mark.parametrize("build", [without_peaks, without_audit])
def test_what_an_earlier_build_lacks_is_added(
    path: str, build: Callable[[sqlite3.Connection], None]
) -> None:
    with closing(make(path)) as db:
        build(db)
    with pytest.raises(StoreError, match="version 1, this throttled needs"):
        Store.open(path, readonly=True)
    with closing(Store.open(path)) as store:
        assert store.active.counts(NOW)["mx", "ban"] == 1
        assert store.peaks.read(NOW)
        assert store.audit.changes() == []
    with closing(sqlite3.connect(path)) as db:
        assert differences(db, len(scripts()), scripts()) == ([], [])
        assert dict(db.execute("SELECT name, rows FROM tally"))["peak"] == 0
        assert dict(db.execute("SELECT name, rows FROM tally"))["mx ban"] == 1


def other_columns(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE source")
    db.execute("CREATE TABLE source (number INTEGER PRIMARY KEY, path TEXT NOT NULL)")


def lost_table(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE active")


@pytest.mark.parametrize(
    ("version", "damage", "names"),
    [(1, other_columns, "source"), (len(scripts()), lost_table, "active")],
)
@pytest.mark.parametrize("readonly", [True, False])
def test_an_unknown_schema_is_refused_and_not_changed(
    path: str,
    version: int,
    damage: Callable[[sqlite3.Connection], None],
    names: str,
    *,
    readonly: bool,
) -> None:
    with closing(make(path, version)) as db:
        damage(db)
    before = Path(path).read_bytes()
    with pytest.raises(StoreError, match=f"an earlier build or changed: .*{names}") as caught:
        Store.open(path, readonly=readonly)
    assert "move" in caught.value.hint
    assert Path(path).read_bytes() == before


def test_an_operators_own_index_is_no_difference(path: str) -> None:
    with closing(make(path)) as db:
        db.execute("CREATE INDEX mine ON decision (time)")
    Store.open(path).close()


def test_only_a_version_of_several_builds_is_completed() -> None:
    assert completable(1, [])
    assert not completable(1, ["source"])
    assert not completable(2, [])


def test_a_statement_may_have_semicolons_inside() -> None:
    script = (
        "-- a; b\nCREATE TABLE a (x);\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nSELECT 1;\nEND;\n"
    )
    assert len(list(statements(script))) == 2
