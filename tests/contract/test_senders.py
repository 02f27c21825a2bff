"""What a backend for accounts and inside hosts does with their entries: as with any others."""

import pytest
from msgspec.structs import replace

from lab.daemon.guarded import RULESET
from lab.network.netns import until
from throttled.enforce.backend import Answers, Backend, Ruleset
from throttled.model import Entry, Rate

INSIDE = "198.51.100.0/24"
RULES = replace(RULESET, answers=Answers(inside=(INSIDE,)))
SENDERS = (
    *("account:alice", "account:alice@example.test", "uid:33", "domain:example.test"),
    *("mailbox:bob@example.test", "198.51.100.20"),
)
SLOW = Rate(2, 60.0, 1)


#: Those that answer Postfix, or act as if.
pytestmark = pytest.mark.parametrize(
    "backend",
    ["dryrun", "policy-answers", pytest.param("dispatch", marks=pytest.mark.root)],
    indirect=True,
)


@pytest.fixture
def rules() -> Ruleset:
    return RULES


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
