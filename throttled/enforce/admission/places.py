"""Where programs are attached: at the control groups of the sockets that listen at our ports.

Owns the links: what is closed is attached nowhere, unless systemd stores it.
"""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from throttled.bpf.libbpf import Link, Program
from throttled.enforce import sockets
from throttled.errors import BackendError
from throttled.linux import cgroups, systemd

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
        # In this order, so that no packet is seen twice.
        for number in list(self._links):
            if number not in places or not _attached(self._links[number]):
                _detach((_name(link), link) for link in self._links.pop(number))
        for number, place in places.items():
            if number not in self._links:
                self._links[number] = self._attach(place)
        self._groups = groups
        return True

    def detach(self) -> None:
        """Detach everywhere."""
        for links in self._links.values():
            _detach((_name(link), link) for link in links)
        self.leave()

    def leave(self) -> None:
        """Close the links, and leave attached what systemd stores for the next process."""
        self._links, self._groups = {}, set()

    def _attach(self, place: Path) -> list[Link]:
        at = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            links = [program.attach(at, kind) for program, kind in self._programs]
        finally:
            os.close(at)
        for link in links:
            systemd.store(_name(link), link.fd)
        return links


class Former:
    """Programs that the process before left attached: the links that systemd stored of them."""

    def __init__(self) -> None:
        """Take them; their limits stay active, for `LEASE` seconds at most."""
        self._links = [(name, Link(descriptor)) for name, descriptor in systemd.inherited()]

    def detach(self) -> None:
        """Detach them: others are in their place, or none are wanted. Idempotent."""
        _detach(self._links)
        self._links = []


def _name(link: Link) -> str:
    """Return the name under which systemd stores a link; the kernel uses no number again."""
    return f"admission-{link.number}"


def _attached(links: list[Link]) -> bool:
    return all(link.attached for link in links)


def _detach(links: Iterable[tuple[str, Link]]) -> None:
    """Detach programs at once, whoever else has their links, by the names that systemd has."""
    for name, link in links:
        with suppress(OSError):
            link.detach()
        systemd.unstore(name)
