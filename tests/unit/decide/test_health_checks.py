"""Who looks like a health check, by way of the engine."""

from msgspec.structs import replace

from lab.daemon.events import EMPTY, A, B, engine, event, run, session


def test_a_client_whose_sessions_want_nothing_looks_like_a_health_check() -> None:
    under = engine()
    quits = {"ehlo": (1, 1), "quit": (1, 1), "commands": (2, 2)}
    farewell = event("pipelining", where="QUIT")
    for number in range(10):
        run(session(commands=EMPTY), 1000.0 + number * 60, under)
        run(session(farewell, commands=quits), 1000.0 + number * 60, under)
        assert under.checks.sessions(A, 2000.0) == 0
        hung_up = replace(event("disconnect", port=number), process="postscreen")
        run([hung_up], 1000.0 + number * 60, under)
    assert (under.checks.sessions(A, 2000.0), under.checks.clients(2000.0)) == (30, [A])
    assert "30 sessions that did nothing" in under.checks.hint(A, 2000.0)
    assert under.checks.hint(A, 9000.0) == ""
    assert (under.checks.sessions(A, 9000.0), under.checks.clients(9000.0)) == (0, [])
    run(session(commands={"mail": (1, 1), "commands": (1, 1)}), 2000.0, under)
    assert (under.checks.sessions(A, 2000.0), under.checks.clients(2000.0)) == (0, [])


def test_a_flood_that_only_connects_is_no_health_check() -> None:
    under = engine()
    for number in range(8):
        client = f"198.51.100.{number}"
        run(
            [event("connect", client), event("disconnect", client, commands=EMPTY)] * 30,
            1000.0,
            under,
        )
    assert len(under.checks.clients(1000.0)) == 8
    run([event("connect"), event("disconnect", commands=EMPTY)] * 30, 1000.0, under)
    assert len(under.checks.clients(1000.0)) == 8  # A is one of them
    run([event("connect", B), event("disconnect", B, commands=EMPTY)] * 30, 1000.0, under)
    assert under.checks.clients(1000.0) == []
