"""A real timerfd."""

import os
import resource
import select

import pytest

from throttled.linux.timer import Timer


def test_ticks_until_closed() -> None:
    timer = Timer()
    timer.clear()
    assert select.select([timer], [], [], 0)[0] == []
    for _ in range(3):
        timer.every(0.001)
        assert select.select([timer], [], [], 5)[0] == [timer]
        timer.clear()
    timer.every(0.9)
    timer.clear()
    assert select.select([timer], [], [], 0)[0] == []
    timer.close()
    timer.close()


def test_no_more_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Timer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
