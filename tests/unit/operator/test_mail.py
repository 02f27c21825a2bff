"""Mail on hold is released at the rate of its subject, and late for a slow machine's sake."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from throttled import subjects
from throttled.host.on_hold import Held, OnHold
from throttled.operator import mail, mail_queue
from throttled.operator.mail import release_due
from throttled.operator.mail_queue import Listed
from throttled.parse.policy_request import read
from throttled.parse.queue_file import Queued


class Queue:
    """A hold queue, and a clock that goes on by what is slept and by what each call takes."""

    def __init__(self, ids: Iterable[str], seconds: float) -> None:
        self.now, self._seconds = 5000.0, seconds
        self.ids = list(ids)
        self.received: set[str] = set()
        self.owner = Queued("alice", "192.0.2.7", "a@example.net")
        self.released: list[tuple[float, str]] = []

    def listed(self, _directory: str) -> list[Listed]:
        return [Listed("hold", one, 1000) for one in self.ids]

    def owners(self, _directory: str, ids: Iterable[str]) -> list[tuple[str, Queued]]:
        return [(one, self.owner) for one in ids]

    def release(self, _directory: str, ids: Iterable[str]) -> None:
        for one in ids:
            self.ids.remove(one)
            self.released.append((self.now, one))
        self.now += self._seconds

    def unfinished(self, _directory: str) -> set[str]:
        return self.received

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for Postfix's tools."""
        for name in ("listed", "owners", "release", "unfinished"):
            monkeypatch.setattr(mail_queue, name, getattr(self, name))


@pytest.fixture
def records(tmp_path: Path) -> OnHold:
    return OnHold(str(tmp_path / "throttled.db"))


def recorded(records: OnHold, count: int) -> list[str]:
    """Record messages of an account at one a second, all due; return their queue ids."""
    ids = [f"3A5C01{n:02X}" for n in range(count)]
    for one in ids:
        records.add(Held("/etc/postfix", one, "account:alice", 1000.0, 4600.0, 60, 60.0))
    return ids


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_the_rate_is_kept(records: OnHold, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    queue = Queue(recorded(records, 40), seconds)
    queue.install(monkeypatch)
    clock = queue.clock
    assert release_due(records, "", clock=clock, steady=clock, sleep=queue.sleep) == 40
    assert records.count() == 0
    for count, (at, _) in enumerate(queue.released):
        assert count <= at - 5000.0 + 1  # never more than the rate
    assert queue.released[-1][0] - 5000.0 == pytest.approx(39, abs=4)
    assert mail.due(records, queue.now, "") == []


def test_only_files_of_what_may_go_are_read(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 ms each: of 300 that are due, all at each pass took 3 s."""
    queue = Queue(recorded(records, 30), 0.0)
    queue.install(monkeypatch)
    seen: list[str] = []

    def owners(directory: str, ids: Iterable[str]) -> list[tuple[str, Queued]]:
        seen.extend(ids)
        return queue.owners(directory, ids)

    monkeypatch.setattr(mail_queue, "owners", owners)
    assert release_due(records, "", clock=queue.clock, steady=queue.clock, sleep=queue.sleep) == 30
    assert len(seen) == 30


def test_a_pass_is_bounded(records: OnHold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_PASS", 3)
    for n in range(10):
        held = Held("/etc/postfix", f"3A5C01{n:02X}", f"account:{n}", 1000.0, 4600.0, 60, 60.0)
        records.add(msgspec.structs.replace(held, owner="account:alice"))
    queue = Queue([f"3A5C01{n:02X}" for n in range(10)], 0.0)
    queue.install(monkeypatch)
    assert release_due(records, "", clock=queue.clock, steady=queue.clock, sleep=queue.sleep) == 10
    assert Counter(at for at, _ in queue.released).most_common(1)[0][1] == 3


def test_what_is_still_received_is_waited_for_but_not_for_ever(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = recorded(records, 2)
    queue = Queue([first], 0.0)
    queue.received = {second}
    queue.install(monkeypatch)

    def release(some: Iterable[Held]) -> None:
        queue.release("", [held.queue_id for held in some])
        for one in list(records.all()):
            if one.queue_id not in queue.received:
                records.remove(one)

    done, left = mail.release_all(records, "", release, steady=queue.clock, sleep=queue.sleep)
    assert (done, [held.queue_id for held in left]) == (1, [second])
    assert queue.now == pytest.approx(5030.0, abs=1.0)
    queue.received.clear()  # the client hung up: there is no such message
    assert mail.release_all(records, "", release, steady=queue.clock) == (0, [])


def test_what_cannot_be_released_is_looked_at_twice_a_minute(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has not ended: it is in no queue yet."""
    records.add(Held("/etc/postfix", "3A5C01F2", "account:alice", 4990.0, 4991.0, 60, 60.0))
    queue = Queue([], 0.0)
    looked: list[float] = []
    queue.install(monkeypatch)

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        queue.now += seconds

    assert release_due(records, "", clock=queue.clock, steady=queue.clock, sleep=sleep) == 0
    assert set(looked) == {30.0}
    assert queue.now > 4990 + 3600  # then it is given up


def pending(records: OnHold, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the queue ids that are due, with this queue."""
    queue.install(monkeypatch)
    return [held.queue_id for held in mail.due(records, queue.now, "")]


def test_mail_of_a_domain_whose_sender_cleanup_changed_is_released(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masquerading, sender_canonical_maps: it would have stayed on hold without a record."""
    subject, owner = "domain:host.example.net", "account:alice"
    records.add(Held("/etc/postfix", "3A5C01F2", subject, 1000.0, 4600.0, 60, 60.0, owner))
    assert pending(records, Queue(["3A5C01F2"], 0.0), monkeypatch) == ["3A5C01F2"]


@pytest.mark.parametrize("login", ["a" * 250, "m\u00fcller", "\u00fc" * 150, "m\udcfcller"])
def test_a_login_is_the_same_in_request_and_queue_file(
    records: OnHold, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """Long ones are cut in log lines and requests; postcat(1) prints bytes."""
    data = login.encode("utf-8", "surrogateescape")
    head = b"request=smtpd_access_policy\nprotocol_state=DATA\nsasl_username="
    user = read(head + data).user
    subject = subjects.account(subjects.from_log(user))
    records.add(Held("/etc/postfix", "3A5C01F2", subject, 1000.0, 4600.0, 60, 60.0, subject))
    queue = Queue(["3A5C01F2"], 0.0)
    queue.owner = Queued(data.decode("latin-1"), "192.0.2.7")
    assert pending(records, queue, monkeypatch) == ["3A5C01F2"]


def test_a_message_that_is_received_for_hours_keeps_its_record(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on hold when its content has come."""
    records.add(Held("/etc/postfix", "3A5C01F2", "account:alice", 1000.0, 4600.0, 60, 60.0))
    queue = Queue([], 0.0)
    queue.received = {"3A5C01F2"}
    assert pending(records, queue, monkeypatch) == []
    assert records.count() == 1
    queue.received, queue.ids = set(), ["3A5C01F2"]
    assert pending(records, queue, monkeypatch) == ["3A5C01F2"]


def test_a_clock_that_is_set_back_delays_nothing(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(recorded(records, 5), 0.0)
    queue.install(monkeypatch)

    def wall() -> float:  # a day back after the second message
        return queue.now - 86400 * (len(queue.released) > 1)

    assert release_due(records, "", clock=wall, steady=queue.clock, sleep=queue.sleep) == 5
    assert queue.now < 5000.0 + 10


def test_a_clock_that_is_set_forward_keeps_the_rate(
    records: OnHold, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(recorded(records, 5), 0.0)
    queue.install(monkeypatch)

    def wall() -> float:
        return queue.now + 86400 * (len(queue.released) > 1)

    assert release_due(records, "", clock=wall, steady=queue.clock, sleep=queue.sleep) == 5
    assert queue.now >= 5000.0 + 4
