"""What becomes of the entries of a list."""

from typing import Any

import pytest

from throttled.decide.ladder import Ladder
from throttled.decide.listed import Listed, Lists
from throttled.decide.protect import Protection
from throttled.facts import Facts
from throttled.model import Past, Rate
from throttled.settings import Policy

NOW = 1_800_000_000.0
DAY = 86400.0
A = "203.0.113.7"
GOOD = Past(deliveries=9, delivery_days=5)


def lists(policy: Policy | None = None) -> Lists:
    facts = Facts(own=frozenset({"198.51.100.1"}))
    return Lists(Ladder(policy or Policy(), Protection(facts)))


def listed(subject: str = A, action: Any = "ban", why: str = "") -> Listed:
    return Listed(subject, "mx", action, DAY, why)


def test_entries_become_decisions_of_the_list() -> None:
    entries = [listed(), listed("203.0.113.0/24", "throttle", "SBL1")]
    judged = lists().judge("drop", entries, {}, NOW)
    assert [(d.action, d.subject, d.until, d.why) for d in judged.decisions] == [
        ("ban", A, NOW + DAY, "on the list drop"),
        ("throttle", "203.0.113.0/24", NOW + DAY, "SBL1"),
    ]
    assert {d.origin for d in judged.decisions} == {"list:drop"}
    assert judged.outcomes == {"banned": 1, "throttled": 1}


def test_what_is_protected_or_exempt_is_refused() -> None:
    entries = [listed("198.51.100.1"), listed()]
    pasts: Any = {(A, "mx"): Past(exempt_until=NOW + 60)}
    judged = lists().judge("drop", entries, pasts, NOW)
    assert judged.decisions == []
    assert judged.refused[0].startswith("protected: ")
    assert judged.refused[1] == "exempted by an operator"


@pytest.mark.parametrize(
    ("action", "past", "stands"),
    [
        ("ban", Past(action="ban", until=NOW + 2 * DAY), True),
        ("ban", Past(action="ban", until=NOW + 60), False),
        ("ban", Past(action="ban", until=NOW - 60), False),
        ("ban", Past(action="throttle", until=NOW + 2 * DAY), False),
        ("throttle", Past(action="ban", until=NOW + 60), True),
        ("throttle", Past(action="throttle", until=NOW + 60), False),
        ("throttle", Past(action="throttle", until=NOW + DAY), True),
        ("throttle", Past(action="throttle", until=NOW + 60, rate=Rate(1, 60.0, 1)), True),
        ("throttle", Past(action="exempt", until=NOW + 60), False),
    ],
)
def test_a_list_weakens_and_shortens_nothing(action: str, past: Past, *, stands: bool) -> None:
    pasts: Any = {(A, "mx"): past}
    judged = lists().judge("drop", [listed(action=action)], pasts, NOW)
    assert (judged.outcomes["known"], len(judged.decisions)) == (int(stands), int(not stands))


def test_a_good_client_is_throttled_shortly_in_place_of_a_ban() -> None:
    (decision,) = lists().judge("drop", [listed()], {(A, "mx"): GOOD}, NOW).decisions
    assert (decision.action, decision.until) == ("throttle", NOW + 600)
    assert decision.why == "on the list drop; not banned: it has good history here"


def test_many_good_clients_start_the_brake_of_this_list() -> None:
    judge = lists()
    names = [f"203.0.{n}.7" for n in range(6)]
    pasts: Any = {(name, "mx"): GOOD for name in names}
    found = judge.judge("drop", [*map(listed, names), listed(A)], pasts, NOW).decisions
    assert {d.action for d in found} == {"throttle"}
    assert found[0].alert.startswith("brake: the list drop would ban 6 clients")
    assert found[-1].why == "on the list drop; not banned: the brake of the list is on"
    (later,) = judge.judge("drop", [listed()], {}, NOW + 3000).decisions
    (after,) = judge.judge("drop", [listed()], {}, NOW + 3700).decisions
    (other,) = judge.judge("other", [listed()], {}, NOW + 1).decisions
    assert (later.action, after.action, other.action) == ("throttle", "ban", "ban")


def test_mode_throttle_never_bans() -> None:
    (decision,) = lists(Policy(mode="throttle")).judge("drop", [listed()], {}, NOW).decisions
    assert (decision.action, decision.until) == ("throttle", NOW + DAY)


@pytest.mark.parametrize("subject", ["0.0.0.0/0", "128.0.0.0/7", "::/0", "2000::/15"])
def test_a_large_part_of_the_internet_is_refused(subject: str) -> None:
    judged = lists().judge("drop", [listed(subject)], {}, NOW)
    assert judged.decisions == []
    assert judged.refused[0].endswith("that is a large part of the Internet")


@pytest.mark.parametrize("subject", ["10.0.0.0/8", "2a06::/16"])
def test_wide_networks_are_accepted_if_the_request_was(subject: str) -> None:
    assert len(lists().judge("drop", [listed(subject)], {}, NOW).decisions) == 1


@pytest.mark.parametrize("subject", ["account:alice", "uid:33", "mailbox:b@example.org"])
def test_a_list_names_no_senders(subject: str) -> None:
    judged = lists().judge("drop", [listed(subject)], {}, NOW)
    assert judged.decisions == []
    assert judged.refused == {0: "a list by name has addresses and networks only"}


BANNED_GOOD = Past(action="ban", until=NOW + 60, deliveries=9, delivery_days=5)


def test_the_ban_of_a_good_client_is_not_weakened() -> None:
    judged = lists().judge("drop", [listed()], {(A, "mx"): BANNED_GOOD}, NOW)
    assert (judged.decisions, judged.outcomes) == ([], {"known": 1})
    ended: Any = {(A, "mx"): Past(action="ban", until=NOW - 60, deliveries=9, delivery_days=5)}
    assert lists().judge("drop", [listed()], ended, NOW).outcomes == {"throttled": 1}


def test_bans_are_not_weakened_while_the_brake_is_on_or_the_mode_throttles() -> None:
    judge = lists()
    pasts: Any = {(f"203.0.{n}.7", "mx"): GOOD for n in range(6)}
    judge.judge("drop", [listed(name) for name, _ in pasts], pasts, NOW)
    banned: Any = {(A, "mx"): Past(action="ban", until=NOW + 60)}
    assert judge.judge("drop", [listed()], banned, NOW).outcomes == {"known": 1}
    soft = lists(Policy(mode="throttle"))
    assert soft.judge("drop", [listed()], banned, NOW).outcomes == {"known": 1}
