"""Which files a path with `*` means: real directories."""

import os
from pathlib import Path

import pytest

from throttled.tail import pattern
from throttled.tail.pattern import expand, is_pattern, matches, scan


def touch(*paths: Path, at: float = 0.0) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
        if at:
            os.utime(path, (at, at))


def names(directory: Path, text: str) -> list[str]:
    return [Path(match.path).name for match in scan(f"{directory}/{text}").files]


def test_only_an_asterisk_makes_a_pattern() -> None:
    assert is_pattern("/a/*/b")
    assert not is_pattern("/a/[b]?.log")


def test_names_within_one_directory(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.log", "b.log", ".c.log", "d.log\n", "e.txt", "log")))
    (tmp_path / "directory.log").mkdir()
    (tmp_path / "nowhere.log").symlink_to("nothing")
    assert names(tmp_path, "*.log") == ["a.log", "b.log"]
    assert names(tmp_path, ".*.log") == [".c.log"]
    assert names(tmp_path, "*") == ["a.log", "b.log", "d.log\n", "e.txt", "log"]


def test_directories_within_directories(tmp_path: Path) -> None:
    """As docker has them: containers/ID/ID-json.log."""
    touch(tmp_path / "c/1/1-json.log", tmp_path / "c/2/2-json.log", tmp_path / "c/2/other")
    touch(tmp_path / "c/3/deep/x/mail.log", tmp_path / "c/file")
    assert names(tmp_path, "c/*/*-json.log") == ["1-json.log", "2-json.log"]
    assert names(tmp_path, "c/*/deep/*/mail.log") == ["mail.log"]
    assert names(tmp_path, "none/*") == []


def test_whether_a_path_is_meant_though_it_is_gone() -> None:
    assert matches("/c/*/*-json.log", "/c/1/1-json.log")
    assert not matches("/c/*/*-json.log", "/c/1/2/1-json.log")
    assert not matches("/c/*.log", "/c/.x.log")
    assert not matches("/c/*.log", "/d/x.log")


def test_rotated_files_are_read_by_the_tail_of_their_log(tmp_path: Path) -> None:
    rotated = ("mail.log.1", "mail.log.2.gz", "mail.log-20261129", "mail-20261129.log")
    touch(*(tmp_path / name for name in ("mail.log", *rotated)))
    assert names(tmp_path, "mail*") == ["mail.log"]
    (tmp_path / "mail.log").unlink()
    assert names(tmp_path, "mail*") == ["mail-20261129.log", "mail.log-20261129", "mail.log.1"]


def test_dated_names_beside_a_link_to_the_newest(tmp_path: Path) -> None:
    touch(tmp_path / "mail-20261128.log", tmp_path / "mail-20261129.log")
    (tmp_path / "mail.log").symlink_to("mail-20261129.log")
    os.link(tmp_path / "mail-20261128.log", tmp_path / "mail-again.log")
    assert names(tmp_path, "mail*.log") == ["mail-20261128.log", "mail-20261129.log"]


def test_those_written_last_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "MAX_MATCHES", 2)
    for number in range(4):
        touch(tmp_path / f"{number}.log", at=1e9 - number)
    found = scan(f"{tmp_path}/*.log")
    assert [Path(match.path).name for match in found.files] == ["0.log", "1.log"]
    assert found.total == len(found.names) == 4


def test_more_names_than_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "MAX_NAMES", 5)
    monkeypatch.setattr(pattern, "MAX_WATCHED", 3)
    touch(*(tmp_path / str(number) / "x.log" for number in range(9)))
    found = scan(f"{tmp_path}/*/*.log")
    assert not found.complete
    assert found.total < 5
    assert len(found.directories) == 3


def test_a_changed_directory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "_GRAIN", 0.0)
    touch(tmp_path / "a" / "x.log")
    looked = scan(f"{tmp_path}/*/*.log")
    assert not looked.outdated()
    touch(tmp_path / "a" / "y.log")
    assert looked.outdated()
    looked = scan(f"{tmp_path}/*/*.log")
    touch(tmp_path / "b" / "z.log")
    assert looked.outdated()
    looked = scan(f"{tmp_path}/c/*.log")
    assert not looked.outdated()
    touch(tmp_path / "c" / "z.log")
    assert looked.outdated()


def test_a_directory_that_changed_just_now_may_change_again(tmp_path: Path) -> None:
    touch(tmp_path / "x.log")
    assert scan(f"{tmp_path}/*.log").outdated()


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    touch(tmp_path / "a.log", tmp_path / "b.log")
    assert expand(["/x", f"{tmp_path}/*.log", "journal"]) == [
        "/x",
        f"{tmp_path}/a.log",
        f"{tmp_path}/b.log",
        "journal",
    ]
