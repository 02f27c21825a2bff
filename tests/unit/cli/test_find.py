"""`throttled find`."""

from typing import TYPE_CHECKING

from throttled.control.requests import Find
from throttled.control.results import FindResult, Found

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


def test_who_is_meant(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = FindResult(
        [
            Found("account:alice\x1b[2J", "account", active="throttle", known="3 messages"),
            Found("198.51.100.7", "client", "mx.example.net"),
        ]
    )
    ended = cli("find", "ali")
    assert daemon.asked == [Find("ali", 100)]
    assert ended.code == 0
    assert [line.split() for line in ended.out.splitlines()] == [
        ["SUBJECT", "ACTIVE", "HOST", "NAME", "KNOWN"],
        ["account:alice\\x1b[2J", "throttled", "-", "3", "messages"],
        ["198.51.100.7", "-", "mx.example.net"],
    ]
    assert cli("find", "ali", "--json").json()["rows"][1]["name"] == "mx.example.net"


def test_nobody(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = FindResult([])
    ended = cli("find", "carol")
    assert (ended.code, ended.out) == (1, "nothing matches carol\n")
    assert cli("find", "c").code == 2
