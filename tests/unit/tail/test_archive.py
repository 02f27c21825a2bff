"""Whole logs, compressed or not."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.tail.archive import PIECE, read_log

LINES = [f"Nov 22 16:12:00 host postfix/smtpd[{n}]: connect\xff{n * n}" for n in range(20_000)]
TEXT = "".join(f"{line}\n" for line in LINES).encode("latin-1")


def plain(text: bytes) -> bytes:
    return text


PACKINGS = [plain, gzip.compress, lzma.compress, bz2.compress]


@pytest.mark.parametrize("pack", PACKINGS)
@pytest.mark.parametrize("end", [b"", b"last"])
def test_lines_and_progress(tmp_path: Path, pack: Callable[[bytes], bytes], end: bytes) -> None:
    path = tmp_path / "log"  # not the name tells the compression
    path.write_bytes(pack(TEXT + end))
    batches = list(read_log(str(path)))
    lines = [line for batch, _ in batches for line in batch]
    assert lines == LINES + ([end.decode()] if end else [])
    progress = [consumed for _, consumed in batches]
    assert progress == sorted(progress)
    assert progress[-1] == path.stat().st_size
    assert max(sum(map(len, batch)) for batch, _ in batches) < 2 * PIECE


@pytest.mark.parametrize("pack", PACKINGS)
def test_several_members(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(TEXT) + pack(TEXT))
    assert sum(len(batch) for batch, _ in read_log(str(path))) == 2 * len(LINES)


@pytest.mark.parametrize("pack", PACKINGS)
def test_empty(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(b""))
    assert [batch for batch, _ in read_log(str(path))] == [[]]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_cut_archive_gives_its_good_lines_first(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(TEXT) + pack(os.urandom(10_000))[:-1000])
    lines: list[str] = []
    with pytest.raises(SourceError, match="damaged") as caught:
        lines.extend(line for batch, _ in read_log(str(path)) for line in batch)
    assert lines[: len(LINES)] == LINES
    assert caught.value.hint


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_corrupt_archive(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "log"
    packed = bytearray(pack(TEXT))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed)
    with pytest.raises(SourceError, match="damaged"):
        list(read_log(str(path)))


def test_zstd_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd1234")
    with pytest.raises(SourceError, match="zstd") as caught:
        list(read_log(str(path)))
    assert "zstd -dc" in caught.value.hint


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        list(read_log(str(tmp_path / "missing")))
    with pytest.raises(SourceError, match="directory") as caught:
        list(read_log(str(tmp_path)))
    assert "log files" in caught.value.hint


@pytest.mark.parametrize("pack", [plain, gzip.compress])
def test_standard_input(pack: Callable[[bytes], bytes]) -> None:
    program = """
from throttled.tail.archive import read_log
batches = list(read_log("-"))
print(sum(len(batch) for batch, _ in batches), batches[-1][1])
"""
    packed = pack(TEXT)
    done = subprocess.run(
        [sys.executable, "-c", program], input=packed, capture_output=True, check=True
    )
    assert done.stdout.split() == [str(len(LINES)).encode(), str(len(packed)).encode()]


def test_memory_is_flat(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(20):
            file.write(TEXT)
    tracemalloc.start()
    try:
        for _ in read_log(str(path)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * PIECE
