"""Peaks of clients, until they are recorded."""

from msgspec.structs import replace

from lab.daemon.events import A, engine, event, run
from throttled.decide.client_peaks import noted, recorded, watched
from throttled.decide.engine import Engine
from throttled.facts import Facts
from throttled.model import Peak
from throttled.settings import Policy


def test_a_network_is_no_client_of_which_to_note_what_it_reached() -> None:
    under = Engine(Policy(), Facts(), peaks=True)
    run([event("non_smtp_command", "2001:db8::1")], under=under)
    assert {p.client for p in noted(under.gauges(), 99)} == {"2001:db8::1"}


def test_what_clients_reached_is_reported_until_it_is_kept() -> None:
    under = Engine(Policy(), Facts(), peaks=True)
    run([event("connect")] * 3 + [event("auth_failure", user="a")], under=under)
    under.handshakes(A, "mx", 9, 1000.0)  # what the kernel saw is not noted
    connections = Peak(A, "mx", "connections", "connections", 60.0, 3)
    reached = noted(under.gauges(), 99)
    assert connections in reached
    assert {(p.limit, p.value) for p in reached} == {
        ("connections", 3),
        ("auth", 1),
        ("auth-users", 1),
        ("auth-slow", 1),
        ("auth-day", 1),
    }
    assert len(noted(under.gauges(), 2)) == 2
    run([event("connect")], under=under)
    recorded(under.gauges(), [*reached, replace(connections, limit="gone")])
    assert noted(under.gauges(), 99) == [replace(connections, value=4)]
    under.reconfigure(Policy(max_clients=5000))
    assert noted(under.gauges(), 99) == [replace(connections, value=4)]
    recorded(under.gauges(), noted(under.gauges(), 99))
    assert noted(under.gauges(), 99) == []
    assert ("mx", "connections", "connections", 60.0) in watched(engine().gauges())
    assert {count for _, _, count, _ in watched(engine().gauges())} == {
        "connections",
        "errors",
        "callouts",
        "auth_failures",
        "auth_users",
    }
    assert len(watched(engine().gauges())) == len(set(watched(engine().gauges())))
    plain = engine()
    run([event("connect")], under=plain)
    assert noted(plain.gauges(), 99) == []
    recorded(plain.gauges(), reached)
