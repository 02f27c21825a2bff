"""`throttled list`, asked of a daemon."""

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from throttled.control.protocol import List, ListResult
from throttled.model import Rate, Snapshot

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Cli, Daemon

LONGEST = "2001:db8:1111:2222:3333:4444:5555:6666"


def _rows() -> list[Snapshot]:
    now = time.time()
    return [
        Snapshot("198.51.100.7", "mx", "ban", "auth", 1, now, now + 590.5, "61 > 60 in 10m", 7),
        Snapshot(
            LONGEST, "submission", "throttle", "operator", 0, 0.0, now + 86300, "x\x1b" * 90, 10**9
        ),
        Snapshot("203.0.113.0/24", "mx", "ban", "network", 12, 0.0, now + 3600.5, "10 of it", 0),
    ]


def test_table_within_80_columns(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows(), 12_345)
    ended = cli("list")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert max(map(len, lines)) == 80
    assert lines[0].split() == ["ADDRESS", "ACTION", "SCOPE", "SINCE", "LEFT", "DROPPED", "WHY"]
    assert lines[1].split(maxsplit=4)[:3] == ["198.51.100.7", "ban", "mx"]
    assert lines[2].startswith(f"{LONGEST} throttle subm  01-01 23h58m   1000M o")
    assert lines[2].endswith("…")
    assert "ban 12" in lines[3]
    assert lines[4] == "3 of 12,345; see --max and the filters"


def test_a_row(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows()[:1], 1)
    ended = cli("list")
    assert ended.out.splitlines()[1].endswith("9m50s       7 auth: 61 > 60 in 10m")
    assert len(ended.out.splitlines()) == 2


def test_a_rate_and_an_exemption(cli: "Cli", daemon: "Daemon") -> None:
    now = time.time()
    what = ("mx", "throttle", "network", 0, now, now + 60, "because")
    slow = Snapshot("198.51.100.7", *what, rate=Rate(6, 3600.0, 2))  # type: ignore[arg-type]
    good = replace(slow, subject="198.51.100.8", action="exempt", rate=None)
    daemon.answer = ListResult([slow, good], 2)
    first, second = cli("list", "--action", "exempt").out.splitlines()[1:]
    assert first.startswith("198.51.100.7 throttle 6/1h mx ")
    assert second.startswith("198.51.100.8 exempt        mx ")
    assert daemon.asked == [List(action="exempt")]


def test_filters_are_asked_for(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult([], 0)
    arguments = "--scope mx --action ban --limit auth --sort packets --max 5 198.51.100.9/24"
    ended = cli("list", *arguments.split())
    assert daemon.asked == [List("mx", "ban", "198.51.100.0/24", "auth", "packets", 5)]
    assert (ended.code, ended.out) == (1, "nothing is in force\n")


def test_nothing_at_all_is_no_failure(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult([], 0)
    assert cli("list").code == 0
    assert cli("list", "198.51.100.7", "--json").code == 1


def test_json(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows(), 3)
    result = cli("list", "--json").json()
    assert result["total"] == 3
    assert result["rows"][0]["subject"] == "198.51.100.7"
    assert result["rows"][1]["since"] is None
    assert result["rows"][1]["why"] == "x\x1b" * 90
    assert "T" in result["rows"][0]["until"]
