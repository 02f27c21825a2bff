"""Names of rotated files, their order, and which file a position means."""

import gzip
import os
from pathlib import Path

import pytest

from throttled.tail import siblings
from throttled.tail.position import fingerprint
from throttled.tail.siblings import Sibling, find, newer, older, scan, unchanged

DAY = 86400
HEAD = b"Nov 22 16:12:00 host postfix/smtpd[1]: connect from unknown[198.51.100.7]\n"


def make(directory: Path, *names: str) -> str:
    """Make files in the order from old to new, a day between them; return the log's path."""
    for age, name in enumerate(reversed(names)):
        path = directory / name
        text = f"{name} ".encode() + HEAD
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        os.utime(path, (1e9 - age * DAY, 1e9 - age * DAY))
    return str(directory / names[-1])


def names(files: list[Sibling]) -> list[str]:
    return [file.path.name for file in files]


def called(path: str, name: str) -> Sibling:
    return next(file for file in scan(path) if file.path.name == name)


GENERATIONS = [
    # logrotate, delaycompress; savelog begins at 0
    ["mail.log.10.gz", "mail.log.9.gz", "mail.log.2.gz", "mail.log.1", "mail.log.0", "mail.log"],
    # logrotate, dateext
    ["mail.log-20260801.gz", "mail.log-20260822", "mail.log-20260823", "mail.log"],
    # logrotate, extension .log
    ["mail.3.log.gz", "mail.2.log", "mail.1.log", "mail.log"],
    ["mail-20260821.log.gz", "mail-20260822.log", "mail.log"],
    # postfix logrotate; SUSE compresses with xz
    ["maillog.20260821-235959.gz", "maillog.20260822-000001", "maillog"],
]


@pytest.mark.parametrize("generations", GENERATIONS)
def test_order_is_in_the_names(tmp_path: Path, generations: list[str]) -> None:
    path = make(tmp_path, *generations)
    make(tmp_path, "mail.err", "mail.log.save", "xmail.log.1", "mail.log.x.1", "mail.log.1.tmp")
    for index, name in enumerate(generations[:-1]):
        file = called(path, name)
        assert names(newer(scan(path), file)) == generations[index + 1 : -1]
        assert names(older(scan(path), file)) == generations[:index]
    assert newer(scan(path), called(path, generations[-1])) == []
    assert names(older(scan(path), called(path, generations[-1]))) == generations[:-1]


def test_file_of_no_scheme_has_no_neighbours(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.2", "mail.log.save", "mail.log.1", "mail.log")
    assert newer(scan(path), called(path, "mail.log.save")) == []
    assert older(scan(path), called(path, "mail.log.save")) == []


def test_log_that_was_never_rotated(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log")
    assert newer(scan(path), called(path, "mail.log")) == []
    assert older(scan(path), called(path, "mail.log")) == []


def test_left_over_of_another_time_is_not_newer(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.0", "mail.log.2", "mail.log.1", "mail.log")
    assert names(newer(scan(path), called(path, "mail.log.2"))) == ["mail.log.1"]


def test_scheme_in_use_is_the_one_of_the_latest(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.2", "mail.log.1", "mail.log-20260822", "mail.log")
    assert names(older(scan(path), called(path, "mail.log"))) == ["mail.log-20260822"]


def test_original_is_taken_while_it_is_being_compressed(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.3", "mail.log.2.gz", "mail.log.2", "mail.log.1", "mail.log")
    later = newer(scan(path), called(path, "mail.log.3"))
    assert names(later) == ["mail.log.2", "mail.log.1"]


def mark(name: str) -> bytes:
    return fingerprint(f"{name} ".encode() + HEAD)


def test_found_by_inode_whatever_its_name(tmp_path: Path) -> None:
    path = make(tmp_path, "kept", "mail.log.1", "mail.log")
    for name in ("kept", "mail.log.1", "mail.log"):
        file = find(scan(path), (tmp_path / name).stat().st_ino, mark(name))
        assert file
        assert file.path.name == name


def test_reused_inode_is_not_taken(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.1", "mail.log")
    assert find(scan(path), (tmp_path / "mail.log").stat().st_ino, mark("another")) is None


def test_without_a_fingerprint_only_a_generation_is_taken(tmp_path: Path) -> None:
    path = make(tmp_path, "auth.log", "mail.log.1", "mail.log")
    inode = (tmp_path / "mail.log.1").stat().st_ino
    for unknown in (b"", fingerprint(b""), fingerprint(b"mail")):
        file = find(scan(path), inode, unknown)
        assert file
        assert file.path.name == "mail.log.1"
        assert find(scan(path), (tmp_path / "auth.log").stat().st_ino, unknown) is None


def test_found_by_content(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.3.gz", "mail.log.2.gz", "mail.log.1", "other", "mail.log")
    for name in ("mail.log.3.gz", "mail.log.1"):
        file = find(scan(path), 0, mark(name))
        assert file
        assert file.path.name == name
    assert find(scan(path), 0, mark("other")) is None
    assert find(scan(path), 0, fingerprint(b"mail.log.1 Nov")) is None, "too short"


def test_few_are_compared_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, "mail.log.3", "mail.log.2", "mail.log.1", "mail.log")
    monkeypatch.setattr(siblings, "MAX_COMPARED", 2)
    assert find(scan(path), 0, mark("mail.log.1"))
    assert find(scan(path), 0, mark("mail.log.2")) is None


def test_head_of_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.2", "mail.log.1", "mail.log")
    (tmp_path / "mail.log.2.gz").write_bytes(b"\x1f\x8bgarbage")
    assert called(path, "mail.log.2.gz").head() == b""
    first, second = called(path, "mail.log.1"), called(path, "mail.log.2")
    first.path.rename(second.path)
    assert first.head() == b""
    assert second.head() == b""


def test_only_regular_files_are_siblings(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log")
    (tmp_path / "mail.log.1").mkdir()
    (tmp_path / "mail.log.2").symlink_to("mail.log")
    os.mkfifo(tmp_path / "mail.log.3")
    assert names(scan(path)) == ["mail.log"]


def test_siblings_of_a_link_are_those_of_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    make(tmp_path / "real", "x.log.1", "x.log")
    (tmp_path / "log").symlink_to("real/x.log")
    files = scan(str(tmp_path / "log"))
    assert [(file.path.name, file.scheme) for file in files] == [
        ("x.log", "log"),
        ("x.log.1", "number"),
    ]


def test_directory_that_cannot_be_read(tmp_path: Path) -> None:
    assert scan(str(tmp_path / "missing" / "log")) == []
    (tmp_path / "circle").symlink_to("circle")
    assert scan(str(tmp_path / "circle" / "log")) == []


def test_unchanged(tmp_path: Path) -> None:
    path = make(tmp_path, "mail.log.1", "mail.log")
    files = scan(path)
    (tmp_path / "mail.log").write_text("longer than before")
    assert unchanged(path, files)
    (tmp_path / "mail.log.1").rename(tmp_path / "mail.log.2")
    assert not unchanged(path, files)


def test_file_that_vanishes_while_the_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock: the moment between readdir and stat cannot be met on purpose."""
    path = make(tmp_path, "mail.log.1", "mail.log")
    gone = tmp_path / "gone"
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([gone, tmp_path / "mail.log"]))
    assert names(scan(path)) == ["mail.log"]
