"""What Postfix is answered, on a clock of the test's own."""

import pytest
from msgspec.structs import replace

from throttled.enforce.answers import PASS, PolicyAnswers
from throttled.enforce.backend import Answers, Ruleset
from throttled.model import Entry, Rate, Scope

RULESET = Ruleset({}, ("203.0.113.0/24",), rate=1, per=1.0, burst=2, size=1000)
ALICE, HOST = "account:alice", "198.51.100.20"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """Answers with a clock."""

    def __init__(self, **settings: object) -> None:
        self.clock = Clock()
        self.answers = PolicyAnswers(self.clock)
        made = Answers(**settings)  # type: ignore[arg-type]
        self.answers.setup(replace(RULESET, answers=made))

    def put(self, *entries: Entry) -> None:
        assert not self.answers.apply(entries).failed

    def asked(self, *subjects: str, processes: int = 100, spool: str = "/etc/postfix") -> str:
        return self.answers.message(subjects, spool, processes).verdict

    def many(self, count: int, *subjects: str, processes: int = 100) -> list[str]:
        return [self.asked(*subjects, processes=processes) for _ in range(count)]


def throttle(subject: str, rate: Rate | None = None, scope: Scope = "mx") -> Entry:
    return Entry(subject, scope, "throttle", 600.0, rate)


def ban(subject: str, scope: Scope = "mx") -> Entry:
    return Entry(subject, scope, "ban", 600.0)


def test_nothing_in_force_passes() -> None:
    place = Place()
    assert place.asked(ALICE, HOST) == "pass"
    place.put(ban("account:bob"))
    assert place.answers.message([ALICE, HOST], "/etc/postfix", 100) is PASS
    assert PASS.action == "DUNNO"
    assert PASS.accepted


def test_before_the_rules_are_there() -> None:
    assert PolicyAnswers().message([ALICE], "/etc/postfix", 100) is PASS


@pytest.mark.parametrize("scope", ["mx", "submission"])
def test_a_throttled_sender_waits_its_turn(scope: Scope) -> None:
    place = Place()
    place.put(throttle(ALICE, scope=scope))
    found = [place.answers.message([ALICE], "/etc/postfix", 100) for _ in range(4)]
    assert [each.action for each in found] == ["DUNNO", "DUNNO", "sleep 1", "sleep 2"]
    assert all(each.accepted for each in found)
    assert place.asked(HOST) == "pass"


@pytest.mark.parametrize("over", ["hold", "defer"])
def test_four_of_one_wait_at_most(over: str) -> None:
    place = Place(over=over)
    place.put(throttle(ALICE))
    assert place.many(8, ALICE) == ["pass"] * 2 + ["wait"] * 4 + [over] * 2
    place.clock.now += 1.0
    assert place.many(2, ALICE) == ["wait", over]
    (seen,) = place.answers.lookup([throttle(ALICE)])
    assert seen.packets == place.answers.dropped() == 3


def test_a_fifth_of_the_processes_waits_at_most() -> None:
    place = Place()
    place.put(*(throttle(f"account:a{n}", Rate(1, 1.0, 1)) for n in range(9)))
    for n in range(9):
        assert place.asked(f"account:a{n}") == "pass"
    waited = [place.asked(f"account:a{n}", processes=20) for n in range(9)]
    assert waited == ["wait"] * 4 + ["hold"] * 5
    assert place.asked("account:a8", processes=20, spool="/etc/postfix-out") == "wait"
    place.clock.now += 10.0
    assert place.many(3, ALICE, processes=1) == ["pass"] * 3
    assert place.many(4, "account:a0", processes=1) == ["pass", "pass", "wait", "hold"]


def test_nobody_waits_long() -> None:
    place = Place()
    place.put(throttle(ALICE, Rate(1, 60.0, 1)))
    assert place.many(2, ALICE) == ["pass", "hold"]
    place.clock.now += 45.0
    assert place.answers.message([ALICE], "/etc/postfix", 100).action == "sleep 15"


def test_what_is_put_on_hold_takes_no_place() -> None:
    place = Place()
    place.put(throttle(ALICE, Rate(1, 60.0, 1)))
    assert place.many(50, ALICE) == ["pass", *["hold"] * 49]
    place.clock.now += 60.0
    assert place.asked(ALICE) == "pass"


def test_of_several_subjects_the_slowest_counts() -> None:
    place = Place()
    place.put(throttle(ALICE, Rate(12, 60.0, 1)), throttle(HOST))
    assert place.many(2, ALICE, HOST) == ["pass", "wait"]
    assert place.asked(HOST) == "wait"  # whose two places are taken
    place.put(ban(HOST))
    assert place.asked(ALICE, HOST) == "defer"


@pytest.mark.parametrize(
    ("how", "action"),
    [("defer", "450 4.7.1 sending suspended"), ("hold", "HOLD sending suspended")],
)
def test_a_banned_sender(how: str, action: str) -> None:
    place = Place(ban=how)
    place.put(ban(ALICE))
    found = place.answers.message([ALICE], "/etc/postfix", 100)
    assert found.action.startswith(action)
    assert found.action.isascii()
    assert "alice" not in found.action
    assert found.accepted == (how == "hold")


def test_entries_expire_and_are_removed() -> None:
    place = Place()
    place.put(ban(ALICE), throttle(HOST))
    assert place.many(3, HOST)[-1] == "wait"
    place.clock.now += 600.0
    assert (place.asked(ALICE), place.many(9, HOST)) == ("pass", ["pass"] * 9)
    place.put(throttle(HOST), throttle(ALICE))
    place.put(replace(throttle(HOST), seconds=0.0))
    assert place.many(9, HOST) == ["pass"] * 9


def test_renewing_gives_no_new_allowance_and_another_rate_does() -> None:
    place = Place()
    place.put(throttle(ALICE))
    place.many(3, ALICE)
    place.put(throttle(ALICE))
    assert place.asked(ALICE) == "wait"
    place.put(throttle(ALICE, Rate(1, 1.0, 3)))
    assert place.many(3, ALICE) == ["pass"] * 3


def test_what_is_gone_is_forgotten() -> None:
    place = Place()
    for n in range(300):
        place.put(throttle(f"account:{n}"))
        place.asked(f"account:{n}")
        place.put(replace(throttle(f"account:{n}"), seconds=0.0))
    assert len(place.answers._allowances) <= 1
    place.answers.teardown()
    assert place.answers.dropped() == 0


# Recipients

BOB, CAROL = ("mailbox:bob@a.test", "domain:a.test"), ("mailbox:carol@b.test", "domain:b.test")


def recipient(
    place: Place, named: tuple[str, ...] = BOB, *targets: tuple[str, ...], count: int = 1
) -> list[str]:
    return [place.answers.recipient(named, targets).verdict for _ in range(count)]


def test_a_mailbox_above_its_rate_is_deferred() -> None:
    assert PolicyAnswers().recipient(BOB, []) is PASS
    place = Place()
    place.put(throttle(BOB[0]))
    assert recipient(place, count=3) == ["pass", "pass", "defer"]
    assert recipient(place, CAROL, count=5) == ["pass"] * 5
    found = place.answers.recipient(BOB, [])
    assert found.action.startswith("450 4.2.1 this mailbox or domain receives too much")
    assert not found.accepted
    assert place.answers.dropped() == 2
    place.clock.now += 1.0
    assert recipient(place, count=2) == ["pass", "defer"]
    place.put(ban(CAROL[0]))
    assert recipient(place, CAROL) == ["defer"]
    assert recipient(place, ()) == ["pass"]  # a postmaster


def test_what_a_domain_receives_and_what_it_sends_are_two() -> None:
    place = Place()
    place.put(ban("domain:a.test", "mx"))
    assert (recipient(place), place.asked("domain:a.test")) == (["defer"], "pass")
    place.put(ban("domain:b.test", "submission"))
    assert (recipient(place, CAROL), place.asked("domain:b.test")) == (["pass"], "defer")


def test_an_alias_is_deferred_if_all_that_it_leads_to_is() -> None:
    place, info = Place(), ("mailbox:info@a.test", "domain:a.test")
    place.put(throttle(BOB[0]))
    assert recipient(place, info, BOB, count=3) == ["pass", "pass", "defer"]
    assert recipient(place, info, BOB, CAROL, count=3) == ["pass"] * 3
    assert recipient(place, info, BOB, ()) == ["pass"]  # a list
    place.put(ban("domain:b.test"))
    assert recipient(place, info, BOB, CAROL) == ["defer"]
    assert recipient(place, info, CAROL) == ["defer"]


def test_a_message_to_one_by_two_ways_takes_one_place() -> None:
    place = Place()
    place.put(throttle(BOB[0]))
    assert recipient(place, BOB, BOB, count=3) == ["pass", "pass", "defer"]


# Clients behind a proxy


def client(place: Place, address: str, scope: Scope = "mx", *, begins: bool = True) -> str:
    return place.answers.client(address, scope, begins=begins).verdict


@pytest.mark.parametrize("subject", ["198.18.0.1", "198.18.0.0/24", "198.18.0.0/15"])
def test_a_banned_client_is_refused(subject: str) -> None:
    place = Place()
    assert client(place, "198.18.0.1") == "pass"
    place.put(ban(subject), ban("2001:db8::/64"))
    found = place.answers.client("198.18.0.1", "mx", begins=False)
    assert found.action.startswith("421 4.7.0 ")
    assert not found.accepted
    assert client(place, "198.18.0.1", "submission") == "pass"
    assert client(place, "198.20.0.1") == "pass"
    assert client(place, "") == "pass"
    assert client(place, "2001:db8::7") == "refuse"


def test_who_is_protected_or_exempt_is_not_refused() -> None:
    place = Place()
    place.put(ban("203.0.113.0/24"), ban("203.0.0.0/16"), ban("198.18.0.0/24"))
    place.put(Entry("198.18.0.7", "mx", "exempt", 600.0))
    assert client(place, "203.0.113.9") == "pass"
    assert client(place, "203.0.114.9") == "refuse"
    assert client(place, "198.18.0.7") == "pass"


def test_a_throttled_client_opens_so_many_sessions() -> None:
    place = Place()
    place.put(throttle("198.18.0.1"))
    assert [client(place, "198.18.0.1") for _ in range(3)] == ["pass", "pass", "refuse"]
    assert client(place, "198.18.0.1", begins=False) == "pass"  # its session goes on
    place.clock.now += 1.0
    assert client(place, "198.18.0.1") == "pass"
