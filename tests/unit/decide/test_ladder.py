import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.decide.ladder import Ladder, offences
from throttled.decide.limits import NEVER
from throttled.decide.protect import Protection
from throttled.duration import duration
from throttled.errors import RefusedError
from throttled.facts import Facts
from throttled.limits import Limit, ThrottleRate
from throttled.model import (
    Crossing,
    Decision,
    Line,
    NetworkPast,
    Past,
    Rate,
    Scope,
    Snapshot,
)
from throttled.settings import Policy

NOW = 1_800_000_000.0
DAY = 86400.0
A = "198.51.100.7"
KEY: tuple[str, Scope] = (A, "mx")
HARD = Crossing(A, "mx", "errors", "ban", 51, 50, 600.0, "errors", "", (Line(1, 2),))
SOFT = Crossing(A, "mx", "connections", "throttle", 61, 60, 60.0, "connections")


def ladder(policy: Policy | None = None) -> Ladder:
    facts = Facts(own=frozenset({"198.51.100.1"}))
    return Ladder(policy or Policy(), Protection(facts, names=[".good.example"]))


def one(crossing: Crossing, past: Past | None = None, policy: Policy | None = None) -> Decision:
    pasts = {(crossing.subject, crossing.scope): past} if past else {}
    ruling = ladder(policy).judge([crossing], pasts, {}, NOW)
    (decision,) = ruling.decisions
    return decision


def spared(crossing: Crossing, past: Past | None = None) -> str:
    pasts = {(crossing.subject, crossing.scope): past} if past else {}
    ruling = ladder().judge([crossing], pasts, {}, NOW)
    assert ruling.decisions == []
    return ruling.spared[0][1]


def test_soft_throttles_and_says_why() -> None:
    decision = one(SOFT)
    assert (decision.action, decision.level, decision.until) == ("throttle", 0, NOW + 600)
    assert decision.why == "61 connections within 1m, soft limit 60"


def test_hard_bans_and_keeps_the_lines() -> None:
    decision = one(HARD)
    assert (decision.action, decision.level, decision.until) == ("ban", 1, NOW + 600)
    assert decision.lines == (Line(1, 2),)
    assert "hard limit 50" in decision.why
    assert (decision.above, one(SOFT).above) == ("hard", "soft")


@pytest.mark.parametrize(
    ("before", "seconds"), [(0, 600), (1, 3600), (2, 14400), (3, 43200), (4, 86400), (99, 86400)]
)
def test_the_ladder(before: int, seconds: int) -> None:
    decision = one(HARD, Past(offences=before, last_offence=NOW - 60))
    assert decision.until - NOW == seconds
    assert decision.level == before + 1


def test_a_limit_may_have_ban_times_of_its_own() -> None:
    own = Limit(count="errors", within=duration("10m"), ban_times=(duration("2h"), duration("3h")))
    policy = Policy(limits={"errors": own, "auth": replace(own, ban_times=None)})
    assert one(HARD, policy=policy).until - NOW == 7200
    past = Past(offences=5, last_offence=NOW - 60)
    assert one(HARD, past, policy).until - NOW == 3 * 3600
    assert one(replace(HARD, limit="auth"), policy=policy).until - NOW == 600
    assert ladder(policy).next_ban(past, NOW, "errors") == 3 * 3600


def test_offences_decay_step_by_step() -> None:
    past = Past(offences=3, last_offence=NOW - 25 * DAY)
    assert offences(past, 10 * DAY, NOW) == 1
    assert offences(past, 1 * DAY, NOW) == 0
    assert offences(Past(offences=3, last_offence=NOW + 60), 10 * DAY, NOW) == 3


def test_mode_throttle_never_bans() -> None:
    decision = one(HARD, policy=Policy(mode="throttle"))
    assert decision.action == "throttle"
    assert "mode" in decision.why


AUTH = replace(HARD, limit="auth", count="auth_failures", value=101, threshold=100)


@pytest.mark.parametrize(
    ("crossing", "past", "upto"),
    [
        (HARD, Past(deliveries=2, delivery_days=2), 52),  # one point for each
        (HARD, Past(deliveries=99_999, delivery_days=30), 250),  # at most five times the limit
        (AUTH, Past(logins=4, last_login=NOW - 29 * DAY), 104),
        (AUTH, Past(logins=99_999, last_login=NOW), 500),
        # What was good within the window counts three points each, and has its share of the bound.
        (replace(HARD, plain=50, threshold=65, good=5), Past(deliveries=9, delivery_days=2), 74),
        (
            replace(HARD, plain=50, threshold=650, good=200),
            Past(deliveries=9, delivery_days=2),
            250,
        ),
    ],
)
def test_what_is_remembered_turns_a_ban_into_a_throttle_up_to_a_bound(
    crossing: Crossing, past: Past, upto: int
) -> None:
    decision = one(replace(crossing, value=upto), past)
    assert decision.action == "throttle"
    assert f"excuse it up to {upto}" in decision.why
    ruling = ladder().judge([replace(crossing, value=upto)], {KEY: past}, {}, NOW)
    assert [value for _, value in ruling.excused] == [upto]
    assert one(replace(crossing, value=upto + 1), past).action == "ban"


@pytest.mark.parametrize(
    ("crossing", "past"),
    [
        (HARD, Past(deliveries=400, delivery_days=1)),  # one day makes no history
        (AUTH, Past(logins=400, last_login=NOW - 31 * DAY)),
        (HARD, Past(logins=400, last_login=NOW)),  # neither speaks for the other
        (AUTH, Past(deliveries=400, delivery_days=9)),
    ],
)
def test_too_little_or_other_good_evidence_is_banned(crossing: Crossing, past: Past) -> None:
    assert one(crossing, past).action == "ban"


CALLOUTS = replace(HARD, limit="callouts", count="callouts", value=99_999, threshold=600)


def test_who_delivers_is_never_banned_for_callouts() -> None:
    assert one(CALLOUTS).action == "ban"
    assert one(CALLOUTS, Past(deliveries=1, delivery_days=1)).action == "throttle"
    assert one(replace(CALLOUTS, plain=600, good=1)).action == "throttle"
    known = Past(deliveries=1, delivery_days=1)
    assert one(replace(CALLOUTS, plain=600, good=1), known).action == "throttle"


DAILY = replace(SOFT, limit="auth-day", count="auth_failures", value=101, threshold=100)


def test_a_limit_may_have_a_throttle_of_its_own() -> None:
    decision = one(DAILY)
    assert (decision.rate, decision.until) == (Rate(2, 3600.0, 1), NOW + 4 * 3600)
    assert one(SOFT).rate is None
    # Of its own rate and without a time: that of [throttle].
    limits = {
        "auth-day": Limit(
            count="auth_failures",
            within=duration("1d"),
            soft=100,
            throttle=ThrottleRate(2, duration("1h"), 1),
        )
    }
    assert one(DAILY, policy=Policy(limits=limits)).until == NOW + 600
    # Who has logged in is throttled as usual.
    known = Past(logins=9, last_login=NOW)
    decision = one(DAILY, known)
    assert (decision.rate, decision.until) == (None, NOW + 600)
    assert "not at the limit's own rate: 9 logins in 30 days" in decision.why
    assert one(replace(DAILY, value=110), known).rate is not None


def test_the_slowest_throttle_of_a_batch_stands_and_a_ban_before_it() -> None:
    for batch in ([SOFT, DAILY], [DAILY, SOFT]):
        (decision,) = ladder().judge(batch, {}, {}, NOW).decisions
        assert decision.limit == "auth-day"
    for batch in ([HARD, DAILY], [DAILY, HARD]):
        (decision,) = ladder().judge(batch, {}, {}, NOW).decisions
        assert decision.action == "ban"


def test_a_slower_throttle_replaces_another_and_not_the_other_way_round() -> None:
    usual = Past(action="throttle", until=NOW + 600)
    slow = Past(action="throttle", until=NOW + 600, rate=Rate(2, 3600.0, 1))
    assert one(DAILY, usual).rate is not None
    assert spared(DAILY, slow) == spared(SOFT, slow) == "already throttled"
    assert ladder().judge([SOFT], {KEY: usual}, {}, NOW).excused == [(SOFT, 61)]
    for over in (Past(action="throttle", until=NOW), Past(action="exempt", until=NOW + 600)):
        assert one(SOFT, over).action == "throttle"


def own_rate(rate: int, past: Past) -> Decision | str:
    """Return what a limit whose throttle allows that many connections a minute does, or why not."""
    own = ThrottleRate(rate, duration("1m"), 1, duration("1h"))
    limits = {"auth-day": Limit(count="auth_failures", within=duration("1d"), throttle=own)}
    ruling = ladder(Policy(limits=limits)).judge([DAILY], {KEY: past}, {}, NOW)
    return ruling.decisions[0] if ruling.decisions else ruling.spared[0][1]


def test_a_rate_is_slower_or_not_whatever_its_unit_of_time_is() -> None:
    known = Past(logins=9, last_login=NOW)
    for rate, seconds in ((9, 600), (10, 3600), (11, 3600)):  # [throttle] allows ten a minute
        decision = own_rate(rate, known)
        assert isinstance(decision, Decision)
        assert decision.until == NOW + seconds
    usual = Past(action="throttle", until=NOW + 600)
    assert own_rate(11, usual) == own_rate(10, usual) == "already throttled"
    assert isinstance(own_rate(9, usual), Decision)


def test_of_two_that_are_the_same_the_first_stands() -> None:
    decision = one_of([SOFT, replace(SOFT, limit="other")])
    assert decision.limit == "connections"


def one_of(crossings: list[Crossing]) -> Decision:
    (decision,) = ladder().judge(crossings, {}, {}, NOW).decisions
    return decision


def test_leniency_for_one_limit_hides_no_other() -> None:
    past = Past(deliveries=400, delivery_days=9)
    ruling = ladder().judge([HARD, AUTH], {KEY: past}, {}, NOW)
    (decision,) = ruling.decisions
    assert (decision.action, decision.limit) == ("ban", "auth")
    assert ruling.excused == [(HARD, 250)]


def test_spared() -> None:
    assert "protected" in spared(replace(HARD, subject="198.51.100.1"))
    assert "host name" in spared(replace(HARD, name="mx.good.example"))
    assert "exempted" in spared(HARD, Past(exempt_until=NOW + 1))
    assert "already banned" in spared(SOFT, Past(action="ban", until=NOW + 1))
    assert "already throttled" in spared(SOFT, Past(action="throttle", until=NOW + 1))
    assert one(HARD, Past(exempt_until=NOW)).action == "ban"
    assert one(HARD, Past(action="ban", until=NOW)).action == "ban"


def test_a_throttle_is_no_obstacle_for_a_ban() -> None:
    assert one(HARD, Past(action="throttle", until=NOW + 1)).action == "ban"


def test_a_ban_that_expired_is_no_obstacle() -> None:
    assert one(HARD, Past(action="ban", until=NOW - 1, offences=1)).action == "ban"


@pytest.mark.parametrize(
    ("known", "value", "spared"),
    [(240, 300, True), (240, 301, False), (2, 62, True), (2, 63, False)],
)
def test_remembered_mail_spares_the_throttle_for_connections(
    known: int, value: int, *, spared: bool
) -> None:
    """Of earlier days, one connection for each, up to five times the threshold."""
    past = {(A, "mx"): Past(deliveries=known, delivery_days=2)}
    for count in ("connections", "handshakes"):
        crossing = replace(SOFT, value=value, count=count)
        ruling = ladder().judge([crossing], past, {}, NOW)  # type: ignore[arg-type]
        assert [d.action for d in ruling.decisions] == ([] if spared else ["throttle"])
        assert ruling.excused == ([(crossing, 60 + known)] if spared else [])
        today = {(A, "mx"): Past(deliveries=known, delivery_days=1)}
        assert ladder().judge([crossing], today, {}, NOW).decisions  # type: ignore[arg-type]


def bans(count: int, network: str = "198.18.5") -> list[Crossing]:
    """Return crossings of many clients, above what two remembered deliveries excuse."""
    return [replace(HARD, subject=f"{network}.{number}", value=60) for number in range(count)]


def test_brake_when_many_good_senders_would_be_banned() -> None:
    crossings = [*bans(8, "198.18.1"), replace(SOFT, subject="203.0.113.1")]
    good = {(c.subject, c.scope): Past(deliveries=2, delivery_days=2) for c in crossings[:6]}
    decisions = ladder().judge(crossings, good, {}, NOW).decisions
    assert {d.action for d in decisions} == {"throttle"}
    assert [bool(d.alert) for d in decisions] == [True] * 8 + [False]
    assert {(d.level, d.until) for d in decisions} == {(0, NOW + 600)}


def test_brake_looks_back_a_minute() -> None:
    judge = ladder()
    actions = []
    for number, crossing in enumerate(bans(8)):
        past = {(crossing.subject, crossing.scope): Past(deliveries=2, delivery_days=2)}
        actions.append(judge.judge([crossing], past, {}, NOW + number).decisions[0].action)
    assert actions == ["ban"] * 5 + ["throttle"] * 3


def test_who_offends_all_the_time_does_not_hold_the_brake_on() -> None:
    """Six addresses with a delivery each, and the botnet that they would like to cover."""
    judge = ladder()
    patient = bans(6, "198.18.1")
    good = {(c.subject, c.scope): Past(deliveries=2, delivery_days=2) for c in patient}
    covered = 0
    for minute in range(50):
        bots = [replace(HARD, subject=f"203.0.113.{minute}")]
        decisions = judge.judge([*patient, *bots], good, {}, NOW + 70 * minute).decisions
        covered += decisions[-1].action == "throttle"
        assert bool(decisions[0].alert) == (minute == 0)
    assert covered == 1


def test_what_hits_good_senders_goes_on_sparing_them() -> None:
    """Its evil twin: a wrong limit hits fifty good senders, again and again for an hour."""
    judge = ladder()
    senders = bans(50, "198.18.1")
    good = {(c.subject, c.scope): Past(deliveries=2, delivery_days=2) for c in senders}
    for minute in range(60):
        ruling = judge.judge(senders, good, {}, NOW + 60 * minute)
        assert {d.action for d in ruling.decisions} == {"throttle"}
        assert {crossing.subject for crossing, _ in ruling.excused} == {s.subject for s in senders}
        on = "is" if minute < 2 else "was"
        assert {d.why.partition("; ")[2] for d in ruling.decisions} == {
            f"not banned: the brake {on} on"
        }


def test_no_brake_for_strangers() -> None:
    assert {d.action for d in ladder().judge(bans(100), {}, {}, NOW).decisions} == {"ban"}


def test_no_brake_for_what_was_delivered_within_a_day() -> None:
    prepared = {(c.subject, c.scope): Past(deliveries=9, delivery_days=1) for c in bans(100)}
    assert {d.action for d in ladder().judge(bans(100), prepared, {}, NOW).decisions} == {"ban"}


def networks(decisions: list[Decision]) -> list[tuple[str, str]]:
    return [(d.action, d.subject) for d in decisions if d.limit == "network"]


def test_network_is_throttled_at_five_and_banned_at_ten() -> None:
    judge = ladder().judge
    assert networks(judge(bans(4), {}, {}, NOW).decisions) == []
    assert networks(judge(bans(5), {}, {}, NOW).decisions) == [("throttle", "198.18.5.0/24")]
    assert networks(judge(bans(10), {}, {}, NOW).decisions) == [("ban", "198.18.5.0/24")]


def test_a_repeated_offender_counts_once_for_its_network() -> None:
    pasts = {(c.subject, c.scope): Past(offences=1, last_offence=NOW) for c in bans(5)}
    key = ("198.18.5.0/24", "mx")
    ruling = ladder().judge(bans(5), pasts, {key: NetworkPast(banned=5)}, NOW)  # type: ignore[dict-item]
    assert networks(ruling.decisions) == [("throttle", "198.18.5.0/24")]


def network(past: NetworkPast, count: int = 1) -> list[tuple[str, str]]:
    key = ("198.18.5.0/24", "mx")
    return networks(ladder().judge(bans(count), {}, {key: past}, NOW).decisions)  # type: ignore[dict-item]


def test_network_with_history() -> None:
    assert network(NetworkPast(banned=9)) == [("ban", "198.18.5.0/24")]
    # Good senders inside get entries of their own; they do not exempt it.
    assert network(NetworkPast(banned=9, good=1)) == [("ban", "198.18.5.0/24")]
    assert network(NetworkPast(banned=7, action="throttle", until=NOW + 9)) == []
    assert network(NetworkPast(banned=7, action="throttle", until=NOW - 9)) != []
    assert network(NetworkPast(banned=50, action="ban", until=NOW + 9)) == []
    assert network(NetworkPast(banned=50, exempt_until=NOW + 9)) == []
    assert network(NetworkPast(banned=50, exempt_until=NOW - 9)) != []


def test_shared_ipv6_prefixes_are_never_grouped() -> None:
    crossings = [replace(HARD, subject=f"64:ff9b::c612:{n:x}") for n in range(1, 30)]
    assert networks(ladder().judge(crossings, {}, {}, NOW).decisions) == []


N = "2001:db8:bad:1::/64"
CROWD = Crossing(N, "mx", "errors", "ban", 501, 500, 600.0)


def crowd(past: NetworkPast, policy: Policy | None = None, value: int = 501) -> Decision | str:
    crossing = replace(CROWD, value=value)
    ruling = ladder(policy).judge([crossing], {}, {(N, "mx"): past}, NOW)
    assert ruling.excused == ([] if ruling.decisions else [(crossing, NEVER)])
    return ruling.decisions[0] if ruling.decisions else ruling.spared[0][1]


def test_what_a_64_did_together_bans_it() -> None:
    decision = crowd(NetworkPast())
    assert isinstance(decision, Decision)
    assert (decision.action, decision.subject, decision.limit) == ("ban", N, "network")
    assert (decision.level, decision.until) == (1, NOW + 3600)
    assert decision.why.startswith("501 points for errors within 10m, hard limit 500, of its")


@pytest.mark.parametrize(
    ("past", "why"),
    [
        (NetworkPast(exempt_until=NOW + 1), "exempted by the operator"),
        (NetworkPast(action="ban", until=NOW + 1), "already banned"),
    ],
)
def test_a_64_is_spared(past: NetworkPast, why: str) -> None:
    assert crowd(past) == why


def test_a_64_that_is_protected_is_spared() -> None:
    protection = Protection(Facts(), networks=["2001:db8:bad::/48"])
    ruling = Ladder(Policy(), protection).judge([CROWD], {}, {}, NOW)
    assert ruling.spared == [(CROWD, "protected: allowed by the operator")]


def test_a_64_is_throttled_where_it_may_not_be_banned() -> None:
    policy = Policy(mode="throttle")
    decision = crowd(NetworkPast(), policy)
    assert isinstance(decision, Decision)
    assert (decision.action, decision.level) == ("throttle", 0)
    assert decision.rate == Rate(10, 3600.0, 1)
    throttled = NetworkPast(action="throttle", until=NOW + 1)
    assert crowd(throttled, policy) == "already throttled"
    assert isinstance(crowd(throttled), Decision)  # a throttle is no obstacle for a ban


def test_protected_network_is_left_alone() -> None:
    protection = Protection(Facts(), networks=["198.18.5.0/24"])
    past = {("198.18.5.0/24", "mx"): NetworkPast(banned=50)}
    crossing = replace(CROWD, subject="198.18.5.0/24", action="throttle", value=101, threshold=100)
    ruling = Ladder(Policy(), protection).judge([crossing], {}, past, NOW)  # type: ignore[arg-type]
    assert (ruling.decisions, ruling.spared[0][1]) == ([], "protected: allowed by the operator")


ROW = Snapshot(A, "mx", "ban", "errors", 1, NOW - 600, NOW, "")


def test_a_ban_ends_in_a_throttle_and_a_throttle_in_nothing() -> None:
    judge = ladder()
    (after,) = judge.ended([ROW], NOW)
    assert (after.action, after.limit, after.until) == ("throttle", "ladder", NOW + 600)
    assert after.level == 0
    (after,) = judge.ended([ROW], NOW + 590)  # it ended while the daemon was stopped
    assert (after.action, after.until) == ("throttle", NOW + 600)
    (after,) = judge.ended([ROW], NOW + 600)
    assert (after.action, after.level) == ("release", 0)
    (after,) = judge.ended([replace(ROW, action="exempt")], NOW)
    assert (after.action, after.why) == ("release", "exemption expired")
    (after,) = judge.ended([replace(ROW, action="throttle")], NOW)
    assert after.action == "release"
    (after,) = judge.ended([replace(ROW, subject="198.51.100.1")], NOW)
    assert after.action == "release"


def manual(action: str = "ban", seconds: float | None = None, past: Past | None = None) -> Decision:
    return ladder().manual(
        action,  # type: ignore[arg-type]
        A,
        "mx",
        past or Past(),
        NOW,
        seconds=seconds,
        why="spam",
    )


def test_a_manual_ban() -> None:
    assert manual(seconds=90).until == NOW + 90
    assert manual().until == NOW + 600
    assert manual(past=Past(offences=1, last_offence=NOW)).until == NOW + 3600
    assert manual("throttle").until == NOW + 600
    assert manual("throttle").level == 0
    assert manual().limit == "operator"


def test_a_ban_of_a_stated_length_is_no_step_of_the_ladder() -> None:
    past = Past(offences=3, last_offence=NOW)
    assert (manual(seconds=10).level, manual(past=past).level) == (0, 4)
    judge = ladder()
    (after,) = judge.ended([replace(ROW, limit="operator", level=0)], NOW)
    assert (after.action, after.why) == ("release", "ban expired")
    (after,) = judge.ended([replace(ROW, limit="operator", level=1)], NOW)
    assert after.action == "throttle"
    (after,) = judge.ended([replace(ROW, limit="adopted", level=0)], NOW)
    assert after.action == "throttle"


def test_next_ban() -> None:
    assert ladder().next_ban(Past(), NOW, "errors") == 600
    assert ladder().next_ban(Past(offences=2, last_offence=NOW), NOW, "mine") == 14400


def test_a_manual_ban_refuses_what_is_protected() -> None:
    with pytest.raises(RefusedError) as caught:
        ladder().manual("ban", "198.51.100.1", "mx", Past(), NOW, seconds=None, why="")
    assert caught.value.hint


def test_mail_of_an_inside_host_is_slowed_manually() -> None:
    """No packet of it is dropped, so that it is within mynetworks does not protect it."""
    facts = Facts(mynetworks=("192.0.2.0/24",))
    judge = Ladder(Policy(), Protection(facts, networks=["192.0.2.9"]))
    subject, rate = "192.0.2.7", Rate(60, 60.0, 10)
    slowed = judge.manual(
        "throttle", subject, "mx", Past(), NOW, seconds=9, why="", sender=True, rate=rate
    )
    assert slowed.rate == rate
    with pytest.raises(RefusedError):
        judge.manual("throttle", subject, "mx", Past(), NOW, seconds=9, why="")
    assert judge.protected("192.0.2.7", "operator") == ""
    assert judge.protected("192.0.2.7", "errors") == "in Postfix's mynetworks"
    assert judge.protected("192.0.2.9", "operator") != ""
    assert judge.protected("203.0.113.7", "operator") == ""


@given(
    subject=st.ip_addresses().map(str),
    value=st.integers(1, 1_000_000),
    past=st.builds(Past, offences=st.integers(0, 99), deliveries=st.integers(0, 9)),
)
def test_no_input_bans_a_protected_subject(subject: str, value: int, past: Past) -> None:
    judge = Ladder(Policy(), Protection(Facts(), networks=["0.0.0.0/0", "::/0"]))
    crossing = replace(HARD, subject=subject, value=value)
    assert judge.judge([crossing], {(subject, "mx"): past}, {}, NOW).decisions == []


@given(st.lists(st.sampled_from(["throttle", "enforce", "observe"]), min_size=1))
def test_ban_times_never_reach_the_five_days_that_mail_queues(modes: list[str]) -> None:
    for number, _ in enumerate(modes):
        decision = one(HARD, Past(offences=number, last_offence=NOW))
        assert decision.until - NOW < 5 * DAY


def test_a_limit_may_have_a_factor_of_its_own_for_what_is_remembered() -> None:
    limits = Policy().limits
    (name,) = (name for name, limit in limits.items() if limit.factor is not None)
    past = Past(deliveries=100_000, delivery_days=9)
    own = replace(SOFT, limit=name, count="errors", value=100_000, threshold=500, plain=500)
    assert one(own, past).rate is None  # not the limit's own: 200 times the threshold
    assert one(replace(own, value=100_001), past).rate is not None


def test_a_sender_is_judged_by_its_limit_whatever_mail_it_delivered() -> None:
    """And an inside host, whose connections nothing would touch, is judged as a sender."""
    limits = {
        "x": Limit(
            of="inside",
            count="connections",
            within=duration("1h"),
            soft=3,
            hard=9,
            mode="enforce",
        )
    }
    facts = Facts(mynetworks=("198.51.100.0/24",))
    policy = Policy(limits=limits)
    ladder = Ladder(policy, Protection.of(facts, policy.protect))
    past = Past(deliveries=900, delivery_days=30)
    for action, value in (("throttle", 5), ("ban", 10)):
        crossing = Crossing(
            "198.51.100.7",
            "mx",
            "x",
            action,  # type: ignore[arg-type]
            value,
            3,
            3600.0,
            "connections",
        )
        ruling = ladder.judge([crossing], {("198.51.100.7", "mx"): past}, {}, 1000.0)
        assert [d.action for d in ruling.decisions] == [action]
    assert ladder.protected("198.51.100.7", "errors") == "in Postfix's mynetworks"
    assert ladder.protected("198.51.100.7", "x") == ""


GUESSES = Crossing(A, "submission", "guessing", "throttle", 1, 0, DAY, "guesses")


def test_who_guesses_an_account_under_attack_is_throttled_at_a_rate_of_its_own() -> None:
    decision = one(GUESSES)
    assert (decision.action, decision.rate) == ("throttle", Rate(1, DAY, 1))
    assert decision.until == NOW + 4 * 3600
    assert decision.why == "failed logins on 1 of the accounts under attack"
    twice = replace(GUESSES, action="ban", value=2, threshold=1)
    assert (one(twice).action, one(twice).level) == ("ban", 1)
    assert one(twice, policy=Policy(mode="throttle")).action == "throttle"
    assert one(twice, Past(logins=1, last_login=NOW - 40 * DAY)).action == "ban"
    assert one(twice, Past(deliveries=99, delivery_days=9)).action == "ban"


def test_who_logged_in_within_30_days_is_spared_for_guessing() -> None:
    why = "it logged in within 30 days: only the other limits apply"
    assert spared(GUESSES, Past(logins=1, last_login=NOW - 20 * DAY)) == why
