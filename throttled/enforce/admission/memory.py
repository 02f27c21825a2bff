"""Admission control that drops nothing: for a daemon that only observes, and for tests.

What is open it knows by `correct` alone; connections above the cap count as dropped, each time it
is called. Owns these counts.
"""

from collections.abc import Iterable

from throttled.enforce.admission.protocol import AdmissionCounts, AdmissionLimits


class Memory:
    """Counts in this process."""

    name = "memory"
    exact = False

    def __init__(self) -> None:
        """Begin with nothing."""
        self.limits = AdmissionLimits(0)
        self.known: set[str] = set()
        self.ports: tuple[int, ...] = ()
        self.current = AdmissionCounts()
        self.postponed: set[bytes] = set()

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Begin."""
        self.ports, self.limits, self.known = tuple(ports), limits, set(known)
        self.current = AdmissionCounts()

    def limit(self, limits: AdmissionLimits) -> None:
        """Use other limits from now on."""
        self.limits = limits

    def renew(self) -> None:
        """Do nothing."""

    def add_known(self, subjects: Iterable[str]) -> None:
        """Add known clients."""
        self.known.update(subjects)

    def remove_known(self, subjects: Iterable[str]) -> None:
        """Remove known clients."""
        self.known.difference_update(subjects)

    def counts(self) -> AdmissionCounts:
        """Return levels and totals."""
        return self.current

    def correct(self, open: int) -> None:  # noqa: A002 - the name of the level
        """Use the number of connections that inet_diag found just now."""
        above = max(0, open - self.limits.cap)
        self.current = AdmissionCounts(open=open, dropped_cap=self.current.dropped_cap + above)

    def postpone(self, clients: Iterable[bytes], seconds: float) -> None:  # noqa: ARG002
        """Write down whose networks are to wait."""
        self.postponed.update(clients)

    def delayed_networks(self, most: int) -> list[tuple[str, int]]:  # noqa: ARG002 - none
        """Return nothing: there are no packets."""
        return []

    def leave(self) -> None:
        """Remove everything."""
        self.stop()

    def stop(self) -> None:
        """Remove everything."""
        self.known, self.current = set(), AdmissionCounts()
