"""Names of this host."""

from throttled.store.host import HOSTS
from throttled.store.store import Store

NOW = 1_700_000_000.0


def test_hosts(store: Store) -> None:
    assert store.hosts.names() == frozenset()
    for number in range(3 * HOSTS):
        store.hosts.add(f"host{number}", NOW + number)
    store.hosts.add("host250", NOW + 999)
    assert len(store.hosts.names()) == HOSTS
    assert {"host250", "host299"} <= store.hosts.names()
    assert "host0" not in store.hosts.names()
