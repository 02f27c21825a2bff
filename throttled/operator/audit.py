"""Manual changes with user, time and outcome: recorded in the store and logged.

Owns the changes that a failing store could not take: at most `PENDING`, written with the next one.
A change is one line of the log, at notice, after it was made; at debug the request is logged before
that too (`control.server`), so that it is known what a daemon was asked that was killed meanwhile.
"""

import logging
import os
import pwd
import syslog
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from throttled.clock import Moment, now
from throttled.control import wire
from throttled.control.bulk import UnbanManyResult
from throttled.control.fields import Part
from throttled.control.requests import READS, MailChange, PostfixChange, Purge, Request
from throttled.control.results import ChangeResult, Done, ImportResult, Result
from throttled.control.server import Peer
from throttled.errors import StoreError, ThrottledError
from throttled.model import Change
from throttled.notify.journal import NOTICE
from throttled.printable import blanked
from throttled.store.store import Store

PENDING = 1000
#: `loginuid` of a process that nobody's login started (proc(5)).
_NOBODY = (1 << 32) - 1

log = logging.getLogger(__name__)


class Trail:
    """Records changes.

    Args:
        store: returns the store; called when there is something to write.
        clock: both clocks.
        offline: no daemon runs: what would be in its log goes to syslog.
    """

    def __init__(
        self, store: Callable[[], Store], clock: Callable[[], Moment], *, offline: bool = False
    ) -> None:
        self._store = store
        self._clock = clock
        self._offline = offline
        self._pending: deque[tuple[Change, str]] = deque(maxlen=PENDING)

    async def handle(
        self, request: Request, peer: Peer, handler: Callable[[Request, Peer], Awaitable[Result]]
    ) -> Result:
        """Let a request be done, and record it if it changes something.

        Raises:
            ThrottledError: the handler's.
        """
        if isinstance(request, READS):
            return await handler(request, peer)
        with self.recording(request, peer) as results:
            results.append(await handler(request, peer))
        return results[0]

    @contextmanager
    def recording(
        self, request: Request | Purge | PostfixChange | MailChange, peer: Peer
    ) -> Iterator[list[Result]]:
        """Record what is done within.

        Yields:
            Where to put the result.
        """
        caller = user_name(peer), _program(peer.pid)  # before the process is gone
        results: list[Result] = []
        outcome = "internal error", False
        try:
            yield results
            outcome = _outcome(results[0], getattr(request, "part", None))
        except ThrottledError as error:
            outcome = error.message, False
            raise
        finally:
            subject = getattr(request, "subject", None) or getattr(request, "what", None) or ""
            op = str(type(request).__struct_config__.tag)
            what = op, subject, wire.summary(request), *outcome
            wall = self._clock().wall
            self._write(
                Change(wall, peer.uid, caller[0], peer.pid, caller[1], *what, self._offline),
                getattr(request, "part", None),
            )

    def _write(self, change: Change, part: Part | None) -> None:
        if part is None or part.last or not change.ok:  # a line for each command
            self._log(change)
        self._pending.append((change, part.id if part else ""))
        try:
            while self._pending:
                self._store().audit.write(*self._pending[0])
                self._pending.popleft()
        except StoreError as error:  # it is done all the same
            where = "in syslog only" if self._offline else "kept in memory"
            log.error("%s; the audit record is %s. %s", error.message, where, error.hint)

    def _log(self, change: Change) -> None:
        if self._offline:
            syslog.openlog("throttled", syslog.LOG_PID, syslog.LOG_DAEMON)
            syslog.syslog(syslog.LOG_NOTICE, f"without a daemon: {_sentence(change)}")
        else:
            log.log(NOTICE, "%s", _sentence(change))


@contextmanager
def recorded(store: str, request: PostfixChange | MailChange) -> Iterator[list[Result]]:
    """Record what a command does within by itself, whether a daemon runs or not.

    Args:
        store: path of the database, opened when it is done.
        request: what is done.

    Yields:
        Where to put the result.
    """
    with ExitStack() as opened:
        opens = partial(Store.open, store, beside=True)
        trail = Trail(lambda: opened.enter_context(closing(opens())), now, offline=True)
        with trail.recording(request, this_process()) as results:
            yield results


def this_process() -> Peer:
    """Return this process as a peer: a command that changes something without a daemon."""
    return Peer(os.getpid(), os.getuid(), os.getgid())


def _outcome(result: Result, part: Part | None) -> tuple[str, bool]:
    """Return what became of a change: a sentence, and whether the kernel confirmed it."""
    match result:
        case ChangeResult():
            return result.message, result.confirmed
        case ImportResult() | UnbanManyResult():
            done = result.done + (part.done if part else 0)
            refused = len(result.refused) + (part.refused if part else 0)
            removed = part.removed if part else 0
            if isinstance(result, ImportResult):
                removed += result.outcomes.get("removed", 0)
            text = f"{done} done, {refused} refused" + (f", {removed} removed" if removed else "")
            return text if part is None or part.last else f"{text}; not ended", result.confirmed
        case Done():
            return result.message, True
        case _:
            return "", True


def _sentence(change: Change) -> str:
    """Return a record as a line for the log."""
    caller = f"{change.user} (uid {change.uid}, pid {change.pid}, {change.program})"
    return f"{caller} asked {change.request}: {change.outcome}"


def user_name(peer: Peer) -> str:
    """Return the name of the user who asks, with that of the login behind it (sudo, su)."""
    name = _name(peer.uid)
    try:
        login = int(Path(f"/proc/{peer.pid}/loginuid").read_text("ascii"))
    except (OSError, ValueError):  # it is gone, or this kernel keeps none
        return name
    return name if login in (_NOBODY, peer.uid) else f"{name}, logged in as {_name(login)}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _program(pid: int) -> str:
    """Return the name of a process, which it can choose itself; "" if it is gone."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""
    return blanked(name, "?")
