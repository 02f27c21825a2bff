"""Which entries go to the firewall, which to the policy answers."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from throttled.enforce import memory
from throttled.enforce.backend import Answers, Ruleset
from throttled.enforce.dispatch import Dispatch
from throttled.enforce.dryrun import DryRun
from throttled.errors import BackendError
from throttled.model import Element, Entry

ANSWERS = Answers(inside=("198.51.100.0/24", "127.0.0.0/8"), apart=("127.0.0.0/8", "198.51.100.1"))
RULESET = Ruleset({}, (), rate=1, per=60.0, burst=1, size=1000, answers=ANSWERS)
SENDERS = ["account:alice", "uid:33", "domain:example.test", "198.51.100.20"]
CLIENTS = ["198.18.0.1", "198.51.100.0/24", "198.51.100.1", "127.0.0.1", "2001:db8::1"]


def ban(subject: str, seconds: float = 60.0) -> Entry:
    return Entry(subject, "mx", "ban", seconds)


def names(found: Iterable[Element]) -> list[str]:
    return sorted(seen.subject for seen in found)


@pytest.fixture
def both() -> Dispatch:
    made = Dispatch(DryRun())
    made.setup(RULESET)
    assert not made.apply([ban(subject) for subject in (*SENDERS, *CLIENTS)]).failed
    return made


def test_by_what_a_subject_is(both: Dispatch) -> None:
    assert names(both.senders.dump()) == sorted(SENDERS)
    assert names(both.firewall.dump()) == sorted(CLIENTS)
    assert names(both.dump()) == names(both.lookup(map(ban, (*SENDERS, *CLIENTS))))
    assert list(both.clients.dump()) == []


def test_how_full_it_is(both: Dispatch) -> None:
    used = sum(fill.used for fill in both.fill())
    assert used == len(SENDERS) + len(CLIENTS)


def test_what_is_no_subject_fails_and_the_rest_goes_in(both: Dispatch) -> None:
    applied = both.apply([ban("x"), ban("account:"), ban("account:bob"), ban("198.18.0.9")])
    assert sorted(entry.subject for entry, _why in applied.failed) == ["account:", "x"]
    assert len(both.lookup([ban("account:bob"), ban("198.18.0.9")])) == 2


def test_a_firewall_that_fails_stops_no_answer(both: Dispatch) -> None:
    both.firewall.teardown()
    with pytest.raises(BackendError):
        both.apply([ban("account:bob"), ban("198.18.0.9")])
    assert names(both.senders.lookup([ban("account:bob")])) == ["account:bob"]


def test_behind_a_proxy_the_answers_have_a_copy(both: Dispatch) -> None:
    proxied = replace(RULESET, answers=replace(ANSWERS, proxied=True))
    both.setup(proxied)
    # What the firewall had before is applied again, as if it were not there.
    assert both.lookup(map(ban, CLIENTS)) == []
    both.apply([ban(subject) for subject in CLIENTS])
    assert names(both.lookup(map(ban, CLIENTS))) == sorted(CLIENTS)
    assert names(both.clients.dump()) == sorted(CLIENTS)
    assert len(list(both.dump())) == len(SENDERS) + len(CLIENTS)
    both.apply([ban(subject, 0.0) for subject in CLIENTS])
    assert list(both.clients.dump()) == []
    both.apply([ban("198.18.0.1")])
    both.setup(RULESET)
    assert list(both.clients.dump()) == []


def test_a_copy_that_is_full_is_named(both: Dispatch, monkeypatch: pytest.MonkeyPatch) -> None:
    both.setup(replace(RULESET, answers=replace(ANSWERS, proxied=True)))
    both.apply([ban(subject) for subject in CLIENTS])
    monkeypatch.setattr(memory, "_ELEMENTS", len(CLIENTS))
    applied = both.apply([ban("198.18.0.9"), ban("x")])
    assert sorted(entry.subject for entry, _why in applied.failed) == ["198.18.0.9", "x"]
    assert applied.full


def test_the_rest_is_the_firewalls(both: Dispatch) -> None:
    assert (both.name, both.enforces, both.at_interfaces) == ("dryrun", True, False)
    assert both.refuses
    assert [finding.state for finding in both.check()] == ["ok"]
    assert both.intact()
    assert both.dropped() == 0
    assert both.watch() is None
    assert not both.present()
    both.collect()
    both.teardown()
    assert not both.intact()
    assert list(both.dump()) == []
