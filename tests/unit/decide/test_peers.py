"""What a peer's bans and unbans become here."""

import pytest
from msgspec.structs import replace

from throttled.decide.ladder import Ladder
from throttled.decide.networks import Key
from throttled.decide.peers import EXEMPT, UNBANS, PeerBan, PeerRuling, Peers
from throttled.decide.protect import Protection
from throttled.facts import Facts
from throttled.model import Action, Crossing, Past
from throttled.settings import Believe, Policy, Protect

NOW = 1_800_000_000.0
DAY = 86400.0
A = "198.51.100.7"
KEY: Key = (A, "mx")
BAN = PeerBan(A, "mx", 3600.0, "errors", 2, 56, 50)
DELIVERED = Past(deliveries=9, delivery_days=2)
LOGGED_IN = Past(logins=1, last_login=NOW - DAY)


def judge(policy: Policy | None = None) -> Peers:
    facts = Facts(own=frozenset({"198.51.100.1"}))
    return Peers(Ladder(policy or Policy(), Protection(facts, networks=["203.0.113.0/24"])))


def rule(  # noqa: PLR0913 - what a test is about
    *bans: PeerBan,
    past: Past | None = None,
    believe: Believe = "ban",
    room: int = 1000,
    peers: Peers | None = None,
    now: float = NOW,
    peer: str = "mx2",
) -> PeerRuling:
    pasts = {(b.subject, b.scope): past for b in bans} if past else {}
    return (peers or judge()).judge(peer, bans, pasts, now, believe=believe, room=room)


def many(count: int, first: int = 0) -> list[PeerBan]:
    return [replace(BAN, subject=f"198.18.{n >> 8}.{n & 255}") for n in range(first, first + count)]


def test_a_ban_is_a_ban_of_what_is_left_at_the_peers_level() -> None:
    ruling = rule(BAN)
    (found,) = ruling.decisions
    assert (found.action, found.level, found.until) == ("ban", 2, NOW + 3600)
    assert (found.limit, found.value, found.threshold) == ("errors", 56, 50)
    assert found.origin == "peer:mx2"
    assert found.why == "banned by mx2 for errors: 56, limit 50"
    assert ruling.outcomes == {"banned": 1}


def test_an_operators_ban_names_no_limit() -> None:
    (found,) = rule(replace(BAN, limit="operator")).decisions
    assert (found.limit, found.why) == ("operator", "banned by mx2")


def test_a_limit_that_is_not_known_here_is_not_counted_by_its_name() -> None:
    (found,) = rule(replace(BAN, limit="theirs")).decisions
    assert found.limit == "peer"
    assert "theirs" in found.why


@pytest.mark.parametrize(
    "ban",
    [
        replace(BAN, subject="account:alice"),
        replace(BAN, subject="mx.example"),
        replace(BAN, subject="198.51.100.7/32"),
        replace(BAN, subject="198.51.100.7/24", limit="operator"),
        replace(BAN, subject="2001:DB8::1"),
        replace(BAN, subject="198.51.100.0/24"),
        replace(BAN, subject="198.0.0.0/8", limit="operator"),
        replace(BAN, subject="0.0.0.0/0", limit="operator"),
        replace(BAN, subject="198.51.100.0/23", limit="operator"),
        replace(BAN, subject="2001:db8::/47", limit="operator"),
        replace(BAN, limit="network"),
        replace(BAN, limit="ladder"),
        replace(BAN, limit="overload"),
    ],
)
def test_what_no_peer_may_ban_is_refused(ban: PeerBan) -> None:
    peers = judge()
    ruling = rule(ban, peers=peers)
    assert (ruling.decisions, ruling.outcomes) == ([], {"refused": 1})
    assert peers.keys([ban]) == []


@pytest.mark.parametrize("subject", ["198.51.100.0/24", "2001:db8::/48", "198.51.100.128/25"])
def test_manual_networks_are_taken(subject: str) -> None:
    (found,) = rule(replace(BAN, subject=subject, limit="operator")).decisions
    assert (found.action, found.subject) == ("ban", subject)


@pytest.mark.parametrize("subject", ["198.51.100.1", "203.0.113.9", "127.0.0.1"])
def test_protected_subjects_stay_so(subject: str) -> None:
    assert rule(replace(BAN, subject=subject)).outcomes == {"protected": 1}


def test_exempt_and_expired() -> None:
    assert rule(BAN, past=Past(exempt_until=NOW + 1)).outcomes == {"exempt": 1}
    assert rule(replace(BAN, seconds=0.0)).outcomes == {"expired": 1}


@pytest.mark.parametrize(
    ("until", "outcome"),
    [(3600, "known"), (4000, "known"), (3599.5, "known"), (3598, "banned"), (-1, "banned")],
)
def test_a_later_end_extends_and_an_earlier_one_never_shortens(until: float, outcome: str) -> None:
    past = Past(action="ban", until=NOW + until)
    assert rule(BAN, past=past).outcomes == {outcome: 1}


def test_a_throttle_here_becomes_a_ban() -> None:
    past = Past(action="throttle", until=NOW + 9999)
    assert rule(BAN, past=past).outcomes == {"banned": 1}


def test_the_same_twice_in_a_batch_is_one_decision_the_longer() -> None:
    ruling = rule(BAN, BAN, replace(BAN, seconds=9000.0), replace(BAN, seconds=60.0), room=1)
    assert [d.until for d in ruling.decisions] == [NOW + 9000]
    assert ruling.outcomes == {"known": 2, "banned": 1}


@pytest.mark.parametrize("past", [DELIVERED, LOGGED_IN])
def test_good_evidence_makes_a_throttle_whatever_the_value(past: Past) -> None:
    (found,) = rule(replace(BAN, value=1 << 50), past=past).decisions
    assert (found.action, found.level, found.until) == ("throttle", 0, NOW + 600)
    assert found.why.endswith("not banned: it has good history here")


@pytest.mark.parametrize("past", [Past(deliveries=9, delivery_days=1), Past()])
def test_little_good_evidence_does_not(past: Past) -> None:
    assert rule(BAN, past=past).outcomes == {"banned": 1}


def test_a_throttle_is_never_longer_than_the_ban() -> None:
    (found,) = rule(replace(BAN, seconds=5.0), past=DELIVERED).decisions
    assert found.until == NOW + 5


def test_what_peers_ban_may_be_throttled_or_reported_only() -> None:
    assert rule(BAN, believe="throttle").decisions[0].action == "throttle"
    assert rule(BAN, believe="report").outcomes == {"reported": 1}
    peers = judge(Policy(mode="throttle"))
    assert rule(BAN, peers=peers).decisions[0].action == "throttle"


def test_a_ban_here_is_not_weakened_to_a_throttle() -> None:
    past = Past(action="ban", until=NOW + 60)
    assert rule(BAN, past=past, believe="throttle").outcomes == {"known": 1}
    good = replace(past, deliveries=9, delivery_days=2)
    ruling = rule(BAN, past=good)
    assert (ruling.decisions, ruling.outcomes) == ([], {"known": 1})
    assert rule(BAN, past=replace(past, until=NOW - 60), believe="throttle").decisions


def test_more_than_the_most_is_left_out() -> None:
    ruling = rule(*many(5), room=3)
    assert len(ruling.decisions) == 3
    assert ruling.outcomes == {"banned": 3, "most": 2}


def brake(peers: Peers, count: int, past: Past = DELIVERED, now: float = NOW) -> PeerRuling:
    return rule(*many(count), past=past, peers=peers, now=now)


def test_bans_of_many_good_clients_brake_the_peer_for_an_hour() -> None:
    peers = judge()
    assert not brake(peers, 5).decisions[0].alert
    assert not peers.braked("mx2", NOW)
    found = rule(*many(1, 100), past=DELIVERED, peers=peers).decisions[0]
    assert found.alert.startswith("brake: mx2 banned 6 clients with good history here")
    assert peers.braked("mx2", NOW)
    (found,) = rule(BAN, peers=peers, now=NOW + 3599).decisions
    assert found.action == "throttle"
    assert found.why.endswith("the brake of mx2 is on")
    assert rule(BAN, peers=peers, now=NOW + 3601).decisions[0].action == "ban"


def test_the_brake_is_of_one_peer_and_not_of_this_host() -> None:
    peers = judge()
    brake(peers, 9)
    assert rule(BAN, peers=peers, peer="mx3").decisions[0].action == "ban"
    ladder = peers._ladder
    crossing = Crossing(A, "mx", "errors", "ban", 51, 50, 600.0)
    assert ladder.judge([crossing], {KEY: Past()}, {}, NOW).decisions[0].action == "ban"
    assert not ladder._brake.spares((many(1)[0].subject, "errors"), NOW)


def test_an_operator_releases_the_brake() -> None:
    peers = judge()
    brake(peers, 9)
    peers.release("mx2")
    peers.release("mx3")
    assert not peers.braked("mx2", NOW)


def test_a_clock_that_went_back_does_not_brake_for_longer() -> None:
    peers = judge()
    brake(peers, 9)
    assert not peers.braked("mx2", NOW - DAY)


def test_the_brake_is_configured() -> None:
    peers = judge(Policy(protect=Protect(brake=100)))
    brake(peers, 9)
    assert not peers.braked("mx2", NOW)


def test_keys_are_asked_for_once() -> None:
    assert judge().keys([BAN, replace(BAN, seconds=1.0)]) == [KEY]


def test_unbans_are_a_hundred_a_minute() -> None:
    peers = judge()
    assert peers.unbans("mx2", 60, NOW) == 60
    assert peers.unbans("mx2", 60, NOW + 1) == 40
    assert peers.unbans("mx2", 60, NOW + 2) == 0
    assert peers.unbans("mx3", 60, NOW + 2) == 60
    assert peers.unbans("mx2", 1000, NOW + 200) == UNBANS
    assert EXEMPT == 3600


def crossing(action: Action = "ban", subject: str = A) -> Crossing:
    what = subject, "submission", "auth-slow", action
    return Crossing(*what, 11, 10, 86400.0, "auth_users", "", (), 0, 0)  # type: ignore[arg-type]


def test_names_tried_at_a_peer_lead_to_the_next_step_of_the_ladder_in_its_name() -> None:
    peers = judge()
    past = Past(offences=2, last_offence=NOW - 60)
    pasts: dict[Key, Past] = {(A, "submission"): past}
    (ban,) = peers.crossed("mx2", [crossing()], pasts, NOW)
    (found,) = rule(ban, peers=peers).decisions
    assert (found.action, found.level, found.limit) == ("ban", 3, "auth-slow")
    assert found.until == NOW + Policy().ban.times[2]
    assert (found.origin, found.value, found.threshold) == ("peer:mx2", 11, 10)
    assert found.why == "11 user names tried within 1d, hard limit 10; the last of them at mx2"


def test_names_above_soft_lead_to_a_throttle_once() -> None:
    peers = judge()
    (ban,) = peers.crossed("mx2", [crossing("throttle")], {}, NOW)
    (found,) = rule(ban, peers=peers).decisions
    assert (found.action, found.until) == ("throttle", NOW + Policy().throttle.time)
    past = Past(action="throttle", until=found.until)
    assert rule(ban, peers=peers, past=past).outcomes == {"known": 1}


def test_a_network_in_which_good_clients_are_exposed_is_throttled() -> None:
    ban = replace(BAN, subject="198.51.100.0/24", limit="operator")
    key: Key = (ban.subject, "mx")
    ruling = judge().judge("mx2", [ban], {}, NOW, believe="ban", room=9, exposed={key})
    assert [d.action for d in ruling.decisions] == ["throttle"]


@pytest.mark.parametrize("subject", ["64:ff9b::/96", "2002:c633:6407::/48", "2001:0:1::/48"])
def test_a_prefix_that_embeds_addresses_of_ipv4_is_no_network(subject: str) -> None:
    ruling = rule(replace(BAN, subject=subject, limit="operator"))
    assert ruling.outcomes == {"refused": 1}
