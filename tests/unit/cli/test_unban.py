"""`throttled unban` of many, and `import --list`: what is sent, and what is reported."""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.control.bulk import MAX_UNBANS, Refusal, UnbanMany, UnbanManyResult
from throttled.control.requests import Entered, Import, List, Request
from throttled.control.results import ImportResult, ListResult
from throttled.control.server import Peer
from throttled.model import Snapshot

if TYPE_CHECKING:
    from unit.cli.conftest import Answer, Cli, Daemon

A, B = "198.51.100.7", "198.51.100.8"


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "198.51.100.7 --within 198.51.100.0/24",
        "--list x --limit errors",
        "--all 198.51.100.7",
        "--within 198.51.100.0/24 --for 1h",
        "- - --for x",
        "--list X",
        "198.51.100.7 nonsense",
    ],
)
def test_what_is_unclear_is_refused(cli: "Cli", daemon: "Daemon", arguments: str) -> None:
    ended = cli("unban", *arguments.split())
    assert (ended.code, daemon.asked) == (2, [])


def test_several_are_one_request_and_what_was_not_done_is_named(
    cli: "Cli", daemon: "Daemon"
) -> None:
    daemon.answer = UnbanManyResult(1, [Refusal(1, f"{B} is neither throttled nor banned")], True)
    ended = cli("unban", A, B, A, "--for", "1h")
    assert daemon.asked == [UnbanMany([B, A], exempt=3600.0)] or daemon.asked == [
        UnbanMany([A, B], exempt=3600.0)
    ]
    assert (ended.code, ended.out) == (1, "1 unbanned, 1 not\n")
    assert ended.err.endswith(" is neither throttled nor banned; skipped\n")
    assert cli("unban", A, B, "--json").json()["done"] == 1


def test_standard_input_is_sent_in_parts(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 2 * MAX_UNBANS + 1
    stdin(
        monkeypatch,
        "# all\nnonsense\n" + "".join(f"198.18.{n >> 8}.{n & 255} x\n" for n in range(count)),
    )
    daemon.answer = UnbanManyResult(5, [], True, message="the store is full")
    ended = cli("unban", "-")
    assert (ended.code, ended.out) == (1, "15 unbanned, 1 not\n")
    assert "line 2: nonsense: not an IP address: 'nonsense'; skipped" in ended.err
    assert ended.err.count("the store is full") == 1
    asked = [each for each in daemon.asked if isinstance(each, UnbanMany)]
    assert [len(each.subjects) for each in asked] == [MAX_UNBANS, MAX_UNBANS, 1]
    parts = [each.part for each in asked if each.part]
    assert [(p.number, p.last, p.done) for p in parts] == [
        (1, False, 0),
        (2, False, 5),
        (3, True, 10),
    ]
    assert len({p.id for p in parts}) == 1
    stdin(monkeypatch, "# none\n")
    assert cli("unban", "-").code == 2


def test_a_filter_is_asked_until_nothing_is_left(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1500]

    async def handle(request: Request, _peer: Peer) -> "Answer":
        daemon.asked.append(request)
        if isinstance(request, List):
            return ListResult([], left[0] if request.action == "ban" else 0)
        done = min(left[0], MAX_UNBANS)
        left[0] -= done
        return UnbanManyResult(done, [], confirmed=True, more=left[0] > 0)

    monkeypatch.setattr(daemon._server, "_handler", handle)
    ended = cli("unban", "--limit", "errors", "--within", "198.51.100.0/24")
    assert (ended.code, ended.out, ended.err) == (0, "1,500 unbanned\n", "")
    sent = [each for each in daemon.asked if isinstance(each, UnbanMany)]
    assert [(e.limit, e.within, e.part and e.part.last) for e in sent] == [
        ("errors", "198.51.100.0/24", False),
        ("errors", "198.51.100.0/24", True),
    ]


class Lists:
    """Answers as a daemon that has a list."""

    def __init__(self, daemon: "Daemon", rows: list[Snapshot]) -> None:
        self.rows, self.imports = rows, list[Import]()
        daemon._server._handler = self.handle  # type: ignore[assignment]

    async def handle(self, request: Request, _peer: Peer) -> "Answer":
        if isinstance(request, List):
            assert (request.name, request.new) == ("drop", True)
            half = len(self.rows) // 2
            if request.after:
                return ListResult(self.rows[half:], 0)
            return ListResult(self.rows[:half], len(self.rows), next=(7,))
        assert isinstance(request, Import)
        self.imports.append(request)
        outcomes = {"throttled": len(request.entries), "removed": len(request.remove)}
        return ImportResult(len(request.entries), [], True, outcomes=outcomes)


def test_only_what_changed_of_a_list_is_sent(
    cli: "Cli", daemon: "Daemon", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_900_000_000.0
    monkeypatch.setattr("throttled.cli.replace_list.time.time", lambda: now)

    def row(subject: str, days: int, action: str = "throttle") -> Snapshot:
        return Snapshot(subject, "mx", action, "operator", 0, now, now + days * 86400, "x")  # type: ignore[arg-type]

    names = [f"203.0.113.{n}" for n in range(5)]
    lists = Lists(
        daemon,
        [row(names[0], 5), row(names[1], 3), row(names[2], 5, "ban"), row(names[3], 5)],
    )
    path = tmp_path / "drop.txt"
    path.write_text("".join(f"{name} mx\n" for name in [*names[:3], names[4]]))
    ended = cli("import", "--list", "drop", str(path))
    assert (ended.code, ended.out) == (0, "list drop: 3 throttled, 1 unchanged, 1 removed\n")
    added, removed = lists.imports
    assert [e.subject for e in added.entries] == [names[1], names[2], names[4]]
    assert {e.action for e in added.entries} == {"throttle"}
    assert (removed.entries, removed.remove) == ([], [(names[3], "mx")])
    assert (added.name, removed.name) == ("drop", "drop")
    assert added.part
    assert removed.part
    assert (added.part.id, removed.part.last, removed.part.done) == (removed.part.id, True, 4)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<html>\n198.51.100.7\n", "1 line cannot be read: line 1: <html>"),
        ("198.51.100.7\n203.0.113.0/2", "1 line cannot be read: line 2: 203.0.113.0/2"),
        ("; nothing\n", "there are no entries in it"),
        ("198.51.100.7 allow\n", "a list by name cannot allow"),
        ('{"cidr":"198.51.100.0/24"}\n{"type":"metadata","records":2}', "a part is missing"),
        ("#" * (17 << 20), "is longer than 16 MB"),
    ],
)
def test_a_file_that_may_be_broken_changes_nothing(
    cli: "Cli", daemon: "Daemon", tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "drop.txt"
    path.write_text(text)
    ended = cli("import", "--list", "drop", str(path))
    assert (ended.code, daemon.asked) == (2, [])
    assert why in ended.err


def test_entries_that_are_refused_stop_no_others(
    cli: "Cli", daemon: "Daemon", tmp_path: Path
) -> None:
    lists = Lists(daemon, [])
    path = tmp_path / "drop.txt"
    path.write_text("1.0.0.0/8\n198.51.100.7\n")
    ended = cli("import", "--list", "drop", "--as", "ban", "--for", "1d", str(path))
    assert (ended.code, ended.out) == (0, "list drop: 1 throttled, 1 skipped\n")
    assert "1.0.0.0/8 is wider than /16; skipped" in ended.err
    assert lists.imports[0].entries == [Entered("198.51.100.7", "ban", None, 86400.0)]


def test_a_wide_network_in_json_without_a_line_end_is_not_cut_off(
    cli: "Cli", daemon: "Daemon", tmp_path: Path
) -> None:
    lists = Lists(daemon, [])
    path = tmp_path / "drop.json"
    for text in ('["1.0.0.0/8", "198.51.100.7"]', '{"ip": "198.51.100.7"}\n{"ip": "1.0.0.0/8"}'):
        path.write_text(text)
        assert cli("import", "--list", "drop", str(path)).code == 0
    assert [[e.subject for e in each.entries] for each in lists.imports] == [["198.51.100.7"]] * 2


def test_long_and_marked_input_is_read(
    cli: "Cli", daemon: "Daemon", monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer = UnbanManyResult(1, [], confirmed=True)
    stdin(monkeypatch, f"\ufeff{A}\r\n" + "1" * 1_000_000)
    ended = cli("unban", "-")
    assert (ended.code, ended.out) == (1, "1 unbanned, 1 not\n")
    assert len(ended.err) < 1000
    (asked,) = daemon.asked
    assert isinstance(asked, UnbanMany)
    assert asked.subjects == [A]
