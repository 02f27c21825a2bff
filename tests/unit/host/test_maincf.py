"""A main.cf is replaced whole, with its owner and mode, or not at all; the postconf is real."""

import fcntl
import os
import resource
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.mail.maincf import configure, settle
from throttled.errors import HostError, NotPermittedError, RefusedError
from throttled.host import maincf

MAIN = """\
# a comment
smtpd_timeout = 100s
mynetworks = 127.0.0.0/8,
    # in between
    10.0.0.0/8
"""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return configure(tmp_path / "config", MAIN)


def test_comments_and_order_stay(directory: str) -> None:
    main = maincf.read(directory)
    text = maincf.edited(main, {"smtpd_timeout": "200s", "smtpd_error_sleep_time": "2s"}).decode()
    expected = main.text.decode().replace("100s", "200s") + "smtpd_error_sleep_time = 2s\n"
    assert text.split() == expected.split()
    text = maincf.edited(main, {"smtpd_timeout": None}).decode()
    assert text == main.text.decode().replace("smtpd_timeout = 100s\n", "")
    assert maincf.written(main, ["smtpd_timeout", "mynetworks", "soft_bounce"]) == {
        "smtpd_timeout": "100s",
        "mynetworks": "127.0.0.0/8, 10.0.0.0/8",
    }
    assert Path(main.path).read_bytes() == main.text


def test_the_rest_of_the_directory_is_there_in_a_copy(directory: str) -> None:
    Path(directory, "virtual").write_text("x")
    Path(directory, "main.cf.proto").write_text("x")
    with maincf.scratch(maincf.read(directory)) as place:
        assert (place / "virtual").read_text() == "x"
        assert {path.name for path in place.iterdir()} == {"main.cf", "master.cf", "virtual"}


def test_owner_mode_and_attributes_stay(directory: str) -> None:
    path = Path(directory, "main.cf")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1, 4)
        os.setxattr(path, "user.x", b"y")
    before = path.stat()
    made = maincf.replace(maincf.read(directory), b"a = b\n" * 100_000)
    after = path.stat()
    assert made == maincf.read(directory)
    assert path.read_bytes() == b"a = b\n" * 100_000
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert os.geteuid() != 0 or os.getxattr(path, "user.x") == b"y"
    assert {p.name for p in path.parent.iterdir()} == {"main.cf", "master.cf"}


def test_what_another_program_changed_is_not_overwritten(directory: str) -> None:
    main = maincf.read(directory)
    path = Path(directory, "main.cf")
    path.write_text("theirs")
    with pytest.raises(RefusedError, match="changed meanwhile"):
        maincf.replace(main, b"ours")
    assert path.read_text() == "theirs"
    assert {p.name for p in path.parent.iterdir()} == {"main.cf", "master.cf"}


@contextmanager
def full() -> Iterator[None]:
    """Let no file of this process grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_prevents_no_return_to_what_was_reserved(directory: str) -> None:
    main = maincf.read(directory)
    Path(main.path).chmod(0o640)
    maincf.reserve(main)
    changed = maincf.replace(main, b"new")
    with full():
        with pytest.raises(HostError, match="cannot be replaced: File too large"):
            maincf.replace(changed, b"newer")
        made = maincf.replace(changed, main.text)
    assert (made.text, stat.S_IMODE(Path(main.path).stat().st_mode)) == (main.text, 0o640)
    assert {p.name for p in Path(directory).iterdir()} == {"main.cf", "master.cf"}


def test_on_a_full_disk_nothing_is_begun(directory: str) -> None:
    main = maincf.read(directory)
    with full(), pytest.raises(HostError, match=r"main\.cf\.spare: File too large"):
        maincf.reserve(main)
    assert {p.name for p in Path(directory).iterdir()} == {"main.cf", "master.cf"}
    maincf.reserve(main)
    maincf.release(directory)
    maincf.release(directory)
    assert {p.name for p in Path(directory).iterdir()} == {"main.cf", "master.cf"}


@pytest.mark.root
def test_an_immutable_main_cf(directory: str) -> None:
    main = maincf.read(directory)
    if subprocess.run(
        ["chattr", "+i", main.path], check=False, stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("the file system has no such flag")
    try:
        with pytest.raises(NotPermittedError, match="may not be replaced") as caught:
            maincf.replace(main, b"x")
    finally:
        subprocess.run(["chattr", "-i", main.path], check=True)
    assert caught.value.hint == f"is it immutable? lsattr {main.path}"
    assert {p.name for p in Path(directory).iterdir()} == {"main.cf", "master.cf"}


def test_a_postconf_at_work_is_waited_for(directory: str) -> None:
    """Its lock is that of edit_file(3), on main.cf.tmp."""
    main = maincf.read(directory)
    beside = Path(directory, "main.cf.tmp")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    thread = threading.Thread(target=maincf.replace, args=(main, b"ours"))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    beside.unlink()  # as it does at its end, by a rename
    os.close(descriptor)
    thread.join(60)
    assert Path(main.path).read_bytes() == b"ours"


def test_what_a_crash_left_is_in_nobodys_way(directory: str) -> None:
    beside = Path(directory, "main.cf.tmp")
    for mode in (0o644, 0o600):
        beside.write_text("left")
        beside.chmod(mode)
        maincf.replace(maincf.read(directory), b"ours")
        assert Path(directory, "main.cf").read_bytes() == b"ours"
        assert not beside.exists()


def test_links_and_missing_files_are_refused(directory: str) -> None:
    path = Path(directory, "main.cf")
    path.rename(path.with_name("real"))
    with pytest.raises(HostError):
        maincf.read(directory)
    path.symlink_to("real")
    with pytest.raises(RefusedError, match="symbolic link"):
        maincf.read(directory)
    path.unlink()
    path.hardlink_to(path.with_name("real"))
    with pytest.raises(RefusedError, match="second name"):
        maincf.read(directory)
    with pytest.raises(HostError), maincf.locked(f"{directory}/none"):
        pass


def test_one_command_at_a_time(directory: str) -> None:
    with (
        maincf.locked(directory),
        pytest.raises(RefusedError, match="another throttled postfix"),
        maincf.locked(directory),
    ):
        pass
    with maincf.locked(directory):
        settle(Path(directory, "main.cf"))
