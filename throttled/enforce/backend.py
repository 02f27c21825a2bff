"""What every backend can do, and what goes in and comes out of it.

The contract suite in tests/contract holds each one to it. A backend owns the state in the kernel
and remembers none of it: what is asked is read back from the kernel. Methods block, for
milliseconds; `dump` yields in pieces so that a loop can continue.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from throttled.model import Action, Element, Entry, Finding, Scope


class Drift(Struct, frozen=True):
    """What another program changed of our elements and rules; all empty: nothing."""

    entries: tuple[Entry, ...] = ()  # elements added, changed or removed; their times mean nothing
    rules: bool = False  # something else than elements: all that is static is to be set up again
    lost: bool = False  # which elements is not known: all of them are to be compared


class Fill(Struct, frozen=True):
    """How full a set of the kernel is."""

    name: str
    scope: Scope
    action: Action
    used: int  # what has expired may count for a minute more
    size: int


class Answers(Struct, frozen=True):
    """How Postfix's policy requests are answered."""

    over: Literal["hold", "defer"] = "hold"  # what becomes of mail that may not wait
    ban: Literal["hold", "defer"] = "defer"  # … of mail of a banned account or inside host
    waiting: int = 4  # messages of one subject that may wait at a time
    #: Addresses whose entries are policy answers, not elements of the kernel: mynetworks …
    inside: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()  # … but for these: loopback and this host's own
    proxied: bool = False  # some clients come by a proxy: entries of addresses are answers too


class Ruleset(Struct, frozen=True):
    """The static part of what a backend enforces; changing it leaves the elements alone."""

    ports: dict[Scope, tuple[int, ...]]
    protected: tuple[str, ...]  # subjects never touched
    rate: int  # new connections that a throttled subject may open in `per`
    per: float  # seconds
    burst: int
    size: int  # elements that each set may hold
    expected: int = 0  # elements that are about to come: sets that are made have room for them
    answers: Answers = Answers()
    #: At the ports of submission, refuse by a TCP reset what else is dropped, up to a rate.
    reject: bool = False


class FullSet(Struct, frozen=True):
    """A set of the kernel that refused an element because it holds as many as it may."""

    name: str
    scope: Scope
    action: Action


class Applied(Struct, frozen=True):
    """What became of a batch. Elements not named in `failed` are active."""

    failed: tuple[tuple[Entry, str], ...] = ()  # (entry, error)
    full: frozenset[FullSet] = frozenset()  # `failed` names what did not fit


class RulesWatch(Protocol):
    """Notifications of changes that other programs make to the rules and elements of throttled."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when notifications arrived."""
        ...

    def drain(self) -> Drift:
        """Read the pending notifications and return the drift.

        Changes by this process do not count. If notifications were lost, anything may differ:
        then `lost` is set.
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

    @property
    def refuses(self) -> bool:
        """Whether it can refuse with a TCP reset (`Ruleset.reject`); else it drops."""
        ...

    def check(self) -> list[Finding]:
        """Return whether this backend can work here, and what is missing if not; change nothing."""
        ...

    def setup(self, ruleset: Ruleset) -> bool:
        """Put the static rules in place, in one transaction; elements already there stay.

        Rules and sets that another program changed are restored. If they cannot be used any more
        they are recreated, and their elements are lost.

        Returns whether the kernel had rules of throttled before: elements that may be adopted.

        Idempotent: called at start (adopting), on a changed configuration or host, and when
        another program flushed our table.

        Raises:
            BackendError: the kernel refused; nothing has changed.
        """
        ...

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Apply a batch in one transaction; the last entry for an element wins.

        An entry with `seconds` > 0 is added, or renewed if the kernel has it already; with 0 it
        is removed, and that it was not there is no failure. A failing element is found by
        bisection and named in the result; it never stops the rest.

        Raises:
            BackendError: nothing of the batch could be applied (table gone, no privilege).
        """
        ...

    def lookup(self, entries: Iterable[Entry]) -> list[Element]:
        """Return those of the named elements that the kernel has, with time left and packets.

        Costs O(elements asked for), never O(elements in the kernel).
        """
        ...

    def dump(self) -> Iterator[Element]:
        """Yield every element in the kernel. O(elements): for the start and rare checks."""
        ...

    def dropped(self) -> int:
        """Return the packets dropped in all since `setup` first made the table."""
        ...

    def collect(self) -> None:
        """Remove some expired elements, if the kernel does not do it; for a timer: 5 ms at most.

        Raises:
            BackendError: what `setup` put in place is gone.
        """
        ...

    def intact(self) -> bool:
        """Return whether the static rules stand as this object's `setup` put them. For a timer.

        Costs milliseconds, however many elements there are. The backend chooses what to check: at
        least that packets still reach the rules. False before `setup`.
        """
        ...

    def fill(self) -> list[Fill]:
        """Return how full each set is, in milliseconds; empty where the kernel does not count.

        All sets of a scope and an action together hold at least what is active there.
        """
        ...

    def watch(self) -> RulesWatch | None:
        """Subscribe to changes by other programs, after `setup`; None if the kernel announces none.

        Then `intact` and samples on a timer find them.

        Raises:
            BackendError: the kernel should announce them, and the subscription failed.
        """
        ...

    def present(self) -> bool:
        """Return whether the kernel has rules of throttled, from this process or an earlier one.

        Raises:
            BackendError: the kernel cannot be asked.
        """
        ...

    def teardown(self) -> None:
        """Remove every trace of throttled from the kernel. Idempotent."""
        ...


def cannot_refuse(backend: Backend) -> Finding:
    """Return what an operator should know who asked a backend to refuse that cannot."""
    what = f"[firewall] reject does not work with the backend {backend.name}: submission is dropped"
    hint = 'banned users see a timeout; set [firewall] backend = "nftables", or reject = false'
    return Finding("warning", what, hint, "cannot-refuse")
