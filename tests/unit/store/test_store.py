"""The store as a whole: log sources, a model it must agree with, and being killed."""

import itertools
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from throttled.model import SCOPES, Action, Decision, Entry, Evidence, Scope
from throttled.store.store import Store, StoredPosition

NOW = 1_700_000_000.0


# Log sources


# A model


SUBJECTS = ["198.51.100.1", "198.51.100.2", "203.0.113.1", "2001:db8::1", "198.51.100.0/24"]
KEYS = [(subject, scope) for subject in SUBJECTS for scope in SCOPES]
subjects = st.sampled_from(SUBJECTS)
scopes = st.sampled_from(SCOPES)
plans = st.tuples(
    st.sampled_from(["throttle", "ban", "release"]), subjects, scopes, st.integers(1, 300)
)


class Model(RuleBasedStateMachine):
    """What the store must do, in two dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store.open(":memory:")
        self.now = NOW
        self.active: dict[tuple[str, Scope], tuple[Action, float]] = {}
        self.offences: dict[tuple[str, Scope], tuple[int, float]] = {}
        self.history: dict[str, list[str]] = {subject: [] for subject in SUBJECTS}
        self.delivered: dict[str, int] = {}
        self.banned: dict[tuple[str, Scope], float] = {}
        self.unbanned_since: dict[tuple[str, Scope], float] = {}

    def teardown(self) -> None:
        self.store.close()

    def in_force(self) -> dict[tuple[str, Scope], tuple[Action, float]]:
        return {key: row for key, row in self.active.items() if row[1] > self.now}

    @rule(seconds=st.integers(0, 200))
    def time_goes_on(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        batch=st.lists(plans, max_size=8),
        good=st.lists(st.sampled_from(SUBJECTS[:4]), max_size=3),
    )
    def record(self, batch: list[tuple[str, str, Scope, int]], good: list[str]) -> None:
        decisions = []
        for action, subject, scope, seconds in batch:
            key, until = (subject, scope), self.now + seconds
            bans = self.offences.get(key, (0, 0.0))[0]
            level = bans + 1 if action == "ban" else 0
            self.history[subject].insert(0, action)
            if action == "release":
                self.active.pop(key, None)
                if bans:
                    self.offences[key] = (bans, min(self.offences[key][1], self.now))
            elif action == "ban":
                self.active[key] = ("ban", until)
                self.offences[key] = (level, until)
                self.banned[key] = self.now
            elif self.in_force().get(key, ("throttle", 0.0))[0] == "throttle":
                self.active[key] = ("throttle", until)
            decisions.append(
                Decision(self.now, action, subject, scope, "x", level, until, "y")  # type: ignore[arg-type] # str, not a literal
            )
        evidence = [Evidence(subject, self.now, 1) for subject in good]
        for subject in good:
            self.delivered[subject] = self.delivered.get(subject, 0) + 1
        self.store.record(self.now, decisions, evidence)

    @rule(subject=subjects, scope=st.one_of(st.none(), scopes))
    def unban(self, subject: str, scope: Scope | None) -> None:
        keys = [(subject, s) for s in SCOPES if scope in (None, s)]
        in_force = self.in_force()
        expected = [Entry(*key, in_force[key][0], 0.0) for key in keys if key in in_force]
        for key in keys:
            self.active.pop(key, None)
            self.offences.pop(key, None)
            self.unbanned_since[key] = self.now
        self.history[subject][:0] = ["release"] * len(expected)
        assert self.store.unbans.unban(subject, scope, self.now) == expected
        self.now += 1  # of two things at the same instant nobody knows which came first

    @rule(scope=st.one_of(st.none(), scopes))
    def clear(self, scope: Scope | None) -> None:
        expected = [key for key in self.in_force() if scope in (None, key[1])]
        assert self.store.unbans.clear(self.now, scope) == len(expected)
        for known in (self.active, self.offences):
            for key in [key for key in known if scope in (None, key[1])]:
                del known[key]

    @rule()
    def prune(self) -> None:
        self.store.prune(self.now)

    @invariant()
    def pasts_agree(self) -> None:
        in_force = self.in_force()
        for key, past in self.store.past(KEYS, self.now).items():
            action, until = in_force.get(key, (None, 0.0))
            assert (past.action, past.until) == (action, until)
            assert (past.offences, past.last_offence) == self.offences.get(key, (0, 0.0))
            assert past.deliveries == self.delivered.get(key[0], 0)

    @invariant()
    def what_is_in_force_agrees(self) -> None:
        expected = {
            key: (action, until - self.now) for key, (action, until) in self.in_force().items()
        }
        entries = [entry for chunk in self.store.active.entries(self.now, 2) for entry in chunk]
        assert {(e.subject, e.scope): (e.action, e.seconds) for e in entries} == expected
        assert len(entries) == len(expected)
        counts = self.store.active.counts(self.now)
        for kind, count in counts.items():
            assert count == sum((key[1], row[0]) == kind for key, row in expected.items())

    @invariant()
    def networks_and_history_agree(self) -> None:
        for scope in SCOPES:
            key = ("198.51.100.0/24", scope)
            past = self.store.network_past([key], self.now)[key]
            since = self.unbanned_since.get(key, 0.0)
            counted = [s for s in SUBJECTS[:2] if (s, scope) in self.offences]
            assert past.banned == sum(self.banned[s, scope] > since for s in counted)
            assert past.good == sum(s in self.delivered for s in SUBJECTS[:2])
        for subject, actions in self.history.items():
            assert [d.action for d in self.store.decisions(subject, 1000)] == actions


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# Being killed

BATCH = 20

_WRITER = f"""
import sys
from throttled.model import Decision, Evidence
from throttled.store.host import HOSTS
from throttled.store.store import Store, StoredPosition

store = Store.open(sys.argv[1])
number = int(sys.argv[2])
while True:
    number += 1
    subjects = [f"198.{{18 + (number >> 8)}}.{{number & 255}}.{{n}}" for n in range({BATCH})]
    store.record({NOW},
        [Decision({NOW}, "ban", s, "mx", "errors", 1, {NOW} + 600, "w" * 200) for s in subjects],
        [Evidence(s, {NOW}, 1) for s in subjects],
        [StoredPosition("/var/log/mail.log", b"%d" % number)])
    if number % 7 == 0:
        store.prune({NOW})
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 3, 40])
def test_kill_9_loses_nothing_and_halves_nothing(path: str, acknowledged: int) -> None:
    last = 0
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, path, str(last)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(acknowledged):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            last = int((writer.stdout.read().split() or [b"%d" % last])[-1])
        with closing(Store.open(path)) as store:
            offset = int(store.positions.all()["/var/log/mail.log"].state)
            # Recorded but not yet said: at most one.
            assert last <= offset <= last + 1
            assert sum(store.active.counts(NOW).values()) == offset * BATCH
            connection = store._database.connection
            for table in ("decision", "active", "offence", "good"):
                query = f"SELECT count(*) FROM {table}"
                assert connection.execute(query).fetchone() == (offset * BATCH,)
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            last = offset


# The price of a commit: that it does not wait for the disk is in test_database.py


def test_a_record_of_one_takes_no_longer_in_a_large_store(store: Store) -> None:
    """In instructions of SQLite's virtual machine: some 400; each row that is read is more."""

    def instructions(number: int) -> int:
        subject, steps = f"198.18.0.{number}", itertools.count()
        decision = Decision(NOW, "ban", subject, "mx", "errors", 1, NOW + 600, "because")
        position = StoredPosition("/var/log/mail.log", b"%d" % number)
        connection = store._database.connection
        connection.set_progress_handler(lambda: next(steps) < 0, 1)
        store.record(NOW, [decision], [Evidence(subject, NOW, 1)], [position])
        connection.set_progress_handler(None, 0)
        return next(steps)

    first = max(instructions(number) for number in range(3))
    for high in range(20):
        some = [f"10.0.{high}.{low}" for low in range(250)]
        bans = [Decision(NOW, "ban", s, "mx", "errors", 1, NOW + 600, "because") for s in some]
        store.record(NOW, bans, [Evidence(subject, NOW, 1) for subject in some])
    found = max(instructions(number) for number in range(3, 10))
    assert found < 2 * first
