"""Which accounts are guessed from many addresses: against an exact model, and at the caps."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.address import network_of
from throttled.decide import guessing
from throttled.decide.guessing import Guessing, Target
from throttled.duration import Duration
from throttled.settings import Guessing as Settings

T = 80.0  # an eighth of it is ten seconds
SETTINGS = Settings(tries=4, tries_each=2, within=Duration(T), accounts=2)
BOSS, SALES = "account:boss", "account:sales"


def v4(number: int) -> str:
    return f"198.18.{number // 256}.{number % 256}"


def failed(under: Guessing, account: str, client: str, at: float, count: int = 1) -> int:
    """Count failures; return on how many attacked accounts the client failed, if this is one."""
    return sum(value for _, value in under.failed(client, at, [(account, count)]))


def attacked(account: str = BOSS, settings: Settings = SETTINGS, at: float = 1000.0) -> Guessing:
    """Return a state in which an account is just under attack, by one try of each address."""
    under = Guessing(settings)
    for number in range(settings.tries + 1):
        failed(under, account, v4(number), at)
    return under


class Model:
    """All that ever happened."""

    def __init__(self) -> None:
        self.failures: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.accused: dict[tuple[str, str], int] = {}
        self.logins: dict[str, float] = {}

    def tries(self, account: str, tick: int) -> int:
        sources = [source for then, source in self.failures[account] if then >= tick - 8]
        return sum(min(SETTINGS.tries_each, sources.count(source)) for source in set(sources))

    def failed(self, account: str, source: str, at: float) -> int:
        if at - self.logins.get(source, -1e9) <= T:
            return 0
        tick = int(at / 10)
        self.failures[account].append((tick, source))
        if self.tries(account, tick) <= SETTINGS.tries:
            return 0
        self.accused[source, account] = tick
        found = [1 for (who, _), then in self.accused.items() if who == source and then >= tick - 8]
        return min(SETTINGS.accounts, len(found))

    def logged_in(self, account: str, source: str, at: float) -> None:
        self.logins[source] = at
        self.failures[account] = [f for f in self.failures[account] if f[1] != source]
        self.accused.pop((source, account), None)


CLIENTS = st.sampled_from([*map(v4, range(5)), "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])
PAUSES = st.sampled_from([0.0] * 12 + [0.5, 3.0, 9.9] * 4 + [10.0, 30.0, 79.0, 81.0, 95.0, 9000.0])
STEPS = st.tuples(
    PAUSES,
    st.sampled_from(["fail"] * 12 + ["login"]),
    st.sampled_from([BOSS, BOSS, SALES]),
    CLIENTS,
)


@given(st.lists(STEPS, max_size=120))
def test_exact_model(steps: list[tuple[float, str, str, str]]) -> None:
    under, model, at = Guessing(SETTINGS), Model(), 1000.0
    for pause, what, account, client in steps:
        at += pause
        source = network_of(client) if ":" in client else client
        if what == "login":
            under.logged_in(account, client, at)
            model.logged_in(account, source, at)
            continue
        assert failed(under, account, client, at) == model.failed(account, source, at)
        for name in (BOSS, SALES):
            found, tick = under.target(name, at), int(at / 10)
            recent = {source for then, source in model.failures[name] if then >= tick - 8}
            tries = model.tries(name, tick)
            assert found == (
                Target(name, tries, len(recent), tries > SETTINGS.tries) if recent else None
            )
        recent_of = ({s for t, s in model.failures[n] if t >= tick - 8} for n in (BOSS, SALES))
        assert under.size()[1] == sum(map(len, recent_of))
    expected = {name for name in (BOSS, SALES) if model.tries(name, int(at / 10)) > SETTINGS.tries}
    assert {target.account for target in under.attacked(at)} == expected


def test_an_attack_is_reported_once_and_again_after_it_was_over() -> None:
    under = attacked()
    (target,) = under.drain()
    assert target == Target(BOSS, 5, 5, attacked=True)
    failed(under, BOSS, v4(9), 1001.0)
    assert under.drain() == []
    for at, reports in ((1085.0, 0), (1200.0, 1)):  # a rest of the first is left; it is over
        for number in range(5):
            failed(under, BOSS, v4(number), at)
        assert len(under.drain()) == reports


def test_more_than_one_failure_of_a_64_is_its_networks() -> None:
    under = attacked()
    assert failed(under, BOSS, "2001:db8::1", 1001.0) == 1
    assert under.network(BOSS, "2001:db8::1") == ""
    failed(under, BOSS, "2001:db8::2", 1001.0)
    assert under.network(BOSS, "2001:db8::2") == "2001:db8::/64"
    failed(under, BOSS, v4(0), 1001.0, count=3)
    assert (under.network(BOSS, v4(0)), under.network(SALES, "2001:db8::1")) == ("", "")


def test_a_login_removes_the_failures_of_its_client() -> None:
    under = attacked()
    under.logged_in(BOSS, v4(0), 1001.0)
    assert under.target(BOSS, 1001.0) == Target(BOSS, 4, 4, attacked=False)
    assert under.size() == (1, 4)


def test_a_line_that_comes_late_counts_where_it_belongs() -> None:
    under = attacked()
    assert failed(under, BOSS, v4(7), 930.0) == 1
    assert failed(under, BOSS, v4(8), 100.0) == 1  # out of the window: not counted
    found = under.target(BOSS, 1000.0)
    assert found is not None
    assert (found.tries, found.sources) == (6, 6)


def test_disabled_counts_nothing() -> None:
    off = Settings(enabled=False)
    under = attacked().reconfigured(off)
    assert failed(under, BOSS, v4(0), 1000.0, count=99) == 0
    under.logged_in(BOSS, v4(0), 1000.0)
    assert (under.target(BOSS, 1000.0), under.size()) == (None, (0, 0))


def test_other_thresholds_apply_to_what_was_counted() -> None:
    under = attacked()
    more = Settings(tries=20, tries_each=9, within=Duration(T), accounts=3)
    assert under.reconfigured(more) is under
    assert failed(under, BOSS, v4(0), 1000.0, count=8) == 0
    found = under.target(BOSS, 1000.0)
    assert found == Target(BOSS, 13, 5, attacked=False)
    assert failed(under.reconfigured(SETTINGS), BOSS, v4(0), 1000.0) == 1
    longer = Settings(within=Duration(2 * T))
    assert under.reconfigured(longer).target(BOSS, 1000.0) is None


def test_on_how_many_attacked_accounts_a_client_failed() -> None:
    guessing = attacked()
    client = "203.0.113.9"
    assert guessing.accused(client, 1000.0) == 0
    failed(guessing, BOSS, client, 1000.0)
    assert guessing.accused(client, 1000.0) == 1
    assert guessing.accused(client, 1000.0 + 2 * float(SETTINGS.within)) == 0


def test_reset() -> None:
    under = attacked()
    for client in (v4(0), "2001:db8::1"):
        failed(under, BOSS, client, 1000.0)
    other = attacked(SALES)
    assert failed(other, SALES, v4(0), 1000.0) == 1
    for account in (BOSS, SALES):
        for number in range(5):
            failed(under, account, v4(number), 1000.0)
    assert failed(under, SALES, v4(0), 1000.0) == 2
    under.reset(v4(0))
    assert failed(under, SALES, v4(0), 1000.0) == 1
    under.reset(SALES)
    assert (under.target(SALES, 1000.0), under.size()) == (None, (1, 6))
    under.clear()
    assert (under.target(BOSS, 1000.0), under.size()) == (None, (0, 0))


def test_a_login_without_a_name_is_good_evidence_all_the_same() -> None:
    under = attacked()
    under.logged_in("", v4(9), 1001.0)
    assert failed(under, BOSS, v4(9), 1002.0) == 0
    assert failed(under, BOSS, v4(9), 1002.0 + T) == 1


@pytest.mark.parametrize("owned", [True, False])
def test_invented_names_do_not_evict_an_account(
    monkeypatch: pytest.MonkeyPatch, *, owned: bool
) -> None:
    """Neither one that was used, nor one under attack that nobody logs in to by SMTP."""
    monkeypatch.setattr(guessing, "_ACCOUNTS", 100)
    under = Guessing(SETTINGS) if owned else attacked()
    if owned:
        under.logged_in(BOSS, "203.0.113.1", 1000.0)
        failed(under, BOSS, v4(0), 1000.0)
    for number in range(5000):
        for client in range(2):
            failed(under, f"account:{number}", v4(number % 7 + client), 1001.0)
        assert under.size()[0] <= 100
    assert under.dropped >= 4800
    assert under.target(BOSS, 1001.0) == (
        Target(BOSS, 1, 1, attacked=False) if owned else Target(BOSS, 5, 5, attacked=True)
    )


def test_an_account_stays_under_attack_at_the_cap_of_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cap costs it addresses that are counted, not the state."""
    monkeypatch.setattr(guessing, "_SOURCES", 1000)
    under = Guessing(SETTINGS)
    names = [f"account:{number}" for number in range(4)]
    for name in names:
        for number in range(250):
            failed(under, name, v4(number), 1000.0)
    failed(under, BOSS, v4(0), 1000.0)
    assert under.size()[1] == 511
    found = sorted((target.sources, target.account) for target in under.attacked(1000.0))
    assert [sources for sources, _ in found] == [5, 5, 250, 250]
    assert {account for _, account in found} == set(names)


def test_the_cap_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_SOURCES", 1000)
    monkeypatch.setattr(guessing, "_OF_ONE", 250)
    under = Guessing(SETTINGS)
    for number in range(4000):
        failed(under, BOSS, v4(number), 1000.0)
    assert under.target(BOSS, 1000.0) == Target(BOSS, 250, 250, attacked=True)
    assert failed(under, BOSS, v4(4001), 1000.0) == 1  # not counted, but accused
    for account in range(100):
        for number in range(60):
            failed(under, f"account:{account}", v4(number), 1000.0)
            assert under.size()[1] <= 1060
    assert under.target(BOSS, 1000.0) == Target(BOSS, 250, 250, attacked=True)
    failed(under, BOSS, v4(1), 5000.0)  # the others are too old
    for account in range(100, 120):
        for number in range(60):
            failed(under, f"account:{account}", v4(number), 5000.0)
    found = under.target(BOSS, 5000.0)
    assert found is None or not found.attacked


def test_failures_together_are_those_one_by_one() -> None:
    """An account is under attack from the failure on that is one too many."""
    under = attacked()
    assert under.failed(v4(9), 1000.0, [(SALES, 2), (BOSS, 1)]) == [(BOSS, 1)]
    assert under.failed(v4(8), 1000.0, [(SALES, 2)]) == []
    tries = [(BOSS, 1), (SALES, 2), (BOSS, 1)]
    assert under.failed(v4(7), 1000.0, tries) == [(BOSS, 1), (SALES, 2), (BOSS, 2)]
