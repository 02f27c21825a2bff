"""What operators change in the running daemon: ban, throttle, unban, allow, disallow.

A change is recorded, applied and then looked up in the kernel before it is answered; the answer's
first words are true of the kernel, not of the store. Owns nothing: it steers the daemon that it is
handed.
"""

import asyncio
import logging
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

from throttled import address
from throttled.clock import now
from throttled.control import protocol
from throttled.control.protocol import ChangeResult
from throttled.control.server import Peer
from throttled.errors import BackendError, RefusedError, StoreError
from throttled.model import SCOPES, Entry, Scope, Seen, Snapshot
from throttled.operator import bulk as imports
from throttled.operator.unban import (
    RESTRICTING,
    blocking,
    exempt_until,
    exemptions,
    sentence,
    unbanned,
)
from throttled.settings import Duration
from throttled.store.store import Filter

if TYPE_CHECKING:
    from throttled.service.daemon import Daemon

log = logging.getLogger(__name__)

#: Elements between two iterations of the event loop.
_PIECE = 1000


def active(daemon: "Daemon", subject: str) -> list[Snapshot]:
    """Return what the store says is in force against a subject; nothing where it fails."""
    try:
        return daemon.store.snapshots(now().wall, Filter(subject=subject))
    except StoreError as error:  # what an operator does goes on without it
        log.error("%s. %s", error.message, error.hint)
        return []


class Changes:
    """Does what operators ask."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    def punish(
        self,
        action: Literal["throttle", "ban"],
        request: protocol.Ban | protocol.Throttle,
        peer: Peer,
    ) -> ChangeResult:
        """Ban or throttle a subject.

        Raises:
            RefusedError: it is protected.
        """
        daemon, subject = self._daemon, request.subject
        scopes = SCOPES if request.scope is None else (request.scope,)
        entry = protocol.Entered(subject, action, request.scope, request.seconds, request.why)
        refused = imports.punish(daemon, [entry], peer, now())
        if refused:
            raise refused[0]
        wanted = [Entry(subject, scope, action, 0.0) for scope in scopes]
        confirmed = len(imports.held(daemon, wanted) or ()) == len(scopes)
        rows = [row for row in active(daemon, subject) if row.scope in scopes]
        verb = {"ban": "banned", "throttle": "throttled"}[action]
        where = " and ".join(scopes)
        if daemon.observing:
            told = f"{subject} would be {verb} in {where}; observing, nothing is enforced"
        elif confirmed:
            told = f"{subject} is {verb} in {where}"
        else:
            told = f"{subject} is not {verb} in {where}: {self._refusal()}"
        if daemon.pipeline.recorder.fault is not None:
            told += f"; not in the database yet ({daemon.pipeline.recorder.fault.message})"
        return ChangeResult(rows, confirmed, told)

    def _refusal(self) -> str:
        """Say why the kernel does not hold what it should."""
        fault = self._daemon.pipeline.enforcer.fault
        if fault is not None:
            return f"{fault.message}; tried again every second"
        return "the kernel did not confirm it; see: throttled status"

    async def unban(self, request: protocol.Unban, _peer: Peer) -> ChangeResult:
        """Unban a subject; it is confirmed only if nothing in the kernel blocks it any more.

        Raises:
            RefusedError: it was neither throttled nor banned itself.
        """
        daemon, subject = self._daemon, request.subject
        await self._remove_leftovers()
        moment = now()
        scopes = SCOPES if request.scope is None else (request.scope,)
        rows = [row for row in active(daemon, subject) if row.scope in scopes]
        entries = [Entry(subject, scope, action, 0.0) for scope in scopes for action in RESTRICTING]
        was_held = imports.held(daemon, entries)
        until = exempt_until(scopes, rows, request.exempt and moment.wall + request.exempt)
        rows = [row for row in rows if row.action != "exempt"]
        later = ""
        for scope in scopes:
            try:
                daemon.pipeline.forget(subject, scope, moment, until.get(scope, 0.0))
            except StoreError as error:  # a full disk must not keep anybody banned
                later = _later(error)
        daemon.pipeline.enforcer.apply(entries, moment)
        daemon.pipeline.decide(exemptions(subject, until, moment.wall), moment)
        still = self._blocking(subject, scopes)
        if not rows and was_held == [] and not request.exempt:
            told = f"{subject} is neither throttled nor banned"
            if still:
                raise RefusedError(f"{told} itself, but {sentence(still)}")
            raise RefusedError(told, _other(daemon, subject))
        told, confirmed = self._unbanned(subject, still)
        if request.exempt:
            told += f"; exempt for {Duration(request.exempt)}"
            if address.is_network(subject):
                told += f"; its addresses are judged one by one, `throttled allow {subject}`"
                told += " spares them all"
        return ChangeResult(rows, confirmed, told + later)

    def _blocking(self, subject: str, scopes: Sequence[Scope]) -> list[Seen] | None:
        """Return what of the kernel blocks a subject; None where the kernel cannot be asked."""
        daemon = self._daemon
        if daemon.pipeline.ladder.protection.reason(subject) and not daemon.pipeline.enforcer.fault:
            return []  # the rules let it pass before any entry is looked at
        try:
            return blocking(daemon.backend, subject, scopes)
        except BackendError as error:
            log.error("%s. %s", error.message, error.hint)
            return None

    def _unbanned(self, subject: str, still: list[Seen] | None) -> tuple[str, bool]:
        """Say whether a subject is unbanned; and tell whether it is so."""
        left = self._daemon.leftovers.problem
        if left is not None:
            return f"{subject} is unbanned, but {left.what}", False
        if still is None:
            return f"{subject} is not unbanned in the kernel: {self._refusal()}", False
        if any(seen.subject == subject for seen in still):
            return f"{subject} is not unbanned in the kernel: {self._refusal()}", False
        if still:
            return f"{subject} is unbanned itself, but {sentence(still)}", False
        return unbanned(subject, would=self._daemon.observing), True

    async def _remove_leftovers(self) -> None:
        """Try once more to remove what another backend left: it may block whom we unban."""
        if self._daemon.leftovers.problem is not None:
            await self._daemon.leftovers.remove(now().boot)

    async def unban_all(self, request: protocol.UnbanAll, _peer: Peer) -> ChangeResult:
        """Unban all subjects."""
        pipeline = self._daemon.pipeline
        await self._remove_leftovers()
        if request.scope is not None:
            told = await self._release(request.scope)
        else:
            try:
                told = f"{pipeline.forget('', None, now())} unbanned"
            except StoreError as error:
                told = f"all unbanned{_later(error)}"
            pipeline.flush(self._daemon.reconciler.repair, now())
        if pipeline.enforcer.fault is not None:
            return ChangeResult([], False, f"not unbanned in the kernel: {self._refusal()}")
        if self._daemon.leftovers.problem is not None:
            return ChangeResult([], False, f"{told}, but {self._daemon.leftovers.problem.what}")
        if self._daemon.observing:
            told += " of those that would be throttled or banned; observing, nothing is enforced"
        return ChangeResult([], True, told)

    async def _release(self, scope: Scope) -> str:
        """Take everything in a scope out of force, in pieces; tell how many that were."""
        pipeline = self._daemon.pipeline
        count, later = 0, ""
        try:
            for entries in pipeline.recorder.store.take(scope, _PIECE):
                imports.remove(self._daemon, entries)
                count += len(entries)
                await asyncio.sleep(0)
        except StoreError as error:
            log.error("%s. %s", error.message, error.hint)
            later = "; found in the kernel, as the store failed"
        # What could not be recorded meanwhile is in the kernel alone.
        alone = bool(later) or pipeline.recorder.waiting() > 0
        try:
            pipeline.forget("", scope, now())
        except StoreError as error:
            alone, later = True, _later(error)
        if alone:
            held = []
            dump = self._daemon.backend.dump()
            while piece := list(islice(dump, _PIECE)):
                held += [s for s in piece if s.scope == scope and s.action != "exempt"]
                await asyncio.sleep(0)
            for at in range(0, len(held), _PIECE):
                imports.remove(self._daemon, held[at : at + _PIECE])
                await asyncio.sleep(0)
            count += len(held)
        return f"{count} unbanned{later}"

    async def allow(self, request: protocol.Allow, _peer: Peer) -> ChangeResult:
        """Put a subject or a host name on the allowlist, and unban what is in it.

        Raises:
            RefusedError: the list is full.
            StoreError: it could not be recorded.
        """
        daemon, what = self._daemon, request.what
        imports.allow(daemon, what, request.seconds, request.note, now())
        named = address.is_subject(what)
        lifted = daemon.store.snapshots(now().wall, Filter(within=what)) if named else []
        confirmed, more = await self._protect()
        told = f"{what} is allowed{more}"
        if not confirmed:
            return ChangeResult([], False, told)
        if not named:
            told += "; what is throttled or banned already remains so: see `throttled list`"
        if daemon.observing:
            told += f"; only while observing: to enforce, write {what} into [protect]"
        return ChangeResult(lifted, True, told)

    async def resolve(self, request: protocol.Resolve, _peer: Peer) -> ChangeResult:
        """Put a host name on the allowlist by its addresses, and unban these.

        Raises:
            RefusedError: the list is full, or a name to refresh is not on it.
            StoreError: it could not be recorded.
        """
        daemon, wall = self._daemon, now().wall
        until = wall + request.seconds if request.seconds else 0.0
        kept = None if request.refresh else (until, request.note)
        changed = daemon.store.resolve(request.what, request.addresses, kept, wall)
        lifted = [row for each in request.addresses for row in active(daemon, each)]
        confirmed, more = await self._protect()
        told = protocol.resolved(request, *changed) + more
        if daemon.observing:
            told += "; only while observing"
        return ChangeResult(lifted if confirmed else [], confirmed, told)

    async def _protect(self) -> tuple[bool, str]:
        """Apply the changed allowlist; return whether the kernel took it, and what to add."""
        daemon = self._daemon
        daemon.apply_configuration()
        settled = await daemon.protected.settled()
        if daemon.pipeline.enforcer.fault is not None:
            return False, f", but the rules of the kernel are not changed: {self._refusal()}"
        return True, "" if settled else "; its entries remain listed until the database works"

    def disallow(self, request: protocol.Disallow, _peer: Peer) -> ChangeResult:
        """Take an entry from the allowlist.

        Raises:
            RefusedError: it is not on it.
            StoreError: that could not be recorded.
        """
        daemon = self._daemon
        if not daemon.store.disallow(request.what):
            raise RefusedError(
                f"{request.what} was not allowed by hand",
                "see `throttled allow`; what the file allows is in its [protect]",
            )
        daemon.apply_configuration()
        if daemon.pipeline.enforcer.fault is not None:
            told = f"{request.what} is not allowed any more, but the kernel's rules still allow it"
            return ChangeResult([], False, f"{told}: {self._refusal()}")
        told = f"{request.what} is no longer allowed"
        if address.is_subject(request.what):
            reason = daemon.pipeline.ladder.protection.reason(request.what)
            told += f"; but it is still protected: {reason}" if reason else ""
        return ChangeResult([], True, told)


def _later(error: StoreError) -> str:
    """Say what it means that somebody was unbanned and the store could not be written."""
    log.error("%s; unbans are recorded later. %s", error.message, error.hint)
    return (
        f"; will be recorded when the store works again ({error.message}), "
        "lost if the daemon stops first"
    )


def _other(daemon: "Daemon", subject: str) -> str:
    """Say what else may stand in the way of somebody who seems banned."""
    network = address.network_of(subject)
    if network and daemon.store.total(now().wall, Filter(within=network)):
        return f"something in {network} is: see `throttled list {network}`"
    return "nothing to do; `throttled explain` shows what is known of it"
