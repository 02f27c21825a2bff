"""What the debug level says of decisions."""

from throttled.core.explain import explain
from throttled.decide.ladder import Ruling
from throttled.model import Crossing, Decision, Line, NetworkPast, Past, Scope

A, NETWORK = "198.51.100.7", "198.51.100.0/24"


def test_decisions_with_what_was_known() -> None:
    ban = Decision(
        *(10.0, "ban", A, "mx", "errors", 1, 610.0, "56 points", 56, 50),
        lines=(Line(1, 20), Line(1, 90)),
        above="hard",
    )
    network = Decision(10.0, "throttle", NETWORK, "mx", "network", 0, 70.0, "5 banned")
    pasts: dict[tuple[str, Scope], Past] = {
        (A, "mx"): Past(offences=2, deliveries=3, delivery_days=1, logins=4)
    }
    networks: dict[tuple[str, Scope], NetworkPast] = {(NETWORK, "mx"): NetworkPast(5, 6)}
    first, second = explain(Ruling([ban, network], [], []), pasts, networks)
    assert first == (
        f"decided: ban {A} scope=mx limit=errors value=56 hard=50 for=10m level=1 origin=log; "
        "56 points; history: 2 bans, 3 deliveries on 1 days, 4 logins; "
        "log lines (source:offset) 1:20 1:90"
    )
    assert second == (
        f"decided: throttle {NETWORK} scope=mx limit=network for=1m origin=log; 5 banned; "
        "history: 5 addresses banned, 6 good senders"
    )


def test_crossings_without_a_decision() -> None:
    soft = Crossing(A, "mx", "errors", "throttle", 21, 20, 600.0)
    hard = Crossing(A, "mx", "errors", "ban", 51, 50, 600.0)
    ruling = Ruling([], [(soft, "already throttled"), (hard, "protected: own")], [])
    assert list(explain(ruling, {}, {})) == [
        f"no action: {A} scope=mx limit=errors value=21 soft=20; already throttled; no history",
        f"no action: {A} scope=mx limit=errors value=51 hard=50; protected: own; no history",
    ]
