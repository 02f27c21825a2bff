"""`throttled list`, asked of a daemon."""

import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from throttled.control.requests import List, Request
from throttled.control.results import ListResult, Result
from throttled.model import Rate, Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon

LONGEST = "2001:db8:1111:2222:3333:4444:5555:6666"


def _rows() -> list[Snapshot]:
    now = time.time()
    return [
        Snapshot("198.51.100.7", "mx", "ban", "auth", 1, now, now + 9030, "61 > 60 in 10m", 7),
        Snapshot(
            LONGEST,
            "submission",
            "throttle",
            "operator",
            0,
            0.0,
            now + 86300,
            "x\x1b" * 90,
            10**9,
            name="mx.example.net",
        ),
        Snapshot("203.0.113.0/24", "mx", "ban", "network", 12, 0.0, now + 3600.5, "10 of it", 0),
    ]


def test_a_table_in_a_pipe_is_whole(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows(), 12_345)
    ended = cli("list")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    titles = ["SUBJECT", "ACTION", "SCOPE", "SINCE", "LEFT", "DROPPED", "HOST", "NAME", "WHY"]
    assert lines[0].split() == titles
    assert lines[1].split(maxsplit=4)[:3] == ["198.51.100.7", "ban", "mx"]
    assert lines[2].startswith(f"{LONGEST} throttle subm  01-01 23h58m   1000M mx.example.net o")
    assert lines[2].endswith(r"x\x1b" * 90)
    assert "ban 12" in lines[3]
    assert lines[4] == "3 of 12,345; see --max and the filters"


def test_a_row(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows()[:1], 1)
    ended = cli("list")
    assert ended.out.splitlines()[1].endswith("2h30m       7 -         auth: 61 > 60 in 10m")
    assert len(ended.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(80, "7 auth, mx.example.net: 61"), (110, "7 mx.example.net auth: 61")],
)
def test_a_host_name_has_a_column_on_a_wide_terminal(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch, columns: int, shown: str
) -> None:
    daemon.answer = ListResult([replace(_rows()[0], name="mx.example.net")], 1)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    _titles, row = cli("list").out.splitlines()
    assert shown in row
    assert len(row) <= columns


def test_an_age_is_asked_for(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult([], 0)
    cli("list", "--since", "10m")
    assert daemon.asked == [List(seconds=600.0)]


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
    assert (ended.code, ended.out) == (1, "no matching entries are active\n")


def test_nothing_at_all_is_no_failure(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult([], 0)
    assert cli("list").code == 0
    assert cli("list", "198.51.100.7", "--json").code == 1


def test_json(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows(), 3)
    result = cli("list", "--json").json()
    assert result["total"] == 3
    assert result["rows"][0]["subject"] == "198.51.100.7"
    assert result["rows"][0]["origin"] == "log"
    assert result["rows"][1]["since"] is None
    assert result["rows"][1]["why"] == "x\x1b" * 90
    assert "T" in result["rows"][0]["until"]


class Pages:
    """Answers as the daemon does: the next rows, as many as asked for."""

    def __init__(self, daemon: "Daemon", rows: list[Snapshot], *, would: bool = False) -> None:
        self._daemon, self._rows, self._would = daemon, rows, would

    async def __call__(self, request: Request, _peer: object) -> Result:
        assert isinstance(request, List)
        self._daemon.asked.append(request)
        at = int(request.after[0]) if request.after else 0
        end = at + request.max
        more = (end,) if end < len(self._rows) else ()
        return ListResult(self._rows[at:end], len(self._rows), would=self._would, next=more)


def _many(count: int) -> list[Snapshot]:
    row = _rows()[0]
    return [replace(row, subject=f"198.18.{n >> 8}.{n & 255}") for n in range(count)]


def test_json_is_whole_and_comes_in_pieces(cli: "Cli", daemon: "Daemon") -> None:
    daemon._server._handler = Pages(daemon, _many(4500))
    result = cli("list", "--json").json()
    assert [row["subject"] for row in result["rows"]] == [row.subject for row in _many(4500)]
    assert (result["total"], result["would"]) == (4500, False)
    assert [request.max for request in daemon.asked if isinstance(request, List)] == [2000] * 3


def test_how_many_at_most(cli: "Cli", daemon: "Daemon") -> None:
    daemon._server._handler = Pages(daemon, _many(4500))
    assert len(cli("list", "--json", "--max", "2500").json()["rows"]) == 2500
    assert len(cli("list", "--max", "2500").out.splitlines()) == 2502
    lines = cli("list").out.splitlines()
    assert (len(lines), lines[-1]) == (1002, "1,000 of 4,500; see --max and the filters")


def test_what_is_only_observed_says_would(cli: "Cli", daemon: "Daemon") -> None:
    daemon._server._handler = Pages(daemon, _rows(), would=True)
    for command in ("list", "preview"):
        lines = cli(command).out.splitlines()
        assert lines[1].split()[1:3] == ["would", "ban"]
        assert "would ban 12" in lines[3]
        assert cli(command, "--json").json()["would"] is True
    daemon._server._handler = Pages(daemon, [], would=True)
    assert cli("list").out == "nothing would be active\n"
    assert cli("list", "--since", "1h").out == "no matching entries would be active\n"
    assert cli("preview", "198.51.100.7").code == 1


def test_preview_of_a_daemon_that_enforces(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = ListResult(_rows(), 3)
    ended = cli("preview")
    assert (ended.code, ended.out) == (1, "")
    assert "the daemon enforces" in ended.err
