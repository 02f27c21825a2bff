"""Sessions that end with a decision."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.daemon.in_process import A, Lab, live
from throttled.clock import now
from throttled.enforce.sessions import Endings
from throttled.errors import (
    StoreError,
)
from throttled.model import Action, Decision
from throttled.service import announce


def decision(action: Action, subject: str) -> Decision:
    at = now().wall
    return Decision(at, action, subject, "mx", "network", 1, at + 600, "because")


def called(calls: Sequence[object], count: int) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return len(calls) >= count

    return there


def _fails(*_arguments: object) -> None:
    raise StoreError("no such file", "")


def test_sessions_of_what_is_exempt_or_protected_are_not_ended_with_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared: list[Callable[[str], object]] = []
    monkeypatch.setattr(announce, "AGAIN", 0.01)
    monkeypatch.setattr(Endings, "end", lambda *given: spared.append(given[4]))

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(lab.runtime.backend, "name", "nftables")
        good, bad = decision("exempt", "203.0.113.7"), decision("ban", "203.0.113.0/24")
        lab.runtime.pipeline.decide([good, bad], now())
        lab.runtime.announcer([bad])
        clients = ("203.0.113.7", "203.0.113.8", "127.0.0.1")
        assert [spared[-1](client) for client in clients] == [True, False, True]
        own = replace(good, action="ban")
        lab.runtime.pipeline.decide([own], now())
        lab.runtime.announcer([own, bad])
        await lab.until(called(spared, 2))
        assert not spared[-1]("203.0.113.7")
        monkeypatch.setattr(lab.runtime.store, "past", _fails)
        assert not spared[-1]("203.0.113.8")

    live(tmp_path, story)


def test_sessions_that_go_on_above_a_slow_throttle_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[list[Decision]] = []
    monkeypatch.setattr(Endings, "end", lambda *given: ended.append(list(given[1])))

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(lab.runtime.backend, "name", "nftables")
        on = replace(decision("throttle", A), pid=77)
        monkeypatch.setattr(lab.runtime.pipeline, "further", lambda _now: [on])
        lab.runtime.announcer([])
        assert ended[-1] == [on]

    live(tmp_path, story)


def test_sessions_of_decisions_in_quick_succession_are_ended_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[list[Decision]] = []
    monkeypatch.setattr(announce, "AGAIN", 0.05)
    monkeypatch.setattr(Endings, "end", lambda *given: ended.append(list(given[1])))

    async def story(lab: Lab) -> None:
        monkeypatch.setattr(lab.runtime.backend, "name", "nftables")
        bans = [decision("ban", f"198.51.100.{number}") for number in range(5)]
        for ban in bans:
            lab.runtime.announcer([ban])
        assert ended == [bans[:1]]  # at once
        await lab.until(called(ended, 2))
        assert ended == [bans[:1], bans[1:]]

    live(tmp_path, story)
