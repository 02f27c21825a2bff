"""Finding generations in a directory that is being rotated at the same moment.

The rotations are real; what is patched is only the moment at which they happen.
"""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.tail import finding, siblings
from throttled.tail.finding import between, locate, open_log
from throttled.tail.generation import Packed, Plain
from throttled.tail.position import Position


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three generations."""
    for name in ("mail.log.2", "mail.log.1", "mail.log"):
        (tmp_path / name).write_text(f"Nov 22 16:12:00 host postfix/smtpd[1]: {name}\n" * 9)
    return tmp_path / "mail.log"


def opened(path: Path) -> Plain:
    file = open_log(str(path))
    assert file
    return file


def position(log: Path, name: str) -> Position:
    file = opened(log.with_name(name))
    file.seek(50)
    file.close()
    return file.position(str(log))


def text(file: Plain | Packed | None) -> str:
    assert file
    lines = file.read(10_000)[0]
    file.close()
    return lines[-1].split()[-1]


def rotate(log: Path) -> None:
    log.with_name("mail.log.2").rename(log.with_name("mail.log.3"))
    log.with_name("mail.log.1").rename(log.with_name("mail.log.2"))
    log.rename(log.with_name("mail.log.1"))
    log.write_text("the next one\n")


def once_before(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, act: Callable[[], object]
) -> None:
    """Let something happen before the first call of a function."""
    real = getattr(owner, name)
    todo = [act]

    def call(*arguments: object) -> object:
        while todo:
            todo.pop()()
        return real(*arguments)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("function", ["find", "unchanged"])
@pytest.mark.parametrize("name", ["mail.log.2", "mail.log.1", "mail.log"])
def test_located_during_a_rotation(
    log: Path, name: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = position(log, name)
    once_before(monkeypatch, siblings, function, lambda: rotate(log))
    assert text(locate(where)) == name


@pytest.mark.parametrize("function", ["find", "newer", "unchanged"])
def test_between_during_a_rotation(
    log: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = position(log, "mail.log.2")
    current = opened(log)
    once_before(monkeypatch, siblings, function, lambda: rotate(log))
    found, missing = between(where, current)
    assert ([text(file) for file in found], missing) == (["mail.log.1"], 0)
    current.close()


def test_gone_is_gone(log: Path) -> None:
    where = position(log, "mail.log.1")
    log.with_name("mail.log.1").unlink()
    assert locate(where) is None
    current = opened(log)
    assert between(where, current) == ([], 0)
    current.close()


def test_directory_that_never_rests(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(siblings, "unchanged", lambda *_: False)
    current = opened(log)
    assert between(position(log, "mail.log.2"), current) == ([], 0)
    current.close()
    where = position(log, "mail.log.1")
    log.with_name("mail.log.1").unlink()
    assert locate(where) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_file_removed_before_it_is_opened(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = position(log, "mail.log.1")
    once_before(monkeypatch, os, "open", log.with_name("mail.log.1").unlink)
    assert finding.locate(where) is None


def test_open_log(log: Path) -> None:
    assert open_log(str(log.with_name("missing"))) is None
    assert open_log(str(log / "under a file")) is None
    with pytest.raises(SourceError, match="not a regular file"):
        open_log(str(log.parent))
    assert text(open_log(str(log))) == "mail.log"


@pytest.mark.parametrize("packed", [False, True])
def test_a_name_and_inode_number_that_are_another_generations_when_opened(
    log: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    at = position(log, "mail.log.2")
    old, other = log.with_name("mail.log.2"), log.with_name("mail.log.1").read_bytes()
    if packed:
        archive = log.with_name("mail.log.2.gz")
        archive.write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
        old, other = archive, gzip.compress(other)
    once_before(monkeypatch, os, "open", lambda: old.write_bytes(other))  # the same inode
    assert locate(at) is None
