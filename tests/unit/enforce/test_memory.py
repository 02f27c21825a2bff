"""Elements in memory whose subjects are names."""

import pytest

from throttled.enforce.backend import Applied, Ruleset
from throttled.enforce.memory import Memory
from throttled.model import Entry, Rate

RULESET = Ruleset({}, (), rate=1, per=60.0, burst=1, size=1000)


@pytest.mark.parametrize(
    "subject", ["account:alice", "uid:33", "mailbox:a@example.test", "domain:example.test"]
)
def test_a_name(subject: str) -> None:
    memory = Memory()
    memory.setup(RULESET)
    entry = Entry(subject, "mx", "throttle", 60.0, Rate(1, 60.0, 1))
    assert memory.apply([entry, Entry(subject, "mx", "exempt", 0.0)]) == Applied()
    (seen,) = memory.lookup([entry])
    assert (seen.subject, seen.rate) == (subject, entry.rate)


@pytest.mark.parametrize("subject", ["account:", "uid:x", "user:alice"])
def test_no_name(subject: str) -> None:
    memory = Memory()
    memory.setup(RULESET)
    entry = Entry(subject, "mx", "ban", 60.0)
    assert [each for each, _why in memory.apply([entry]).failed] == [entry]


def test_a_rate_that_cannot_be_kept() -> None:
    memory = Memory()
    memory.setup(RULESET)
    entry = Entry("account:alice", "mx", "throttle", 60.0, Rate(1, 90.0, 1))
    assert memory.apply([entry]).failed
