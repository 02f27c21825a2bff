"""`explain` of a real daemon, with a kernel in memory."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from lab.daemon.in_process import A, Lab, live
from throttled.cli.explained import explain
from throttled.control.requests import Ban, Explain, List, Status, Throttle
from throttled.control.results import ChangeResult, ExplainResult, ListResult, StatusResult

FAILED = "warning: mail.example.net[{}]: SASL LOGIN authentication failed: x, sasl_username={}"


def explained(path: Path, act: Callable[[Lab], Awaitable[str]]) -> ExplainResult:
    """Return what is known of the client that `act` returns, after it."""
    found: list[ExplainResult] = []

    async def story(lab: Lab) -> None:
        found.append(await lab.ask(Explain(await act(lab)), ExplainResult))

    live(path, story)
    return found[0]


def test_host_name_accounts_and_kinds_are_those_of_the_lines(tmp_path: Path) -> None:
    async def fail(lab: Lab) -> str:
        users = ["bob", *["alice"] * 11]
        lab.write(*(FAILED.format(A, user) for user in users), process="postfix/submission/smtpd")
        await lab.listed(1)
        return A

    result = explained(tmp_path, fail)
    assert (result.name, result.accounts) == ("mail.example.net", ["alice", "bob"])
    assert {(line.kind, line.reason) for line in result.lines} == {("auth_failure", "")}
    assert result.ports == {"mx": (25,), "submission": (587,)}
    assert [decision.name for decision in result.decisions] == ["mail.example.net"]
    assert [row.name for row in result.active] == ["mail.example.net"]


def test_a_manual_ban_has_the_name_that_the_log_knows(tmp_path: Path) -> None:
    rows: list[tuple[str, str]] = []

    async def story(lab: Lab) -> None:
        lab.write(f"connect from mail.example.net[{A}]")
        await lab.until(partial(read, lab))
        await lab.ask(Ban(A, "mx"), ChangeResult)
        found = await lab.ask(List(), ListResult)
        rows.extend((row.subject, row.name) for row in found.rows)

    async def read(lab: Lab) -> bool:
        return (await lab.ask(Status(), StatusResult)).lines == 1

    live(tmp_path, story)
    assert rows == [(A, "mail.example.net")]


def test_a_network_of_any_length_around_a_client_is_active(tmp_path: Path) -> None:
    async def ban(lab: Lab) -> str:
        await lab.ask(Ban("203.0.112.0/22", "mx"), ChangeResult)
        return "203.0.113.4"

    result = explained(tmp_path, ban)
    assert [(row.subject, row.action, row.origin) for row in result.active] == [
        ("203.0.112.0/22", "ban", "operator")
    ]
    assert (result.name, result.accounts) == ("", [])


def test_of_a_throttled_client_another_throttle_is_no_next_step(tmp_path: Path) -> None:
    async def fail(lab: Lab) -> str:
        lab.write(*(FAILED.format(A, "bob") for _ in range(60)))
        await lab.listed(1)
        return A

    # 60 of 100 of auth-day's soft threshold, and of auth's hard one.
    assert explained(tmp_path, fail).next == (
        "banned in mx for 10m after 41 more counted by limit auth (now 60, limit 100, within 10m)"
    )


def test_of_a_client_that_is_only_throttled_the_next_step_is_its_end(tmp_path: Path) -> None:
    async def connect(lab: Lab) -> str:
        lab.write(*(f"connect from unknown[{A}]" for _ in range(70)))
        await lab.listed(1)
        return A

    assert explained(tmp_path, connect).next == (
        "the throttle ends, unless a limit is exceeded again"
    )


def test_a_network_is_explained_with_what_is_active_inside(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        names = [f"198.51.100.{n}" for n in range(1, 8)]
        for name in names:
            await lab.ask(Ban(name, "mx"), ChangeResult)
        await lab.ask(Ban("198.51.100.64/27"), ChangeResult)
        await lab.ask(Throttle("198.51.100.1", "submission"), ChangeResult)
        await lab.ask(Ban("198.51.101.1"), ChangeResult)
        found = (await lab.ask(Explain("198.51.100.0/24"), ExplainResult)).inside
        assert found.counts == {"ban": 8, "throttle": 1}
        latest = [row.subject for row in found.latest]
        assert latest[0] == "198.51.100.1"
        assert len(latest) == 5
        lines = list(explain(await lab.ask(Explain("198.51.100.0/24"), ExplainResult)))
        assert lines[0] == ("Not throttled or banned as a whole; inside it 1 throttled, 8 banned.")
        assert "  All: throttled list 198.51.100.0/24" in lines
        await lab.ask(Ban("198.51.100.0/24"), ChangeResult)
        lines = list(explain(await lab.ask(Explain("198.51.100.0/24"), ExplainResult)))
        assert lines[0].startswith("Banned on ports")
        assert "Inside it 1 throttled, 8 banned; the latest:" in lines
        own = await lab.ask(Explain("198.51.100.7"), ExplainResult)
        assert (own.inside.counts, own.inside.latest) == ({}, [])

    live(tmp_path, story)
