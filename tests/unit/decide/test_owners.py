"""A capped table of queue ids."""

import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.decide import owners as room
from throttled.decide.owners import Owner, Owners

ALICE, BOB = Owner("account:alice"), Owner("account:bob")


def test_a_queue_id_has_one_owner() -> None:
    owners = Owners(3)
    owners.put("A", ALICE)
    owners.put("A", BOB)
    assert (len(owners), owners.get("A"), owners.get("B")) == (1, BOB, None)
    assert (owners.pop("A"), owners.pop("A")) == (BOB, None)


@given(st.lists(st.tuples(st.sampled_from("ABCDEF"), st.booleans())), st.integers(1, 5))
def test_the_oldest_are_evicted_at_the_cap(steps: list[tuple[str, bool]], cap: int) -> None:
    owners, expected = Owners(cap), OrderedDict[str, Owner]()
    for queue_id, put in steps:
        if put:
            owners.put(queue_id, ALICE)
            expected.pop(queue_id, None)
            expected[queue_id] = ALICE
            if len(expected) > cap:
                expected.popitem(last=False)
        elif queue_id in expected:
            owners.change(queue_id, BOB)
            expected[queue_id] = BOB
    assert {one: owners.get(one) for one in "ABCDEF"} == {
        one: expected.get(one) for one in "ABCDEF"
    }


def test_equal_owners_are_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_SHARED", 2)
    owners = Owners(9)
    for number in range(9):
        owners.put(str(number), Owner(f"uid:{number // 2}"))
    assert owners.get("0") is owners.get("1")
    assert len(owners._shared) <= 2


def test_memory_is_flat_at_the_cap() -> None:
    """What an entry takes beyond its key and 200,000 entries of eleven characters: 16 MB."""
    cap, size = 20_000, 0
    tracemalloc.start()
    try:
        owners = Owners(cap)
        for number in range(6 * cap):
            owners.put(f"{number:011X}", ALICE)
            if number == 3 * cap:
                size, _ = tracemalloc.get_traced_memory()
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last <= 1.05 * size
    assert last <= 150 * cap
    assert len(owners) <= cap
    assert owners.evicted == 6 * cap - len(owners)


def test_clear() -> None:
    owners = Owners(3)
    owners.put("A", ALICE)
    owners.clear()
    assert (len(owners), owners.get("A")) == (0, None)
