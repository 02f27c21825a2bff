"""Log sources, and how far each log was read."""

from contextlib import closing

from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0


def test_a_source_keeps_its_number(path: str) -> None:
    with closing(Store.open(path)) as store:
        first = store.positions.source("/var/log/mail.log", 1, 100)
        rotated = store.positions.source("/var/log/mail.log", 1, (1 << 64) - 1)
        assert store.positions.source("/var/log/mail.log", 1, 100) == first != rotated
    with closing(Store.open(path)) as store:
        assert store.positions.source("/var/log/mail.log", 1, 100) == first
        assert store.positions.source_file(first) == ("/var/log/mail.log", 1, 100, b"")
        assert store.positions.source_file(rotated) == ("/var/log/mail.log", 1, (1 << 64) - 1, b"")
        assert store.positions.source_file(99) is None


def test_an_inode_used_again_is_another_source(store: Store) -> None:
    first = store.positions.source("/var/log/mail.log", 1, 100, b"of may")
    second = store.positions.source("/var/log/mail.log", 1, 100, b"of june")
    assert store.positions.source_file(first) == ("/var/log/mail.log", 1, 100, b"of may")
    assert store.positions.source_file(second) == ("/var/log/mail.log", 1, 100, b"of june")


def test_a_known_source_costs_no_write(store: Store) -> None:
    store.positions.source("/var/log/mail.log", 1, 100)
    statements: list[str] = []
    store._database.connection.set_trace_callback(statements.append)
    store.positions.source("/var/log/mail.log", 1, 100)
    assert statements == []


def test_the_cache_of_sources_has_a_cap(store: Store) -> None:
    numbers = [store.positions.source("/var/log/mail.log", 1, inode) for inode in range(1001)]
    assert numbers == list(range(1, 1002))
    assert len(store.positions._sources) <= 1000
    assert store.positions.source("/var/log/mail.log", 1, 0) == 1


def test_positions_of_a_new_database(store: Store) -> None:
    assert store.positions.all() == {}


def test_the_latest_position_of_a_path_is_kept(store: Store) -> None:
    old = StoredPosition("/var/log/mail.log", b"abc")
    new = StoredPosition("/var/log/mail.log", b"\0\xff")
    other = StoredPosition("/var/log/mail.err", b"")
    store.record(NOW, [], [], [old, other])
    store.record(NOW, [], [], [new])
    assert store.positions.all() == {new.path: new, other.path: other}
