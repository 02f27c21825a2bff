"""What an operator's command works on, with or without a running daemon.

A running daemon makes one desk of its own parts; a command without a daemon makes one of the
database and the kernel. Commands get nothing else. Owns no state.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from throttled import address
from throttled.clock import Moment
from throttled.config.schema import Config
from throttled.control.overload import OverloadStatus
from throttled.core.fleet import Fleet
from throttled.core.leftovers import Leftovers
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.core.reconciler import Reconciler
from throttled.decide.gauge import SCOPE_OF
from throttled.decide.listed import Lists
from throttled.decide.protect import Protection
from throttled.enforce.backend import Backend
from throttled.enforce.registry import answers
from throttled.errors import BackendError, NotRunningError, StoreError
from throttled.model import RESTRICTING, SCOPES, Decision, Element, Entry, Finding, Scope, Snapshot
from throttled.sources.backlog import Backlog
from throttled.sources.handshakes import Handshakes
from throttled.sources.logs import Logs
from throttled.store.store import Filter, Store

log = logging.getLogger(__name__)


class Running(Struct, frozen=True):
    """The parts that only a running daemon has."""

    started: Moment
    reconciler: Reconciler
    leftovers: Leftovers
    logs: Logs
    handshakes: Handshakes
    backlog: Backlog
    findings: Callable[[], list[Finding]]
    loop_errors: Callable[[], int]
    #: Lets listeners know of decisions; the second argument: they are worth a notice.
    announce: Callable[[Sequence[Decision], bool], None]
    reload: Callable[[], Awaitable[str]]
    reach: Callable[[], Awaitable[str]]
    test_notify: Callable[[], Awaitable[str]]
    #: Whether Postfix asked about a session of this host: its address and port, and about what.
    asked: Callable[[str, int, Literal["data", "recipient"]], bool]
    fleet: Callable[[], Fleet | None] = lambda: None
    overload: Callable[[], list[OverloadStatus]] = list


class Desk(Struct, frozen=True):
    """The state that commands read and change."""

    pipeline: Pipeline
    backend: Backend
    protected: Protected
    config: Callable[[], Config]
    #: Makes the protection from configuration, facts and allowlist again, and applies it.
    reconfigure: Callable[[], None]
    clock: Callable[[], Moment]
    running: Running | None = None
    #: The database cannot be opened: one in memory stands for it, whose changes are lost.
    unusable: StoreError | None = None
    lists: Lists | None = None  # the judge of imported lists, of a running daemon

    @property
    def store(self) -> Store:
        """The database."""
        return self.pipeline.recorder.store

    @property
    def protection(self) -> Protection:
        """What is never acted on."""
        return self.pipeline.ladder.protection

    @property
    def observing(self) -> bool:
        """Whether decisions are recorded, but never put into a kernel."""
        return not self.backend.enforces

    def daemon(self) -> Running:
        """Return the parts of the running daemon.

        Raises:
            NotRunningError: none runs.
        """
        if self.running is None:
            raise NotRunningError("the daemon is not running", "systemctl start throttled")
        return self.running

    @property
    def error(self) -> BackendError | None:
        """Why the kernel does not take what is applied.

        None without a daemon: there may be no rules, which block nobody; what counts then is
        whether a lookup finds an entry afterwards.
        """
        return self.pipeline.enforcer.error if self.running else None

    @property
    def leftover(self) -> Finding | None:
        """What another backend left in the kernel and could not be removed."""
        return self.running.leftovers.finding if self.running else None

    def enforceable(self, subject: str) -> bool:
        """Return whether the backend can have entries of a subject: of accounts, if it answers."""
        senders = self.pipeline.senders
        answering = senders.acting or senders.receiving or answers(self.backend) is not None
        return not address.is_named(subject) or answering

    def answered(self, subject: str) -> bool:
        """Return whether entries of a subject are answers to Postfix, which slow its mail."""
        dispatch = answers(self.backend)
        return self.asks(subject) and dispatch is not None and dispatch.sends(subject)

    def asks(self, subject: str) -> bool:
        """Return whether Postfix asks about what a sender, mailbox or domain sends or receives."""
        senders, kind = self.pipeline.senders, address.kind(subject)
        receives = senders.receiving and kind in ("mailbox", "domain")
        return receives or (senders.acting and kind != "mailbox")

    def refusal(self) -> str:
        """Say why the kernel does not hold what it should."""
        if self.error is not None:
            return f"{self.error.message}; tried again every second"
        return "the kernel did not confirm it; see: throttled status"

    async def remove_leftovers(self) -> None:
        """Try once more to remove what another backend left: it may block whom we unban."""
        if self.running is not None and self.leftover is not None:
            await self.running.leftovers.remove(self.clock().boot)

    def announce(self, decisions: Sequence[Decision], *, notice: bool) -> None:
        """Pass decisions to the daemon's listeners; `notice`: each is worth a notification."""
        if self.running is not None:
            self.running.announce(decisions, notice)

    def active(self, subject: str) -> list[Snapshot]:
        """Return what the store says is active against a subject; nothing where it fails."""
        try:
            return self.store.listing.snapshots(self.clock().wall, Filter(subject=subject))
        except StoreError as error:  # what an operator does continues without it
            log.error("%s. %s", error.message, error.hint)
            return []

    def lookup(self, entries: Iterable[Entry]) -> list[Element] | None:
        """Return which of these entries the kernel holds; None where it cannot be asked.

        Raises:
            BackendError: it cannot be asked, and there is no daemon that would try again.
        """
        try:
            return self.backend.lookup([e for e in entries if self.enforceable(e.subject)])
        except BackendError as error:
            if self.running is None:
                raise
            log.error("%s; the change is not confirmed. %s", error.message, error.hint)
            return None

    def remove(self, named: Iterable[Entry | Element]) -> None:
        """Remove throttles and bans of these subjects from the kernel."""
        removed = [Entry(each.subject, each.scope, a, 0.0) for each in named for a in RESTRICTING]
        self.pipeline.enforcer.apply(removed, self.clock())


def scopes_of(scope: Scope | None, subject: str = "") -> tuple[Scope, ...]:
    """Return the scopes that a request is about; None stands for all.

    Decisions about an account, a uid or a mailbox have one, whatever the request says.
    """
    if address.is_named(subject) and (kind := address.kind(subject)) != "domain":
        return (SCOPE_OF[kind],)
    return SCOPES if scope is None else (scope,)
