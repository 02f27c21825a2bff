import gzip
import os
import time
from datetime import UTC
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.sources.history import in_order, reference, rotated, with_hosts


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


def logged(host: str, client: str) -> bytes:
    line = f"Jan 3 10:00:00 {host} postfix/smtpd[1]: connect from unknown[{client}]\n"
    return line.encode()


def others(log: Path) -> list[str]:
    lines, names = with_hosts(str(log), Facts(hostnames=frozenset({"mx7.example.org"})), UTC)
    assert "".join(f"{line}\n" for some, _ in lines for line in some) == log.read_text()
    return names


@pytest.mark.parametrize("shift", range(-24, 25, 3))
def test_this_host_is_found_wherever_its_name_stands(tmp_path: Path, shift: int) -> None:
    """As also across the border of two pieces that are read."""
    log = tmp_path / "mail.log"
    front = logged("mx1", "198.51.100.7") * 2000
    log.write_bytes(front[-65_536 + shift :].partition(b"\n")[2] + logged("MX7", "198.51.100.8"))
    assert others(log) == []


def test_another_hosts_log_that_mentions_this_host(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    hosts = logged("mx1", "198.51.100.7") * 2000, logged("mx2", "198.51.100.7")
    log.write_bytes(hosts[0])
    assert others(log) == ["mx1"]
    log.write_bytes(hosts[0] + b"kernel: it is not mx7.example.org \n" + hosts[1])
    assert others(log) == ["mx1", "mx2"]
