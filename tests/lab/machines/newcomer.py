"""A fresh, minimal Debian in which this checkout's targets of make run first: `scripts/newcomer`.

`make test` says nothing of what it needs where everything is installed already. This makes the
smallest Debian with git and make (mmdebstrap), clones the last commit into it and runs `make demo`,
`make deb` and `make check` there, each as it is printed to a newcomer.

It is a chroot, no booted machine: no systemd runs in it. It has this host's network, with which apt
and pip download, and its way to their servers (certificates, pip's configuration, apt's sources);
all that the targets send stays in network namespaces of theirs. Owns the directory it is in.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lab.machines.command import run
from lab.machines.image import PYTHONS, mirrors
from lab.network import netns

_TREE = Path(__file__).resolve().parents[3]
_THERE = "ca-certificates,git,make,sudo"
_TARGETS = ("demo", "deb", "check")
#: With which this host reaches apt's and pip's servers.
_WAYS = ("usr/local/share/ca-certificates", "etc/pip.conf", "etc/resolv.conf")
_ENTER = """\
mount --bind "$1" "$1"  # a root that is no mount point can have no private mounts
for place in dev sys; do mount --rbind /$place "$1/$place"; done
mount -t proc proc "$1/proc"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb sh -c "$2"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return 1 if a target failed, 3 if not root."""
    parser = argparse.ArgumentParser(description="Run make in a fresh, minimal Debian (root).")
    parser.add_argument("suite", nargs="*", default=list(PYTHONS), help=f"of {', '.join(PYTHONS)}")
    parser.add_argument("--targets", nargs="+", default=_TARGETS, help="of make")
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        print("newcomer: it makes a chroot: run it as root (sudo scripts/newcomer)")
        return 3
    ended: list[tuple[str, str, int, float]] = []
    with netns.unwinding():
        for suite in options.suite:
            # On a disk: 3 GB, and /tmp may be in memory.
            with tempfile.TemporaryDirectory(prefix="thr-newcomer-", dir="/var/tmp") as place:
                root = Path(place, suite)
                _make(suite, root)
                for target in options.targets:
                    began = time.monotonic()
                    code = _enter(root, f"cd && cd throttled && make {target}")
                    ended.append((suite, target, code, time.monotonic() - began))
    for suite, target, code, seconds in ended:
        print(f"{suite:10} make {target:8} {seconds:5.0f} s  {'ok' if code == 0 else code}")
    return 1 if any(code for _, _, code, _ in ended) else 0


def _make(suite: str, root: Path) -> None:
    run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *("--dpkgopt=force-unsafe-io", f"--include={_THERE}", suite, str(root)),
        *mirrors(suite),
    )
    for way in map(Path, _WAYS):
        if (Path("/") / way).is_dir():
            shutil.copytree(Path("/") / way, root / way, dirs_exist_ok=True)
        elif (Path("/") / way).exists():
            shutil.copy(Path("/") / way, root / way)
    _enter(root, "update-ca-certificates >/dev/null 2>&1")
    run("git", "clone", "--quiet", _TREE, root / "root/throttled")


def _enter(root: Path, command: str) -> int:
    """Run a command in it, its output ours, and return its exit code."""
    argv = ("unshare", "--mount", "--propagation=private", "sh", "-euc", _ENTER, "-", root, command)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode
