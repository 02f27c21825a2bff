from msgspec.structs import replace

from throttled.decide.limits import NEVER, Gauges, Meter, pace
from throttled.decide.sums import Sums
from throttled.duration import duration
from throttled.limits import Limit, Override, Thresholds, ThrottleRate, default_limits
from throttled.settings import Network, Policy


def test_defaults_of_both_scopes() -> None:
    mx = Gauges.of(Policy(), "mx")
    submission = Gauges.of(Policy(), "submission")
    assert [gauge.soft for gauge in mx.connections] == [60]
    assert [gauge.soft for gauge in submission.connections] == [120]
    of_clients = {name for name, limit in default_limits().items() if limit.of == "client"}
    assert {gauge.limit for gauge in mx.all()} == of_clients


def test_disabled_and_empty_limits_make_no_gauge() -> None:
    limits = {
        "off": Limit(count="errors", within=duration("1m"), soft=1, enabled=False),
        "none": Limit(count="errors", within=duration("1m")),
    }
    assert Gauges.of(Policy(limits=limits), "mx").all() == []


def test_what_crosses_nothing_is_known_without_a_look_at_the_client() -> None:
    limits = {"h": Limit(count="errors", within=duration("1m"), soft=20, hard=9)}
    policy = Policy(limits=limits, network=Network(multiple=3))
    (errors,) = Gauges.of(policy, "mx").errors
    assert (errors.least, errors.network_least) == (9, 27)
    network = "198.51.100.0/24"
    # A network's table is asked only about what is above: it may say 0 below.
    assert errors.networks.add(network, 1.0, 27 // 9) == 0
    assert errors.networks.add(network, 1.0, 1) == 4


def test_a_quarter_as_many_networks_as_clients_are_tracked() -> None:
    for gauge in Gauges.of(Policy(max_clients=40), "mx").all():
        networks = gauge.networks
        for number in range(33):
            name = 1 if isinstance(networks, Sums) else "anna"
            networks.add(f"198.51.{number}.0/24", 1.0, name)  # type: ignore[arg-type]
        # An eighth of a table of sums has ten; a generation of one of names has five.
        assert networks.dropped == (33 if isinstance(networks, Sums) else 25)


def test_which_throttle_is_slower_than_the_configured_one() -> None:
    assert pace(Policy(), None) == 10 / 60
    for rate, slow in ((9, True), (10, False), (11, False)):
        own = ThrottleRate(rate, duration("1m"), 1)
        limit = Limit(count="connections", within=duration("1m"), soft=5, throttle=own)
        quick = Network(throttle=ThrottleRate(60, duration("1s"), 1))
        made = Gauges.of(Policy(limits={"c": limit}, network=quick), "mx")
        (logged,), (seen,) = made.connections, made.handshakes
        assert logged.slow is slow
        assert not seen.slow  # the kernel names no session that could be ended
        assert logged.paces == (rate / 60, 60.0)


def test_thresholds_of_a_scope() -> None:
    limit = Limit(
        count="errors", within=duration("1m"), soft=5, mx=Thresholds(hard=9), submission=None
    )
    (mx,) = Gauges.of(Policy(limits={"e": limit}), "mx").errors
    (submission,) = Gauges.of(Policy(limits={"e": limit}), "submission").errors
    assert mx.thresholds("198.51.100.7", 1.0) == (5, 9, 0)
    assert submission.thresholds("198.51.100.7", 1.0) == (5, NEVER, 0)


def test_thresholds_of_a_network_are_a_multiple_and_a_24_has_no_hard_one() -> None:
    errors, _of_a_day = Gauges.of(Policy(network=Network(multiple=3)), "mx").errors
    assert errors.plain("2001:db8::1") == (20, 50)
    assert errors.plain("2001:db8::/64") == (60, 150)
    assert errors.plain("198.51.100.0/24") == (60, NEVER)
    hard = {"h": Limit(count="errors", within=duration("1m"), hard=9)}
    (errors,) = Gauges.of(Policy(limits=hard), "mx").errors
    assert errors.plain("198.51.100.0/24") == (45, NEVER)  # throttled where it would be banned
    assert errors.plain("2001:db8::/64") == (NEVER, 45)


def test_good_events_of_the_window_raise_the_thresholds_up_to_a_factor() -> None:
    errors, of_a_day = Gauges.of(Policy(), "mx").errors
    of_a_day.good.add("198.51.100.7", 1000.0, 100_000)
    assert of_a_day.thresholds("198.51.100.7", 1000.0)[0] == 100_000  # a factor of its own
    errors.good.add("198.51.100.7", 1000.0, 2)
    assert errors.thresholds("198.51.100.7", 1000.0) == (22, 56, 2)
    assert errors.thresholds("198.51.100.8", 1000.0) == (20, 50, 0)
    errors.good.add("198.51.100.7", 1000.0, 100_000)
    assert errors.thresholds("198.51.100.7", 1000.0)[:2] == (400, 1000)
    assert errors.thresholds("198.51.100.7", 1000.0 + 676) == (20, 50, 0)  # 9/8 of the window
    (auth,) = (g for g in Gauges.of(Policy(), "mx").auth_failures if g.limit == "auth")
    assert auth.good is not errors.good


def test_an_engine_that_only_counts_has_thresholds_out_of_reach() -> None:
    errors, _of_a_day = Gauges.of(Policy(), "mx").errors
    errors.out_of_reach()
    errors.good.add("198.51.100.7", 1000.0, 2)
    assert errors.thresholds("198.51.100.7", 1000.0) == (NEVER, NEVER, 2)
    assert errors.plain("2001:db8::/64") == (NEVER, NEVER)
    assert errors.least == NEVER


def test_read() -> None:
    (gauge,) = Gauges.of(Policy(), "mx").connections
    gauge.table.add("198.51.100.7", 1000.0, 3)
    assert gauge.read("198.51.100.7", 1000.0) == Meter("connections", "mx", 60.0, 3, 60, 0)
    (users,) = (g for g in Gauges.of(Policy(), "mx").auth_users if g.limit == "auth-users")
    assert users.read("198.51.100.7", 1000.0) == Meter("auth-users", "mx", 600.0, 0, 0, 20)


def test_distinct_names_are_kept_up_to_the_highest_threshold() -> None:
    limits = {"u": Limit(count="auth_users", within=duration("1d"), soft=3)}
    (gauge,) = Gauges.of(Policy(limits=limits), "mx").auth_users
    # What is remembered for 30 days may excuse five times as many, and then it takes one more.
    assert [gauge.table.add("198.51.100.7", 1.0, str(n)) for n in range(99)][-1] == 1 + 5 * 3
    # Logins within the window may excuse one each.
    gauge.good.add("198.51.100.7", 1.0, 4)
    assert [gauge.table.add("198.51.100.7", 1.0, str(n)) for n in range(99)][-1] == 1 + 5 * 3 + 4
    assert [gauge.networks.add("198.51.100.0/24", 1.0, str(n)) for n in range(99)][-1] == 1 + 5 * 3


def test_adopt_keeps_the_counts_of_unchanged_windows() -> None:
    before = Gauges.of(Policy(), "mx")
    for gauge in before.all():
        if gauge.limit in ("connections", "errors"):
            gauge.table.put("a", 1, 1.0)  # type: ignore[arg-type]  # both are counters
    limits = default_limits()
    limits["connections"] = replace(limits["connections"], soft=5)
    limits["errors"] = replace(limits["errors"], within=duration("1h"))
    after = Gauges.of(Policy(limits=limits), "mx")
    after.adopt(before)
    assert after.connections[0].table.get("a") == 1
    assert after.connections[0].soft == 5
    least = after.connections[0].network_least // 9  # above it a table has to say how many
    assert after.connections[0].networks.add("198.51.100.0/24", 2.0, least + 1) == least + 1
    assert after.errors[0].table.get("a") is None


def test_adopt_keeps_the_good_events_of_windows_that_a_limit_still_has() -> None:
    before = Gauges.of(Policy(), "mx")
    for gauge in before.all():
        gauge.good.add("198.51.100.7", 1000.0, 1)
    limits = default_limits()
    limits["errors"] = replace(limits["errors"], within=duration("1h"))
    for unchanged, after in (
        (True, Gauges.of(Policy(), "mx")),
        (False, Gauges.of(Policy(limits=limits), "mx")),
    ):
        windows = {kind: set(tables) for kind, tables in after.good.items()}
        after.adopt(before)
        assert {kind: set(tables) for kind, tables in after.good.items()} == windows
        known = {gauge.limit: gauge.good.value("198.51.100.7", 1000.0) > 0 for gauge in after.all()}
        assert known == {limit: unchanged or limit != "errors" for limit in known}


def test_adopt_takes_no_table_that_no_limit_needs() -> None:
    after = Gauges.of(Policy(limits={}), "mx")
    after.adopt(Gauges.of(Policy(), "mx"))
    assert not any(after.good.values())


def test_names_are_kept_whatever_the_thresholds_are() -> None:
    before = Gauges.of(Policy(), "mx")
    for gauge in before.auth_users:
        gauge.table.add("a", 1.0, "anna")
    limits = default_limits()
    limits["auth-users"] = replace(limits["auth-users"], hard=100)
    after = Gauges.of(Policy(limits=limits), "mx")
    after.adopt(before)
    assert {g.limit: g.table.value("a", 1.0) for g in after.auth_users} == {
        "auth-users": 1,
        "auth-slow": 1,
    }
    users = after.auth_users[0]
    assert (users.limit, users.table.most) == ("auth-users", 1 + 5 * 100)
    assert users.networks.more == users.more_names


def test_a_new_limit_of_names_starts_empty() -> None:
    before = Gauges.of(Policy(), "mx")
    for gauge in before.auth_users:
        gauge.table.add("a", 1.0, "anna")
    new = Limit(count="auth_users", within=duration("5m"), soft=9)
    after = Gauges.of(Policy(limits=default_limits() | {"new": new}), "mx")
    after.adopt(before)
    values = {gauge.limit: gauge.table.value("a", 1.0) for gauge in after.auth_users}
    assert values == {"auth-users": 1, "auth-slow": 1, "new": 0}


def test_share_of_the_highest_threshold() -> None:
    assert Meter("errors", "mx", 600.0, 25, 20, 50).share() == 0.5
    assert Meter("connections", "mx", 60.0, 90, 60, 0).share() == 1.5


def test_what_the_kernel_saw_has_a_table_of_its_own() -> None:
    mx = Gauges.of(Policy(), "mx")
    (logged,), (seen,) = mx.connections, mx.handshakes
    seen.table.add("a", 1000.0, 7)
    assert logged.read("a", 1000.0).value == 0
    assert seen.read("a", 1000.0) == Meter("connections", "mx", 60.0, 7, 60, 0, kernel=True)
    after = Gauges.of(Policy(), "mx")
    after.adopt(mx)
    assert after.handshakes[0].read("a", 1000.0).value == 7


def test_good_clients_are_noted_where_there_is_no_more_room() -> None:
    made = Gauges.of(Policy(), "mx", peaks=1)
    (logged,), names = made.connections, made.auth_users
    assert logged.peaks is not None
    assert names[0].peaks is not None
    logged.table.add("198.51.100.2", 1000.0, 3)
    for client in ("198.51.100.1", "198.51.100.3"):
        logged.peaks.add(client, 4)
    names[0].peaks.add("198.51.100.1", 2)
    made.add_good_peaks("198.51.100.2", 1000.0)
    assert logged.peaks.highest == {"198.51.100.1": 4, "198.51.100.2": 3}
    assert names[0].peaks.highest == {"198.51.100.1": 2}


def test_peaks_are_noted_where_they_are_asked_for_and_of_the_log_alone() -> None:
    made = Gauges.of(Policy(), "mx", peaks=1)
    assert {gauge.limit for gauge in made.all() if gauge.peaks is None} == {"connections"}
    assert made.handshakes[0].peaks is None
    assert all(gauge.peaks is None for gauge in Gauges.of(Policy(), "mx").all())


def test_other_thresholds_for_addresses_and_networks() -> None:
    others = {
        "198.51.100.0/24": Override(soft=100, hard=200),
        "198.51.100.7": Override(soft=5),
        "203.0.113.7": Override(enabled=False),
    }
    limit = Limit(count="errors", within=duration("10m"), soft=20, hard=50, for_=others)
    (gauge,) = Gauges.of(Policy(limits={"e": limit}), "mx").errors
    assert gauge.plain("198.51.100.7") == (5, 50)
    assert gauge.plain("198.51.100.8") == (100, 200)
    assert gauge.plain("198.51.100.0/24") == (500, NEVER)
    assert gauge.plain("198.18.0.7") == (20, 50)
    assert gauge.plain("203.0.113.7") == (NEVER, NEVER)
    assert (gauge.usual, gauge.least, gauge.network_least) == (20, 5, 25)
    gauge.table.add("203.0.113.7", 1000.0, 3)
    meter = gauge.read("203.0.113.7", 1000.0)
    assert (meter.soft, meter.hard) == (0, 0)
    assert meter.share() < 0.01
    gauge.out_of_reach()
    assert gauge.plain("198.51.100.7") == (NEVER, NEVER)


def test_names_are_distinguished_up_to_the_highest_threshold() -> None:
    limit = Limit(
        count="auth_users",
        within=duration("1d"),
        soft=3,
        for_={"198.51.100.7": Override(soft=30)},
    )
    (gauge,) = Gauges.of(Policy(limits={"u": limit}), "mx").auth_users
    assert gauge.table.most == 1 + 5 * 30


def test_mail_does_not_speak_for_limits_of_mail() -> None:
    limit = Limit(count="messages", within=duration("1m"), soft=3)
    made = Gauges.of(Policy(limits={"m": limit}), "mx")
    (gauge,) = made.messages
    made.good["deliveries"] = {}
    assert gauge.good is made.good["none"][60.0]
