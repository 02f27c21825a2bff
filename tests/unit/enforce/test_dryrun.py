"""What the contract suite cannot ask of it: a clock of the test's own, and its cap."""

import pytest

from throttled.enforce import memory
from throttled.enforce.backend import Applied, Ruleset
from throttled.enforce.dryrun import DryRun
from throttled.model import Entry

RULESET = Ruleset({}, (), rate=1, per=60.0, burst=1, size=1_000_000)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_element_ends_on_the_clock() -> None:
    clock = Clock()
    backend = DryRun(clock)
    backend.setup(RULESET)
    entry = Entry("198.18.0.1", "mx", "ban", 60.0)
    backend.apply([entry])
    clock.now += 59.0
    assert [seen.seconds for seen in backend.lookup([entry])] == [1.0]
    clock.now += 1.0
    assert backend.lookup([entry]) == []
    assert list(backend.dump()) == []


def test_what_has_ended_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_ELEMENTS", 2)
    clock = Clock()
    backend = DryRun(clock)
    backend.setup(RULESET)
    entries = [Entry(f"198.18.0.{n}", "mx", "ban", 60.0) for n in range(4)]
    assert backend.apply(entries[:2]) == Applied()
    refused = backend.apply(entries)
    assert refused.full
    assert [entry for entry, _why in refused.failed] == entries[2:]
    clock.now += 60.0
    assert backend.apply(entries[2:]) == Applied()


def test_it_says_that_nothing_is_enforced() -> None:
    (finding,) = DryRun().check()
    assert "nothing is enforced" in finding.what


def test_accounts_are_remembered_too() -> None:
    under = DryRun()
    under.setup(Ruleset({"mx": (25,)}, (), rate=1, per=60.0, burst=1, size=1000))
    entry = Entry("account:a/b", "submission", "throttle", 60.0)
    assert under.apply([entry]).failed == ()
    assert [element.subject for element in under.lookup([entry])] == ["account:a/b"]
