"""Admission control by BPF programs at the control group of Postfix's listeners.

See throttled/bpf/admission.c. Exact, and forged SYNs take no places. Nothing is pinned: with the
`Bpf`, or the process that owns it, the programs are gone, unless systemd stores their links: then
they go on, for the lease, until the next process has attached its own and detaches them (`Former`).
Connections that are open at a start are counted then. Needs Linux 5.18, control groups of version
2, CAP_BPF and CAP_NET_ADMIN.

State is the kernel's. Kept here are the loaded programs, where they are attached, and how far the
networks have been counted.
"""

import errno
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from throttled.bpf.libbpf import (
    ATTACH_CGROUP_INGRESS,
    ATTACH_CGROUP_SOCK_OPS,
    OBJECTS,
    Map,
    Object,
)
from throttled.enforce import sockets
from throttled.enforce.admission import layout
from throttled.enforce.admission.places import Places
from throttled.enforce.admission.protocol import (
    LEASE,
    AdmissionCounts,
    AdmissionLimits,
)
from throttled.errors import BackendError
from throttled.linux.mounts import mounted

log = logging.getLogger(__name__)

_PROGRAMS = {"syn": ATTACH_CGROUP_INGRESS, "session": ATTACH_CGROUP_SOCK_OPS}
_ZERO = bytes(4)
_FULL = (errno.E2BIG, errno.ENOSPC)
_RIGHTS = "run as root or with CAP_BPF and CAP_NET_ADMIN"


def load() -> Object:
    """Load the programs; they end with what is returned.

    Raises:
        BackendError: they cannot work here; says what is missing.
    """
    if mounted("cgroup2") is None:
        raise BackendError(
            "no control groups of version 2 are mounted", "mount -t cgroup2 none /sys/fs/cgroup"
        )
    loaded = Object(OBJECTS / "admission.o")
    loaded.load()
    return loaded


class Bpf:
    """The programs of one scope, and their maps."""

    name = "bpf"
    exact = True

    def __init__(self, lease: float = LEASE) -> None:
        """Load nothing yet.

        Args:
            lease: seconds after `renew` from which everybody is admitted.
        """
        self._lease = int(lease * layout.SECOND)
        self._loaded: Object | None = None
        self._ports: frozenset[int] = frozenset()
        self._limits = AdmissionLimits(0)
        self._base = 0
        self._open = self._admitted = 0  # by the latest counts()
        self._places = Places(())
        self._cursor: bytes | None = None
        self._networks = self._counting = 0

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Load the programs and attach them where Postfix listens, or `renew` does once it does."""
        self.stop()
        self._ports = frozenset(ports)
        self._loaded = loaded = load()
        self._places = Places([(loaded.program(name), kind) for name, kind in _PROGRAMS.items()])
        try:
            with _refusals("load the programs"):
                self._map("ports_map").update(_ZERO, layout.pack_ports(self._ports))
                self._map("state_map").update(_ZERO, layout.first_state())
            self.add_known(known)
            self.limit(limits)
            self.renew()
        except BaseException:
            self.stop()
            raise

    def limit(self, limits: AdmissionLimits) -> None:
        """Use other limits from the next SYN on."""
        self._limits = limits
        with _refusals("set the limits"):
            self._write()

    def renew(self) -> None:
        """Go on, and attach to where Postfix listens now, if that has changed."""
        with _refusals("attach the programs"):
            self._write()
            if self._places.follow(self._ports):
                self.correct(self._strangers())

    def add_known(self, subjects: Iterable[str]) -> None:
        """Add to the hash of addresses, and to the trie of networks."""
        addresses, networks = layout.known(subjects)
        with _refusals("add known clients"):
            for name, keys in (("known", addresses), ("known_networks", networks)):
                done, number = _put(self._map(name), list(keys))
                if number in _FULL:
                    text = "no room for more than %d in %s: %d are treated as strangers"
                    log.warning(text, self._map(name).max_entries, name, len(keys) - done)
                elif number:
                    raise OSError(number, os.strerror(number))

    def remove_known(self, subjects: Iterable[str]) -> None:
        """Remove from both; a client that is connected is not counted until it connects again."""
        addresses, networks = layout.known(subjects)
        with _refusals("remove known clients"):
            for name, keys in (("known", addresses), ("known_networks", networks)):
                of = self._map(name)
                for key in keys:
                    of.delete(key)

    def counts(self) -> AdmissionCounts:
        """Read the counters, and count a piece of the networks."""
        now = _now()
        with _refusals("read the counters"):
            value = self._map("state_map").lookup(_ZERO) or layout.first_state()
            dropped = self._map("dropped")
            reasons = [dropped.total(reason) for reason in range(layout.REASONS)]
            self._count_networks(now)
        state = layout.State.unpack(value)
        self._open, self._admitted = state.open + self._base, state.admitted
        return AdmissionCounts(
            open=max(0, self._open),
            pending=state.waiting(now),
            admitted=state.admitted,
            dropped_cap=reasons[layout.CAP],
            dropped_pace=reasons[layout.PACE],
            dropped_turn=reasons[layout.TURN],
            networks=max(self._networks, self._counting),
        )

    def correct(self, open: int) -> None:  # noqa: A002 - the name of the level
        """Count from this number on, as far as it cannot be of what came and went while counting.

        The kernel lists connections one after the other: of those that began or ended since
        `counts` was called, dozens on a busy machine, any may be missing, any may be there.
        """
        with _refusals("correct the counter"):
            value = self._map("state_map").lookup(_ZERO) or layout.first_state()
            state = layout.State.unpack(value)
            begun = state.admitted - self._admitted
            low, high = state.open + self._base - begun, self._open + begun
            self._base += open - min(max(open, low), high)
            self._write()

    def postpone(self, clients: Iterable[bytes], seconds: float) -> None:
        """Write down that their networks were admitted at a time to come."""
        until = (_now() + int(seconds * layout.SECOND)).to_bytes(8, sys.byteorder)
        with _refusals("postpone networks"):
            for key in set(map(layout.network_key, clients)):
                self._map("networks").update(key, until)

    def delayed_networks(self, most: int) -> list[tuple[str, int]]:
        """Return those of the last minute."""
        found: list[tuple[str, int]] = []
        with _refusals("read the delayed networks"):
            cursor: bytes | None = None
            while True:
                keys, values, _count, cursor = self._map("delayed").read(cursor)
                found += layout.delays(keys, values, _now() - layout.LATE)
                if cursor is None:
                    break
        return sorted(found, key=lambda each: -each[1])[:most]

    def stop(self) -> None:
        """Detach the programs and unload them."""
        self._places.detach()
        self.leave()

    def leave(self) -> None:
        """Unload the programs, but for those whose links systemd stores."""
        self._places.leave()
        self._loaded = None
        self._base = self._open = self._admitted = self._networks = self._counting = 0
        self._cursor = None

    def _map(self, name: str) -> Map:
        if self._loaded is None:
            raise BackendError("admission control was not started")
        return self._loaded.map(name)

    def _write(self) -> None:
        value = layout.pack_limits(self._limits, self._base, _now() + self._lease)
        self._map("limits_map").update(_ZERO, value)

    def _strangers(self) -> int:
        """Return how many connections strangers have open now, by inet_diag."""
        known, networks = self._map("known"), self._map("known_networks")
        count = 0
        for each in sockets.opened(self._ports):
            address, network = layout.keys_of(each.far)
            count += known.lookup(address) is None and networks.lookup(network) is None
        return count

    def _count_networks(self, now: int) -> None:
        window = int((self._limits.turn or layout.LATE / layout.SECOND) * layout.SECOND)
        _keys, values, _count, self._cursor = self._map("networks").read(self._cursor)
        self._counting += sum(now - each < window for each in layout.numbers(values))
        if self._cursor is None:
            self._networks, self._counting = self._counting, 0


def _put(into: Map, keys: list[bytes]) -> tuple[int, int]:
    """Put keys into a map; return how many are in, and the errno of the next one, or 0."""
    return into.update_batch(b"".join(keys), b"\1" * len(keys), len(keys)) if keys else (0, 0)


def _now() -> int:
    """Return the clock of the programs."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Say what a refusal of the kernel means to an operator."""
    try:
        yield
    except OSError as error:
        denied = error.errno in (errno.EPERM, errno.EACCES)
        hint = _RIGHTS if denied else "see: bpftool cgroup tree"
        raise BackendError(f"admission control cannot {what}: {error.strerror}", hint) from error
