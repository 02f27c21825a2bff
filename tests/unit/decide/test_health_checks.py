"""Who looks like a health check, by way of the engine."""

from msgspec.structs import replace

from lab.daemon.events import EMPTY, A, B, engine, event, run, session
from throttled.decide.engine import Engine


def test_a_client_whose_sessions_want_nothing_looks_like_a_health_check() -> None:
    under = engine()
    quits = {"ehlo": (1, 1), "quit": (1, 1), "commands": (2, 2)}
    farewell = event("pipelining", where="QUIT")
    for number in range(10):
        run(session(commands=EMPTY), 1000.0 + number * 150, under)
        run(session(farewell, commands=quits), 1000.0 + number * 150, under)
        assert under.checks.sessions(A, 2400.0) == 0
        hung_up = replace(event("disconnect", port=number), process="postscreen")
        run([hung_up], 1000.0 + number * 150, under)
    assert (under.checks.sessions(A, 2400.0), under.checks.clients(2200.0)) == (30, [A])
    assert "30 sessions that did nothing" in under.checks.hint(A, 2400.0)
    assert under.checks.hint(A, 9000.0) == ""
    assert (under.checks.sessions(A, 9000.0), under.checks.clients(9000.0)) == (0, [])
    run(session(commands={"mail": (1, 1), "commands": (1, 1)}), 2400.0, under)
    assert (under.checks.sessions(A, 2400.0), under.checks.clients(2200.0)) == (0, [])


def visit(under: Engine, client: str, times: int, every: float) -> None:
    for number in range(times):
        idle = [event("connect", client), event("disconnect", client, commands=EMPTY)]
        run(idle, 1000.0 + number * every, under)


def test_a_flood_of_one_client_that_only_connects_is_no_health_check() -> None:
    under = engine()
    visit(under, A, 1000, 0.01)
    visit(under, B, 400, 4.0)
    assert under.checks.clients(2600.0) == [B]
    assert under.checks.hint(A, 2600.0) == ""


def test_a_steady_flood_of_many_that_only_connect_is_no_health_check() -> None:
    under = engine()
    for number in range(8):
        visit(under, f"198.51.100.{number}", 30, 60.0)
    assert len(under.checks.clients(2800.0)) == 8
    visit(under, A, 30, 60.0)
    assert len(under.checks.clients(2800.0)) == 8  # A is one of them
    visit(under, B, 30, 60.0)
    assert under.checks.clients(2800.0) == []
