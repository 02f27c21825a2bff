"""What a backend for accounts and inside hosts does with their entries: as with any others."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from lab.daemon.guarded import RULESET
from lab.network.netns import namespace, until
from throttled.enforce.answers import PolicyAnswers
from throttled.enforce.backend import Backend
from throttled.enforce.dryrun import DryRun
from throttled.enforce.registry import choose, with_answers
from throttled.model import Answers, Entry, Rate

INSIDE = "198.51.100.0/24"
RULES = replace(RULESET, answers=Answers(inside=(INSIDE,)))
SENDERS = (
    *("account:alice", "account:alice@example.test", "uid:33", "domain:example.test"),
    *("mailbox:bob@example.test", "198.51.100.20"),
)
SLOW = Rate(2, 60.0, 1)


@pytest.fixture(params=["dryrun", "policy-answers", pytest.param("both", marks=pytest.mark.root)])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param != "both":
        made: Backend = DryRun() if request.param == "dryrun" else PolicyAnswers()
        made.setup(RULES)
        yield made
        return
    with namespace("senders") as place, place.entered():
        made = with_answers(choose("nftables"))
        made.setup(RULES)
        yield made


@pytest.mark.parametrize("subject", SENDERS)
def test_an_entry_is_there_until_it_is_removed(backend: Backend, subject: str) -> None:
    entries = [
        Entry(subject, "mx", "throttle", 60.0, SLOW),
        Entry(subject, "submission", "ban", 60.0),
    ]
    assert not backend.apply(entries).failed
    found = backend.lookup(entries)
    assert [(e.subject, e.scope, e.action, e.rate) for e in found] == [
        (subject, "mx", "throttle", SLOW),
        (subject, "submission", "ban", None),
    ]
    assert all(59.0 < each.seconds <= 60.0 for each in found)
    assert [(e.subject, e.scope) for e in backend.dump()] == [(e.subject, e.scope) for e in found]
    assert backend.setup(RULES)  # again: it stays
    assert len(backend.lookup(entries)) == 2
    backend.apply([replace(entry, seconds=0.0) for entry in entries])
    assert list(backend.dump()) == []


def test_an_entry_expires_by_itself(backend: Backend) -> None:
    entry = Entry("account:alice", "mx", "ban", 0.2)
    backend.apply([entry])
    until(lambda: not backend.lookup([entry]), "it expired")


def test_a_subject_that_is_none_is_named_and_the_rest_goes_in(backend: Backend) -> None:
    entries = [Entry(s, "mx", "ban", 60.0) for s in ("account:", "uid:x", "account:alice")]
    assert [entry for entry, _why in backend.apply(entries).failed] == entries[:2]
    assert len(backend.lookup(entries)) == 1


def test_after_teardown_nothing_is_there(backend: Backend) -> None:
    entry = Entry("account:alice", "mx", "ban", 60.0)
    backend.apply([entry])
    backend.teardown()
    assert backend.lookup([entry]) == []
    backend.setup(RULES)
    assert backend.lookup([entry]) == []
