"""Which /64 networks are pools."""

import pytest

from throttled import address
from throttled.core import pools as module
from throttled.core.pools import Pools

ONE, TWO, POOL = "2001:db8::1", "2001:db8::2", "2001:db8::/64"


@pytest.fixture
def pools() -> Pools:
    made = Pools()
    assert made.put(ONE, good=True) == {}
    assert made.put(TWO, good=True) == {POOL: True}
    return made


def has(pools: Pools, client: str) -> bool:
    return address.pack(client) in pools


def test_addresses_are_counted_by_network(pools: Pools) -> None:
    assert pools.count(map(address.pack, (ONE, TWO, "2001:db8:1::7"))) == {
        POOL: 2,
        "2001:db8:1::/64": 1,
    }


def test_two_addresses_make_one(pools: Pools) -> None:
    assert (list(pools), has(pools, "2001:db8::3"), has(pools, "2001:db8:0:1::3")) == (
        [POOL],
        True,
        False,
    )
    assert pools.put("2001:db8::3", good=True) == {}
    assert pools.put(ONE, good=False) == {}
    assert pools.put(TWO, good=False) == {POOL: False}
    assert pools.put("2001:db8::3", good=False) == {}
    assert not has(pools, ONE)


@pytest.mark.parametrize("base", ["192.0.2.{}", "64:ff9b::c000:20{}", "2002:c000:204::{}"])
def test_unrelated_clients_are_none(base: str) -> None:
    pools = Pools()
    for n in (1, 2, 3):
        assert pools.put(base.format(n), good=True) == {}
        assert not has(pools, base.format(n))
    assert pools.bar(base.format(1), 10.0) == {}


def test_it_is_none_until_the_latest_restriction_expires(pools: Pools) -> None:
    assert pools.bar(POOL, 10.0) == {POOL: False}
    assert pools.bar("2001:db8::9", 5.0) == {}
    assert pools.tick(9.0) == {}
    assert pools.tick(10.0) == {POOL: True}
    assert pools.bar("2001:db8::/48", 20.0) == {}  # the firewall's own
    assert pools.bar("2001:db8:1::/64", 20.0) == {}
    assert pools.bar(ONE, 20.0) == {POOL: False}
    assert pools.unbar(ONE) == {POOL: True}


def test_there_are_not_too_many(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    assert pools.put("2001:db8:1::1", good=True) == {}
    assert pools.put("2001:db8:1::2", good=True) == {}
    assert list(pools) == [POOL]
