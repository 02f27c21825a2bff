"""What `status` and `top` show of overload."""

import time

from msgspec.structs import replace

from throttled.cli.overload import lines, short
from throttled.control.overload import Delayed, OverloadStatus

CALM = OverloadStatus("mx", "enforce", "bpf", 80, 3, 1500, 0.0, 0.0, 9, 9, 0, 0, 0, 0)
BUSY = replace(
    CALM,
    open=79,
    turn=62.0,
    networks=390,
    over_cap=90_000,
    over_pace=3_000,
    over_turn=700,
    ended=160,
    delayed=[Delayed("203.0.113.0/24", 255), Delayed("2001:db8::/64", 9)],
)


def busy() -> OverloadStatus:
    return replace(BUSY, since=time.mktime((2026, 11, 29, 15, 0, 0, 0, 0, -1)))


def test_calm_is_one_line() -> None:
    assert list(lines([CALM])) == [
        "mx: strangers have 3 of 80 connections open, 1,500 clients known good (bpf)"
    ]
    assert short([CALM]) == ""


def test_why_no_better_means_is_used() -> None:
    first, reason = lines([replace(CALM, means="nftables", unusable=["bpf: no BPF here"])])
    assert first.endswith("(nftables)")
    assert reason == "not by bpf: no BPF here"


def test_who_is_delayed_since_when_and_which_networks_most() -> None:
    _, dropped, delayed, networks = lines([busy()])
    assert dropped == (
        "93,700 packets dropped (90,000 cap, 3,000 pace, 700 turn), 160 idle sessions ended"
    )
    assert delayed == (
        "strangers delayed since 2026-11-29 15:00:00, 390 networks admitted lately, "
        "each once in 1m2s"
    )
    assert networks == "most packets dropped: 203.0.113.0/24 (255), 2001:db8::/64 (9)"
    assert short([busy()]) == "strangers delayed in mx since 15:00:00, 79 of 80 open"


def test_what_would_be_is_said_as_that() -> None:
    would = replace(busy(), mode="report", turn=0.0, ended=0, delayed=[])
    level, dropped, delayed = lines([would])
    assert level.endswith("1,500 clients known good (bpf, only reported)")
    assert dropped.startswith("93,700 packets would be dropped")
    assert delayed == (
        "strangers would be delayed since 2026-11-29 15:00:00, 390 networks admitted lately"
    )
    assert short([would]).startswith("would: strangers delayed")


def test_what_is_not_dropped_is_not_said_to_be() -> None:
    """As on a first day, with nobody known good."""
    would = replace(busy(), why="no client is known good yet", delayed=[])
    _, why, dropped, delayed = lines([would])
    assert why.startswith("everybody is admitted")
    assert dropped.startswith("93,700 packets would be dropped")
    assert delayed.startswith("strangers would be delayed")
    assert short([would]).startswith("would: strangers delayed")


def test_why_nothing_is_delayed() -> None:
    assert list(lines([replace(CALM, means="", why="no BPF here")])) == [
        "mx: everybody is admitted: no BPF here"
    ]
    assert list(lines([replace(CALM, means="")])) == ["mx: everybody is admitted: not started"]
    assert list(lines([replace(CALM, why="the database cannot be used")]))[1] == (
        "everybody is admitted: the database cannot be used"
    )
