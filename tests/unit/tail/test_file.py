"""Following a log, each test named after what the operating system did to the file."""

import errno
import gzip
import os
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lab.machine.limits import no_descriptors
from lab.network import netns
from throttled.errors import SourceError
from throttled.tail import file as module
from throttled.tail.file import MAX_FILES, FileTail
from throttled.tail.generation import Plain
from throttled.tail.lines import MAX_LINE
from throttled.tail.position import Position

BOUND = netns.DEADMAN  # seconds to wait for an event


class Follower:
    """A tail, read like the daemon does: at start, then when its descriptor is readable."""

    def __init__(
        self, path: Path, position: Position | None = None, *, from_start: bool = False
    ) -> None:
        self.tail = FileTail(str(path), position, from_start=from_start)
        self.position = position
        self.poll = select.poll()
        self.poll.register(self.tail.fileno(), select.POLLIN)

    def now(self) -> list[str]:
        """What there is to read just now."""
        lines = []
        while batch := self.tail.read():
            lines += batch.lines
            self.position = batch.position
            assert len(batch.offsets) == len(batch.lines)
            if batch.done:
                break
        return lines

    def woken(self) -> list[str]:
        """What there is to read after an event that must come."""
        assert self.poll.poll(BOUND * 1000), "no event"
        return self.now()

    def quiet(self) -> bool:
        return not self.poll.poll(0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    directory = tmp_path / "log"
    directory.mkdir()
    return directory / "mail.log"


@pytest.fixture(autouse=True)
def no_descriptor_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the tails of a test; then as many descriptors are open as before."""
    before = descriptors()
    tails: list[FileTail] = []
    original = FileTail.__init__

    def remember(self: FileTail, *args: object, **options: object) -> None:
        original(self, *args, **options)  # type: ignore[arg-type]  # whatever the test gave
        tails.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileTail, "__init__", remember)
        yield
    for tail in tails:
        tail.close()
    assert descriptors() == before, request.node.name


def numbered(first: int, last: int) -> list[str]:
    """Lines long enough that a fingerprint of one of them means something."""
    return [f"Nov 22 16:12:00 host postfix/smtpd[123]: line {n}" for n in range(first, last)]


def descriptors() -> int:
    """How many are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def append(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_begins_at_the_end(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    assert tail.now() == []
    append(log, numbered(3, 5))
    assert tail.woken() == numbered(3, 5)


def test_begins_at_the_end_with_the_line_being_written(log: Path) -> None:
    log.write_text("one\ntw")
    tail = Follower(log)
    append(log, ["o"])
    assert tail.woken() == ["two"]


def test_begins_at_the_start(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 3)
    assert tail.tail.state().lag == 0


def test_batch_says_where_its_lines_are(log: Path) -> None:
    log.write_text("one\ntwo\nthr")
    st = log.stat()
    batch = FileTail(str(log), None, from_start=True).read()
    assert batch is not None
    assert (batch.path, batch.device, batch.inode) == (str(log), st.st_dev, st.st_ino)
    assert (batch.lines, batch.offsets, batch.done) == (["one", "two"], [0, 4], True)
    assert batch.position.offset == 8


def test_batches_are_bounded(log: Path) -> None:
    append(log, numbered(0, 100))
    tail = FileTail(str(log), None, from_start=True)
    lines = []
    sizes = []
    while batch := tail.read(1000):
        lines += batch.lines
        sizes.append(sum(map(len, batch.lines)))
    assert lines == numbered(0, 100)
    assert max(sizes) <= 1000 + len(lines[0])
    assert not tail.read(1000)


def test_partial_line(log: Path) -> None:
    log.write_text("")
    tail = Follower(log)
    for piece in ("connect from ", "unknown[198.51", ".100.9]"):
        with log.open("a") as file:
            file.write(piece)
        assert tail.woken() == []
    append(log, [""])
    assert tail.woken() == ["connect from unknown[198.51.100.9]"]


def test_over_long_line(log: Path) -> None:
    log.write_text("x" * 3_000_000 + "\nnext\n")
    tail = Follower(log, from_start=True)
    assert tail.now() == ["x" * MAX_LINE, "next"]
    assert tail.tail.state().over_long == 1


def test_nul(log: Path) -> None:
    log.write_bytes(b"a\0b\n" + bytes(4096) + b"after\n")
    tail = Follower(log, from_start=True)
    assert tail.now() == ["a\0b", "after"]


def test_invalid_utf8(log: Path) -> None:
    log.write_bytes(b"helo=<\xff\xfe\x85\xc3>\r\n")
    tail = Follower(log, from_start=True)
    assert tail.now() == ["helo=<\xff\xfe\x85\xc3>\r"]


def test_rename_rotation(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    append(log, numbered(3, 5))
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(5, 7))
    assert tail.now() == numbered(0, 7)
    assert tail.tail.state().rotations == 1


def test_late_write_after_rename(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 1)
    with log.open("a") as writer:
        log.rename(log.with_name("mail.log.1"))
        log.touch()
        assert tail.woken() == []
        print(numbered(1, 2)[0], file=writer, flush=True)
        assert tail.woken() == numbered(1, 2)
        append(log, numbered(2, 3))
        assert tail.woken() == numbered(2, 3)
        print(numbered(3, 4)[0], file=writer, flush=True)
        assert tail.woken() == numbered(3, 4)


def test_late_write_after_the_old_file_was_deleted(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log)
    with log.open("a") as writer:
        log.unlink()
        append(log, numbered(1, 2))
        assert tail.woken() == numbered(1, 2)
        print(numbered(2, 3)[0], file=writer, flush=True)
        assert tail.woken() == numbered(2, 3)


def test_old_file_is_given_back_when_it_was_quiet(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_text("one\nwithout an end")
    tail = Follower(log, from_start=True)
    before = descriptors()
    assert tail.now() == ["one"]
    log.rename(log.with_name("mail.log.1"))
    append(log, ["new"])
    assert tail.woken() == ["new"]
    monkeypatch.setattr(module, "LINGER", -1.0)
    append(log, ["newer"])
    assert tail.woken() == ["without an end", "newer"]
    assert descriptors() == before
    assert tail.position
    assert tail.position.older == ()


def test_the_position_names_a_new_file_before_anything_is_in_it(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 1)
    log.rename(log.with_name("mail.log.1"))
    log.touch()
    assert tail.woken() == []
    position = tail.tail.position
    assert position
    assert position.inode == log.stat().st_ino
    assert len(position.older) == 1


def test_old_file_is_kept_while_the_new_one_is_empty(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, numbered(0, 1))
    monkeypatch.setattr(module, "LINGER", -1.0)
    tail = Follower(log)
    with log.open("a") as writer:
        log.rename(log.with_name("mail.log.1"))
        log.touch()
        assert tail.woken() == []
        print(numbered(1, 2)[0], file=writer, flush=True)
        assert tail.woken() == numbered(1, 2)


def test_many_rotations_keep_few_files_open(log: Path) -> None:
    log.touch()
    tail = Follower(log)
    for number in range(3 * MAX_FILES):
        log.rename(log.with_name(f"mail.log-{20260800 + number}"))
        append(log, numbered(number, number + 1))
        assert tail.woken() == numbered(number, number + 1)
    assert len(tail.tail._files) == MAX_FILES
    assert tail.position
    assert len(tail.position.older) == MAX_FILES - 1


def test_copytruncate(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 3)
    append(log, numbered(3, 5))  # not read before the truncation: only the copy has them
    shutil.copy2(log, log.with_name("mail.log.1"))
    os.truncate(log, 0)
    assert tail.woken() == numbered(3, 5)
    append(log, numbered(5, 9))
    assert tail.woken() == numbered(5, 9)
    assert tail.tail.state().truncations == 1
    assert tail.tail.state().gaps == 0


def test_copytruncate_by_a_writer_that_does_not_append(log: Path) -> None:
    with log.open("w") as writer:
        writer.write("x" * 5000 + "\n")
        writer.flush()
        tail = Follower(log)
        os.truncate(log, 0)
        print(numbered(1, 2)[0], file=writer, flush=True)  # at 5001, behind a hole
        assert tail.woken() == numbered(1, 2)


def test_truncate(log: Path) -> None:
    append(log, numbered(0, 9))
    tail = Follower(log)
    log.write_text("".join(f"{line}\n" for line in numbered(9, 10)))
    assert tail.woken() == numbered(9, 10)
    os.truncate(log, 0)
    assert tail.woken() == []
    append(log, numbered(10, 11))
    assert tail.woken() == numbered(10, 11)
    assert tail.tail.state().truncations == 2


def test_truncate_and_grown_longer_than_before(log: Path) -> None:
    append(log, numbered(0, 2))
    tail = Follower(log)
    log.write_text("".join(f"{line}\n" for line in numbered(2, 9)))
    assert tail.woken() == numbered(2, 9)


def test_only_the_end_cut_off(log: Path) -> None:
    append(log, numbered(0, 9))
    tail = Follower(log)
    os.truncate(log, 300)
    assert tail.woken() == []
    append(log, numbered(9, 10))
    assert tail.woken() == numbered(9, 10)


def test_rotated_file_is_shredded(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    old = log.with_name("mail.log.1")
    log.rename(old)
    append(log, numbered(3, 4))
    assert tail.woken() == numbered(3, 4)
    old.write_bytes(b"garbage\n" * 100)
    assert tail.woken() == []
    append(log, numbered(4, 5))
    assert tail.woken() == numbered(4, 5)
    assert tail.tail.state().truncations == 0


def test_vanishes_and_comes_back(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    away = log.with_name("away")
    log.rename(away)
    assert tail.woken() == []
    assert not tail.tail.state().exists
    append(away, numbered(3, 4))
    assert tail.woken() == numbered(3, 4)
    away.rename(log)
    assert tail.woken() == []
    assert tail.tail.state().exists
    append(log, numbered(4, 5))
    assert tail.woken() == numbered(4, 5)
    assert tail.tail.state().rotations == 0


def test_rotation_is_undone(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    old = log.with_name("mail.log.1")
    log.rename(old)
    append(log, numbered(3, 4))
    assert tail.woken() == numbered(3, 4)
    old.rename(log)
    append(log, numbered(4, 5))
    assert tail.woken() == numbered(4, 5)


def test_an_older_file_that_is_gone_at_a_restart_is_a_gap(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    old = log.with_name("mail.log.1")
    log.rename(old)
    append(log, numbered(3, 4))
    assert tail.woken() == numbered(3, 4)
    tail.tail.close()
    old.unlink()
    append(log, numbered(4, 5))
    again = Follower(log, tail.position)
    assert again.now() == numbered(4, 5)
    assert again.tail.state().gaps == 1


def test_not_there_yet(log: Path) -> None:
    tail = Follower(log)
    assert tail.now() == []
    assert tail.position is None
    assert not tail.tail.state().exists
    append(log, numbered(0, 3))
    assert tail.woken() == numbered(0, 3)
    assert tail.tail.state().exists


def test_restart_before_it_was_there(log: Path) -> None:
    position = Follower(log).tail.position
    append(log, numbered(0, 3))
    tail = Follower(log, position)
    assert tail.now() == numbered(0, 3)
    assert tail.tail.state().gaps == 0


def test_directories_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.log"
    tail = Follower(path)
    assert tail.now() == []
    (tmp_path / "a").mkdir()
    assert tail.woken() == []
    (tmp_path / "a" / "b").mkdir()
    assert tail.woken() == []
    append(path, numbered(0, 3))
    assert tail.woken() == numbered(0, 3)


def test_directory_replaced(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    old = log.parent.with_name("old")
    log.parent.rename(old)
    append(old / "mail.log", numbered(3, 4))
    assert tail.woken() == numbered(3, 4)
    log.parent.mkdir()
    append(log, numbered(4, 5))
    assert tail.woken() == numbered(4, 5)
    append(old / "mail.log", numbered(5, 6))
    assert tail.woken() == numbered(5, 6)


def test_grandparent_replaced(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log)
    top = log.parent.parent
    top.rename(top.with_name("moved"))
    log.parent.mkdir(parents=True)
    append(log, numbered(1, 2))
    assert tail.woken() == numbered(1, 2)
    shutil.rmtree(top.with_name("moved"))


def test_symlink_retargeted(log: Path) -> None:
    first, second = log.with_name("first"), log.with_name("second")
    append(first, numbered(0, 2))
    append(second, numbered(2, 4))
    log.symlink_to("first")
    tail = Follower(log)
    append(first, numbered(4, 5))
    assert tail.woken() == numbered(4, 5)
    log.with_name("new").symlink_to(second)
    log.with_name("new").rename(log)
    assert tail.woken() == numbered(2, 4)
    append(first, numbered(5, 6))
    assert tail.woken() == numbered(5, 6)
    append(second, numbered(6, 7))
    assert tail.woken() == numbered(6, 7)


def test_symlink_whose_target_is_rotated(log: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    append(real / "x.log", numbered(0, 1))
    log.symlink_to("../real/./x.log")
    tail = Follower(log, from_start=True)
    (real / "x.log").rename(real / "x.log.1")
    append(real / "x.log", numbered(1, 2))
    (real / "x.log.1").rename(real / "x.log.2")
    (real / "x.log").rename(real / "x.log.1")
    append(real / "x.log", numbered(2, 3))
    assert tail.now() == numbered(0, 3)


def test_symlink_loop(log: Path) -> None:
    log.symlink_to(log)
    tail = Follower(log, from_start=True)
    with pytest.raises(SourceError, match="Too many levels") as caught:
        tail.now()
    assert "link" in caught.value.hint
    log.unlink()
    append(log, numbered(0, 1))
    assert tail.woken() == numbered(0, 1)


def test_two_rotations_between_reads(log: Path) -> None:
    append(log, numbered(0, 2))
    tail = Follower(log, from_start=True)
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(2, 4))
    log.with_name("mail.log.1").rename(log.with_name("mail.log.2"))
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(4, 6))
    assert tail.now() == numbered(0, 6)


def test_two_rotations_between_reads_by_date(log: Path) -> None:
    append(log, numbered(0, 2))
    tail = Follower(log, from_start=True)
    log.rename(log.with_name("mail.log-20260821"))
    append(log, numbered(2, 4))
    log.rename(log.with_name("mail.log-20260822"))
    append(log, numbered(4, 6))
    assert tail.now() == numbered(0, 6)


def test_older_generation_being_compressed_is_not_read_again(log: Path) -> None:
    for number in (1, 2, 3):
        append(log.with_name(f"mail.log.{number}"), numbered(0, 3))
    append(log, numbered(3, 4))
    tail = Follower(log, from_start=True)
    for number in (3, 2, 1):
        log.with_name(f"mail.log.{number}").rename(log.with_name(f"mail.log.{number + 1}"))
    log.rename(log.with_name("mail.log.1"))
    pack(log.with_name("mail.log.3"), keep=True)
    append(log, numbered(4, 5))
    assert tail.now() == numbered(3, 5)


def test_reused_inode(log: Path) -> None:
    append(log, numbered(0, 5))
    tail = Follower(log, from_start=True)
    tail.now()
    assert tail.position
    log.write_text("".join(f"{line}\n" for line in numbered(5, 15)))  # same inode, other file
    again = Follower(log, tail.position)
    assert again.now() == numbered(5, 15)
    assert again.tail.state().gaps == 1


def test_restart_continues_at_offset(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    append(log, numbered(3, 5))
    with log.open("a") as file:
        file.write("partial")
    again = Follower(log, tail.position)
    assert again.now() == numbered(3, 5)
    append(log, [" line"])
    third = Follower(log, again.position)
    assert third.now() == ["partial line"]
    assert third.tail.state().gaps == 0


def test_restart_before_anything_was_read(log: Path) -> None:
    append(log, numbered(0, 3))
    position = FileTail(str(log), None).position
    append(log, numbered(3, 5))
    assert Follower(log, position).now() == numbered(3, 5)


def rotate(log: Path) -> None:
    """Rename as logrotate does, without creating a new file."""
    for number in range(9, 0, -1):
        for end in ("", ".gz"):
            old = log.with_name(f"mail.log.{number}{end}")
            if old.exists():
                old.rename(log.with_name(f"mail.log.{number + 1}{end}"))
    log.rename(log.with_name("mail.log.1"))


def pack(path: Path, *, keep: bool = False) -> None:
    subprocess.run(["gzip", "--keep", path] if keep else ["gzip", path], check=True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_restart_after_rotation(log: Path, times: int, *, packed: bool) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    append(log, numbered(3, 5))
    for number in range(times):
        rotate(log)
        append(log, numbered(5 + number, 6 + number))
    if packed:
        for number in range(1, times + 1):
            pack(log.with_name(f"mail.log.{number}"))
    again = Follower(log, tail.position)
    assert again.now() == numbered(3, 5 + times)
    assert again.tail.state().gaps == 0
    append(log, numbered(20, 21))
    assert again.woken() == numbered(20, 21)
    assert Follower(log, again.position).now() == []


def test_an_archive_that_was_read_is_not_read_again_after_a_restart(log: Path) -> None:
    """Two rotations within `LINGER`, the later one compressed at once, and nothing logged since."""
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    rotate(log)
    append(log, numbered(3, 6))
    rotate(log)
    log.touch()
    pack(log.with_name("mail.log.1"))
    assert tail.now() == numbered(3, 6)
    again = Follower(log, tail.tail.position)
    assert again.now() == []
    append(log, numbered(6, 7))
    assert again.woken() == numbered(6, 7)


def test_restart_in_the_middle_of_an_archive(log: Path) -> None:
    append(log, numbered(0, 4000))
    first = FileTail(str(log), None, from_start=True)
    batch = first.read(1000)
    assert batch
    rotate(log)
    append(log, numbered(4000, 8000))
    rotate(log)
    append(log, numbered(8000, 8002))
    pack(log.with_name("mail.log.1"))
    pack(log.with_name("mail.log.2"))
    lines = batch.lines
    second = FileTail(str(log), batch.position)
    while len(lines) < 2000:
        batch = second.read(30_000)
        assert batch
        lines += batch.lines
    assert lines + Follower(log, batch.position).now() == numbered(0, 8002)


def test_restart_after_rotation_with_the_path_absent(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    append(log, numbered(3, 4))
    log.rename(log.with_name("mail.log.20260822-100001"))
    again = Follower(log, tail.position)
    assert again.now() == numbered(3, 4)
    append(log, numbered(4, 5))
    assert again.woken() == numbered(4, 5)


def test_restart_after_rotations_of_a_log_that_was_empty(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    rotate(log)
    log.touch()
    assert tail.now() == numbered(0, 3)
    tail.now()
    append(log, numbered(3, 5))
    rotate(log)
    append(log, numbered(5, 6))
    pack(log.with_name("mail.log.2"))
    pack(log.with_name("mail.log.1"))
    again = Follower(log, tail.position)
    assert again.now() == numbered(3, 6)
    assert again.tail.state().gaps == 0


def test_restart_after_the_inode_of_an_empty_log_was_reused() -> None:
    # Not in /tmp: Debian 13 has a tmpfs there, which numbers every file anew.
    with TemporaryDirectory(prefix="thr-", dir="/var/tmp") as place:
        # Another program on this file system may take the inode first: then all over again.
        assert any(_inode_of_an_empty_log_reused(Path(place, str(n))) for n in range(20))


def _inode_of_an_empty_log_reused(directory: Path) -> bool:
    directory.mkdir()
    log = directory / "mail.log"
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    rotate(log)
    log.touch()
    assert tail.now() == numbered(0, 3)
    assert tail.position
    empty = log.stat().st_ino
    append(log, numbered(3, 5))
    rotate(log)
    pack(log.with_name("mail.log.1"))
    tail.tail.close()
    for n in range(100):  # until the kernel uses it again
        log.touch()
        if log.stat().st_ino == empty:
            break
        log.rename(log.with_name(f"other{n}"))
    else:
        return False
    append(log, numbered(5, 6))
    again = Follower(log, tail.position)
    assert again.now() == numbered(3, 6)
    assert again.tail.state().gaps == 0
    return True


def test_restart_after_copytruncate(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    append(log, numbered(3, 4))
    shutil.copy2(log, log.with_name("mail.log.1"))
    log.write_text("".join(f"{line}\n" for line in numbered(4, 6)))
    assert Follower(log, tail.position).now() == numbered(3, 6)


def test_restart_while_a_log_is_empty_after_copytruncate(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    shutil.copy2(log, log.with_name("mail.log.1"))
    os.truncate(log, 0)
    assert tail.now() == []
    for position in (tail.position, tail.tail.position):
        assert Follower(log, position).now() == [], "the copy is not read from its start"
    append(log, numbered(3, 4))
    assert Follower(log, tail.position).now() == numbered(3, 4)


def test_restart_with_late_writes_to_the_old_file(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log, from_start=True)
    tail.now()
    with log.open("a") as writer:
        rotate(log)
        append(log, numbered(1, 2))
        assert tail.now() == numbered(1, 2)
        tail.tail.close()
        print(numbered(2, 3)[0], file=writer, flush=True)
        again = Follower(log, tail.position)
        assert again.now() == numbered(2, 3)
        print(numbered(3, 4)[0], file=writer, flush=True)
        assert again.woken() == numbered(3, 4)


def test_restart_after_the_file_was_lost(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    log.unlink()
    append(log.with_name("mail.log.1"), numbered(7, 8))  # another one, and older
    waiting = Follower(log, tail.position)
    assert waiting.now() == []
    assert waiting.tail.position == tail.position
    append(log, numbered(3, 5))
    assert waiting.woken() == numbered(3, 5)
    assert waiting.tail.state().gaps == 1


def test_restart_after_a_crash_lost_the_end_of_the_file(log: Path) -> None:
    append(log, numbered(0, 9))
    tail = Follower(log, from_start=True)
    tail.now()
    os.truncate(log, 300)
    again = Follower(log, tail.position)
    assert again.now() == []
    append(log, numbered(9, 10))
    assert again.woken() == numbered(9, 10)


def test_restart_with_a_damaged_archive(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log, from_start=True)
    tail.now()
    append(log, [os.urandom(30000).hex() for _ in range(9)])
    rotate(log)
    append(log, numbered(3, 4))
    archive = log.with_name("mail.log.1.gz")
    pack(log.with_name("mail.log.1"))
    os.truncate(archive, archive.stat().st_size // 2)
    again = Follower(log, tail.position)
    assert again.now()[-1] == numbered(3, 4)[0]
    assert again.tail.state().gaps == 1


def test_log_is_rewritten_with_the_same_content(log: Path) -> None:
    append(log, numbered(0, 9))
    tail = Follower(log, from_start=True)
    tail.now()
    subprocess.run(["sed", "-i", "s/line 8/line X/", log], check=True)
    assert tail.woken() == []
    append(log, numbered(9, 10))
    assert tail.woken()[-1] == numbered(9, 10)[0]


def test_log_is_rewritten_while_down_and_rotated_later(log: Path) -> None:
    append(log, numbered(0, 9))
    tail = Follower(log, from_start=True)
    tail.now()
    subprocess.run(["sed", "-i", "s/line 8/line X/", log], check=True)
    again = Follower(log, tail.position)
    assert again.now() == []
    with log.open("a") as writer:
        rotate(log)
        append(log, numbered(9, 10))
        assert again.woken() == numbered(9, 10)
        print(numbered(10, 11)[0], file=writer, flush=True)
        assert again.woken() == numbered(10, 11)


def test_other_files_in_the_directory_do_not_wake(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log)
    tail.now()
    append(log.with_name("auth.log"), numbered(0, 9))
    append(log.with_name("auth.log"), numbered(0, 9))
    tail.now()  # takes the event of its creation
    append(log.with_name("auth.log"), numbered(0, 9))
    assert tail.quiet()


def test_queue_overflow(log: Path) -> None:
    append(log, numbered(0, 1))
    tail = Follower(log)
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    other = log.with_name("x")
    for _ in range(queue // 2 + 1):
        os.close(os.open(other, os.O_CREAT))
        other.unlink()
    rotate(log)
    append(log, numbered(1, 2))
    assert tail.woken() == numbered(1, 2)


def test_not_a_regular_file(log: Path) -> None:
    log.mkdir()
    tail = Follower(log, from_start=True)
    with pytest.raises(SourceError, match="not a regular file"):
        tail.now()
    log.rmdir()
    append(log, numbered(0, 1))
    assert tail.woken() == numbered(0, 1)


def test_no_more_inotify_instances(log: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(SourceError, match="Too many open files") as caught:
            FileTail(str(log), None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "max_user_instances" in caught.value.hint


@pytest.mark.root
def test_no_more_watches(log: Path) -> None:
    program = f"""
import pathlib
from throttled.errors import SourceError
from throttled.tail.file import FileTail
limit = pathlib.Path("/proc/sys/user/max_inotify_watches")
limit.write_text("2")
pathlib.Path({str(log)!r}).write_text("one\\n")
tail = FileTail({str(log)!r}, None, from_start=True)
for text in ("", "two\\n"):
    with pathlib.Path({str(log)!r}).open("a") as file:
        file.write(text)
    try:
        while batch := tail.read(): print(batch.lines)
    except SourceError as error:
        print(error)
print(tail.state().error)
limit.write_text("100")
tail._retry._next = 0.0
tail.read()
print(repr(tail.state().error))
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
    )
    one, two, error, mended = done.stdout.splitlines()
    assert (one, two, mended) == ("['one']", "['two']", "''")
    assert "No space left" in error


class Clock:
    """Of the tail under test: what waits for seconds does not keep a test waiting."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.at = 1000.0
        patch.setattr(module, "monotonic", lambda: self.at)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_no_descriptor_at_a_rotation(log: Path, clock: Clock) -> None:
    """Nothing happens in the directory afterwards: it is tried again all the same."""
    append(log, numbered(0, 3))
    tail = Follower(log)
    assert tail.now() == []
    for number in (1, 2):  # of the first nothing is open yet either
        log.rename(log.with_name(f"mail.log-2026080{number}"))
        append(log, numbered(3 * number, 3 * number + 3))
    with no_descriptors():
        with pytest.raises(SourceError, match="Too many open files"):
            tail.now()
        clock.at += 100
        with pytest.raises(SourceError, match="Too many open files"):
            tail.now()
    assert "Too many open files" in tail.tail.state().error
    assert tail.quiet()
    assert tail.now() == []  # not yet
    clock.at += 30
    assert tail.now() == numbered(3, 9)
    assert (tail.tail.state().error, tail.tail.state().gaps) == ("", 0)


def test_no_descriptor_at_a_restart(log: Path, clock: Clock) -> None:
    """The position is not given up as that of a log that is gone."""
    append(log, numbered(0, 3))
    before = Follower(log, from_start=True)
    before.now()
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(3, 6))
    spare = os.open("/", os.O_RDONLY)  # for the inotify instance
    with no_descriptors():
        os.close(spare)
        tail = Follower(log, before.position)
        with pytest.raises(SourceError, match="Too many open files"):
            tail.now()
    clock.at += 1
    assert tail.now() == numbered(3, 6)
    assert tail.tail.state().gaps == 0


class Disk:
    """Stands in for a disk or an NFS server that fails: none can be had here.

    Reads of some inodes raise; what is opened anew is another handle.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.failing: dict[int, int] = {}  # inode: errno
        self.handles: dict[int, int] = {}  # descriptor: errno
        pread = os.pread

        def read(fd: int, count: int, offset: int) -> bytes:
            code = self.handles.get(fd) or self.failing.get(os.fstat(fd).st_ino, 0)
            if code:
                raise OSError(code, os.strerror(code))
            return pread(fd, count, offset)

        patch.setattr(os, "pread", read)

    def stale(self, fd: int) -> None:
        self.handles[fd] = errno.ESTALE


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_an_old_generation_that_cannot_be_read_blocks_nothing(
    log: Path, clock: Clock, disk: Disk, code: int
) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    assert tail.now() == []
    append(log, numbered(3, 5))
    disk.failing[log.stat().st_ino] = code
    log.rename(log.with_name("mail.log-20260801"))
    append(log, numbered(5, 7))
    with suppress(SourceError):
        assert tail.now() == numbered(5, 7)
    assert os.strerror(code) in tail.tail.state().error
    assert tail.position is not None
    assert len(tail.position.older) == 1  # a restart tries it too
    for number in range(2, 9):
        log.rename(log.with_name(f"mail.log-2026080{number}"))
        append(log, numbered(5 + number, 6 + number))
        clock.at += 1
        with suppress(SourceError):
            assert tail.now() == numbered(5 + number, 6 + number)
    assert len(tail.tail._files) <= MAX_FILES + 1
    assert tail.tail.state().gaps == 1
    clock.at += 60
    assert tail.now() == []
    assert tail.tail.state().error == ""


def test_an_old_generation_that_can_be_read_again(log: Path, clock: Clock, disk: Disk) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    assert tail.now() == []
    append(log, numbered(3, 5))
    inode = log.stat().st_ino
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(5, 7))
    disk.failing[inode] = errno.EIO
    with suppress(SourceError):
        tail.now()
    del disk.failing[inode]
    clock.at += 1
    assert tail.now() == numbered(3, 5)
    assert (tail.tail.state().error, tail.tail.state().gaps) == ("", 0)


def test_an_old_generation_is_given_up(log: Path, clock: Clock, disk: Disk) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    disk.failing[log.stat().st_ino] = errno.EIO
    log.rename(log.with_name("mail.log.1"))
    append(log, numbered(3, 5))
    for _ in range(3):
        with suppress(SourceError):
            tail.now()
        clock.at += module.PATIENCE
    assert (len(tail.tail._files), tail.tail.state().gaps) == (1, 1)
    assert tail.tail.state().error == ""


def test_a_stale_handle_of_the_log_is_opened_anew(log: Path, clock: Clock, disk: Disk) -> None:
    append(log, numbered(0, 3))
    tail = Follower(log)
    assert tail.now() == []
    append(log, numbered(3, 5))
    (file,) = tail.tail._files
    assert isinstance(file, Plain)
    disk.stale(file.fd)
    with pytest.raises(SourceError, match="Stale file handle"):
        tail.now()
    disk.handles.clear()  # the number is another file's from now on
    clock.at += 1
    assert tail.now() == numbered(3, 5)
    assert tail.tail._files[0] is not file
    append(log, numbered(5, 6))
    assert tail.woken() == numbered(5, 6)
    assert tail.tail.state().error == ""


def overwrite(log: Path, text: bytes) -> None:
    with log.open("r+b") as file:
        file.write(text)


@pytest.mark.parametrize("length", [1, 256, 1000])
def test_the_first_bytes_are_overwritten_in_place(log: Path, length: int) -> None:
    append(log, numbered(0, 99))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 99)
    overwrite(log, b"x" * length)
    append(log, numbered(99, 101))
    assert tail.woken() == numbered(99, 101)
    again = Follower(log, tail.position)
    assert again.now() == []
    assert (tail.tail.state().truncations, again.tail.state().gaps) == (0, 0)


def test_the_first_bytes_are_overwritten_while_nobody_reads(log: Path) -> None:
    append(log, numbered(0, 99))
    before = Follower(log, from_start=True)
    before.now()
    overwrite(log, b"x" * 256)
    append(log, numbered(99, 101))
    tail = Follower(log, before.position)
    assert tail.now() == numbered(99, 101)
    assert tail.tail.state().gaps == 0


def test_a_copy_with_another_begin_replaces_the_log(log: Path) -> None:
    """As `sed -i` makes it, where the first line was changed."""
    append(log, numbered(0, 99))
    tail = Follower(log, from_start=True)
    assert tail.now() == numbered(0, 99)
    copy = log.with_name("sedXYZ")
    copy.write_bytes(b"x" * 20 + log.read_bytes()[20:])
    copy.rename(log)
    append(log, numbered(99, 101))
    assert tail.woken() == numbered(99, 101)


@pytest.mark.root
def test_permission_denied_and_granted() -> None:
    with TemporaryDirectory() as directory:  # pytest's own directories are closed to others
        Path(directory).chmod(0o755)
        log = Path(directory, "mail.log")
        append(log, numbered(0, 1))
        log.chmod(0)
        os.seteuid(65534)
        try:
            tail = Follower(log, from_start=True)
            with pytest.raises(SourceError, match="Permission denied") as caught:
                tail.now()
            assert "root" in caught.value.hint
            os.seteuid(0)
            log.chmod(0o644)
            os.seteuid(65534)
            assert tail.woken() == numbered(0, 1)
        finally:
            os.seteuid(0)


def test_reading_fails(log: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """A mock: a disk that fails cannot be had here."""
    append(log, numbered(0, 1))
    tail = Follower(log, from_start=True)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(SourceError, match="Input/output error"):
            tail.now()
        other = Follower(log, from_start=True)
        with pytest.raises(SourceError, match="Input/output error"):
            other.now()
    clock.at += 1
    assert tail.now() == numbered(0, 1)
    assert other.now() == numbered(0, 1)


def test_state(log: Path) -> None:
    append(log, numbered(0, 3))
    tail = FileTail(str(log), None, from_start=True)
    before = tail.state()
    assert (before.path, before.exists, before.lines) == (str(log), True, 0)
    assert (before.lag, before.last_line) == (log.stat().st_size, 0.0)
    tail.read()
    after = tail.state()
    assert (after.lag, after.lines) == (0, 3)
    assert abs(after.last_line - log.stat().st_mtime) < BOUND


def test_archive_is_given_as_it_was_logged(log: Path) -> None:
    with gzip.open(log.with_name("mail.log.1.gz"), "wt") as file:
        file.write("unrelated to the position\n")
    append(log, numbered(0, 1))
    assert Follower(log, from_start=True).now() == numbered(0, 1)
