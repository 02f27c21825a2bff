"""What every means of admission control can do. tests/contract holds each one to it.

A *stranger* is a client that is not known good. Known good clients are always admitted and never
counted. Strangers together have at most `cap` connections open; above that their SYNs are dropped,
and their kernels send them again. An `Admission` is for one scope: its ports at this host.

The kernel stops delaying by itself: whatever was started must be renewed, or else it admits
everybody after `LEASE` seconds. So a daemon that died or hangs delays nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

#: Seconds after the last `renew` (or `start`, `limit`) from which everybody is admitted.
LEASE = 30.0

#: Known clients that each means has room for, at least; more are treated as strangers.
KNOWN = 131_072


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What strangers get."""

    #: Connections that they may have open at once.
    cap: int
    #: New ones in 100 ms; 0 = any number.
    pace: int = 0
    #: Seconds in which a network (/24, /64) is admitted once; 0 = no turns. At most 300.
    turn: float = 0.0
    #: False: count what would be dropped, drop nothing.
    dropping: bool = True
    #: Connections for which Postfix has processes or starts some now; further ones are dropped
    #: because of the pace (by means that do not count exactly: of the cap). 0 = the cap.
    places: int = 0

    @property
    def most(self) -> int:
        """Return how many they may have open now."""
        return max(0, min(self.places or self.cap, self.cap))


@dataclass(frozen=True, slots=True)
class AdmissionCounts:
    """Levels, and totals since the start. What a means cannot count is 0."""

    #: Connections of strangers that are open (ESTABLISHED, CLOSE_WAIT).
    open: int = 0
    #: SYNs of strangers let through within the last second and not yet completed.
    pending: int = 0
    #: Handshakes that strangers completed.
    admitted: int = 0
    #: Strangers' packets that were dropped, or would have been, because the cap was reached …
    dropped_cap: int = 0
    #: … because of the pace …
    dropped_pace: int = 0
    #: … because their network had its turn.
    dropped_turn: int = 0
    #: Networks admitted within the last `turn` seconds (without turns: within the last minute).
    #: Counted over some calls where there are more than some thousand.
    networks: int = 0

    @property
    def dropped(self) -> int:
        """Return all that were dropped."""
        return self.dropped_cap + self.dropped_pace + self.dropped_turn


class Admission(Protocol):
    """Admission control at the ports of one scope. Calls block for milliseconds."""

    #: bpf, nftables, iptables, xdp or memory; for messages.
    name: str
    #: Whether it counts connections itself. If not, `correct` is needed some times a second, and a
    #: pace bounds how many get in between.
    exact: bool

    def start(self, ports: Iterable[int], limits: AdmissionLimits, known: Iterable[str]) -> None:
        """Begin, with the connections that are open now counted.

        Args:
            ports: local ports of this scope; connections to others are not looked at.
            limits: see there.
            known: addresses and networks that are always admitted and never counted: known good
                clients, loopback, protected and allowlisted ones, logged-in clients.

        Raises:
            BackendError: it cannot work here; says what is missing. Nothing has changed.
        """
        ...

    def limit(self, limits: AdmissionLimits) -> None:
        """Use other limits from now on.

        Raises:
            BackendError: the kernel refused, or it was not started.
        """
        ...

    def renew(self) -> None:
        """Go on for `LEASE` seconds; restore what another program or a restarted Postfix undid.

        For a timer: once a second or so.

        Raises:
            BackendError: what is missing cannot be restored now (as long as Postfix is stopped).
        """
        ...

    def add_known(self, subjects: Iterable[str]) -> None:
        """Add addresses and networks that are always admitted.

        Raises:
            BackendError: the kernel refused; those above `KNOWN` are not added, and that is logged.
        """
        ...

    def remove_known(self, subjects: Iterable[str]) -> None:
        """Remove known addresses and networks; one that is not there is no error.

        Raises:
            BackendError: the kernel refused.
        """
        ...

    def counts(self) -> AdmissionCounts:
        """Return levels and totals.

        Raises:
            BackendError: the kernel cannot be asked.
        """
        ...

    def correct(self, open: int) -> None:  # noqa: A002 - the name of the level
        """Use the number of strangers' open connections that inet_diag found just now.

        Means that cannot drift ignore it.
        """
        ...

    def postpone(self, clients: Iterable[bytes], seconds: float) -> None:
        """Admit networks of clients (packed addresses) after so many seconds, or without turns.

        Means that are not exact ignore it.

        Raises:
            BackendError: the kernel refused.
        """
        ...

    def delayed_networks(self, most: int) -> list[tuple[str, int]]:
        """Return networks (/24, /64) with dropped SYNs of late, and how many; the most first.

        Empty where that is not known. Forged SYNs count as well.
        """
        ...

    def leave(self) -> None:
        """Do as `stop` at the end of the process, but for what the next process may find.

        That goes on, for `LEASE` seconds at most, until the next one has its own in its place.
        """
        ...

    def stop(self) -> None:
        """Admit everybody and remove every trace from the kernel. Idempotent."""
        ...
