"""What would have been done, reported after a day and after a week of observing.

As lines of the journal, and by mail where `[notify] mail` names somebody. Owns since when this host
observes, which the database of what was observed remembers; a pause of a day begins anew, and so
does whatever time another mode was active (`end_observing`).
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from throttled.analysis.report import DAY, WEEK, Overview, headline, overview
from throttled.clock import Moment
from throttled.errors import StoreError
from throttled.notify.journal import NOTICE
from throttled.store.hourly import HOUR
from throttled.store.store import Store

_NAME = "observing"
_STAGES = ((DAY, "a day"), (WEEK, "a week"))

log = logging.getLogger("throttled")


class Observed(Struct):
    """How long this host observes."""

    since: float
    last: float  # wall clock, when it was stored
    sent: int = 0  # reports


class FirstWeek:
    """Returns when a report is due, and makes it; `due` is called while the daemon observes."""

    def __init__(self, database: str, send: Callable[[str, str], Awaitable[str]]) -> None:
        """Report nothing yet.

        Args:
            database: path of that of what was observed.
            send: sends a mail, subject and text; returns what went wrong.
        """
        self._database = database
        self._send = send
        self._known: Observed | None = None

    def due(self, store: Store, now: Moment) -> str:
        """Note the time; return for how long this host observes if that is to be reported."""
        known = self._known or _load(store)
        if known is None or not known.last - DAY <= now.wall <= known.last + DAY:
            known = Observed(now.wall, 0.0)
        length = ""
        if known.sent < len(_STAGES) and now.wall - known.since >= _STAGES[known.sent][0]:
            length = _STAGES[known.sent][1]
            known.sent += 1
        if length or not known.last <= now.wall < known.last + HOUR:
            known.last = now.wall
            store.known.put(_NAME, msgspec.json.encode(known), now.wall)
        self._known = known
        return length

    async def report(self, length: str, now: Moment) -> None:
        """Report what would have been done."""
        assert self._known is not None  # noqa: S101 - `due` was called
        since = self._known.since // HOUR * HOUR
        try:
            found = await asyncio.to_thread(_read, self._database, since, now.wall)
        except StoreError as error:
            log.error("%s. %s", error.message, error.hint)
            return
        log.log(
            NOTICE,
            "observed for %s: %s to enforce: throttled mode enforce",
            length,
            headline(found),
        )
        subject = f"throttled on {found.host}, after {length} of observing: {headline(found)}"
        if error_text := await self._send(subject, "\n".join(_text(found, length))):
            log.warning("the report on %s of observing was not sent: %s", length, error_text)


def end_observing(database: str) -> None:
    """Begin anew the next time this host observes: what it does now is enforced.

    Args:
        database: path of that of what was observed; it may be absent.
    """
    if not Path(database).exists():
        return
    try:
        with closing(Store.open(database, beside=True)) as store:
            if store.known.get(_NAME):
                store.known.put(_NAME, b"", 0.0)
    except StoreError as error:
        log.warning("%s; the time of observing continues. %s", error.message, error.hint)


def _load(store: Store) -> Observed | None:
    value = store.known.get(_NAME)
    try:
        return msgspec.json.decode(value, type=Observed) if value else None
    except msgspec.MsgspecError:  # altered by another program
        return None


def _read(database: str, since: float, until: float) -> Overview:
    with closing(Store.open(database, readonly=True)) as store:
        return overview(store, since, until, host=os.uname().nodename, would=True)


def _text(found: Overview, length: str) -> Iterator[str]:
    yield f"throttled has observed this host for {length}. Nothing was enforced."
    yield ""
    yield headline(found)
    if found.good:
        yield ""
        yield "Look at these first (throttled explain ADDRESS; not abuse: throttled allow ADDRESS):"
    for row in found.good:
        done = f"{row.bans:,} bans, {row.throttles:,} throttles by {ascii(row.limit)[1:-1]}"
        yield f"  {row.subject}  {row.deliveries:,} mails, {row.logins:,} logins: {done}"
    yield ""
    yield "All of it:     throttled preview"
    yield "With charts:   throttled report --html report.html"
    yield "To enforce:    throttled mode enforce"
    yield ""
