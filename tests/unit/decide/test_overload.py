import random

import pytest

from throttled.decide.overload import (
    Change,
    Delays,
    Look,
    Passing,
    Place,
    Processes,
    at_once,
    cap,
    known_good,
    to_end,
)
from throttled.model import Action, Past
from throttled.settings import Overload

NOW = 1_800_000_000.0
DAY = 86400.0
IDLE = 10.0


def run(delays: Delays, start: float, seconds: float, look: Look) -> list[Change]:
    """Step four times a second; return what each step changed."""
    return [delays.step(start + n / 4, look, 300.0) for n in range(int(seconds * 4))]


#: Drops by a cap that is reached.
FULL = Look(100, open=80)
#: Strangers' networks had their turn, and their places are free.
TURNED = Look(others=9)


def place(
    key: str,
    age: float,
    received: int = 0,
    *,
    answered: bool = True,
    queued: bool = False,
) -> Place:
    return Place(key.encode(), age, received, answered, queued)


def ended(*places: Place, cap: int = 80, wanted: int = 100) -> str:
    return b"".join(one.key for one in to_end(places, cap, wanted, IDLE)).decode()


# The state


def test_nothing_happens_in_calm_times() -> None:
    delays = Delays()
    assert set(run(delays, 100.0, 60, Look())) == {Change()}
    assert (delays.since, delays.turn, delays.full) == (0.0, 0.0, False)


def test_strangers_count_as_delayed_after_three_seconds_and_until_a_minute_without_drops() -> None:
    delays = Delays()
    run(delays, 100.0, 2.9, Look(5))
    assert (delays.delaying, delays.since) == (False, 100.0)
    assert delays.step(103.0, Look(5), 300.0).began
    assert not delays.step(103.25, Look(5), 300.0).began
    run(delays, 103.5, 59, Look())
    assert delays.delaying
    assert delays.step(163.5, Look(), 300.0).ended
    assert (delays.since, delays.turn) == (0.0, 0.0)


def test_a_burst_of_an_instant_is_no_overload() -> None:
    delays = Delays()
    delays.step(100.0, FULL, 300.0)
    run(delays, 100.25, 59, Look())
    assert not delays.delaying


def test_bursts_with_a_pause_between_them_are_no_overload() -> None:
    """A newsletter's replies: a few have to wait a second for a process, now and then."""
    delays = Delays()
    for start in range(100, 160, 6):
        run(delays, start, 1, Look(paced=3))
        run(delays, start + 1, 5, Look())
    assert not delays.delaying


def test_drops_by_turns_alone_keep_it_up() -> None:
    delays = Delays()
    run(delays, 100.0, 10, FULL)
    run(delays, 110.0, 120, TURNED)
    assert delays.delaying
    assert not delays.full


def test_a_storm_of_a_few_seconds_is_not_slowed_by_turns() -> None:
    """Three hundred new customers of one provider, all from its three networks."""
    delays = Delays()
    run(delays, 100.0, 4.9, FULL)
    assert delays.turn == 0.0


def test_a_pause_of_the_daemon_is_no_storm() -> None:
    """It was stopped, or the machine was suspended."""
    delays = Delays()
    run(delays, 100.0, 2, FULL)
    delays.step(160.0, FULL, 300.0)
    assert delays.turn == 0.0
    run(delays, 160.25, 3, FULL)
    turn = delays.turn
    assert turn > 0.0
    delays.step(200.0, FULL, 300.0)
    assert delays.turn <= turn + 2.0


def test_turns_begin_as_soon_where_processes_have_to_be_started_first() -> None:
    delays = Delays()
    run(delays, 100.0, 4, Look(paced=100))
    run(delays, 104.0, 1, FULL)
    assert delays.turn == 0.0
    delays.step(105.0, FULL, 300.0)
    assert delays.turn > 0.0


def test_storms_with_a_pause_between_them_are_two_storms() -> None:
    delays = Delays()
    run(delays, 100.0, 4, FULL)
    run(delays, 104.0, 5, Look())
    run(delays, 109.0, 4, FULL)
    assert delays.turn == 0.0


def test_a_botnet_takes_turns_and_none_of_its_networks_comes_twice_before_all_had_one() -> None:
    delays = Delays()
    run(delays, 100.0, 5, FULL)
    for second in range(105, 235):
        run(delays, second, 1, FULL)
        assert delays.turn >= min(300.0, second - 100)
    assert delays.turn > 250.0
    run(delays, 235.0, 60, FULL)
    assert delays.turn == 300.0


@pytest.mark.parametrize(("places", "least", "most"), [(20, 0, 0), (16, 2, 5), (10, 15, 20)])
def test_turns_fill_a_quarter_of_the_places(places: int, least: int, most: int) -> None:
    delays = Delays()
    run(delays, 100.0, 100, FULL)
    longest = delays.turn
    run(delays, 200.0, 28, Look(others=9, open=places))
    assert longest - most <= delays.turn <= longest - least


def test_turns_are_over_some_minutes_after_the_attack_on_a_busy_server() -> None:
    """Honest strangers have half of the places, all day long."""
    delays = Delays()
    run(delays, 100.0, 180, FULL)
    assert delays.turn == 300.0
    run(delays, 280.0, 30, Look(others=9, open=40))
    assert delays.turn == 300.0
    run(delays, 310.0, 60, Look(others=9, open=40))
    assert 100.0 < delays.turn < 120.0
    run(delays, 370.0, 350, Look(others=9, open=40))
    assert delays.turn == 0.0


def test_a_shorter_turn_of_the_operator_counts_at_once() -> None:
    delays = Delays()
    run(delays, 100.0, 180, FULL)
    delays.step(280.0, FULL, 60.0)
    assert delays.turn == 60.0


def test_turns_are_over_soon_after_the_attack() -> None:
    """A large provider's servers go on to be sent away by turns, now and then."""
    delays = Delays()
    run(delays, 100.0, 180, FULL)
    assert delays.turn == 300.0
    run(delays, 280.0, 45, Look(others=1, open=1))
    assert delays.turn == 0.0


def test_turns_do_not_end_while_strangers_that_reset_at_once_leave_no_process() -> None:
    delays = Delays()
    run(delays, 100.0, 60, FULL)
    longest = delays.turn
    run(delays, 160.0, 60, Look(paced=3, others=500, admitted=15))
    assert delays.turn == longest


class Siege:
    """Networks that connect as often as they can, against a server with 80 places for strangers.

    A model: each look is a quarter of a second, a session as long as `hold`; who is admitted is
    drawn by lot from those that the turn lets pass.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - who, how often, how long
        self,
        networks: int,
        each: float,
        hold: float,
        seconds: int,
        on: float = 1.0,
        off: float = 0.0,
    ) -> None:
        """Run it.

        Args:
            networks: how many.
            each: connections that each tries to open a second.
            hold: seconds that each connection lasts.
            seconds: how long.
            on: seconds for which they come …
            off: … and for which they do not then.
        """
        lots, delays = random.Random(1), Delays()
        latest, ends = [-1e9] * networks, list[float]()
        self.admitted = [0] * networks
        self.turns: list[float] = []
        self.above: list[bool] = []  # whether the cap dropped some
        for n in range(4 * seconds):
            at, counts = 100.0 + n / 4, dict.fromkeys(("over_cap", "others", "admitted"), 0)
            for part in range(10):
                moment = at + part / 40
                ends = [end for end in ends if end > moment]
                come = round(networks * each / 40) if (moment - 100.0) % (on + off) < on else 0
                for who in lots.choices(range(networks), k=come):
                    if len(ends) >= 80:
                        counts["over_cap"] += 1
                    elif delays.turn and moment - latest[who] < delays.turn:
                        counts["others"] += 1
                    else:
                        counts["admitted"] += 1
                        self.admitted[who] += 1
                        latest[who] = moment
                        ends.append(moment + hold)
            since = at - (delays.turn or 60.0)
            seen = sum(when > since for when in latest)
            delays.step(at + 0.25, Look(**counts, networks=seen, open=len(ends)), 300.0)
            self.turns.append(delays.turn)
            self.above.append(counts["over_cap"] > 0)


def test_few_clients_that_flood_are_fast_enough_to_be_banned() -> None:
    """As in the demo: 80 sources, three connections each at a time, 50 ms long."""
    siege = Siege(80, 30.0, 0.05, 60)
    assert min(siege.admitted) > 60  # the limit of connections a minute
    assert sum(turn > 0 for turn in siege.turns) < 30


@pytest.mark.parametrize(
    ("networks", "each", "hold"),
    [
        (40, 12.0, 1.2),  # a hundred addresses in each
        (90, 5.0, 1.2),  # 1,000 addresses of IPv4, 500 a second
        (450, 4.4, 1.2),  # 5,000
        (450, 4.4, 3.0),  # silent, until they are ended
        (1_000, 2.0, 1.2),
        (5_000, 0.1, 1.2),
        (5_000, 0.4, 0.6),
        (40, 20.0, 0.6),  # of IPv6, each time from another address: no limit is reached
        (30, 20.0, 1.2),
        (100, 20.0, 0.3),
    ],
)
def test_newcomers_find_a_place_once_all_networks_of_a_botnet_had_their_turn(
    networks: int, each: float, hold: float
) -> None:
    begin = 4 * 60 + networks // 10
    siege = Siege(networks, each, hold, (begin + 240) // 4)
    assert sum(siege.above[begin:]) <= 40  # of 240 looks
    # Not much longer than they need to fill a quarter of the places.
    assert siege.turns[-1] < 2 * networks * hold / 20 + 20


@pytest.mark.parametrize(("on", "off"), [(4.9, 2.1), (4.9, 4.0), (3.0, 0.5)])
def test_an_attack_in_pulses_takes_turns_too(on: float, off: float) -> None:
    siege = Siege(450, 4.4, 1.2, 300, on, off)
    assert sum(siege.above[600:]) <= 120  # of 600 looks


@pytest.mark.parametrize(("places", "seconds"), [(4, 100), (8, 50), (80, 5), (800, 5)])
def test_turns_begin_later_where_fewer_processes_serve_a_storm(places: int, seconds: int) -> None:
    """Honest: a provider's list, 200 messages to a small site, over all of its few connections."""
    delays, at = Delays(), 100.0
    while not delays.turn:
        delays.step(at, FULL, 300.0, places)
        at += 0.25
    assert at - 100.0 == seconds + 0.25


@pytest.mark.parametrize(
    ("paced", "admitted", "counts"),
    [
        (2_000, 250, True),  # they reset as soon as they are connected
        (30, 75, False),  # an honest storm of 300 a second
        (200, 0, False),  # Postfix is stopped
        (200, 15, False),  # processes start, and are kept: the cap is reached soon
    ],
)
def test_strangers_that_come_and_go_before_they_are_accepted_count_as_above_the_cap(
    paced: int, admitted: int, *, counts: bool
) -> None:
    passing = Passing()
    found = [passing.step(100.0 + n / 4, paced, admitted, 80) for n in range(40)]
    assert found[20:] == ([paced] * 20 if counts else [0] * 20)
    assert not passing.step(110.0, 0, 0, 80)


# The pace


def test_a_second_look_at_the_same_moment_changes_nothing() -> None:
    passing = Passing()
    assert passing.step(1.0, 3_000, 1_000, cap=80) == 3_000
    assert passing.step(1.0, 7, 9_000, cap=80) == 7


def test_without_any_process_some_strangers_are_admitted_at_once() -> None:
    some = [Processes(cap) for cap in (4, 8, 40, 80, 800)]
    assert [one.places for one in some] == [4, 8, 8, 10, 100]
    assert [at_once(cap) for cap in (4, 80)] == [8, 10]


def test_strangers_have_the_processes_that_were_started_before_and_are_idle() -> None:
    some = Processes(80)
    some.see(100.0, 60, 0, 0)
    some.see(101.0, 5, 0, 0)
    assert some.places == 70
    some.see(101.0, 5, 5, 0)
    assert some.places == 65
    some.see(102.0, 100, 0, 0)
    assert some.places == 80
    some.see(126.0, 3, 0, 0)
    assert some.places == 80
    some.see(152.0, 3, 0, 0)
    assert some.places == 13


def test_processes_end_while_nobody_looks() -> None:
    some = Processes(80)
    some.see(100.0, 60, 0, 0)
    some.see(1000.0, 1, 0, 0)
    assert some.places == 11


def test_as_many_strangers_wait_as_the_server_starts_processes() -> None:
    """Those that wait at a look could not be started since the one before."""
    some = Processes(80)
    rooms = []
    for waiting in (10, 5, 3, 2, 2, 1, 0, 1, 2, 0):
        some.see(100.0, 20, 0, waiting)
        rooms.append(some.places - 20)
    assert rooms == [5, 2, 2, 2, 2, 2, 4, 8, 10, 10]


def test_who_waits_for_an_idle_process_waits_for_none_to_be_started() -> None:
    """A busy server: at each look some connections are about to be accepted."""
    some = Processes(80)
    some.see(100.0, 60, 0, 0)
    for _ in range(10):
        some.see(101.0, 50, 0, 10)
    assert some.places == 70
    some.see(102.0, 50, 0, 16)
    assert some.places == 65


# The cap


@pytest.mark.parametrize(
    ("settings", "processes", "expected"),
    [
        (Overload(), [100], 80),
        (Overload(), [100, 50, 0], 80),  # not 40: the main service stays as large as it is
        (Overload(), [100, 5], 80),
        (Overload(reserve="50%"), [100], 50),
        (Overload(), [10], 8),
        (Overload(), [5], 4),
        (Overload(), [4], 0),
        (Overload(reserve="95%"), [5], 1),
        (Overload(cap=1), [1], 1),
        (Overload(), [0], 0),
        (Overload(), [], 0),
        (Overload(cap=7), [100], 7),
    ],
)
def test_the_cap_follows_from_the_process_limit(
    settings: Overload, processes: list[int], expected: int
) -> None:
    assert cap(settings, processes) == expected


def test_each_scope_has_its_mode() -> None:
    assert (Overload().mode("mx"), Overload().mode("submission")) == ("enforce", "report")


# Sessions


def test_a_session_that_says_nothing_is_ended_after_three_seconds() -> None:
    assert ended(place("a", 2.9), place("b", 3.0)) == "b"


def test_a_session_that_said_something_has_ten() -> None:
    assert ended(place("a", 9.9, 6), place("b", 10.1, 6)) == "b"


def test_the_longest_are_ended_first_and_no_more_than_others_wait_for() -> None:
    sessions = [place("a", 20), place("b", 40), place("c", 30)]
    assert ended(*sessions) == "bca"
    assert ended(*sessions, wanted=2) == "bc"
    assert ended(*sessions, wanted=0) == ""


def test_a_noop_every_seven_seconds_does_not_help() -> None:
    assert ended(place("a", 11, received=6)) == "a"
    assert ended(place("a", 60, received=16 + 8 * 6)) == "a"


def test_a_message_whose_reply_is_owed_has_a_minute() -> None:
    """A content filter before the queue thinks; the sender does not know of its acceptance."""
    assert ended(place("a", 59, received=500, answered=False)) == ""
    assert ended(place("a", 61, received=500, answered=False)) == "a"


def test_half_a_command_is_no_message() -> None:
    assert ended(place("a", 19, received=3, answered=False)) == ""
    assert ended(place("a", 21, received=3, answered=False)) == "a"


def test_silence_before_the_end_of_a_greeting_is_honest() -> None:
    places = [place("a", 10.9), place("b", 11.1)]
    assert [one.key for one in to_end(places, 80, 100, IDLE, greeting=8.0)] == [b"b"]


def test_who_waits_to_be_accepted_is_not_idle() -> None:
    assert ended(place("a", 59, queued=True), place("b", 1)) == ""


def test_who_waits_for_a_service_without_a_process_does_not_keep_others_out_for_ever() -> None:
    waiting = [place("a", 61, queued=True), place("b", 62, queued=True), place("c", 4)]
    assert ended(*waiting) == "bac"
    assert ended(*waiting, wanted=1) == "b"
    assert ended(*waiting, cap=1, wanted=0) == "ab"


def test_in_the_middle_of_an_attack_those_that_wait_are_ended_first() -> None:
    waiting = [place("q", 0, queued=True) for _ in range(3)]
    served = [place("s", 2) for _ in range(4)]
    assert ended(*waiting, *served, cap=5, wanted=0) == "qq"
    assert ended(*waiting, *served, cap=2, wanted=0) == "qqq"
    old = [place("o", 50) for _ in range(4)]
    assert ended(*waiting, *old, cap=2, wanted=0) == "qqqoo"


def test_a_few_above_the_cap_are_left_alone() -> None:
    """The kernel lets some in whose handshakes were under way."""
    waiting = [place("q", 0, queued=True) for _ in range(91)]
    assert ended(*waiting[:90], cap=80, wanted=0) == ""
    assert ended(*waiting, cap=80, wanted=0) == 11 * "q"


# Who is known good


@pytest.mark.parametrize(
    ("past", "good"),
    [
        (Past(), False),
        (Past(deliveries=500, delivery_days=1), False),  # a botnet's spam, or a first day
        (Past(deliveries=2, delivery_days=2), True),
        (Past(logins=1, last_login=NOW), False),
        (Past(logins=2, last_login=NOW), True),
        (Past(logins=9, last_login=NOW - 31 * DAY), False),
    ],
)
def test_good_evidence_makes_known_good(past: Past, *, good: bool) -> None:
    assert known_good(past, NOW) == good


@pytest.mark.parametrize(
    ("action", "until", "good"),
    [
        ("ban", NOW + 1, False),
        ("throttle", NOW + 1, False),
        ("ban", NOW - 1, True),
        ("exempt", NOW + 1, True),
    ],
)
def test_who_is_throttled_or_banned_is_not_known_good(
    action: Action, until: float, *, good: bool
) -> None:
    past = Past(deliveries=9, delivery_days=9, action=action, until=until)
    assert known_good(past, NOW) == good


@pytest.mark.parametrize(
    ("one", "wasted"),
    [
        (place("a", 1.0), True),
        (place("a", 1.0, 200), False),
        (place("a", 1.0, 200, answered=False), True),
        (place("a", 1.0, queued=True), False),
    ],
)
def test_a_session_without_a_whole_message_is_wasted(one: Place, *, wasted: bool) -> None:
    assert one.wasted == wasted
