"""Who is never a stranger: read from the store, kept up to date, in each scope."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from throttled import address
from throttled.clock import Moment
from throttled.core import known_good
from throttled.core.known_good import KnownGood
from throttled.core.recorder import Recorder
from throttled.decide.protect import Protection
from throttled.errors import StoreError
from throttled.facts import Facts
from throttled.model import Decision, Evidence, Scope
from throttled.skipped import Skipped
from throttled.store.store import Store

WALL = 1_700_000_000.0
DAY = 86400.0
NOW = Moment(WALL, 50.0)
GOOD, USER, BOT = "198.51.100.7", "2001:db8::7", "203.0.113.9"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    store = Store.open(str(tmp_path / "t.db"))
    yield Recorder(store, Skipped())
    store.close()


@pytest.fixture
def known(recorder: Recorder) -> KnownGood:
    deliver(recorder, GOOD)
    recorder.store.record(WALL, (), [Evidence(USER, WALL, 0, 2), Evidence(BOT, WALL, 500, 0)])
    return KnownGood(recorder)


def deliver(recorder: Recorder, *addresses: str) -> None:
    for at in (WALL - DAY, WALL):
        recorder.store.record(WALL, (), [Evidence(address, at, 1) for address in addresses])


def has(known: KnownGood, subject: str, scope: Scope = "mx") -> bool:
    return (address.pack(subject), scope) in known


def load(known: KnownGood) -> None:
    asyncio.run(known.load(NOW))


def decision(action: str, subject: str = GOOD) -> Decision:
    return Decision(WALL, action, subject, "mx", "errors", 1, WALL + 600, "")  # type: ignore[arg-type]


def test_one_delivery_is_enough_for_a_host_name_on_the_allowlist(recorder: Recorder) -> None:
    """A large provider's pool: each address delivers now and then."""
    known = KnownGood(recorder, lambda client: client == BOT)
    recorder.store.record(WALL, (), [Evidence(BOT, WALL, 1, 0), Evidence(USER, WALL, 1, 0)])
    known.evident([BOT, USER])
    known.tick(NOW)
    known.tick(NOW)
    assert (has(known, BOT), has(known, USER)) == (True, False)


def test_mail_of_two_days_and_two_logins_count_a_botnets_spam_does_not(known: KnownGood) -> None:
    load(known)
    assert known.read
    assert [has(known, subject) for subject in (GOOD, USER, BOT)] == [True, True, False]
    assert (known.count("mx"), known.count("submission")) == (2, 2)
    assert set(known.subjects("mx")) == {GOOD, USER}


def test_thousands_are_read_in_pieces(recorder: Recorder, known: KnownGood) -> None:
    many = [f"198.18.{n >> 8}.{n & 255}" for n in range(1000)]
    deliver(recorder, *many)
    load(known)
    assert known.count("mx") == 1002
    assert not known.full


def test_above_the_cap_nobody_is_added(
    recorder: Recorder, known: KnownGood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_good, "MOST", 3)
    deliver(recorder, *(f"198.18.0.{n}" for n in range(9)))
    load(known)
    assert (known.count("mx"), known.full) == (3, True)


def test_what_is_protected_belongs_to_them(known: KnownGood) -> None:
    facts = Facts(mynetworks=("192.0.2.0/24",))
    known.protect(Protection(facts, networks=("203.0.113.0/25",)))
    assert has(known, "192.0.2.1")
    assert has(known, BOT)
    assert has(known, "127.0.0.1")
    assert known.changes("mx")["203.0.113.0/25"]
    known.protect(Protection(facts))
    assert not has(known, BOT)
    assert known.changes("mx") == {"203.0.113.0/25": False}


def test_a_ban_counts_at_once_and_only_in_its_scope(recorder: Recorder, known: KnownGood) -> None:
    load(known)
    known.changes("mx")
    recorder.store.record(WALL, [decision("ban")])
    known.decided([decision("ban"), decision("ban", "198.51.100.0/24")])
    assert (has(known, GOOD), has(known, GOOD, "submission")) == (False, True)
    assert known.changes("mx") == {GOOD: False}
    recorder.store.unbans.unban(GOOD, None, WALL)
    known.decided([decision("release")])
    known.tick(NOW)
    assert not has(known, GOOD)  # what is decided may not be recorded yet
    known.tick(NOW)
    assert has(known, GOOD)
    assert known.changes("mx") == {GOOD: True}


def test_new_evidence_counts_once_it_is_recorded(recorder: Recorder, known: KnownGood) -> None:
    load(known)
    new = "198.51.100.8"
    recorder.add([Evidence(new, WALL, 0, 2)], {})
    recorder.record(NOW, (), ())
    known.tick(NOW)
    known.tick(NOW)
    assert has(known, new, "submission")


def test_evidence_that_is_too_old_ends_it(known: KnownGood) -> None:
    load(known)
    asyncio.run(known.load(Moment(WALL + 40 * DAY, 100.0)))
    assert known.count("mx") == 0
    assert known.due(100.0 + 3600)
    assert not known.due(100.0 + 3599)


def test_a_store_that_fails_changes_nothing(recorder: Recorder, known: KnownGood) -> None:
    load(known)
    known.evident([GOOD])
    known.tick(NOW)
    recorder.store.close()
    with pytest.raises((StoreError, sqlite3.Error)):
        known.tick(NOW)
    with pytest.raises((StoreError, sqlite3.Error)):
        load(known)
    known.failed(50.0, 10.0)
    assert has(known, GOOD)
    assert known.due(60.0)


POOL = ["2001:db8:64::1", "2001:db8:64::2"]
TAIL, NETWORK = "2001:db8:64::beef", "2001:db8:64::/64"


@pytest.fixture
def pool(recorder: Recorder) -> KnownGood:
    """Two addresses of a provider's /64 deliver each day, the others now and then."""
    deliver(recorder, *POOL)
    made = KnownGood(recorder)
    load(made)
    return made


def test_a_64_with_two_known_good_addresses_is_known_good(
    recorder: Recorder, pool: KnownGood
) -> None:
    """The evil twin has one such address: a bot that moves within its own /64."""
    assert (has(pool, TAIL), has(pool, TAIL, "submission")) == (True, True)
    assert set(pool.subjects("mx")) == {*POOL, NETWORK}
    assert pool.count("mx") == 2
    alone = "2001:db8:65::1"
    deliver(recorder, alone)
    load(pool)
    assert has(pool, alone)
    assert not has(pool, "2001:db8:65::2")


@pytest.mark.parametrize("subject", [NETWORK, TAIL, POOL[0]])
@pytest.mark.parametrize("action", ["throttle", "ban"])
def test_a_pool_is_none_while_it_or_one_in_it_is_restricted(
    recorder: Recorder, pool: KnownGood, action: str, subject: str
) -> None:
    pool.changes("mx")
    recorder.store.record(WALL, [decision(action, subject)])
    pool.decided([decision(action, subject)])
    assert (has(pool, TAIL), has(pool, TAIL, "submission"), has(pool, POOL[1])) == (
        False,
        True,
        True,
    )
    assert pool.changes("mx")[NETWORK] is False
    recorder.store.unbans.unban(subject, None, WALL)
    pool.decided([decision("release", subject)])
    pool.tick(NOW)
    pool.tick(NOW)
    assert has(pool, TAIL)
    assert pool.changes("mx")[NETWORK]


def test_a_pool_is_one_again_when_the_throttle_expires(pool: KnownGood) -> None:
    pool.decided([decision("throttle", TAIL)])
    pool.tick(Moment(WALL + 599, 60.0))
    assert not has(pool, TAIL)
    pool.tick(Moment(WALL + 601, 60.0))
    assert has(pool, TAIL)


def test_a_64_that_was_restricted_before_is_no_pool(recorder: Recorder) -> None:
    recorder.store.record(WALL, [decision("throttle", NETWORK)])
    deliver(recorder, *POOL)
    known = KnownGood(recorder)
    load(known)
    assert (has(known, TAIL), has(known, POOL[0])) == (False, True)


def test_a_pool_that_is_protected_stays(pool: KnownGood) -> None:
    facts = Facts(mynetworks=(NETWORK,))
    pool.protect(Protection(facts))
    pool.changes("mx")
    pool.decided([decision("throttle", NETWORK)])
    assert NETWORK not in pool.changes("mx")
    pool.decided([decision("release", NETWORK)])
    pool.protect(Protection(Facts()))
    assert NETWORK not in pool.changes("mx")
    assert has(pool, TAIL)


def test_accounts_are_none_of_these(pool: KnownGood) -> None:
    pool.changes("mx")
    pool.decided([decision("throttle", "account:alice")])
    assert pool.changes("mx") == {}
