"""A BPF file system of its own: what is pinned in it goes with it.

Mounted in the mount namespace of this process, so that a daemon that is killed and started again
finds what it pinned. `argv` lets a command see it where throttled looks for it.
"""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.netns import directory


@contextlib.contextmanager
def bpffs() -> Iterator[Path]:
    """Mount one and unmount it at the end. No name in its path has a dot."""
    with directory("bpf") as path:
        subprocess.run(("mount", "-t", "bpf", "bpf", str(path)), check=True)
        try:
            yield path
        finally:
            subprocess.run(("umount", str(path)), check=True)


def inside(mounted: Path, argv: Sequence[str]) -> list[str]:
    """Return a command that runs another one with this file system at /sys/fs/bpf."""
    script = 'mount --bind "$0" /sys/fs/bpf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(mounted), *argv]
