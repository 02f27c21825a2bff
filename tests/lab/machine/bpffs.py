"""A BPF file system of its own: what is pinned in it goes with it.

Mounted in the mount namespace of this process, so that a daemon that is killed and started again
finds what it pinned. `within` lets a command see it where throttled looks for it.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.network.netns import directory


@contextlib.contextmanager
def bpffs() -> Iterator[Path]:
    """Mount one and unmount it at the end. No name in its path has a dot."""
    with directory("bpf") as path:
        subprocess.run(("mount", "-t", "bpf", "bpf", str(path)), check=True)
        try:
            yield path
        finally:
            subprocess.run(("umount", str(path)), check=True)


def within(mounted: Path) -> list[str]:
    """Return a command that runs what follows it with this file system at /sys/fs/bpf."""
    return ["unshare", "--mount", "sh", "-c", f'mount --bind {mounted} /sys/fs/bpf; exec "$0" "$@"']
