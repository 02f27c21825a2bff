"""Lists that name the same subjects, bans and unbans in every order, against a simple model."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.daemon.in_process import Lab, live
from throttled.control.bulk import UnbanMany, UnbanManyResult
from throttled.control.requests import Ban, Entered, Import, Unban, UnbanAll
from throttled.control.results import ChangeResult, ImportResult
from throttled.errors import ThrottledError
from throttled.model import Snapshot
from unit.operator.test_answer import in_kernel

SUBJECTS = X, NET = "203.0.113.9", "203.0.114.0/24"
LISTS = "one", "two", "three"

#: What is done, and to what; of a list its entries with action and seconds.
Step = tuple[str, str, Any]
_ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(SUBJECTS),
        st.sampled_from(["ban", "throttle"]),
        st.sampled_from([600.0, 6000.0]),
    ),
    max_size=2,
    unique_by=lambda entry: entry[0],
)
_SUBJECT = st.sampled_from(SUBJECTS)
STEPS = st.one_of(
    st.tuples(st.just("import"), st.sampled_from(LISTS), _ENTRIES),
    st.tuples(st.just("remove"), st.sampled_from(LISTS), st.none()),
    st.tuples(st.sampled_from(["unban", "unban many"]), _SUBJECT, st.none()),
    st.tuples(st.just("unban all"), st.sampled_from(["", "mx"]), st.none()),
    st.tuples(st.just("ban"), _SUBJECT, st.sampled_from([60.0, 60000.0])),
)


class Model:
    """Who names what: lists, with the action, and an operator."""

    def __init__(self) -> None:
        self.lists: dict[str, dict[str, str]] = {name: {} for name in LISTS}
        self.banned: set[str] = set()

    def named(self) -> set[str]:
        return self.banned | {subject for each in self.lists.values() for subject in each}

    def unban(self, subjects: Sequence[str]) -> None:
        self.banned -= set(subjects)
        for each in self.lists.values():
            for subject in subjects:
                each.pop(subject, None)


async def step(lab: Lab, what: str, which: str, more: Any) -> None:
    if what == "import":
        await replace(lab, which, more)
    elif what == "remove":
        await lab.ask(UnbanMany(name=which), UnbanManyResult)
    elif what == "ban":
        await lab.ask(Ban(which, scope="mx", seconds=more), ChangeResult)
    elif what == "unban":
        await lab.ask(Unban(which), ChangeResult)
    elif what == "unban many":
        await lab.ask(UnbanMany([which]), UnbanManyResult)
    else:
        await lab.ask(UnbanAll("mx" if which else None), ChangeResult)


async def replace(lab: Lab, name: str, entries: Sequence[Any]) -> None:
    """Do as `throttled import --list` does."""
    new = [Entered(subject, action, "mx", seconds) for subject, action, seconds in entries]
    gone = _owned(lab, name) - {entry.subject for entry in new}
    request = Import(new, name=name, remove=[(subject, "mx") for subject in gone])
    await lab.ask(request, ImportResult)


def done(model: Model, what: str, which: str, more: Any) -> None:
    if what == "import":
        model.lists[which] = {subject: action for subject, action, _ in more}
    elif what == "remove":
        model.lists[which] = {}
    elif what == "ban":
        model.banned.add(which)
    else:
        model.unban(SUBJECTS if what == "unban all" else [which])


def _active(lab: Lab) -> list[Snapshot]:
    return list(lab.runtime.store.listing.snapshots(time.time()))


def _owned(lab: Lab, name: str) -> set[str]:
    return {row.subject for row in _active(lab) if row.origin == f"list:{name}"}


def check(lab: Lab, model: Model) -> None:
    rows = {row.subject: row for row in _active(lab)}
    assert set(rows) == model.named() == {subject for subject, _ in in_kernel(lab)}
    assert {rows[subject].action for subject in model.banned} <= {"ban"}
    for subject in model.named() - model.banned:
        name = rows[subject].origin.removeprefix("list:")
        assert subject in model.lists[name]
        banned = "ban" in {each.get(subject) for each in model.lists.values()}
        assert rows[subject].action == ("ban" if banned else "throttle")


def again(unban: Step) -> list[Step]:
    """Return steps at whose end nobody but those whom it was unbanned from name a client."""
    one = [(X, "ban", 600.0)]
    before: list[Step] = [("import", "one", one), ("import", "two", one)]
    return [*before, unban, ("import", "three", one), ("remove", "three", None)]


def over_own(of: str) -> list[Step]:
    """Return steps at whose end an own ban is left that lists were longer than, one at a time."""
    before: list[Step] = [("ban", X, 60.0), ("import", "one", [(X, "ban", 600.0)])]
    between: list[Step] = [("import", "two", [(X, of, 6000.0)]), ("remove", "one", None)]
    return [*before, *between, ("remove", "two", None)]


@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@given(st.lists(STEPS, min_size=4, max_size=12))
@example(again(("unban", X, None)))
@example(again(("unban many", X, None)))
@example(again(("unban all", "", None)))
@example(again(("unban all", "mx", None)))
@example([("import", "one", [(X, "ban", 6000.0)]), ("import", "one", [(X, "throttle", 600.0)])])
@example(over_own("ban"))
@example(over_own("throttle"))
def test_what_any_list_names_is_active_until_none_does(steps: list[Step]) -> None:
    async def story(lab: Lab) -> None:
        model = Model()
        for one in steps:
            with suppress(ThrottledError):  # nothing was active
                await step(lab, *one)
            done(model, *one)
            check(lab, model)

    with tempfile.TemporaryDirectory() as directory:
        live(Path(directory), story)
