"""Replacing a file: whole or not at all, with owner, permissions and links as before."""

from pathlib import Path

import pytest

from throttled.linux.replacement import replace


def test_a_new_file_has_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "new"
    replace(path, "one\r\ntwo\n", 0o640)
    assert path.read_bytes() == b"one\r\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_mode_and_link_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o604)
    link.symlink_to(path)
    replace(link, "after", 0o600)
    assert link.is_symlink()
    assert path.read_text() == "after"
    assert path.stat().st_mode & 0o777 == 0o604


def test_what_cannot_be_written_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "\ud800", 0o600)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "report.html"
    with pytest.raises(FileNotFoundError) as caught:
        replace(path, "x", 0o600)
    assert caught.value.filename == str(path)
