"""Lines read back by their offsets."""

import gzip
from pathlib import Path

import pytest

from throttled.tail import readback
from throttled.tail.file import FileTail
from throttled.tail.lines import MAX_LINE
from throttled.tail.position import Batch
from throttled.tail.readback import lines_at

TEXT = (
    b"first line\xff of a log, long enough to be known again\n\n"
    + b"x" * 9000
    + b"\n"
    + (bytes(100) + b"behind a hole\nlast")
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "mail.log"
    path.write_bytes(TEXT)
    return path


def read(log: Path) -> Batch:
    tail = FileTail(str(log), None, from_start=True)
    batch = tail.read()
    tail.close()
    assert batch
    assert len(batch.lines) == 4
    return batch


def back(batch: Batch, mark: bytes = b"") -> list[str | None]:
    return lines_at(batch.path, batch.device, batch.inode, mark, batch.offsets)


def test_as_they_were_read(log: Path) -> None:
    batch = read(log)
    assert back(batch) == batch.lines
    assert len(batch.lines[2]) == MAX_LINE


def test_line_without_an_end(log: Path) -> None:
    batch = read(log)
    assert lines_at(str(log), batch.device, batch.inode, b"", [batch.position.offset]) == ["last"]


def test_after_rotation(log: Path) -> None:
    batch = read(log)
    log.rename(log.with_name("mail.log.1"))
    log.write_bytes(b"new\n")
    assert back(batch) == batch.lines


@pytest.mark.parametrize("piece", [100, 1_000_000])
def test_after_compression(log: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "PIECE", piece)
    batch = read(log)
    log.with_name("mail.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert back(batch, batch.mark) == batch.lines
    assert back(batch) == [None] * 4, "nothing tells which archive that is"


def test_deep_in_an_archive(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "PIECE", 100)
    monkeypatch.setattr(readback, "MAX_INFLATED", 1000)
    batch = read(log)
    log.with_name("mail.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert back(batch, batch.mark) == [*batch.lines[:2], None, None]


def test_nothing_but_lines(log: Path) -> None:
    batch = read(log)
    where = [1, len(TEXT), 10**9, 2**70, -5]
    assert lines_at(str(log), batch.device, batch.inode, b"", where) == [None] * 5


def test_gone(log: Path) -> None:
    batch = read(log)
    log.unlink()
    assert back(batch) == [None] * 4
    assert back(batch, batch.mark) == [None] * 4


def test_inode_of_another_device(log: Path) -> None:
    batch = read(log)
    assert lines_at(str(log), batch.device + 1, batch.inode, b"", batch.offsets) == [None] * 4
