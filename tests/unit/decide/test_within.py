"""N within T, from events to crossings, against an exact and slow model.

The bound: a count is never lower than what happened within T, includes nothing older than 9/8 T,
and a limit is crossed accordingly; whatever other clients do meanwhile, and after any quiet time.
The tables alone: test_meter.py, test_tables.py, test_sums.py.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, field

from throttled.address import network_of
from throttled.decide.engine import Engine
from throttled.decide.sums import Sums
from throttled.decide.tables import Counters, Distinct
from throttled.duration import Duration
from throttled.facts import Facts
from throttled.limits import Limit
from throttled.model import Event
from throttled.settings import Network, Policy

T = 80.0  # an eighth of it is ten seconds
SOFT, MULTIPLE = 2, 2
LIMITS = {
    "connect": ("connections",),
    "reject": ("errors",),
    "auth_failure": ("auth_failures", "auth_users"),
}
POLICY = Policy(
    limits={
        count: Limit(count=count, within=Duration(T), soft=SOFT)  # type: ignore[arg-type]
        for counts in LIMITS.values()
        for count in counts
    },
    network=Network(multiple=MULTIPLE),
)
QUIET = [10.0, 30.0, 79.0, 81.0, 95.0, 200.0, 9000.0]
PAUSES = st.sampled_from([0.0] * 8 + [0.5, 3.0, 9.9] * 4 + QUIET)
CLIENTS = st.sampled_from(
    [f"203.0.113.{n}" for n in range(4)] + [f"2001:db8:0:1::{n}" for n in range(3)]
)


class Model(Struct):
    """All that ever happened, and how many of it within a time."""

    seen: dict[str, list[tuple[float, int, str]]] = field(default_factory=lambda: defaultdict(list))

    def within(self, keys: Iterable[str], since: float, *, names: bool = False) -> int:
        """Return the sum, or the number of names, from a time on."""
        found = [(n, name) for key in keys for t, n, name in self.seen[key] if t > since]
        return len({name for _, name in found}) if names else sum(n for n, _ in found)


def event(kind: str, client: str, pid: int, user: str) -> Event:
    more: dict[str, Any] = {"reason": "unknown_user", "where": "RCPT"} if kind == "reject" else {}
    return Event(kind, client, "smtpd", "postfix", pid, 0.0, user=user, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LIMITS)
@given(st.lists(st.tuples(PAUSES, CLIENTS, st.sampled_from("uvwxyz")), min_size=20, max_size=100))
def test_limits_of_clients_and_networks(kind: str, history: list[tuple[float, str, str]]) -> None:
    under = Engine(POLICY, Facts())
    models = {count: Model() for counts in LIMITS.values() for count in counts}
    alone: dict[str, bool] = defaultdict(bool)  # whether an address was above a limit of its own
    clock = 1000.0
    for pid, (pause, client, user) in enumerate(history):
        clock += pause
        network = network_of(client)
        under.step(event(kind, client, pid, user if kind == "auth_failure" else ""), clock)
        crossed = {(c.subject, c.limit) for c in under.drain().crossings}
        for count in LIMITS[kind]:
            model, names = models[count], count == "auth_users"
            model.seen[client].append((clock, 1, user))
            least = model.within([client], clock - T, names=names)
            most = model.within([client], clock - T * 9 / 8 - 1e-6, names=names)
            shown = {m.limit: m.value for m in under.meters(client, clock) if m.scope == "mx"}
            assert least <= shown[count] <= most
            assert ((client, count) in crossed) == (shown[count] > SOFT)
            alone[network + count] |= shown[count] > SOFT
            members = [key for key in model.seen if network_of(key) == network]
            least = model.within(members, clock - T, names=names)
            if names:  # one above the threshold are distinguished
                least = min(least, MULTIPLE * SOFT + 1)
            most = model.within(members, clock - T * 9 / 8 - 1e-6, names=names)
            shown = {m.limit: m.value for m in under.meters(network, clock) if m.scope == "mx"}
            assert shown[count] <= most
            assert least <= shown[count] or alone[network + count]
            assert ((network, count) in crossed) == (shown[count] > MULTIPLE * SOFT)


CHANGES = st.lists(
    st.tuples(
        PAUSES,
        st.sampled_from("aab"),
        st.sampled_from("uvw"),
        st.integers(1, 4),
        st.booleans(),  # whether the client's latest event is taken back
    ),
    max_size=80,
)


@given(CHANGES)
def test_what_is_subtracted_is_not_counted(
    history: list[tuple[float, str, str, int, bool]],
) -> None:
    """A login takes back what its session counted: as if it had not happened."""
    counters, sums, model = Counters(T, 1000), Sums(T, 1000, 4), Model()
    clock = 1000.0
    for pause, key, _, count, back in history:
        clock += pause
        if back and model.seen[key]:
            then, number, _ = model.seen[key].pop()
            counters.subtract(key, then, number)
            sums.subtract(key, then, number)
        else:
            model.seen[key].append((clock, count, ""))
            counters.add(key, clock, count)
            sums.add(key, clock, count)
        for each in "ab":
            least = model.within([each], clock - T)
            most = model.within([each], clock - T * 9 / 8 - 1e-6)
            assert least <= counters.value(each, clock) <= most
            assert least <= sums.value(each, clock) <= most


@given(CHANGES)
def test_names_that_are_removed_are_not_counted(
    history: list[tuple[float, str, str, int, bool]],
) -> None:
    table, model = Distinct(T, 1000, most=3), Model()
    clock = 1000.0
    for pause, key, name, _, back in history:
        clock += pause
        if back:
            model.seen[key] = [use for use in model.seen[key] if use[2] != name]
            table.remove(key, name)
        else:
            model.seen[key].append((clock, 1, name))
            assert table.add(key, clock, name) == table.value(key, clock)
        for each in "ab":
            least = model.within([each], clock - T, names=True)
            most = model.within([each], clock - T * 9 / 8 - 1e-6, names=True)
            assert least <= table.value(each, clock) <= most


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0] * 6 + [1.0, 30.0, 200.0]),
            CLIENTS,
            st.sampled_from(["auth_failure"] * 6 + ["login", "connect"]),
            st.sampled_from(["", "u", "v", "w", "x", "y", "z"]),
            st.integers(1, 3),
        ),
        min_size=10,
        max_size=60,
    )
)
def test_what_comes_at_one_time_counts_as_if_it_came_one_by_one(
    history: list[tuple[float, str, str, str, int]],
) -> None:
    """At one time session after session: what a client adds to its network depends on the order."""
    alone, together = Engine(POLICY, Facts()), Engine(POLICY, Facts())
    clock, began = 1000.0, 0
    events: list[tuple[float, Event]] = []
    first: dict[tuple[int, str, int], int] = {}
    places: list[int] = []
    for number, (pause, client, kind, user, pid) in enumerate(history):
        clock += pause
        if pause or kind == "login":
            began = number
        events.append((clock, event(kind, client, pid, user)))
        places.append(first.setdefault((began, client, pid), number))
    for at, one in events:
        together.step(one, at)
    crossed: set[tuple[str, str]] = set()
    for number in sorted(range(len(events)), key=places.__getitem__):
        at, one = events[number]
        alone.step(one, at)
        crossed |= {(c.subject, c.limit) for c in alone.drain().crossings}
    assert {(c.subject, c.limit) for c in together.drain().crossings} == crossed
    for client in {client for _, client, *_ in history}:
        for subject in (client, network_of(client)):
            assert together.meters(subject, clock) == alone.meters(subject, clock)
