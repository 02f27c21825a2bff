"""What becomes of bans that come from elsewhere."""

from typing import Any

from throttled.decide.networks import Key
from throttled.decide.origins import Origin, throttled
from throttled.model import Decision, Past
from throttled.settings import Policy

NOW = 1_800_000_000.0
HOUR = 3600.0
BANNED = Past(action="ban", until=NOW + 60)
TIME = Policy().throttle.time


def ban(number: int, action: Any = "ban", seconds: float = 86400.0) -> Decision:
    until = NOW + seconds
    return Decision(NOW, action, f"203.0.113.{number}", "mx", "errors", 1, until, "listed")


def settle(
    origin: Origin, *found: tuple[Decision, bool], past: Past | None = None, now: float = NOW
) -> list[tuple[str, Decision]]:
    by_key: dict[Key, tuple[Decision, bool]] = {(d.subject, d.scope): (d, k) for d, k in found}
    pasts = dict.fromkeys(by_key, past) if past else {}
    what: Any = by_key, pasts, Policy(), now
    return list(origin.settle(*what, bans="mx2 banned", whose="mx2"))


def test_strangers_are_banned_and_good_clients_throttled() -> None:
    stranger, (what, known) = settle(Origin(), (ban(1), False), (ban(2), True))
    assert stranger == ("banned", ban(1))
    assert (what, known.action, known.level, known.alert) == ("throttled", "throttle", 0, "")
    assert known.until == NOW + TIME
    assert known.why == "listed; not banned: it has good history here"


def test_bans_of_many_good_clients_are_throttles_for_an_hour() -> None:
    origin = Origin()
    found = settle(origin, *((ban(n), n > 1) for n in range(1, 8)))
    assert {what for what, _ in found} == {"throttled"}
    assert found[0][1].why == "listed; not banned: the brake of mx2 is on"
    assert {d.alert for _, d in found} == {
        "brake: mx2 banned 6 clients with good history here; for an hour its bans are throttles"
    }
    assert origin.braked(NOW + HOUR - 1)
    assert not origin.braked(NOW + HOUR)
    assert not origin.braked(NOW - 1)  # the clock went back
    assert settle(origin, (ban(9), False), now=NOW + HOUR)[0][0] == "banned"


def test_throttles_do_not_weaken_what_is_banned() -> None:
    for found in ((ban(1), True), (ban(1, "throttle"), False)):
        assert [what for what, _ in settle(Origin(), found, past=BANNED)] == ["known"]
        expired = Past(action="ban", until=NOW)
        assert [what for what, _ in settle(Origin(), found, past=expired)] == ["throttled"]
    assert [what for what, _ in settle(Origin(), (ban(1), False), past=BANNED)] == ["banned"]


def test_a_throttle_lasts_no_longer_than_the_ban() -> None:
    assert throttled(ban(1, seconds=5.0), "why", Policy()).until == NOW + 5
