"""The same command has the same answer and the same effect with and without a running daemon."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import to_builtins

from lab.daemon.in_process import A, B, Lab, live
from throttled.control import client, requests, results
from throttled.control.requests import Request
from throttled.control.results import (
    AuditResult,
    ChangeResult,
    ExplainResult,
    ListResult,
    Result,
    StatusResult,
)
from throttled.errors import ThrottledError
from throttled.operator import answer
from throttled.operator.offline import answer_offline

NETWORK = "203.0.113.0/24"
ROOM = "2001:db8::/64"

BEFORE: list[Request] = [
    requests.Ban(A),
    requests.Throttle(B, scope="mx"),
    requests.Ban("203.0.113.5", seconds=600.0, why="asked for"),
    requests.Throttle(NETWORK),
    requests.Ban(ROOM, scope="submission"),
    requests.Allow("192.0.2.7", 3600.0, "a probe"),
]
ASKED: list[Request] = [
    requests.List(sort="subject"),
    requests.List(within=NETWORK),
    requests.List(limit="no-such-limit"),
    requests.Explain(A),
    requests.Explain("192.0.2.7"),
    requests.Status(),
    requests.Unban(A),
    requests.Unban(A),
    requests.Explain(A),
    requests.Unban("203.0.113.6"),
    requests.Unban("203.0.113.5"),
    requests.Unban("192.0.2.9", exempt=3600.0),
    requests.Unban(NETWORK, scope="mx", exempt=3600.0),
    requests.UnbanAll("submission"),
    requests.Ban("192.0.2.30", seconds=600.0, why="asked for"),
    requests.Throttle("192.0.2.30", scope="mx"),
    requests.Ban("127.0.0.1"),
    requests.Import(
        [
            requests.Entered("192.0.2.31", "ban"),
            requests.Entered("127.0.0.2", "throttle"),
            requests.Entered("192.0.2.32", "allow", why="a branch"),
        ]
    ),
    requests.Allow(B, None, "a partner"),
    requests.Allow(".example.com", 60.0),
    requests.Resolve("mail.example.net", ["192.0.2.20", "2001:db8::20"]),
    requests.Resolve("mail.example.net", ["192.0.2.21"], refresh=True),
    requests.Allowed(),
    requests.Disallow(B),
    requests.Disallow(B),
    requests.AddHost("mx2.example.net"),
    requests.List(),
    requests.Audit(),
    requests.UnbanAll(),
]
#: What is said of the rules where no daemon runs that would change them.
LATER = ("; the rules in the kernel follow when the daemon starts", " when the daemon runs")


def essence(result: Result) -> Any:
    """Return a result without what only a daemon knows, and without times."""
    found: Any = to_builtins(result)
    match result:
        case ChangeResult():
            changed = sorted((row.subject, row.scope, row.action) for row in result.changed)
            found = result.message, result.confirmed, changed
        case ListResult():
            rows = sorted((r.subject, r.scope, r.action, r.why) for r in result.rows)
            found = rows, result.total
        case ExplainResult():
            active = sorted((row.subject, row.scope, row.action) for row in result.active)
            decided = [(d.action, d.scope, d.limit, d.why) for d in result.decisions]
            allowed = [row.what for row in result.allowed]
            found = active, decided, allowed, result.protected, result.past.offences
        case StatusResult():
            found = result.banned, result.throttled, result.desired, result.enforced
        case AuditResult():
            found = [(change.op, change.subject, change.ok) for change in result.rows]
        case results.AllowedResult():
            found = sorted((row.what, row.note, row.name) for row in result.rows)
    return found


def outcome(ask: Callable[[], Result]) -> Any:
    try:
        return essence(ask())
    except ThrottledError as error:
        return error.message


def without_rules(outcome: Any) -> Any:
    """Return an outcome without the words on rules that only a daemon changes."""
    text = repr(outcome)
    for words in LATER:
        text = text.replace(words, "")
    return text


def in_kernel(lab: Lab) -> set[tuple[str, str, str]]:
    return {(seen.subject, seen.scope, seen.action) for seen in lab.runtime.backend.dump()}


def with_daemon(path: Path) -> list[tuple[Any, Any]]:
    outcomes = []

    async def story(lab: Lab) -> None:
        socket = path / "c.sock"
        for request in BEFORE:
            await lab.ask(request, ChangeResult)
        for request in ASKED:
            asked = await asyncio.to_thread(outcome, partial(client.request, socket, request))
            outcomes.append((asked, in_kernel(lab)))

    live(path, story)
    return outcomes


def without_daemon(path: Path) -> list[tuple[Any, Any]]:
    async def story(lab: Lab) -> None:
        for request in BEFORE:
            await lab.ask(request, ChangeResult)

    lab = live(path, story)
    settings, facts = lab.runtime.live.config, lab.runtime.live.facts
    outcomes = []
    database = settings.database()
    for request in ASKED:
        ask = partial(answer_offline, settings, database, lab.runtime.backend, request, facts)
        outcomes.append((outcome(ask), in_kernel(lab)))
    return outcomes


def test_each_answer_and_what_is_in_the_kernel_then_are_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("with", "without"):
        (tmp_path / folder).mkdir()
    pairs = zip(with_daemon(tmp_path / "with"), without_daemon(tmp_path / "without"), strict=True)
    for request, (online, offline) in zip(ASKED, pairs, strict=True):
        assert without_rules(online[0]) == without_rules(offline[0]), request
        if (
            request != requests.UnbanAll()
        ):  # without a daemon the rules go, and with them exemptions
            assert online[1] == offline[1], request
    assert "failed:" not in caplog.text  # nothing is asked of the kernel that it always refuses


def test_every_request_has_one_command() -> None:
    assert set(get_args(Request)) == set(answer._COMMANDS)


@pytest.mark.parametrize("request_", [requests.Reload(), requests.Reach()])
def test_what_is_asked_of_the_daemon_itself_says_that_none_runs(
    tmp_path: Path, request_: Request
) -> None:
    lab = live(tmp_path, lambda _lab: asyncio.sleep(0))
    with pytest.raises(ThrottledError, match="not running"):
        answer_offline(
            lab.runtime.live.config,
            lab.runtime.live.config.database(),
            lab.runtime.backend,
            request_,
            lab.runtime.live.facts,
        )
