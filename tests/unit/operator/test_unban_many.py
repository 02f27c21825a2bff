"""Many at once, in a daemon in this process: unban of names and filters, and lists by name."""

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lab.daemon.in_process import A, B, Lab, live
from throttled.control.bulk import LASTING, UnbanMany, UnbanManyResult
from throttled.control.fields import Part
from throttled.control.requests import Ban, Entered, Import, Request, Unban, UnbanAll
from throttled.control.results import ChangeResult, ImportResult
from throttled.core.enforcer import Enforcer
from throttled.errors import ThrottledError
from throttled.model import Element, Entry, Evidence, Scope
from throttled.operator import listed, unban_many
from throttled.store.store import Filter, Store
from unit.operator.test_answer import in_kernel, writable

NET = "198.51.100.0/24"
OTHER = "203.0.113.9"
GOOD = "203.0.113.77"
KEY = (OTHER, "mx")


async def ban(lab: Lab, *subjects: str) -> None:
    for subject in subjects:
        await lab.ask(Ban(subject, scope="mx", seconds=600.0), ChangeResult)


def test_named_subjects_and_what_still_bans_one(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await ban(lab, A, B, OTHER, NET)
        request = UnbanMany([A, OTHER, "192.0.2.1", OTHER])
        result = await lab.ask(request, UnbanManyResult)
        assert (result.done, result.confirmed) == (1, True)
        assert [(r.index, r.why) for r in result.refused] == [
            (
                0,
                f"{A} is still banned by {NET} in mx; to unban that too: throttled unban {NET}",
            ),
            (2, "192.0.2.1 is neither throttled nor banned"),
        ]
        assert in_kernel(lab) == {(B, "mx"), (NET, "mx")}
        result = await lab.ask(UnbanMany([B, NET], exempt=60.0), UnbanManyResult)
        assert (result.done, result.refused) == (2, [])
        assert {each.action for each in lab.runtime.backend.dump()} == {"exempt"}

    live(tmp_path, story)


def test_filters_in_parts_have_one_audit_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unban_many, "MAX_UNBANS", 2)

    async def story(lab: Lab) -> None:
        await ban(lab, A, B, NET, OTHER)
        first = UnbanMany(within=NET, part=Part("0123456789", 1, last=False))
        result = await lab.ask(first, UnbanManyResult)
        assert (result.done, result.more, result.confirmed) == (2, True, True)
        second = UnbanMany(within=NET, part=Part("0123456789", 2, last=True, done=2))
        result = await lab.ask(second, UnbanManyResult)
        assert (result.done, result.more) == (1, False)
        assert in_kernel(lab) == {(OTHER, "mx")}
        with pytest.raises(ThrottledError, match="nothing of that is"):
            await lab.ask(UnbanMany(within=NET), UnbanManyResult)
        with pytest.raises(ThrottledError, match="no such limit: erors") as caught:
            await lab.ask(UnbanMany(limit="erors"), UnbanManyResult)
        assert "did you mean errors?" in caught.value.hint
        assert (await lab.ask(UnbanMany(limit="operator"), UnbanManyResult)).done == 1
        assert in_kernel(lab) == set()

    live(tmp_path, story)
    with closing(Store.open(str(tmp_path / "t.db"), readonly=True)) as store:
        rows = [(c.op, c.outcome) for c in store.audit.changes() if "within" in c.request]
    assert rows == [
        ("unban-many", "nothing of that is throttled or banned"),
        ("unban-many", "3 done, 0 refused"),
    ]


def test_while_the_store_cannot_be_written(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await ban(lab, A, B)
        writable(lab, yes=False)
        result = await lab.ask(UnbanMany(within=NET), UnbanManyResult)
        assert (result.done, result.more, result.confirmed) == (2, False, True)
        assert "will be recorded when the store works again" in result.message
        assert in_kernel(lab) == set()
        writable(lab, yes=True)
        await lab.listed(0)

    live(tmp_path, story)


def test_counters_are_read_only_of_what_may_be_in_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    counters = Enforcer.counters

    def counted(self: Enforcer, entries: Iterable[Entry]) -> Sequence[Element]:
        wanted = list(entries)
        asked.extend(entry.subject for entry in wanted)
        return counters(self, wanted)

    monkeypatch.setattr(Enforcer, "counters", counted)

    async def story(lab: Lab) -> None:
        await ban(lab, A)
        assert asked == []
        await lab.ask(Import([Entered(A, "ban", "mx"), Entered(B, "ban", "mx")]), ImportResult)
        assert set(asked) == {A}
        writable(lab, yes=False)  # the exemption is in the kernel alone
        await lab.ask(UnbanMany([OTHER, GOOD], exempt=60.0), UnbanManyResult)
        await ban(lab, OTHER)
        actions = {e.action for e in lab.runtime.backend.dump() if (e.subject, e.scope) == KEY}
        assert actions == {"ban"}
        writable(lab, yes=True)

    live(tmp_path, story)


def test_a_list_is_judged_replaced_and_removed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        now = time.time()
        lab.runtime.store.record(now, [], [Evidence(GOOD, now - n * 86400, 2) for n in range(4)])
        await ban(lab, A)
        entries = [Entered(each, "ban", "mx") for each in (A, OTHER, GOOD, "127.0.0.1")]
        entries.append(Entered("203.0.0.0/16", "throttle", "mx", why="SBL1"))
        result = await lab.ask(Import(entries, name="drop"), ImportResult)
        assert [(r.index, r.why.split(":")[0]) for r in result.refused] == [(3, "protected")]
        assert result.outcomes == {"banned": 2, "throttled": 2}
        rows = {row.subject: row for row in lab.runtime.store.listing.snapshots(time.time())}
        assert rows[OTHER].origin == "list:drop"
        assert rows["203.0.0.0/16"].why == "SBL1"
        left = rows[OTHER].until - time.time()
        assert LASTING - 60 < left <= LASTING
        assert (rows[GOOD].action, rows[GOOD].until - time.time() < 601) == ("throttle", True)
        replaced = Import([], name="drop", remove=[(OTHER, "mx"), ("192.0.2.1", "mx")])
        result = await lab.ask(replaced, ImportResult)
        assert (result.outcomes, result.confirmed) == ({"removed": 1}, True)
        await ban(lab, B)
        result2 = await lab.ask(UnbanMany(name="drop"), UnbanManyResult)
        assert (result2.done, result2.confirmed, result2.more) == (3, True, False)
        assert in_kernel(lab) == {(A, "mx"), (B, "mx")}  # the manual bans
        with pytest.raises(ThrottledError, match="nothing is active from a list drop"):
            await lab.ask(UnbanMany(name="drop"), UnbanManyResult)
        assert lab.runtime.store.listing.total(time.time(), Filter(origin="list:drop")) == 0

    live(tmp_path, story)


def test_removing_a_list_leaves_the_own_ban_that_it_extended(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        before = time.time()
        await ban(lab, A)
        banned = time.time()
        await lab.ask(Import([Entered(A, "ban", "mx")], name="drop"), ImportResult)
        (row,) = lab.runtime.store.listing.snapshots(time.time())
        assert row.origin == "list:drop"
        result = await lab.ask(UnbanMany(name="drop"), UnbanManyResult)
        assert (result.done, result.confirmed, result.more) == (1, True, False)
        (row,) = lab.runtime.store.listing.snapshots(time.time())
        assert (row.action, row.origin) == ("ban", "operator")
        assert before + 600 <= row.until <= banned + 600
        assert in_kernel(lab) == {(A, "mx")}

    live(tmp_path, story)


def test_an_unreadable_row_does_not_end_the_removal_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unban_many, "MAX_UNBANS", 2)

    async def story(lab: Lab) -> None:
        entries = [Entered(each, "ban", "mx") for each in (A, B, OTHER, GOOD)]
        await lab.ask(Import(entries, name="drop"), ImportResult)
        with lab.runtime.store._database.transaction() as connection:
            connection.execute("UPDATE active SET level = 'x' WHERE subject = ?", (OTHER,))
        results = [await lab.ask(UnbanMany(name="drop"), UnbanManyResult)]
        while results[-1].more:
            results.append(await lab.ask(UnbanMany(name="drop"), UnbanManyResult))
        assert sum(result.done for result in results) == 3
        assert in_kernel(lab) == {(OTHER, "mx")}

    live(tmp_path, story)


def test_the_audit_record_has_what_was_removed(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(Import([Entered(A, "ban"), Entered(B, "ban")], name="x"), ImportResult)
        one = Part("0123456789", 1, last=False)
        await lab.ask(Import([], name="x", remove=[(A, "mx")], part=one), ImportResult)
        two = Part("0123456789", 2, last=True, removed=1)
        gone: list[tuple[str, Scope]] = [(A, "submission"), (B, "mx")]
        await lab.ask(Import([], name="x", remove=gone, part=two), ImportResult)

    live(tmp_path, story)
    with closing(Store.open(str(tmp_path / "t.db"), readonly=True)) as store:
        outcomes = [change.outcome for change in store.audit.changes()]
    assert outcomes == ["0 done, 0 refused, 3 removed", "2 done, 0 refused"]


def test_a_good_sender_in_a_wide_network_of_a_list_gets_an_entry_of_its_own(
    tmp_path: Path,
) -> None:
    async def story(lab: Lab) -> None:
        now = time.time()
        lab.runtime.store.record(now, [], [Evidence(GOOD, now - n * 86400, 2) for n in range(4)])
        entries = [Entered("203.0.112.0/20", "ban", "mx")]
        await lab.ask(Import(entries, name="drop"), ImportResult)
        found = {(each.subject, each.action) for each in lab.runtime.backend.dump()}
        assert found == {("203.0.112.0/20", "ban"), (GOOD, "exempt")}

    live(tmp_path, story)


def test_an_exemption_in_a_network_ends_with_what_was_active_against_it(tmp_path: Path) -> None:
    wide, inner = "203.0.112.0/20", "203.0.113.0/24"

    async def story(lab: Lab) -> None:
        def present() -> set[tuple[str, str]]:
            return {(each.subject, each.action) for each in lab.runtime.backend.dump()}

        now = time.time()
        lab.runtime.store.record(now, [], [Evidence(GOOD, now - n * 86400, 2) for n in range(4)])
        entries = [Entered(wide, "ban", "mx"), Entered(inner, "ban", "mx")]
        await lab.ask(Import(entries, name="drop"), ImportResult)
        assert (GOOD, "exempt") in present()
        # It is of the network alone: neither an unban nor its refusal makes it an operator's.
        with pytest.raises(ThrottledError, match="neither throttled nor banned"):
            await lab.ask(Unban(GOOD), ChangeResult)
        await lab.ask(UnbanMany([GOOD]), UnbanManyResult)
        past = lab.runtime.store.past([(GOOD, "mx")], time.time())[GOOD, "mx"]
        assert (past.action, past.exempt_until) == ("exempt", 0.0)
        await lab.ask(Import([], name="drop", remove=[(wide, "mx")]), ImportResult)
        assert present() == {(inner, "ban"), (GOOD, "exempt")}
        await lab.ask(UnbanMany(name="drop"), UnbanManyResult)
        assert present() == set()
        unbans: list[tuple[Request, type[ChangeResult | UnbanManyResult]]] = [
            (Unban(wide), ChangeResult),
            (UnbanMany([wide]), UnbanManyResult),
            (UnbanAll("mx"), ChangeResult),
            (UnbanAll(), ChangeResult),
        ]
        for unban, reply in unbans:
            await lab.ask(Import(entries[:1], name="drop"), ImportResult)
            assert present() == {(wide, "ban"), (GOOD, "exempt")}
            await lab.ask(unban, reply)
            assert present() == set()
            assert lab.runtime.store.listing.total(time.time()) == 0

    live(tmp_path, story)


def test_what_two_lists_name_stays_until_neither_does(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        def owners() -> dict[str, tuple[str, str]]:
            rows = lab.runtime.store.listing.snapshots(time.time())
            assert {row.subject for row in rows} == {s for s, _ in in_kernel(lab)}
            return {row.subject: (row.action, row.origin) for row in rows}

        async def load(name: str, *entries: Entered) -> None:
            await lab.ask(Import(list(entries), name=name), ImportResult)

        await load("one", Entered(OTHER, "ban", "mx"), Entered(NET, "throttle", "mx"))
        await load("two", Entered(OTHER, "ban", "mx"), Entered(NET, "ban", "mx"))
        assert owners() == {OTHER: ("ban", "list:one"), NET: ("ban", "list:two")}
        # The second list follows for the one, the first list's throttle for the other.
        removed = Import([], name="one", remove=[(OTHER, "mx")])
        result = await lab.ask(removed, ImportResult)
        assert (result.outcomes, result.confirmed) == ({"removed": 1}, True)
        assert owners() == {OTHER: ("ban", "list:two"), NET: ("ban", "list:two")}
        await load("one", Entered(NET, "throttle", "mx"))
        result2 = await lab.ask(UnbanMany(name="two"), UnbanManyResult)
        assert (result2.done, result2.confirmed) == (2, True)
        assert owners() == {NET: ("throttle", "list:one")}
        # What a list no longer names does not follow, nor does what an operator exempts.
        await load("two", Entered(NET, "ban", "mx"))
        await load("one", Entered(OTHER, "ban", "mx"))
        await lab.ask(UnbanMany(name="two"), UnbanManyResult)
        assert owners() == {OTHER: ("ban", "list:one")}
        await load("two", Entered(OTHER, "ban", "mx"))
        await lab.ask(Unban(OTHER, exempt=600.0), ChangeResult)
        assert lab.runtime.store.listing.snapshots(time.time())[0].action == "exempt"

    live(tmp_path, story)


def test_a_list_has_a_maximum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "MOST", 1)

    async def story(lab: Lab) -> None:
        await lab.ask(Import([Entered(A, "throttle", "mx")], name="x"), ImportResult)
        result = await lab.ask(Import([Entered(B, "throttle", "mx")], name="x"), ImportResult)
        assert result.done == 0
        assert result.refused[0].why == "the list x has 1 active entries already"

    live(tmp_path, story)


def test_a_ban_says_what_it_replaces_and_warns_of_a_good_sender(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        now = time.time()
        lab.runtime.store.record(now, [], [Evidence(A, now - 90000, 2, 1), Evidence(A, now, 1)])
        first = await lab.ask(Ban(A, scope="mx", seconds=7200.0), ChangeResult)
        assert first.message == (
            f"{A} is banned in mx; warning: it delivered mail on 2 of the last 30 days and "
            "logged in 1 times in 30 days"
        )
        again = await lab.ask(Ban(A, scope="mx", seconds=60.0), ChangeResult)
        assert "; before: banned in mx for 1h59m" in again.message or "for 2h " in again.message
        assert "more (operator)" in again.message

    live(tmp_path, story)


def test_the_reason_stays_as_it_was(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.ask(Ban(A, scope="mx", why="spam"), ChangeResult)
        (row,) = lab.runtime.store.listing.snapshots(time.time())
        assert row.why == f"manual, uid {os.getuid()}: spam"
        await lab.ask(Import([Entered(A, "ban", "mx", 60.0, row.why)]), ImportResult)
        (row,) = lab.runtime.store.listing.snapshots(time.time())
        assert row.why == f"manual, uid {os.getuid()}: spam"

    live(tmp_path, story)
