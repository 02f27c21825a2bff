import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab.network.netns import directory
from throttled.errors import StoreError
from throttled.model import Decision
from throttled.store import database
from throttled.store.database import MEMORY, Database
from throttled.store.migrate import scripts
from throttled.store.store import Store

NOW = 1_700_000_000.0


def ban(number: int, why: str = "because") -> Decision:
    subject = f"198.18.{number >> 8}.{number & 255}"
    return Decision(NOW, "ban", subject, "mx", "errors", 1, NOW + 600, why)


def number_of_bans(path: str) -> int:
    with closing(Store.open(path)) as store:
        return sum(store.active.counts(NOW).values())


def opened(path: str, migrations: list[str] | None = None, *, readonly: bool = False) -> Database:
    steps = scripts() if migrations is None else migrations
    return Database(path, readonly=readonly, migrations=steps)


# Opening


def test_a_new_file_is_ours_alone(path: str) -> None:
    opened(path).close()
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_pragmas_are_in_force(path: str) -> None:
    with closing(opened(path)) as db:
        names = ("journal_mode", "synchronous", "temp_store", "cache_size", "secure_delete")
        values = [db.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    assert values == ["wal", 1, 2, -8000, 2]


def test_a_path_may_have_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41.db"
    opened(str(path)).close()
    assert path.stat().st_size > 0


def test_a_relative_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened("throttled.db").close()
    assert (tmp_path / "throttled.db").exists()


def test_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(opened(MEMORY)) as db, db.transaction() as connection:
        connection.execute("INSERT INTO source VALUES (1, 'x', 1, 1, '')")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        opened(str(tmp_path / "not" / "here.db"))
    assert "mkdir" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(str(tmp_path))


def test_reading_needs_a_database(path: str) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        opened(path, readonly=True)
    assert not Path(path).exists()


def test_reading_only_does_not_write(path: str) -> None:
    opened(path).close()
    with closing(opened(path, readonly=True)) as db:
        with pytest.raises(StoreError, match="cannot be written"), db.transaction() as connection:
            connection.execute("DELETE FROM decision")
        assert db.connection.execute("SELECT count(*) FROM decision").fetchone() == (0,)


def test_reading_goes_on_beside_the_daemon(path: str) -> None:
    with closing(Store.open(path)) as daemon:
        daemon.record(NOW, [ban(1)])
        with closing(Store.open(path, readonly=True)) as command:
            assert len(command.listing.snapshots(NOW)) == 1
            daemon.record(NOW, [ban(2)])
            assert len(command.listing.snapshots(NOW)) == 2


# Files that are not ours


@pytest.mark.parametrize("readonly", [True, False])
def test_garbage_is_refused_and_left_alone(path: str, readonly: bool) -> None:  # noqa: FBT001 - parametrized
    garbage = os.urandom(20_000)
    Path(path).write_bytes(garbage)
    with pytest.raises(StoreError, match="is not a database") as caught:
        opened(path, readonly=readonly)
    assert "Move the file" in caught.value.hint
    assert Path(path).read_bytes() == garbage


def test_a_damaged_database_is_refused_and_left_alone(path: str) -> None:
    with closing(Store.open(path)) as store:
        store.record(NOW, [ban(number) for number in range(2000)])
    with closing(sqlite3.connect(path)) as db:
        roots = "SELECT rootpage FROM sqlite_master WHERE name IN ('active', 'decision')"
        pages = [page for (page,) in db.execute(roots)]
    content = bytearray(Path(path).read_bytes())
    for page in pages:
        content[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    Path(path).write_bytes(content)
    with closing(Store.open(path)) as store:
        with pytest.raises(StoreError, match="damaged") as caught:
            store.record(NOW, [ban(1)])
        assert ".recover" in caught.value.hint
        with pytest.raises(StoreError, match="damaged"):
            list(store.active.entries(NOW))
    assert Path(path).read_bytes() == bytes(content)
    content[4096:] = b"\xa5" * (len(content) - 4096)  # the schema too
    Path(path).write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)
    assert Path(path).read_bytes() == bytes(content)


def test_another_programs_database_is_refused(path: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreError, match="belongs to another program"):
        opened(path)


def test_a_newer_database_is_refused_and_left_alone(path: str) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    content = Path(path).read_bytes()
    with pytest.raises(StoreError, match="version 99") as caught:
        opened(path)
    assert "newer throttled" in caught.value.hint
    assert Path(path).read_bytes() == content


# Migrations


def test_migrations_are_in_the_package_in_order() -> None:
    folder = resources.files("throttled.store").joinpath("migrations")
    names = sorted(file.name for file in folder.iterdir())
    assert names == [f"{number:04}.sql" for number in range(1, len(names) + 1)]
    assert [folder.joinpath(name).read_text() for name in names] == scripts()


def test_an_empty_file_becomes_a_database(path: str) -> None:
    Path(path).touch()
    opened(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(scripts()),)


def test_every_past_version_becomes_the_present_one(tmp_path: Path) -> None:
    schemas = []
    for version in range(len(scripts()) + 1):
        path = str(tmp_path / f"{version}.db")
        if version:
            opened(path, scripts()[:version]).close()
        opened(path).close()
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(scripts()),)
            schemas.append(db.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall())
    assert all(schema == schemas[0] for schema in schemas)


def test_a_migration_keeps_what_is_there(path: str) -> None:
    latest = len(scripts())
    with closing(Store.open(path)) as store:
        store.record(NOW, [ban(1)])
    added = "-- What changes; and why.\nALTER TABLE active ADD COLUMN colour TEXT DEFAULT 'red';\n"
    with closing(opened(path, [*scripts(), added])) as db:
        row = db.connection.execute("SELECT subject, colour FROM active").fetchone()
    assert row == ("198.18.0.1", "red")
    with pytest.raises(StoreError, match=f"version {latest + 1}, this throttled knows {latest}"):
        Store.open(path)


def test_the_first_version_has_no_rates_and_no_exemptions(path: str) -> None:
    with closing(opened(path, scripts()[:1])) as db:
        db.connection.execute(
            'INSERT INTO active (number, subject, scope, action, "limit", level, since, until, why)'
            " VALUES (1, '198.18.0.1', 'mx', 'throttle', 'auth', 0, ?, ?, 'because')",
            (NOW, NOW + 600),
        )
    with closing(Store.open(path)) as store:
        (row,) = store.listing.snapshots(NOW)
        assert (row.subject, row.action, row.rate) == ("198.18.0.1", "throttle", None)
        assert {key: count for key, count in store.active.counts(NOW).items() if count} == {
            ("mx", "throttle"): 1
        }
        store.record(NOW, [Decision(NOW, "exempt", "198.18.0.2", "mx", "x", 0, NOW + 600, "")])
        assert store.active.counts(NOW)["mx", "exempt"] == 1


def test_a_migration_that_fails_leaves_nothing(path: str) -> None:
    opened(path).close()
    content = Path(path).read_bytes()
    broken = "CREATE TABLE half (x);\nINSERT INTO nowhere VALUES (1);\n"
    with pytest.raises(StoreError, match="nowhere"):
        opened(path, [*scripts(), broken])
    assert Path(path).read_bytes() == content
    opened(path).close()


def test_reading_does_not_migrate(path: str) -> None:
    latest = len(scripts())
    opened(path).close()
    more = [*scripts(), "CREATE TABLE more (x);"]
    with pytest.raises(StoreError, match=f"version {latest}, this throttled needs {latest + 1}"):
        opened(path, more, readonly=True)


def test_two_that_start_at_once_migrate_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY", 10.0)
    failed: list[StoreError] = []

    def start(barrier: threading.Barrier) -> None:
        barrier.wait()
        try:
            opened(path).close()
        except StoreError as error:
            failed.append(error)

    for _ in range(10):
        opened(path, []).close()  # the change to WAL does not wait, and fails as "locked"
        barrier = threading.Barrier(2)
        both = [threading.Thread(target=start, args=(barrier,)) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert not failed
        for file in Path(path).parent.iterdir():
            file.unlink()


def test_a_checkpoint_fills_the_main_file_also_beside_a_reader(path: str) -> None:
    with closing(opened(path)) as db, closing(opened(path, readonly=True)) as reader:
        rows = reader.connection.execute("SELECT * FROM tally")
        rows.fetchone()  # a read transaction that goes on
        db.checkpoint()
        before = Path(path).stat().st_size
        with db.transaction() as connection:
            connection.execute("INSERT INTO source VALUES (1, ?, 1, 1, '')", ("x" * 10_000,))
        db.checkpoint()
        assert Path(path).stat().st_size == before
        rows.close()
        db.checkpoint()
        assert Path(path).stat().st_size > before


# Faults while it runs. Each: an error with its hint, and the store works when the fault is gone.


def test_an_error_inside_rolls_back(store: Store) -> None:
    def twice(*after: Callable[[], object]) -> None:
        with store._database.transaction() as connection:
            connection.execute("INSERT INTO source VALUES (1, 'x', 1, 1, '')")
            for call in after:
                call()
            connection.execute("INSERT INTO source VALUES (1, 'x', 1, 1, '')")

    with pytest.raises(ZeroDivisionError):
        twice(lambda: 1 // 0)
    assert store.positions.source_file(1) is None
    with pytest.raises(StoreError, match="UNIQUE"):
        twice()
    assert store.positions.source_file(1) is None


def test_locked_by_another(path: str, store: Store) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked") as caught:
            store.record(NOW, [ban(1)])
        assert "fuser" in caught.value.hint
        with pytest.raises(StoreError, match="locked"):
            Store.open(path)
        assert list(store.active.entries(NOW)) == []  # reading goes on
    store.record(NOW, [ban(2)])
    assert [e.subject for chunk in store.active.entries(NOW) for e in chunk] == ["198.18.0.2"]


@pytest.mark.parametrize("replaced", [True, False])
def test_removed_or_replaced(path: str, store: Store, replaced: bool) -> None:  # noqa: FBT001 - parametrized
    store.record(NOW, [ban(1)])
    shutil.move(path, path + ".old")
    if replaced:
        shutil.copy(path + ".old", path)
    with pytest.raises(StoreError, match="removed or replaced") as caught:
        store.record(NOW, [ban(2)])
    assert "within seconds" in caught.value.hint
    shutil.move(path + ".old", path)
    store.record(NOW, [ban(3)])
    assert store.active.counts(NOW)["mx", "ban"] == 2


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 2 MB of our own."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "throttled-test", str(folder)]
    subprocess.run(command, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    assert os.statvfs(folder).f_bavail == 0
    return ballast


@pytest.mark.root
def test_disk_full(tmpfs: Path) -> None:
    path = str(tmpfs / "throttled.db")
    with closing(Store.open(path)) as store:
        store.record(NOW, [ban(number) for number in range(100)])
        ballast = fill(tmpfs)
        for _ in range(3):
            with pytest.raises(StoreError, match="no space left") as caught:
                store.record(NOW, [ban(number, "y" * 500) for number in range(100, 2000)])
            assert str(tmpfs) in caught.value.hint
            assert len(store.past([("198.18.0.7", "mx")], NOW)) == 1  # reading goes on
        assert store.active.counts(NOW)["mx", "ban"] == 100
        ballast.unlink()
        store.record(NOW, [ban(number) for number in range(100, 300)])
        assert store.active.counts(NOW)["mx", "ban"] == 300
    assert number_of_bans(path) == 300


@pytest.mark.root
def test_disk_full_at_the_first_start(tmpfs: Path) -> None:
    path = str(tmpfs / "throttled.db")
    ballast = fill(tmpfs)
    with pytest.raises(StoreError, match="no space left"):
        Store.open(path)
    ballast.unlink()
    Store.open(path).close()
    fill(tmpfs)
    with pytest.raises(StoreError, match="no space left"):
        Store.open(path)
    ballast.unlink()
    assert number_of_bans(path) == 0


@pytest.mark.root
def test_mounted_read_only(tmpfs: Path) -> None:
    path = str(tmpfs / "throttled.db")
    Store.open(path).close()
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    for readonly in (False, True):  # reading, too, needs a file of SQLite's beside it
        with pytest.raises(StoreError) as caught:
            Store.open(path, readonly=readonly)
        assert "writ" in caught.value.hint
    with pytest.raises(StoreError, match="cannot be created"):
        Store.open(str(tmpfs / "other.db"))
    subprocess.run(["mount", "-o", "remount,rw", str(tmpfs)], check=True)
    assert number_of_bans(path) == 0


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.usefixtures("others")
def test_files_of_another_user(mode: int) -> None:
    with TemporaryDirectory() as folder:  # pytest's own cannot be entered by others
        Path(folder).chmod(0o755)
        path = f"{folder}/throttled.db"
        Store.open(path).close()
        Path(path).chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match="cannot be written") as caught:
                Store.open(path)
            with pytest.raises(StoreError, match="cannot be created: Permission denied"):
                Store.open(f"{folder}/other.db")
        finally:
            os.seteuid(0)
        assert folder in caught.value.hint
        assert number_of_bans(path) == 0


@pytest.mark.root
@pytest.mark.parametrize("closed", ["file", "directory"])
@pytest.mark.usefixtures("others")
def test_what_this_user_may_not_read_is_not_permitted(closed: str) -> None:
    with directory("store") as home:
        Store.open(str(home / "throttled.db")).close()
        if closed == "directory":
            home.chmod(0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError, match="may not read") as caught:
                Store.open(str(home / "throttled.db"), readonly=True)
        finally:
            os.seteuid(0)
    assert (caught.value.hint, caught.value.exit_code) == ("run as root", 3)
