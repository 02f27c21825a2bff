"""What every backend can do. The contract suite in tests/contract holds each one to it.

A backend owns the state in the kernel and remembers none of it: what is asked is read back from
the kernel. Methods block, for milliseconds; `dump` yields in pieces so that a loop can continue.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from throttled.model import Applied, Drift, Element, Entry, Fill, Finding, Ruleset


class RulesWatch(Protocol):
    """Notifications of changes that other programs make to the rules and elements of throttled."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there is word."""
        ...

    def drain(self) -> Drift:
        """Read the pending notifications and return the drift.

        Our own changes do not count. Where word was lost everything is, as then nobody knows.
        """
        ...

    def close(self) -> None:
        """Stop watching. Idempotent."""
        ...


class Backend(Protocol):
    """Throttles and bans, by the means of one kernel interface."""

    #: As in the configuration; for messages.
    name: str
    #: Whether entries are in the kernel; else nothing is throttled or banned.
    enforces: bool
    #: Whether its rules are at each network interface: set up again when these change.
    at_interfaces: bool

    def check(self) -> list[Finding]:
        """Say whether this backend can work here, and what is missing if not. Changes nothing."""
        ...

    def setup(self, ruleset: Ruleset) -> bool:
        """Put the static rules in place, in one transaction; elements already there stay.

        Whatever somebody made of what is ours, also something that cannot be used: then it is
        recreated, and what elements there were are lost.

        Returns whether there was anything of ours before: elements that may be adopted.

        Idempotent: called at start (adopting), on a changed configuration or host, and when
        another program flushed our table.

        Raises:
            BackendError: the kernel refused; nothing has changed.
        """
        ...

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch in one transaction; the last entry for an element wins.

        An entry with `seconds` > 0 is added, or renewed if the kernel holds it already; with 0 it
        is removed, and that it was not there is no failure. A failing element is found by
        bisection and named in the result; it never stops the rest.

        Raises:
            BackendError: nothing of the batch could be applied (table gone, no privilege).
        """
        ...

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that the kernel holds, with time left and packets.

        Costs O(elements asked for), never O(elements held).
        """
        ...

    def dump(self) -> Iterator[Element]:
        """Yield every element the kernel holds. O(elements held): for start and rare checks."""
        ...

    def dropped(self) -> int:
        """Return the packets dropped in all since `setup` first made the table."""
        ...

    def collect(self) -> None:
        """Give back some of what has expired, where the kernel does not; for a timer: 5 ms at most.

        Raises:
            BackendError: what `setup` put in place is gone.
        """
        ...

    def intact(self) -> bool:
        """Return whether the static rules stand as this object's `setup` put them. For a timer.

        Costs milliseconds, whatever is held. What it looks at is up to the backend: at least that
        packets still come to the rules. False before `setup`.
        """
        ...

    def fill(self) -> list[Fill]:
        """Return how full each set is, in milliseconds; empty where the kernel does not count.

        All sets of a scope and an action together hold at least what is active there.
        """
        ...

    def watch(self) -> RulesWatch | None:
        """Subscribe to changes of other programs, once set up; None where the kernel does not tell.

        Then `intact` and samples on a timer find them.

        Raises:
            BackendError: it should tell, and does not.
        """
        ...

    def present(self) -> bool:
        """Return whether this host's kernel has entries of ours, whoever set them up.

        Raises:
            BackendError: it cannot be seen.
        """
        ...

    def teardown(self) -> None:
        """Remove every trace of us from the kernel. Idempotent."""
        ...
