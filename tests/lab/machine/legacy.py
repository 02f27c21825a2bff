"""A host whose iptables is the legacy one, which Debian's has not been by default since 2019.

Owns a directory of links for as long as the context lasts.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

from lab.network import netns

#: Their legacy variants are called `iptables-legacy`, `ip6tables-legacy-restore`, …
_PROGRAMS = ("iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "iptables-save")


@contextlib.contextmanager
def legacy_path() -> Iterator[str]:
    """Yield a PATH on which `iptables` is `iptables-legacy`, and so on.

    Raises:
        RuntimeError: the legacy programs are not installed.
    """
    with netns.directory("legacy") as home:
        for name in _PROGRAMS:
            head, _, tail = name.partition("-")
            found = shutil.which(f"{head}-legacy-{tail}" if tail else f"{head}-legacy")
            if found is None:
                raise RuntimeError(f"{head}-legacy is not installed")
            (home / name).symlink_to(found)
        yield f"{home}:{os.environ['PATH']}"
