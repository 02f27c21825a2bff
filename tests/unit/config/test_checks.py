"""What must hold between keys."""

from typing import Any

import pytest
from msgspec.structs import replace

from throttled.config import checks
from throttled.config.schema import Config, Firewall, FirewallPorts, Log, Metrics
from throttled.duration import Duration, duration
from throttled.limits import (
    AnyCount,
    Limit,
    Override,
    Thresholds,
    ThrottleRate,
    default_limits,
)
from throttled.settings import Ban, Guessing, Network, Overload, Protect, Throttle

MINUTE = duration("1m")


def limits(**more: Limit) -> Config:
    named = {name.replace("_", "-"): limit for name, limit in more.items()}
    return Config(limits={**default_limits(), **named})


def limit(
    soft: int | None = None,
    hard: int | None = None,
    mx: Thresholds | None = None,
    submission: Thresholds | None = None,
) -> Limit:
    return Limit(count="errors", within=MINUTE, soft=soft, hard=hard, mx=mx, submission=submission)


def sender(count: AnyCount, **more: Any) -> Limit:
    return Limit(count=count, within=duration("1h"), of="account", soft=10, **more)


def slow_limit(rate: int, per: str, burst: int) -> Limit:
    return replace(limit(3), throttle=ThrottleRate(rate, duration(per), burst))


def slow(rate: int, per: str, burst: int) -> Config:
    return limits(x=slow_limit(rate, per, burst))


GOOD = {
    "own rate": slow(1, "1h", 24),
    "own rate, daily": slow(2, "1d", 2),
    "own rates that are one": limits(**{f"x{n}": slow_limit(1, "1h", 1) for n in range(20)}),
    "defaults": Config(),
    "only hard in one scope": limits(x=limit(mx=Thresholds(hard=3))),
    "a scope lifts both": limits(x=limit(3, 5, submission=Thresholds(soft=30, hard=50))),
    "equal bans": Config(ban=Ban(times=(MINUTE, MINUTE))),
    "one scope only": Config(firewall=Firewall(ports=FirewallPorts(mx=(25,), submission=()))),
    "containers only": Config(log=Log(files=(), journal=False, containers=("mail",))),
    "journal only": Config(log=Log(files=(), journal=True)),
    "metrics": Config(metrics=Metrics(listen="[::1]:65535")),
    "metrics socket": Config(metrics=Metrics(listen="/run/a:b")),
    "protected": Config(
        protect=Protect(
            networks=(
                "198.51.100.7",
                "198.51.100.0/24",
                "2001:db8::/32",
                "::ffff:198.51.100.0/120",
            ),
            names=(".example.com", "mail.example.com", "a_b"),
        )
    ),
}


@pytest.mark.parametrize("config", GOOD.values(), ids=GOOD)
def test_good(config: Config) -> None:
    assert list(checks.errors(config)) == []


GOOD_SENDERS = limits(
    bytes=sender("bytes"),
    big=replace(sender("bytes"), soft=5_000_000_000),
    share=sender("bounces", share="5%", mode="report"),
    usual=replace(sender("recipients", usual=3), within=duration("1d")),
    named=sender("bounces", for_={"account:alice": Override(enabled=False)}),
)


def test_good_limits_of_senders() -> None:
    assert list(checks.errors(GOOD_SENDERS)) == []


BAD: dict[str, tuple[Config, str, str]] = {
    "soft above hard": (limits(x=limit(5, 4)), "limits.x.soft", "soft (5) must be below hard (4)"),
    "soft equals hard": (limits(x=limit(5, 5)), "limits.x.soft", "must be below"),
    "soft of a scope": (
        limits(x=limit(3, 5, mx=Thresholds(soft=7))),
        "limits.x.mx.soft",
        "soft (7) must be below hard (5)",
    ),
    "hard of a scope": (
        limits(x=limit(3, 5, submission=Thresholds(hard=2))),
        "limits.x.submission.hard",
        "soft (3) must be below hard (2)",
    ),
    "no threshold": (limits(x=limit()), "limits.x", "needs soft, hard or both"),
    "empty scope": (limits(x=limit(mx=Thresholds())), "limits.x", "needs soft, hard or both"),
    "reserved name": (limits(operator=limit(3)), "limits.operator", "another name"),
    "window too short": (
        limits(x=replace(limit(3), within=Duration(0.5))),
        "limits.x.within",
        "from 1s to 24d",
    ),
    "window too long": (
        limits(x=replace(limit(3), within=duration("25d"))),
        "limits.x.within",
        "from 1s to 24d",
    ),
    "bans descend": (
        Config(ban=Ban(times=(duration("1h"), MINUTE))),
        "ban.times",
        "at least as long as the one before",
    ),
    "ban too long": (Config(ban=Ban(times=(duration("4w"),))), "ban.times", "from 1s to 24d"),
    "throttle too long": (
        Config(throttle=Throttle(time=duration("4w"))),
        "throttle.time",
        "from 1s to 24d",
    ),
    "network too long": (
        Config(network=Network(time=duration("4w"))),
        "network.time",
        "from 1s to 24d",
    ),
    "rate unit": (Config(throttle=Throttle(per=duration("5m"))), "throttle.per", '"1s", "1m"'),
    "ban times of a limit": (
        limits(x=replace(limit(3, 5), ban_times=(duration("2h"), duration("1h")))),
        "limits.x.ban_times",
        "each ban must be at least as long",
    ),
    "a ban time of a limit": (
        limits(x=replace(limit(3, 5), ban_times=(duration("25d"),))),
        "limits.x.ban_times",
        "must be from 1s to 24d",
    ),
    "ban times of senders": (
        limits(x=sender("messages", ban_times=(duration("1h"),))),
        "limits.x.ban_times",
        'only for limits of = "client"',
    ),
    "network thresholds": (Config(network=Network(soft=10)), "network.soft", "below hard (10)"),
    "no network": (
        Config(protect=Protect(networks=("198.51.100.0/33",))),
        "protect.networks",
        '"198.51.100.0/33" is no address or network',
    ),
    "no name": (
        Config(protect=Protect(names=("*.example.com",))),
        "protect.names",
        '"*.example.com" is no host name',
    ),
    "port in both scopes": (
        Config(firewall=Firewall(ports=FirewallPorts(mx=(25, 587)))),
        "firewall.ports",
        "port 587 cannot be both",
    ),
    "no port": (
        Config(firewall=Firewall(ports=FirewallPorts(mx=(), submission=()))),
        "firewall.ports",
        "no port at all",
    ),
    "nothing to read": (Config(log=Log(files=(), journal=False)), "log.files", "nothing to read"),
    "own rate unit": (slow(1, "5m", 1), "limits.x.throttle.per", '"1h" or "1d"'),
    "own rate never whole": (slow(1, "1h", 25), "limits.x.throttle.burst", "in a day (24)"),
    "own rate of networks": (
        Config(network=Network(throttle=ThrottleRate(1, duration("1d"), 2))),
        "network.throttle.burst",
        "in a day (1)",
    ),
    "own rate of guessing": (
        Config(guessing=Guessing(throttle=ThrottleRate(1, duration("1d"), 2))),
        "guessing.throttle.burst",
        "in a day (1)",
    ),
    "guessing too long": (
        Config(guessing=Guessing(within=duration("4w"))),
        "guessing.within",
        "from 1s to 24d",
    ),
    "turns longer than greylisting": (
        Config(overload=Overload(turn=duration("6m"))),
        "overload.turn",
        "must be from 1s to 5m",
    ),
    "idle too short": (
        Config(overload=Overload(idle=duration("0.1s"))),
        "overload.idle",
        "must be from",
    ),
    "guessing as a limit": (limits(guessing=limit(3)), "limits.guessing", "a word of its own"),
    "own rates": (
        limits(**{f"x{n}": slow_limit(n, "1h", 1) for n in range(1, 18)}),
        "limits.x17.throttle",
        "more than 16 different rates",
    ),
    "count of another": (
        limits(x=replace(limit(3), of="account")),
        "limits.x.count",
        'of = "account" counts messages or recipients or bytes or bounces or deferrals or networks',
    ),
    "a client's bounces": (
        limits(x=replace(limit(3), count="bounces")),
        "limits.x.count",
        'of = "client" counts connections',
    ),
    "too many": (limits(x=limit(1_000_001)), "limits.x.soft", "at most 1000000"),
    "usual of a client's": (
        limits(x=replace(limit(3), count="recipients", within=duration("1d"), usual=3)),
        "limits.x.usual",
        'only for other limits than those of = "client"',
    ),
    "ban of an account": (
        limits(x=sender("bounces", hard=30)),
        "limits.x.hard",
        'only for limits of = "client", or with mode = "enforce"',
    ),
    "for no address": (
        limits(x=replace(limit(3), for_={"account:a": Override(soft=3)})),
        "limits.x.for.account:a",
        "is no address or network",
    ),
    "for with soft above hard": (
        limits(x=replace(limit(3, 9), for_={"198.51.100.7": Override(soft=9)})),
        "limits.x.for.198.51.100.7.soft",
        "soft (9) must be below hard (9)",
    ),
    "share of messages": (limits(x=sender("messages", share="5%")), "limits.x.share", "bounces"),
    "usual messages": (limits(x=sender("messages", usual=5)), "limits.x.usual", "recipients"),
    "usual hours": (limits(x=sender("recipients", usual=5)), "limits.x.usual", "1d"),
    "for another": (
        limits(x=sender("bounces", for_={"uid:33": Override(soft=3)})),
        "limits.x.for.uid:33",
        'is no subject of = "account"',
    ),
    "metrics port": (Config(metrics=Metrics(listen="[::1]:65536")), "metrics.listen", "1 to 65535"),
    "metrics port 0": (Config(metrics=Metrics(listen="[::1]:0")), "metrics.listen", "1 to 65535"),
}


@pytest.mark.parametrize(("config", "key", "what"), BAD.values(), ids=BAD)
def test_bad(config: Config, key: str, what: str) -> None:
    [(at, message)] = checks.errors(config)
    assert ".".join(at) == key
    assert what in message


def test_faults_do_not_hide_each_other() -> None:
    config = Config(
        limits={"x": limit(5, 4), "network": limit()},
        ban=Ban(times=(duration("4w"), MINUTE)),
        network=Network(soft=10),
    )
    keys = [".".join(at) for at, _ in checks.errors(config)]
    assert keys == [
        "limits.x.soft", "limits.network", "limits.network", "ban.times", "ban.times",
        "network.soft",
    ]  # fmt: skip


def test_thresholds_are_reported_where_they_were_written() -> None:
    config = limits(x=limit(20, 5))
    soft, hard = ("limits", "x", "soft"), ("limits", "x", "hard")
    what = {
        key: [message.split(",")[0] for at, message in checks.errors(config, {key}) if at == key]
        for key in (soft, hard)
    }
    assert what == {
        soft: ["must be below hard"],
        hard: ["must be above soft"],
    }
    (both,) = checks.errors(config, {soft, hard})
    assert both == (soft, "soft (20) must be below hard (5)")
