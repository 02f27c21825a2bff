"""The commands that change something: what they ask for, and what they report."""

from typing import TYPE_CHECKING

import pytest

from throttled.control.requests import (
    Allow,
    Allowed,
    Ban,
    Disallow,
    Reload,
    Request,
    Throttle,
    Unban,
    UnbanAll,
)
from throttled.control.results import AllowedResult, AllowRow, ChangeResult, Done
from throttled.model import Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

NOW = 1_790_000_000.0
ROW = Snapshot("198.51.100.7", "mx", "ban", "operator", 1, NOW, NOW + 600, "by hand\x1b")
CHANGED = ChangeResult([ROW], confirmed=True, message="it is so\x1b")


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        ("ban 198.51.100.7", Ban("198.51.100.7")),
        (
            "ban 10.0.0.9/8 --for 1h30m --scope mx --why because --force",
            Ban("10.0.0.0/8", "mx", 5400.0, "because", force=True),
        ),
        ("throttle 2001:db8::/64", Throttle("2001:db8::/64")),
        (
            "throttle 198.51.100.7 --for 90s --scope submission",
            Throttle("198.51.100.7", "submission", 90.0),
        ),
        ("unban 198.51.100.7", Unban("198.51.100.7")),
        ("unban 198.51.100.7 --scope mx --for 1d", Unban("198.51.100.7", "mx", 86400.0)),
        ("unban --all", UnbanAll()),
        ("unban --all --scope mx", UnbanAll("mx")),
        ("allow 198.51.100.7", Allow("198.51.100.7")),
        ("allow .Example.com --for 2w --note ours", Allow(".example.com", 1209600.0, "ours")),
        ("allow 10.0.0.0/8 --force", Allow("10.0.0.0/8", force=True)),
        ("disallow mail.example.com", Disallow("mail.example.com")),
    ],
)
def test_what_is_asked_for(cli: "Cli", daemon: "Daemon", arguments: str, request_: Request) -> None:
    daemon.answer = CHANGED
    ended = cli(*arguments.split())
    assert daemon.asked == [request_]
    assert ended.code == 0
    if "0.9/8" in arguments:
        warning = "10.0.0.9/8 is an address in 10.0.0.0/8, which is what is meant here"
        assert ended.err == f"throttled: {warning}\n"
    else:  # only a name needs more to be said
        matches = "it matches every client" in ended.err
        assert matches or ended.err == ""
        assert matches == arguments.startswith("allow .")
    removed = arguments.split(maxsplit=1)[0] in ("unban", "allow")
    end = "removed, would have ended" if removed else "until"
    assert ended.out.splitlines() == [
        r"it is so\x1b",
        rf"  198.51.100.7 ban in mx {end} 2026-09-21 16:23:20, operator: by hand\x1b",
    ]


@pytest.mark.parametrize("command", ["ban", "throttle", "unban", "allow", "disallow"])
def test_json_and_a_kernel_that_did_not_confirm(cli: "Cli", daemon: "Daemon", command: str) -> None:
    daemon.answer = ChangeResult([ROW], confirmed=False, message="not yet")
    ended = cli(command, "198.51.100.7", "--json")
    assert ended.code == 1
    assert ended.json()["confirmed"] is False
    assert ended.json()["changed"][0]["until"] == "2026-09-21T16:23:20.000+02:00"


@pytest.mark.parametrize("command", ["ban", "throttle", "allow"])
def test_a_wide_network_is_refused(cli: "Cli", daemon: "Daemon", command: str) -> None:
    ended = cli(command, "10.0.0.0/8")
    assert ended.code == 1
    assert "wider than /16" in ended.err
    assert "--force" in ended.err
    assert daemon.asked == []


def test_unban_wants_an_address_or_all(cli: "Cli") -> None:
    for arguments in ((), ("198.51.100.7", "--all"), ("--all", "--for", "1h")):
        ended = cli("unban", *arguments)
        assert ended.code == 2
        assert "hint: " in ended.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("ban 198.51.100.7 --for 10x", "not a duration"),
        ("ban 198.51.100.7 --for 4000d", "longer than ten years: '4000d' (at most 3650d)"),
        ("ban 198.51.100.7 --for 0.5s", "shorter than a second: 0.5s"),
        ("ban 198.51.100.300", "not an IP address"),
        ("allow .com", "not an address, network or host name"),
        ("disallow", "missing argument"),
    ],
)
def test_bad_values(cli: "Cli", arguments: str, what: str) -> None:
    ended = cli(*arguments.split())
    assert (ended.code, what in ended.err) == (2, True)


def test_the_allowlist(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = AllowedResult([])
    assert "the allowlist is empty" in cli("allow").out
    daemon.answer = AllowedResult(
        [AllowRow(".example.com", NOW, None), AllowRow("x", NOW, 1.0, "n")]
    )
    ended = cli("allow")
    assert [line.split() for line in ended.out.splitlines()] == [
        ["ALLOWED", "SINCE", "LEFT", "NOTE"],
        [".example.com", "2026-09-21", "16:13:20"],
        ["x", "2026-09-21", "16:13:20", "0s", "n"],
    ]
    assert cli("allow", "--json").json()["rows"][0]["until"] is None
    assert daemon.asked == [Allowed()] * 3


def test_reload(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = Done("reloaded; needs a restart: control")
    assert cli("reload").out == "reloaded; needs a restart: control\n"
    assert cli("reload", "--json").json() == {"message": "reloaded; needs a restart: control"}
    assert daemon.asked == [Reload(), Reload()]


def test_without_a_daemon(cli: "Cli") -> None:
    for arguments in ("ban 198.51.100.7", "allow", "allow .example.com", "reload", "unban --all"):
        assert cli(*arguments.split()).code == 3
