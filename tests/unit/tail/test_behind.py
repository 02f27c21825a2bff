"""What came before a position."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.tail import behind
from throttled.tail.behind import before
from throttled.tail.file import FileTail, Position
from throttled.tail.position import Batch


def numbered(first: int, last: int) -> list[str]:
    return [f"Nov 22 16:12:00 host postfix/smtpd[123]: line {n:05}" for n in range(first, last)]


SIZE = len(numbered(0, 1)[0]) + 1


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def at_end(path: Path) -> Position:
    tail = FileTail(str(path), None)
    position = tail.position
    tail.close()
    assert position
    return position


def lines(batches: list[Batch]) -> list[str]:
    return [line for batch in batches for line in batch.lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Four generations of 100 lines, the two oldest compressed."""
    for number in (3, 2):
        with gzip.open(tmp_path / f"mail.log.{number}.gz", "wt") as file:
            file.writelines(
                f"{line}\n" for line in numbered(300 - 100 * number, 400 - 100 * number)
            )
    write(tmp_path / "mail.log.1", numbered(200, 300))
    write(tmp_path / "mail.log", numbered(300, 400))
    return tmp_path / "mail.log"


@pytest.mark.parametrize("wanted", [0, 1, 99, 100, 101, 200, 201, 350, 400, 1000])
def test_last_lines_over_all_generations(log: Path, wanted: int) -> None:
    got = lines(list(before(at_end(log), wanted * SIZE)))
    assert got == numbered(max(0, 400 - wanted), 400)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(0, 400 * SIZE), st.integers(0, 100))
def test_begins_with_a_whole_line(log: Path, limit: int, read: int) -> None:
    tail = FileTail(str(log), None, from_start=True)
    batch = tail.read(max(1, read * SIZE))
    tail.close()
    assert batch
    read = batch.position.offset // SIZE
    got = lines(list(before(batch.position, limit)))
    assert got == numbered(300 + read - min(limit // SIZE, 300 + read), 300 + read)


def test_batches_say_where_the_lines_are(log: Path) -> None:
    position = at_end(log)
    batches = list(before(position, 150 * SIZE))
    assert [batch.inode for batch in batches] == [
        log.with_name("mail.log.1").stat().st_ino,
        log.stat().st_ino,
    ]
    assert [batch.offsets[0] for batch in batches] == [50 * SIZE, 0]
    assert all(batch.position == position and not batch.done for batch in batches)


def test_position_in_a_compressed_generation(log: Path) -> None:
    position = at_end(log.with_name("mail.log.1"))
    position = Position(str(log), 0, position.inode, 50 * SIZE, position.fingerprint)
    with gzip.open(log.with_name("mail.log.1.gz"), "wt") as file:
        file.write(log.with_name("mail.log.1").read_text())
    log.with_name("mail.log.1").unlink()
    assert lines(list(before(position, 20 * SIZE))) == numbered(230, 250)
    assert lines(list(before(position, 70 * SIZE))) == numbered(180, 250)


def test_what_is_still_to_be_read_is_left_out(log: Path) -> None:
    """The renamed file is followed still, and was read to a place before its end."""
    log.rename(log.with_name("mail.log.0"))
    write(log, numbered(400, 410))
    old = at_end(log.with_name("mail.log.0"))
    old = Position(str(log), old.device, old.inode, 90 * SIZE, old.fingerprint)
    new = at_end(log)
    both = Position(str(log), new.device, new.inode, new.offset, new.fingerprint, (old,))
    assert lines(list(before(both, 15 * SIZE))) == numbered(385, 390) + numbered(400, 410)


def test_what_is_still_to_be_read_of_what_was_compressed_since(log: Path) -> None:
    """Its lines would be counted here, and once more when they are read."""
    old = at_end(log.with_name("mail.log.1"))
    position = replace(at_end(log), older=(replace(old, path=str(log), offset=50 * SIZE),))
    with gzip.open(log.with_name("mail.log.1.gz"), "wt") as file:
        file.write(log.with_name("mail.log.1").read_text())
    log.with_name("mail.log.1").unlink()
    assert lines(list(before(position, 1 << 20))) == numbered(0, 250) + numbered(300, 400)


def test_last_line_without_an_end(log: Path) -> None:
    with log.with_name("mail.log.1").open("a") as file:
        file.write("cut off")
    assert lines(list(before(at_end(log), 101 * SIZE)))[:2] == ["cut off", *numbered(300, 301)]


def test_long_archive_is_cut_in_pieces(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "PIECE", 3 * SIZE - 1)
    assert lines(list(before(at_end(log), 230 * SIZE))) == numbered(170, 400)


def test_position_that_is_gone(log: Path) -> None:
    position = at_end(log)
    log.unlink()
    assert list(before(position, 1000)) == []


def test_file_shorter_than_the_position(log: Path) -> None:
    position = at_end(log)
    os.truncate(log, 50 * SIZE)
    assert lines(list(before(position, 70 * SIZE))) == numbered(330, 350)


def test_truncated_meanwhile(log: Path) -> None:
    batches = before(at_end(log), 150 * SIZE)
    assert next(batches).lines == numbered(250, 300)
    os.truncate(log, 0)
    assert list(batches) == []


def test_damaged_archive_ends_the_way(log: Path) -> None:
    archive = log.with_name("mail.log.2.gz")
    os.truncate(archive, archive.stat().st_size - 20)
    assert lines(list(before(at_end(log), 400 * SIZE))) == numbered(200, 400)


def test_large_archive_ends_the_way(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "MAX_ARCHIVE", 10)
    assert lines(list(before(at_end(log), 400 * SIZE))) == numbered(200, 400)


@pytest.mark.root
def test_generation_that_may_not_be_read_ends_the_way(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock, because root may read everything."""
    real = os.open

    def refuse(path: Path, *rest: int) -> int:
        if str(path).endswith(".1"):
            raise PermissionError
        return real(path, *rest)

    position = at_end(log)
    monkeypatch.setattr(os, "open", refuse)
    assert lines(list(before(position, 400 * SIZE))) == numbered(300, 400)


def test_descriptors_are_closed_when_dropped(log: Path) -> None:
    descriptors = Path("/proc/self/fd")
    position = at_end(log)
    open_before = len(list(descriptors.iterdir()))
    batches = before(position, 150 * SIZE)
    next(batches)
    del batches
    assert len(list(descriptors.iterdir())) == open_before
