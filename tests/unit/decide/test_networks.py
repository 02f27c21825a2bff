import pytest
from msgspec.structs import replace

from throttled.decide.networks import Judge, above, exempt, fresh
from throttled.decide.protect import Protection
from throttled.duration import duration
from throttled.facts import Facts
from throttled.limits import ThrottleRate
from throttled.model import Crossing, Decision, NetworkPast, Rate
from throttled.settings import Network, Policy

NOW = 1_800_000_000.0
N = "2001:db8:bad:1::/64"
FOUR = "198.18.5.0/24"
CROWD = Crossing(N, "mx", "errors", "ban", 251, 250, 600.0, "errors")
SHARE = Crossing(FOUR, "mx", "auth", "throttle", 51, 50, 600.0, "auth_failures")


def judge(policy: Policy | None = None) -> Judge:
    return Judge(policy or Policy(), Protection(Facts(), networks=["203.0.113.0/24"]))


def test_a_64_is_banned_for_what_its_addresses_did_together() -> None:
    decision = judge().together(CROWD, NetworkPast(), NOW)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.subject, decision.limit) == ("ban", N, "network")
    assert (decision.level, decision.until, decision.rate) == (1, NOW + 3600, None)
    assert decision.why == (
        "251 points for errors within 10m, hard limit 250, of its addresses together"
    )


def test_a_24_is_throttled_at_a_rate_of_its_own() -> None:
    decision = judge().together(SHARE, NetworkPast(), NOW)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.level, decision.until) == ("throttle", 0, NOW + 3600)
    assert decision.rate == Rate(10, 3600.0, 1)


def test_the_rate_and_time_are_the_operators() -> None:
    usual = Policy(network=Network(throttle=None))
    decision = judge(usual).together(SHARE, NetworkPast(), NOW)
    assert isinstance(decision, Decision)
    assert (decision.rate, decision.until) == (None, NOW + 3600)
    own = ThrottleRate(1, duration("1m"), 1, duration("5m"))
    decision = judge(Policy(network=Network(throttle=own))).together(SHARE, NetworkPast(), NOW)
    assert isinstance(decision, Decision)
    assert (decision.rate, decision.until) == (Rate(1, 60.0, 1), NOW + 300)


def test_mode_throttle_bans_no_network() -> None:
    decision = judge(Policy(mode="throttle")).together(CROWD, NetworkPast(), NOW)
    assert isinstance(decision, Decision)
    assert decision.action == "throttle"


@pytest.mark.parametrize(
    ("crossing", "past", "why"),
    [
        (replace(SHARE, subject="203.0.113.0/24"), NetworkPast(), "protected: allowed by the"),
        (CROWD, NetworkPast(exempt_until=NOW + 1), "exempted by the operator"),
        (CROWD, NetworkPast(action="ban", until=NOW + 1), "already banned"),
        (SHARE, NetworkPast(action="ban", until=NOW + 1), "already banned"),
        (SHARE, NetworkPast(action="throttle", until=NOW + 1), "already throttled"),
    ],
)
def test_a_network_is_spared(crossing: Crossing, past: NetworkPast, why: str) -> None:
    spared = judge().together(crossing, past, NOW)
    assert isinstance(spared, str)
    assert spared.startswith(why)


def test_what_is_over_spares_nothing_and_a_throttle_is_no_obstacle_for_a_ban() -> None:
    for past in (
        NetworkPast(exempt_until=NOW),
        NetworkPast(action="ban", until=NOW),
        NetworkPast(action="throttle", until=NOW + 1),
    ):
        assert isinstance(judge().together(CROWD, past, NOW), Decision)


def test_so_many_banned_throttle_or_ban_it() -> None:
    def action(banned: int, new: int) -> str | None:
        decision = judge().banned(FOUR, "mx", NetworkPast(banned=banned), new, NOW)
        return None if decision is None else decision.action

    assert [action(n, 1) for n in (3, 4, 8, 9)] == [None, "throttle", "throttle", "ban"]
    assert action(0, 10) == "ban"
    above_of = {n: judge().banned(FOUR, "mx", NetworkPast(banned=n), 1, NOW) for n in (4, 9)}
    assert [d and d.above for d in above_of.values()] == ["soft", "hard"]
    decision = judge().banned(FOUR, "mx", NetworkPast(banned=4), 1, NOW)
    assert decision is not None
    assert (decision.why, decision.value, decision.threshold) == (
        "5 of its addresses banned within a day",
        5,
        5,
    )
    exempted = NetworkPast(banned=50, exempt_until=NOW + 1)
    assert judge().banned(FOUR, "mx", exempted, 1, NOW) is None


def test_the_first_bans_of_a_batch_are_counted_by_network() -> None:
    def ban(subject: str, level: int = 1) -> Decision:
        return Decision(NOW, "ban", subject, "mx", "errors", level, NOW + 600, "")

    batch = [ban("198.18.5.1"), ban("198.18.5.2"), ban("198.18.5.3", 2), ban("198.18.6.1", 2)]
    batch += [ban("64:ff9b::1"), replace(ban("198.18.7.1"), action="throttle", level=0)]
    assert fresh(batch) == {(FOUR, "mx"): 2, ("198.18.6.0/24", "mx"): 0}


def test_good_senders_get_entries_of_their_own_as_long_as_the_network() -> None:
    entries = exempt(FOUR, "mx", ["198.18.5.9"], NOW + 3600, NOW)
    assert [(d.action, d.subject, d.scope, d.limit, d.until, d.level) for d in entries] == [
        ("exempt", "198.18.5.9", "mx", "network", NOW + 3600, 0)
    ]
    assert FOUR in entries[0].why


def test_in_words() -> None:
    assert above(SHARE) == "51 failed logins within 10m, soft limit 50"
    raised = replace(CROWD, threshold=280, plain=250, good=10)
    assert above(raised) == (
        "251 points for errors within 10m, hard limit 250 and 30 for good evidence"
    )


def test_the_reason_of_guessing_names_no_threshold() -> None:
    crossing = Crossing(N, "mx", "guessing", "throttle", 1, 0, 86400.0, "guesses")
    assert above(crossing) == "failed logins on 1 of the accounts under attack"
