"""Real sockets. What the two servers make of it is in tests/unit/control and tests/unit/metrics."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from throttled.linux.claim import in_use
from throttled.linux.unix_socket import BoundSocket, answers, credentials, is_bound


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_the_mode_of_the_file(path: Path, mode: int) -> None:
    before = os.umask(0o027)
    try:
        bound = BoundSocket(path, mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    bound.socket.close()
    bound.close()
    assert not path.exists()
    assert not in_use(path)


def test_what_a_killed_process_left_is_removed(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    bound = BoundSocket(path, 0o600)
    with bound.socket as ours:
        ours.listen()
        assert answers(path)
    bound.close()


def test_a_socket_is_found_open_without_a_connection(path: Path) -> None:
    assert not is_bound(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        other.setblocking(False)
        assert is_bound(path)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert path.is_socket()
    assert not is_bound(path)


def test_a_socket_that_is_in_use_stays(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match="another program") as caught:
            BoundSocket(path, 0o600)
        assert caught.value.errno == errno.EADDRINUSE
    assert path.is_socket()
    assert not in_use(path)


def test_one_that_is_bound_but_does_not_listen_yet_stays(path: Path) -> None:
    bound = BoundSocket(path, 0o600)
    with bound.socket, pytest.raises(OSError, match="another program"):
        BoundSocket(path, 0o600)
    bound.close()


def test_another_file_stays(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        BoundSocket(path, 0o600)
    assert path.read_text() == "precious"
    assert not in_use(path)


def test_a_successors_socket_stays(path: Path) -> None:
    bound = BoundSocket(path, 0o600)
    bound.socket.close()
    path.rename(path.with_name("old"))  # so that its inode is not used again
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
    bound.close()
    assert path.is_socket()


def test_a_backlog_that_is_full_is_an_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as waiting:
        deaf.bind(str(path))
        deaf.listen(0)
        waiting.connect(str(path))
        assert answers(path)
    assert not answers(path.parent / "absent")


def test_the_peer_is_who_connected() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert credentials(one) == (os.getpid(), os.geteuid(), os.getegid())
