"""Who gets through a ban, and what does not look like it."""

import pytest

from throttled.decide.escapes import Escapes

A, B, NET = "198.51.100.7", "2001:db8::7", "198.51.100.0/24"


def escapes(*times: float, client: str = A) -> Escapes:
    made = Escapes()
    for at in times:
        made.add(client, "mx", client, "postfix", at)
    return made


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((100.0, 105.0, 110.0), True),
        ((400.0, 402.0, 405.0), True),
        ((400.0, 402.0, 404.9), False),
        ((100.0, 105.0, 405.0), True),
        ((100.0, 105.0, 405.1), False),  # silent for too long
        ((100.0, 110.0), False),  # too few
        ((100.0, 100.3, 100.6, 101.0, 104.0), False),  # a moment without rules
        ((100.0, 500.0, 504.0), False),  # after a silence it begins anew
    ],
)
def test_what_makes_an_escape(times: tuple[float, ...], *, expected: bool) -> None:
    assert bool(escapes(*times).found(max(times))) is expected


def test_it_is_over_when_it_stops() -> None:
    made = escapes(100.0, 105.0, 110.0)
    (found,) = made.found(400.0)
    assert (found.client, found.scope, found.instance, found.sessions) == (A, "mx", "postfix", 3)
    assert made.found(410.0) == [found]
    made.add(A, "mx", A, "postfix/smtps", 410.0)
    assert found.instance == "postfix/smtps"
    assert made.found(711.0) == []
    made.add(A, "mx", A, "postfix", 420.0)
    assert made.found(420.0) == []


def test_most_sessions_first_and_an_unbanned_client_is_reset() -> None:
    made = escapes(*map(float, range(100, 120)))
    for at in (100.0, 101.0, 110.0):
        made.add(B, "mx", B, "postfix", at)
        made.add(B, "submission", B, "postfix/submission", at)
    first, *others = made.found(120.0)
    assert (first.client, first.scope, len(others)) == (A, "mx", 2)
    made.reset(B, "mx")
    made.reset(A, "mx")
    assert [(e.client, e.scope) for e in made.found(120.0)] == [(B, "submission")]
    made.clear()
    assert made.found(120.0) == []


def test_it_is_bounded() -> None:
    made = Escapes()
    for at in (100.0, 105.0, 110.0):
        for number in range(1000):
            made.add(f"client {number}", "mx", NET, "postfix", at)
    assert len(made.found(110.0)) == 256
    assert made.found(1000.0) == []
    assert escapes(100.0, 105.0, 110.0).found(110.0)


def test_clients_of_a_network_that_is_unbanned_are_evicted() -> None:
    made = escapes(100.0, 105.0, 110.0, client=B)
    for at in (100.0, 105.0, 110.0):
        made.add(A, "mx", A, "postfix", at)
        made.add("198.51.100.8", "mx", NET, "postfix", at)
    made.add(A, "mx", NET, "postfix", 111.0)  # now it is banned with the network alone
    assert {(e.client, e.banned) for e in made.found(111.0)} == {
        (A, NET),
        ("198.51.100.8", NET),
        (B, B),
    }
    made.reset(NET, "submission")
    assert len(made.found(111.0)) == 3
    made.reset(NET, "mx")
    assert [e.client for e in made.found(111.0)] == [B]
