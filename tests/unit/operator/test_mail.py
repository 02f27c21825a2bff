"""Mail on hold is released at the rate of its subject, and late for a slow machine's sake."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from throttled.host.on_hold import Held, OnHold
from throttled.operator import mail, mail_queue
from throttled.operator.mail import release_due
from throttled.operator.mail_queue import Listed
from throttled.parse.queue_file import Queued


class Queue:
    """A hold queue, and a clock that goes on by what is slept and by what each call takes."""

    def __init__(self, ids: Iterable[str], seconds: float) -> None:
        self.now, self._seconds = 5000.0, seconds
        self.ids = list(ids)
        self.released: list[tuple[float, str]] = []

    def listed(self, _directory: str) -> list[Listed]:
        return [Listed("hold", one, 1000) for one in self.ids]

    def owners(self, _directory: str, ids: Iterable[str]) -> list[tuple[str, Queued]]:
        return [(one, Queued("alice", "192.0.2.7", "a@example.net")) for one in ids]

    def release(self, _directory: str, ids: Iterable[str]) -> None:
        for one in ids:
            self.ids.remove(one)
            self.released.append((self.now, one))
        self.now += self._seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_the_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    records = OnHold(str(tmp_path / "throttled.db"))
    ids = [f"3A5C01{n:02X}" for n in range(40)]
    for one in ids:
        records.add(Held("/etc/postfix", one, "account:alice", 1000.0, 4600.0, 60, 60.0))
    queue = Queue(ids, seconds)
    for name in ("listed", "owners", "release"):
        monkeypatch.setattr(mail_queue, name, getattr(queue, name))
    assert release_due(records, "", clock=lambda: queue.now, sleep=queue.sleep) == 40
    assert records.count() == 0
    for count, (at, _) in enumerate(queue.released):
        assert count <= at - 5000.0 + 1  # never more than the rate
    assert queue.released[-1][0] - 5000.0 == pytest.approx(39, abs=4)
    assert mail.due(records, queue.now, "") == []


def test_what_cannot_be_released_is_looked_at_twice_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session has not ended: it is in no queue yet."""
    records = OnHold(str(tmp_path / "throttled.db"))
    records.add(Held("/etc/postfix", "3A5C01F2", "account:alice", 4990.0, 4991.0, 60, 60.0))
    queue = Queue([], 0.0)
    looked: list[float] = []
    for name in ("listed", "owners", "release"):
        monkeypatch.setattr(mail_queue, name, getattr(queue, name))

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        queue.now += seconds

    assert release_due(records, "", clock=lambda: queue.now, sleep=sleep) == 0
    assert set(looked) == {30.0}
    assert queue.now > 4990 + 3600  # then it is given up
