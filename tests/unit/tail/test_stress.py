"""A writer that rotates under load, and a tail that is restarted meanwhile: nothing lost or twice.

Two writers, as two Postfix instances with one log: one renames and reopens, the other goes on
writing to the renamed file for a while.
"""

import random
import select
import subprocess
import sys
from pathlib import Path

import pytest

from throttled.tail.file import FileTail, Position

LINES = 60_000

WRITER = """
import gzip, os, random, sys, time
path, lines, packing = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "packing"
rng = random.Random(1)
count = rotations = 0

def rotate():
    for number in range(99, 0, -1):
        for end in "", ".gz":
            if os.path.exists(f"{path}.{number}{end}"):
                os.rename(f"{path}.{number}{end}", f"{path}.{number + 1}{end}")
    os.rename(path, f"{path}.1")

def write(fd, some):
    global count
    for _ in range(some):
        text = b"Nov 22 16:12:00 host postfix/smtpd[1]: %07d " % count
        text += b"x" * rng.randrange(99) + b"\\n"
        if rng.random() < 0.01:  # in two pieces
            os.write(fd, text[:20])
            text = text[20:]
        os.write(fd, text)
        count += 1

def pack():
    # As logrotate: write the archive, give it the time of the original, remove that.
    old = f"{path}.3"
    if packing and os.path.exists(old):
        with open(old, "rb") as source, gzip.open(f"{old}.gz", "wb", 1) as target:
            target.write(source.read())
        os.utime(f"{old}.gz", ns=(os.stat(old).st_atime_ns, os.stat(old).st_mtime_ns))
        os.unlink(old)

flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
fd = os.open(path, flags)
while count < lines:
    write(fd, rng.randrange(1500))
    rotate()
    rotations += 1
    write(fd, rng.randrange(100))  # late: not told to reopen yet
    new = os.open(path, flags)
    for _ in range(rng.randrange(5)):  # two writers
        write(new, 10)
        write(fd, 10)
    os.close(fd)
    fd = new
    pack()
    time.sleep(0.01)  # the load is that of a busy server, not of a loop
print(count, rotations)
"""


@pytest.mark.parametrize("mode", ["plain", "packing"])
def test_rotations_under_load_with_restarts(tmp_path: Path, mode: str) -> None:
    path = str(tmp_path / "mail.log")
    Path(path).touch()
    seen: list[int] = []
    restarts = 0
    rng = random.Random(2)
    tail = FileTail(path, None, from_start=True)
    position: Position | None = None
    arguments = [sys.executable, "-c", WRITER, path, str(LINES), mode]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        while True:
            ended = writer.poll() is not None
            batch = tail.read(rng.choice((500, 5000, 262_144)))
            if batch:
                position = batch.position
                seen += [int(line.split()[5]) for line in batch.lines]
            elif ended:
                break
            else:
                select.select([tail], [], [], 0.1)  # bounded: the writer may just have ended
            if position and rng.random() < 0.1:
                assert tail.state().gaps == 0
                tail.close()
                tail = FileTail(path, position)
                restarts += 1
        tail.close()
        assert writer.stdout
        count, rotations = map(int, writer.stdout.read().split())
    assert sorted(seen) == list(range(count))
    assert rotations > 30
    assert restarts > 20
