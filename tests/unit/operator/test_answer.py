"""What operators ask while the store fails, the firewall fails or the loop is busy.

The daemon runs in this process, with the dry-run backend and a real SQLite that may not write; a
full disk and the kernel are in tests/system.
"""

import asyncio
import resource
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.daemon.in_process import BOUND, A, B, Lab, live
from throttled.clock import Moment, now
from throttled.control import requests
from throttled.control.results import ChangeResult, ImportResult
from throttled.enforce.backend import Drift
from throttled.errors import BackendError
from throttled.model import Decision, Entry, Scope
from throttled.notify.journal import NOTICE
from throttled.service import configurator
from throttled.store.store import Store


def in_kernel(lab: Lab) -> set[tuple[str, str]]:
    return {(seen.subject, seen.scope) for seen in lab.runtime.backend.dump()}


def writable(lab: Lab, *, yes: bool) -> None:
    lab.runtime.store._database.connection.execute(f"PRAGMA query_only = {int(not yes)}")


async def put_right(lab: Lab) -> None:
    """Let the guard compare all with the store, as after a flush."""
    lab.runtime.backend.apply([Entry(B, "submission", "ban", 0.0)])
    lab.runtime.reconciler._reconcile(Drift(rules=True, lost=True))
    assert lab.runtime.reconciler._task is not None
    await lab.runtime.reconciler._task


@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (requests.Unban(A), {(B, "mx"), (B, "submission")}),
        (requests.UnbanAll("mx"), {(A, "submission"), (B, "submission")}),
        (requests.UnbanAll(), set()),
    ],
)
def test_an_unban_lasts_while_the_store_cannot_be_written(
    tmp_path: Path, request_: requests.Request, left: set[tuple[str, str]]
) -> None:
    async def story(lab: Lab) -> None:
        for subject in (A, B):
            await lab.ask(requests.Ban(subject), ChangeResult)
        writable(lab, yes=False)
        change = await lab.ask(request_, ChangeResult)
        assert change.confirmed
        assert "store" in change.message
        assert in_kernel(lab) == left
        await put_right(lab)
        assert in_kernel(lab) == left
        writable(lab, yes=True)
        await lab.listed(len(left))
        assert in_kernel(lab) == left

    live(tmp_path, story)


def test_a_manual_ban_and_an_unban_are_recorded_while_the_firewall_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(requests.Ban(A, scope="mx"), ChangeResult)

        def refuses(*_args: object) -> None:
            raise BackendError("not permitted")

        # Played: a kernel that refuses its owner is not to be had.
        monkeypatch.setattr(lab.runtime.backend, "lookup", refuses)
        monkeypatch.setattr(lab.runtime.backend, "apply", refuses)
        assert not (await lab.ask(requests.Unban(A), ChangeResult)).confirmed
        assert not (await lab.ask(requests.Ban(B, scope="mx"), ChangeResult)).confirmed
        entries = [
            requests.Entered(
                f"203.0.113.{n}", "ban" if n < 99 else "allow", "mx" if n < 99 else None
            )
            for n in range(1, 101)
        ]
        imported = await lab.ask(requests.Import(entries), ImportResult)
        assert (imported.done, imported.refused, imported.confirmed) == (100, [], False)
        assert len(await lab.listed(99)) == 99
        assert "203.0.113.100" in lab.runtime.ruleset().protected
        monkeypatch.undo()
        await lab.until(lambda: _settled(lab))
        assert in_kernel(lab) == {(B, "mx"), *((f"203.0.113.{n}", "mx") for n in range(1, 99))}

    live(tmp_path, story)


async def _settled(lab: Lab) -> bool:
    return (
        lab.runtime.pipeline.enforcer.error is None and not lab.runtime.pipeline.enforcer.pending()
    )


def test_a_store_that_fails_in_the_middle_of_a_list_leaves_what_was_allowed_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(lab: Lab) -> None:
        write = lab.runtime.store.allowlist.allow

        def fails(what: str, *args: Any) -> None:
            if what == B:
                writable(lab, yes=False)
            write(what, *args)

        monkeypatch.setattr(lab.runtime.store.allowlist, "allow", fails)
        entries = [requests.Entered(what, "allow") for what in (A, B, "203.0.113.5")]
        imported = await lab.ask(requests.Import(entries), ImportResult)
        assert imported.done == 1
        assert [refusal.index for refusal in imported.refused] == [1, 2]
        assert A in lab.runtime.ruleset().protected

    live(tmp_path, story)


def ban_many(lab: Lab, count: int) -> None:
    wall = time.time()
    bans = [
        Decision(wall, "ban", f"198.18.{n >> 8}.{n & 255}", "mx", "x", 1, wall + 900, "")
        for n in range(count)
    ]
    lab.runtime.pipeline.decide(bans, now())


def test_allowing_a_network_of_many_bans_lets_others_have_their_turn(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        ban_many(lab, 2000)
        asked = asyncio.create_task(lab.ask(requests.Allow("198.18.0.0/16"), ChangeResult))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0)
            turns += bool(0 < len(in_kernel(lab)) < 2000)
        assert turns >= 15
        assert in_kernel(lab) == set()
        assert len((await asked).changed) == 1000

    live(tmp_path, story)


def test_want_of_descriptors_does_not_end_the_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))

    async def story(lab: Lab) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = lab.runtime.logs._ticked
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            async with asyncio.timeout(BOUND):
                while lab.runtime.logs._ticked < before + 0.1:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    live(tmp_path, story)
    assert "Traceback" not in caplog.text


def test_a_list_under_way_ends_before_the_store_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(lab: Lab) -> None:
        entries = [
            requests.Entered(f"198.18.{n >> 8}.{n & 255}", "ban", "mx", 600.0) for n in range(500)
        ]
        asked = asyncio.create_task(lab.ask(requests.Import(entries), ImportResult))
        async with asyncio.timeout(BOUND):
            while not in_kernel(lab):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        lab.daemon.stop()
        assert (await asked).done == 500

    live(tmp_path, story)
    assert "control request failed" not in caplog.text
    with closing(Store.open(str(tmp_path / "t.db"), readonly=True)) as store:
        assert sum(store.active.counts(time.time()).values()) == 500
        assert [change.op for change in store.audit.changes()] == ["import"]


def test_what_is_allowed_for_a_time_stays_so_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(lab: Lab) -> None:
        async def moved(count: int) -> bool:
            return lab.runtime.configurator._moves == count

        await lab.ask(requests.Allow(A, seconds=3600.0), ChangeResult)
        # Played: this host's clock is not ours to set. A day on, and then two back.
        for count, by in enumerate((86400.0, -86400.0), 1):

            def clock(by: float = by) -> Moment:
                moment = now()
                return Moment(moment.wall + by, moment.boot)

            monkeypatch.setattr(configurator, "now", clock)
            lab.runtime.maintenance._clock = lab.runtime._schedule._clock = clock
            await lab.until(lambda count=count: moved(count))  # type: ignore[misc] # its default
            assert lab.runtime.pipeline.ladder.protection.reason(A)
            assert round(lab.daemon.live._allowed_until - clock().wall, -2) == 3600

    live(tmp_path, story)


def test_who_offends_during_unban_all_is_banned_only_if_it_goes_on(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        ban_many(lab, 5000)
        freeing = asyncio.create_task(lab.ask(requests.UnbanAll("mx"), ChangeResult))
        async with asyncio.timeout(BOUND):
            while len(in_kernel(lab)) == 5000:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0)
        assert in_kernel(lab)
        lab.garbage(B)
        assert (await freeing).message == "5001 unbanned"
        assert in_kernel(lab) == set()
        lab.garbage(B)
        assert await lab.listed(1) == [(B, "mx", "ban")]
        assert in_kernel(lab) == {(B, "mx")}

    live(tmp_path, story)


@pytest.mark.parametrize("scope", [None, "mx"])
def test_import_and_unban_all_have_a_line_for_each_entry_up_to_a_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scope: Scope | None
) -> None:
    caplog.set_level(NOTICE)

    def lines(verb: str) -> int:
        return sum(message.startswith(f"{verb} 203.0.113.") for message in caplog.messages)

    async def story(lab: Lab) -> None:
        entries = [requests.Entered(f"203.0.113.{n}", "ban", "mx") for n in range(1, 121)]
        await lab.ask(requests.Import(entries), ImportResult)
        assert lines("ban") == 120
        await lab.ask(requests.UnbanAll(scope), ChangeResult)
        assert lines("unban") == 100

    live(tmp_path, story)
