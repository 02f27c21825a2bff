"""Reading one generation."""

import gzip
import os
from pathlib import Path

import pytest

from throttled.tail.generation import Packed, Plain, RewrittenError
from throttled.tail.position import HEAD, Position, fingerprint, fits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthr")
    return path


def plain(path: Path) -> Plain:
    return Plain(os.open(path, os.O_RDONLY))


def packed(path: Path, data: bytes, offset: int) -> Packed:
    path.write_bytes(data)
    return Packed(os.open(path, os.O_RDONLY), Position("log", 1, 2, offset, b"mark"))


def test_plain(path: Path) -> None:
    file = plain(path)
    assert file.read(7) == (["one"], [0], True)
    assert file.lag() == 4
    assert file.read(100) == (["two"], [4], False)
    assert file.read(100) == ([], [], False)
    assert file.position("log").offset == 8
    assert file.flush() == (["thr"], [8])
    file.close()


def test_a_file_that_cannot_be_asked_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale handle of NFS, played by a file that is closed: `read` tells it, and nobody else."""
    file = plain(path)
    file.read(100)
    with monkeypatch.context() as patch:
        patch.setattr(file, "fd", os.open(path, os.O_RDONLY))
        os.close(file.fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.read(100)
        assert file.lag() == 0
        assert file.position("log").offset == 8
    file.close()


def test_fingerprint_grows_with_the_file(path: Path) -> None:
    file = plain(path)
    file.read(100)
    path.write_bytes(path.read_bytes() + b"x" * HEAD)
    file.read(1000)
    assert file.position("log").fingerprint == fingerprint(path.read_bytes()[:HEAD])
    file.close()


def test_position_of_what_is_not_read_yet_knows_the_head(path: Path) -> None:
    path.write_text("")
    file = plain(path)
    path.write_text("written later")
    assert file.position("log").fingerprint == fingerprint(b"written later")
    path.write_text("rewritten")
    assert file.position("log").fingerprint == fingerprint(b"written later")
    file.close()


def test_rewritten(path: Path) -> None:
    file = plain(path)
    file.read(100)
    path.write_text("other\nand longer than before\n")
    with pytest.raises(RewrittenError):
        file.read(100)
    file.restart()
    assert file.read(100) == (["other", "and longer than before"], [0, 6], False)
    assert fits(file.position("log").fingerprint, path.read_bytes())
    file.close()


def test_shortened(path: Path) -> None:
    file = plain(path)
    file.read(100)
    os.truncate(path, 5)
    with pytest.raises(RewrittenError):
        file.read(100)
    assert file.lag() == 0
    file.close()


@pytest.mark.parametrize(
    ("text", "where"), [("", 0), ("one\n", 4), ("one\ntw", 4), ("x" * 9000, 808), ("tw", 0)]
)
def test_seek_end(path: Path, text: str, where: int) -> None:
    path.write_text(text)
    file = plain(path)
    file.seek_end()
    assert file.end == where
    file.close()


def test_over_long_lines_are_counted_over_a_seek(path: Path) -> None:
    path.write_text("x" * 9000 + "\n")
    file = plain(path)
    file.read(10_000)
    file.seek(0)
    file.read(10_000)
    assert file.over_long == 2
    file.close()


def test_packed(path: Path) -> None:
    file = packed(path, gzip.compress(b"one\ntwo\nthr"), 4)
    assert file.read(2) == ([], [], True)
    assert file.read(6) == (["two"], [4], True)
    assert file.read(100) == ([], [], True)
    assert not file.finished
    assert file.read(100) == ([], [], False)
    assert (file.finished, file.damaged, file.lag()) == (True, False, 0)
    assert file.position("log") == Position("log", 1, 2, 8, b"mark")
    assert file.flush() == (["thr"], [8])
    file.close()


@pytest.mark.parametrize("data", [b"\x1f\x8bgarbage", b"\x28\xb5\x2f\xfdzstd"])
def test_damaged(path: Path, data: bytes) -> None:
    file = packed(path, data, 0)
    assert file.read(100) == ([], [], False)
    assert (file.finished, file.damaged) == (True, True)
    file.close()
