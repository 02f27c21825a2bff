"""What follows when an account comes under attack, and when a client that failed on it logs in.

Owns no state. What the store cannot say is passed over: it is reported where it is written.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from throttled.clock import Moment
from throttled.core.recorder import Key
from throttled.decide.guessing import Target
from throttled.errors import StoreError
from throttled.model import Decision, Report
from throttled.settings import GUESSING, Guessing
from throttled.store.store import Filter, Store


def reports(
    targets: Iterable[Target], settings: Guessing, store: Store, now: Moment
) -> Iterator[Report]:
    """Yield reports of accounts that came under attack, each once in the window.

    After a restart the lines before it are counted again, so the store is asked.
    """
    within = float(settings.within)
    for target in targets:
        with suppress(StoreError):
            known = store.senders.reports(now.wall - within, target.account)
            if any(report.limit == GUESSING for report in known):
                continue
        about = GUESSING, "guesses", target.tries, settings.tries, within, target.account
        yield Report(now.wall, target.account, *about)


def acquitted(keys: Iterable[Key], store: Store, now: Moment) -> list[Decision]:
    """Return the end of the throttles for guessing whose clients logged in.

    Where the store cannot be read they expire by themselves.
    """
    found: list[Decision] = []
    for subject, scope in keys:
        with suppress(StoreError):
            rows = store.listing.snapshots(now.wall, Filter(subject=subject))
            about = (GUESSING, 0, now.wall, "it logged in")
            found += [
                Decision(now.wall, "release", subject, scope, *about)
                for row in rows
                if (row.scope, row.action, row.limit) == (scope, "throttle", GUESSING)
            ]
    return found
