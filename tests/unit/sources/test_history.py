import gzip
import os
import time
from datetime import UTC
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.sources.history import in_order, reference, rotated


def write(path: Path, month: str, written: float) -> str:
    text = f"no event\n{month} 3 10:00:00 mx postfix/smtpd[1]: connect from unknown[198.51.100.7]\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    os.utime(path, (written, written))
    return str(path)


def test_in_order_of_the_first_events_across_a_new_year(tmp_path: Path) -> None:
    january = write(tmp_path / "a", "Jan", 1_768_000_000)  # 2026-01-09
    december = write(tmp_path / "b.gz", "Dec", 1_768_000_000)
    (tmp_path / "empty").touch()
    empty = str(tmp_path / "empty")
    assert in_order([january, december, empty, "-"], UTC) == [empty, "-", december, january]
    (tmp_path / "noise").write_text("no log\n")
    assert in_order([january, str(tmp_path / "noise")], UTC)[1] == january
    with pytest.raises(SourceError):
        in_order([str(tmp_path / "absent")], UTC)


def test_reference(tmp_path: Path) -> None:
    assert reference(write(tmp_path / "a", "Jan", 1000.0)) == 1000.0
    for path in ("-", str(tmp_path / "absent")):
        assert time.time() - 60 < reference(path) <= time.time()


def test_rotated_files_are_found_oldest_first(tmp_path: Path) -> None:
    log = write(tmp_path / "mail.log", "Mar", 3000.0)
    one = write(tmp_path / "mail.log.1", "Feb", 2000.0)
    two = write(tmp_path / "mail.log.2.gz", "Jan", 1000.0)
    write(tmp_path / "mail.log.save", "Jan", 1000.0)
    write(tmp_path / "other.log.1", "Jan", 1000.0)
    assert rotated(log) == [two, one, log]
    absent = str(tmp_path / "absent")
    assert rotated(absent) == [absent]
