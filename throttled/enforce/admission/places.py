"""Where programs are attached: at the control groups of the sockets that listen at our ports.

Owns the links: what is closed is attached nowhere.
"""

import os
from collections.abc import Collection
from pathlib import Path

from throttled.bpf.libbpf import Link, Program
from throttled.enforce import sockets
from throttled.errors import BackendError
from throttled.linux import cgroups

#: The inode of the root of all control groups: `cgroup_root` of the kernel.
_ROOT = 1


class Places:
    """Programs, and their links to control groups.

    A control group that is removed (systemd does so when Postfix stops) detaches its programs once
    the last of its sockets is gone: one of the same path may be another one.

    Args:
        programs: with what they are attached as, ATTACH_*.
    """

    def __init__(self, programs: Collection[tuple[Program, int]]) -> None:
        self._programs = programs
        self._links: dict[int, list[Link]] = {}
        self._groups: set[int] = set()

    def follow(self, ports: Collection[int]) -> bool:
        """Attach to where the listeners are now, if that has changed; return whether it has.

        Without listeners nothing changes.

        Raises:
            BackendError: their control group is not visible here, or the root of all.
            OSError: the kernel refused.
        """
        groups = sockets.listeners(ports)
        if _ROOT in groups:
            raise BackendError(
                "Postfix is in the root control group, which holds everything",
                "start Postfix by systemd (systemctl restart postfix)",
            )
        if not groups or (groups == self._groups and all(map(_attached, self._links.values()))):
            return False
        places = cgroups.find(groups)
        if not places:
            raise BackendError(
                "the control group of Postfix's listeners is not visible here",
                "systemctl status postfix names it; the mounted cgroup2 must show it",
            )
        kept = {number: links for number, links in self._links.items() if _attached(links)}
        # In this order, so that no packet is seen twice.
        self._links = {number: kept[number] for number in places if number in kept}
        for number, place in places.items():
            if number not in self._links:
                self._links[number] = self._attach(place)
        self._groups = groups
        return True

    def detach(self) -> None:
        """Detach everywhere."""
        self._links, self._groups = {}, set()

    def _attach(self, place: Path) -> list[Link]:
        at = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [program.attach(at, kind) for program, kind in self._programs]
        finally:
            os.close(at)


def _attached(links: list[Link]) -> bool:
    return all(link.attached for link in links)
