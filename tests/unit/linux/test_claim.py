"""Who has a socket's path, in races and after a kill."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from throttled.linux.claim import Claim, beside, in_use

_HOLD = """
import sys
from pathlib import Path
from throttled.linux.claim import Claim
print(bool(Claim.acquire(Path(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_one_has_it(path: Path) -> None:
    assert not in_use(path)
    claim = Claim.acquire(path)
    assert claim
    assert in_use(path)
    assert Claim.acquire(path) is None
    claim.release()
    assert not in_use(path)
    assert not beside(path).exists()


def test_of_many_at_once_one_has_it(path: Path) -> None:
    barrier = Barrier(8)

    def race() -> Claim | None:
        barrier.wait()
        return Claim.acquire(path)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            claims = [claim for claim in pool.map(lambda _: race(), range(8)) if claim]
            assert len(claims) == 1
            claims[0].release()


def test_while_others_release_it_at_most_one_has_it(path: Path) -> None:
    """A file that was removed between opening and locking must not count."""
    marker = path.with_name("marker")

    def hold(_number: int) -> int:
        got = 0
        for _ in range(300):
            if claim := Claim.acquire(path):
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))  # fails if two have it
                marker.unlink()
                claim.release()
                got += 1
        return got

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(hold, range(4))) > 0


def test_a_process_that_is_killed_has_it_no_longer(path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"True\n"
        assert in_use(path)
        assert Claim.acquire(path) is None
        other.kill()
    assert not in_use(path)
    claim = Claim.acquire(path)
    assert claim
    claim.release()


def test_a_successors_file_is_left(path: Path) -> None:
    first = Claim.acquire(path)
    beside(path).unlink()
    second = Claim.acquire(path)
    assert first
    assert second
    first.release()
    assert in_use(path)
    second.release()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    beside(path).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        Claim.acquire(path)
    assert not (tmp_path / "precious").exists()
    assert not in_use(path)
