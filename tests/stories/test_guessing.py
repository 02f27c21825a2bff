"""One account guessed from many addresses, each harmless alone; honest twins; defaults."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lab.mail.stories import DELIVERED, HOUR, MIDNIGHT, SUBMISSION, Story, failed, login, replayed
from throttled.analysis.replay import Replay
from throttled.clock import Moment
from throttled.config.schema import Config
from throttled.core.pipeline import Pipeline
from throttled.facts import Facts
from throttled.model import Decision, Rate, Report
from throttled.parse.parser import Parser
from throttled.settings import Policy
from throttled.store.store import Store

Decide = Callable[[Story], list[Decision]]
SLOW = Rate(1, 86400.0, 1)
DENIED = "ehlo=1 auth=0/1 quit=1 commands=2/3"
BOSS = "boss@example.org"
TEMPORARY = "Connection lost to authentication server"


def bot(number: int) -> str:
    """Return the address of a bot: each in another /24 of 198.18.0.0/15 for the first 512."""
    return f"198.{18 + number % 2}.{number // 2 % 256}.{1 + number // 512}"


def attack(story: Story, bots: int, sessions: int, every: float, user: str = BOSS) -> None:
    """Let bots take turns: one try in each session."""
    for number in range(sessions):
        at = number * every
        story.session(at, bot(number % bots), failed(user), tag=SUBMISSION, commands=DENIED)


def in_a_row(story: Story, bots: int, tries: int, user: str = BOSS) -> None:
    """Let bots come one after the other, each with all of its tries, half a minute apart."""
    for number in range(bots * tries):
        client = bot(number // tries)
        story.session(number * 30.0, client, failed(user), tag=SUBMISSION, commands=DENIED)


def guessing(decisions: list[Decision]) -> list[Decision]:
    """Return the decisions for guessing."""
    return [d for d in decisions if d.limit == "guessing"]


def test_152_addresses_with_three_tries_each(decisions: Decide) -> None:
    """After 30 tries each further address is throttled for its first."""
    story = Story()
    in_a_row(story, 152, 3)
    done = guessing(decisions(story))
    assert [(d.action, d.subject) for d in done] == [("throttle", bot(n)) for n in range(10, 152)]
    assert {d.rate for d in done} == {SLOW}
    # The eleventh address failed for the first time in the session that began after 30 others.
    assert [d.time - MIDNIGHT for d in done[:2]] == [902.0, 992.0]
    assert done[0].why == "failed logins on 1 of the accounts under attack"


def test_152_addresses_that_take_turns(decisions: Decide) -> None:
    story = Story()
    attack(story, 152, 3 * 152, 30.0)
    done = guessing(decisions(story))
    assert {d.action for d in done} == {"throttle"}
    # From its 31st address on: 30 tries, then one of each; the first 30 have one more.
    assert [d.subject for d in done[:122]] == [bot(n) for n in range(30, 152)]
    assert {d.subject for d in done} == {bot(n) for n in range(152)}


def test_20_000_addresses_with_one_try_each(decisions: Decide) -> None:
    """Nothing is done that a single try can be denied by: each is throttled for its next."""
    story = Story()
    attack(story, 20_000, 20_000, 0.1)
    done = guessing(decisions(story))
    assert {d.action for d in done} == {"throttle"}
    assert len({d.subject for d in done}) == 20_000 - 30


def test_a_botnet_that_guesses_two_accounts_is_banned(decisions: Decide) -> None:
    story = Story()
    attack(story, 60, 60, 60.0)
    for number in range(60):
        at = 2 * HOUR + 60.0 * number
        body = failed("sales@example.org")
        story.session(at, bot(number), body, tag=SUBMISSION, commands=DENIED)
    done = guessing(decisions(story))
    assert {d.subject for d in done if d.action == "throttle"} == {bot(n) for n in range(30, 60)}
    assert {d.subject for d in done if d.action == "ban"} == {bot(n) for n in range(30, 60)}


def test_the_addresses_of_a_64_count_as_one(decisions: Decide) -> None:
    """Who takes another address of the same /64 for each try gets the /64 throttled."""
    story = Story()
    attack(story, 40, 40, 10.0)
    for number in range(4):
        client = f"2001:db8:1:2::{number + 1:x}"
        story.session(HOUR + 700.0 * number, client, failed(BOSS), tag=SUBMISSION, commands=DENIED)
    done = [d for d in decisions(story) if ":" in d.subject]
    assert ("throttle", "2001:db8:1:2::/64") in {(d.action, d.subject) for d in done}
    assert {d.action for d in done} == {"throttle"}


def test_a_changed_password_with_ten_devices(decisions: Decide) -> None:
    """Each device tries the old one every ten minutes, all day, at an address of its own. None of
    them is known: the log begins with the change."""
    story = Story()
    for number in range(10):
        for turn in range(90):
            at = 600.0 * turn + 7 * number
            story.session(at, bot(number), failed(BOSS), tag=SUBMISSION, commands=DENIED)
    assert guessing(decisions(story)) == []


def test_a_changed_password_with_forty_devices_that_are_known(decisions: Decide) -> None:
    """A mailbox of a department: forty computers that sent mail in the morning."""
    story = Story()
    for number in range(40):
        story.session(number * 30.0, bot(number), login(BOSS), tag=SUBMISSION, commands=DELIVERED)
        for turn in range(6):
            at = 4 * HOUR + 1800.0 * turn + 7 * number
            story.session(at, bot(number), failed(BOSS), tag=SUBMISSION, commands=DENIED)
    assert guessing(decisions(story)) == []


def test_an_authentication_server_that_is_down(decisions: Decide) -> None:
    """It says so: nothing is counted, however many clients an account has."""
    story = Story()
    for number in range(2000):
        user = f"user{number % 7}@example.org"
        body = failed(user, TEMPORARY)
        story.session(number * 2.0, bot(number % 500), body, tag=SUBMISSION, commands=DENIED)
    assert decisions(story) == []


def test_an_authentication_server_that_refuses_everybody(decisions: Decide) -> None:
    """Overloaded, it gives the reason of a wrong password: 200 accounts with four devices each,
    which try every five minutes for two hours."""
    story = Story()
    for number in range(800):
        for turn in range(24):
            at = 300.0 * turn + number * 0.3
            body = failed(f"user{number // 4}@example.org")
            story.session(at, bot(number), body, tag=SUBMISSION, commands=DENIED)
    assert guessing(decisions(story)) == []


def test_the_owner_travels_while_the_account_is_attacked(decisions: Decide) -> None:
    """The right password from a hotel, then a mistyped one: the hotel is known by then."""
    story = Story()
    attack(story, 200, 600, 60.0)
    hotel = "203.0.113.9"
    ends = f"auth=1 {DELIVERED}"
    story.session(2 * HOUR, hotel, login(BOSS), tag=SUBMISSION, commands=ends)
    for turn in range(3):
        at = 3 * HOUR + 1200.0 * turn
        story.session(at, hotel, failed(BOSS), tag=SUBMISSION, commands=DENIED)
    assert hotel not in {d.subject for d in decisions(story)}


def test_the_owner_mistypes_once_and_then_logs_in(decisions: Decide) -> None:
    """In one session: what the login excuses is not counted."""
    story = Story()
    attack(story, 200, 600, 60.0)
    hotel = "203.0.113.9"
    ends = f"auth=1/2 {DELIVERED}"
    bodies = failed(BOSS), login(BOSS)
    story.session(2 * HOUR, hotel, *bodies, tag=SUBMISSION, commands=ends, seconds=0.5)
    assert hotel not in {d.subject for d in decisions(story)}


def through(bots: int, every: float, hours: float) -> list[int]:
    """Return how many tries of each bot reach Postfix if the kernel does what is decided.

    Each bot tries once every so many seconds; a throttle lets the burst of its rate through.
    """
    store = Store.open(":memory:")
    pipeline = Pipeline(Policy(), Facts(), store, None, Parser(UTC, MIDNIGHT))
    reached, until, tokens = [0] * bots, [0.0] * bots, [0] * bots
    for number in range(int(bots * hours * HOUR / every)):
        at, bot_number = MIDNIGHT + number * every / bots, number % bots
        if at < until[bot_number] and not tokens[bot_number]:
            continue
        tokens[bot_number] -= at < until[bot_number]
        reached[bot_number] += 1
        failure = (
            f"{datetime.fromtimestamp(at, UTC).isoformat()} mx {SUBMISSION}[9]: {failed(BOSS)}"
        )
        line = failure.replace("CLIENT", f"unknown[{bot(bot_number)}]")
        pipeline.counting.read([line], [0], Moment(at, at))
        for decision in pipeline.settle(Moment(at, at), ())[0]:
            assert (decision.action, decision.subject) == ("throttle", bot(bot_number))
            assert decision.rate is not None
            until[bot_number], tokens[bot_number] = decision.until, decision.rate.burst
        for row in store.active.ended(at):
            ended = [pipeline.ladder.ended([one], at)[0] for one in row]
            pipeline.decide(ended, Moment(at, at))
    store.close()
    return reached


def test_what_gets_through_of_a_botnet() -> None:
    """152 bots that try once a minute for twelve hours: 720 tries each, were they let."""
    reached = through(152, 60.0, 12.0)
    assert max(reached) <= 7
    assert sum(reached) <= 30 + 152 * 6


def test_the_owner_mistypes_and_logs_in_a_minute_later(tmp_path: Path) -> None:
    """The throttle that follows the mistyped password ends with the login."""
    story = Story()
    attack(story, 200, 600, 60.0)
    hotel = "203.0.113.9"
    story.session(2 * HOUR, hotel, failed(BOSS), tag=SUBMISSION, commands=DENIED)
    ends = f"auth=1 {DELIVERED}"
    for turn in range(3):
        at = 2 * HOUR + 60.0 * (turn + 1)
        story.session(at, hotel, login(BOSS), tag=SUBMISSION, commands=ends)
    done = replayed(story, Config(), tmp_path / "mail.log")
    found = [(d.action, d.limit, d.time - MIDNIGHT) for d in done if d.subject == hotel]
    assert [what[:2] for what in found] == [("throttle", "guessing"), ("release", "guessing")]
    assert 60.0 <= found[1][2] - 2 * HOUR < 70.0


def test_nobody_gets_a_hotel_banned_by_one_account(decisions: Decide) -> None:
    """The twin: another guest, without evidence, fails all day on the account under attack."""
    story = Story()
    attack(story, 200, 600, 60.0)
    hotel = "203.0.113.9"
    for turn in range(60):
        story.session(2 * HOUR + 900.0 * turn, hotel, failed(BOSS), tag=SUBMISSION, commands=DENIED)
    assert {d.action for d in decisions(story) if d.subject == hotel} == {"throttle"}


def test_replay_reports_the_account_once(tmp_path: Path) -> None:
    story = Story()
    attack(story, 152, 3 * 152, 30.0)
    path = tmp_path / "mail.log"
    path.write_text("".join(f"{line}\n" for _, line in story.lines()))
    replay = Replay(Config(), Facts(), UTC)
    reports = [what for what in replay.run([str(path)]) if isinstance(what, Report)]
    assert [(one.subject, one.limit, one.value) for one in reports] == [
        (f"account:{BOSS}", "guessing", 31)
    ]
    assert (
        replay.summary.limits["guessing"].throttled,
        replay.summary.limits["guessing"].banned,
    ) == (152, 0)
