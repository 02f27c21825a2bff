"""Limits of the operating system, reached on purpose."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no file: the kernel answers EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    spare = [os.open("/", os.O_RDONLY)]
    while spare[-1] <= highest:
        spare.append(os.open("/", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)
