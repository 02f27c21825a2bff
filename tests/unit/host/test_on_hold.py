"""Records of the messages that we had put on hold."""

import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from throttled.host import on_hold
from throttled.host.on_hold import Held, OnHold

ONE = Held("/etc/postfix", "3A5C01F2", "account:alice", 1000.0, 4600.0, 60, 60.0)
OTHER = Held("/etc/postfix-out", "3A5C01F2", "192.0.2.7", 1000.0, 4600.0, 60, 60.0)


def test_a_record_is_there_until_it_is_removed(tmp_path: Path) -> None:
    records = OnHold(str(tmp_path / "throttled.db"))
    assert (list(records.all()), records.count()) == ([], 0)
    records.add(ONE)
    records.add(OTHER)
    records.add(ONE)  # a short queue id that is used again
    again = OnHold(str(tmp_path / "throttled.db"))
    assert (sorted(again.all(), key=str), again.count()) == ([ONE, OTHER], 2)
    assert {path.stat().st_mode & 0o77 for path in tmp_path.glob("on-hold")} == {0}
    again.remove(ONE)
    again.remove(ONE)
    assert list(records.all()) == [OTHER]


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    records = OnHold(str(tmp_path / "throttled.db"))
    records.add(ONE)
    (records.place / "damaged").write_text("{")
    (records.place / ".half-written").write_text("{")
    assert list(records.all()) == [ONE]


def test_the_name_of_a_record_suffices(tmp_path: Path) -> None:
    records = OnHold(str(tmp_path / "throttled.db"))
    records.add(ONE)
    (path,) = records.place.iterdir()
    path.write_bytes(b"")
    os.utime(path, (1000.0, 1000.0))
    (found,) = records.all()
    assert (found.instance, found.queue_id, found.deadline) == ("/etc/postfix", "3A5C01F2", 4600.0)
    assert on_hold.matches(found, ["192.0.2.7", "account:alice"])
    assert not on_hold.matches(found, ["192.0.2.7", "account:bob"])
    assert records.present(found)
    records.remove(found)
    assert not records.present(found)
    assert records.count() == 0


def test_what_no_message_matched_is_reported_for_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_hold, "_LEFT", 1)
    records = OnHold(str(tmp_path / "throttled.db"))
    for held in (ONE, OTHER):
        records.add(held)
        records.leave(held)
    assert (records.count(), records.left(time.time())) == (0, ["3A5C01F2"])
    records.dismiss([ONE.queue_id])
    assert records.left(time.time()) == []
    records.add(ONE)
    records.leave(ONE)
    assert records.left(time.time() + 8 * 86400) == records.left(time.time()) == []


def test_the_directory_is_written_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    records = OnHold(str(tmp_path / "throttled.db"))
    records.sync()
    assert not synced
    records.add(ONE)
    records.sync()
    records.sync()
    assert len(synced) == 1


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "on-hold").write_text("")
    with pytest.raises(OSError, match="File exists"):
        OnHold(str(tmp_path / "throttled.db")).add(ONE)


def test_what_is_half_written_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's removal could not remove the directory, and nothing else would."""
    records = OnHold(str(tmp_path / "throttled.db"))

    def full(_from: Path, _to: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        records.add(ONE)
    assert list(records.place.iterdir()) == []


def test_one_sender_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins messages and hangs up fills the records of an hour."""
    monkeypatch.setattr(on_hold, "EACH", 2)
    records = OnHold(str(tmp_path / "throttled.db"))
    for number in range(2):
        records.add(msgspec.structs.replace(ONE, queue_id=f"3A5C01F{number}"))
    for again in (records, OnHold(str(tmp_path / "throttled.db"))):
        with pytest.raises(OSError, match="2 messages of one sender are on hold already"):
            again.add(msgspec.structs.replace(ONE, queue_id="3A5C01F7"))
    records.add(OTHER)
    assert records.count() == 3


def test_there_is_a_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is reached, not each further message has them counted again."""
    monkeypatch.setattr(on_hold, "MOST", 1)
    clock = iter((0.0, 1.0, 2.0, 11.0, 12.0))
    records = OnHold(str(tmp_path / "throttled.db"), lambda: next(clock))
    records.add(ONE)
    with pytest.raises(OSError, match="1 messages are on hold already"):
        records.add(OTHER)
    records.remove(ONE)
    with pytest.raises(OSError, match="1 messages are on hold already"):
        records.add(OTHER)
    records.add(OTHER)
    with pytest.raises(OSError, match="1 messages are on hold already"):
        records.add(ONE)
