"""Unexpected errors: counted, logged, skipped, so that what follows is still processed.

No log line, event, decision, database row or host fact may end the daemon or stop a batch
(docs/reliability.md). Whoever works through things that others wrote uses `Skipped` around the
loop: what raises is passed over alone. `ThrottledError` is foreseen and passes through.

Owns the counts, and when each kind of error was logged last. Limits: `_KINDS` kinds of errors are
distinguished.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from traceback import extract_tb
from typing import TypeVar

from throttled.errors import ThrottledError

log = logging.getLogger(__name__)

#: The same kind of error is logged with its traceback once, then once in so many seconds.
_QUIET = 600.0
_KINDS = 100
_SHOWN = 300  # characters of what was skipped

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Skipped:
    """What was skipped so far."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # by what it was: line, decision, row, fact, …
        #: When (monotonic) each kind was logged, and how many came since.
        self._logged: dict[tuple[str, ...], tuple[float, int]] = {}

    def total(self) -> int:
        """Return how many things were skipped."""
        return sum(self.counts.values())

    def add(self, what: str, error: BaseException, item: object = "") -> None:
        """Count and log an error.

        Args:
            what: the kind of thing that is skipped, one word.
            error: what was raised.
            item: the thing; text of strangers in it is escaped.
        """
        self.counts[what] = self.counts.get(what, 0) + 1
        at = monotonic()
        kind = (what, type(error).__name__, _place(error))
        then, more = self._logged.get(kind, (-_QUIET, 0))
        if at - then < _QUIET:
            self._logged[kind] = then, more + 1
            return
        first = kind not in self._logged
        if first and len(self._logged) >= _KINDS:
            self._logged.clear()
        self._logged[kind] = at, 0
        shown = ascii(item)[:_SHOWN] if item else ""
        text = "skipped a %s: unexpected %s at %s%s: %s%s"
        since = f" ({more:,} more since the last message)" if more else ""
        log.error(text, *kind, since, ascii(str(error))[:_SHOWN], shown and f": {shown}")
        log.log(logging.ERROR if first else logging.DEBUG, "traceback", exc_info=error)

    def run(self, what: str, items: Iterable[Item], act: Callable[[Item], object]) -> None:
        """Act on items one after the other; skip those with which that raises."""
        pending = iter(items)
        for item in pending:
            try:
                act(item)
                for item in pending:  # noqa: PLW2901 - one `try` for as long as none raises
                    act(item)
            except ThrottledError:
                raise
            except Exception as error:  # noqa: BLE001 - unforeseen is what this is for
                self.add(what, error, item)

    def each(
        self, what: str, items: Sequence[Item], act: Callable[[Sequence[Item]], Outcome]
    ) -> list[Outcome]:
        """Act on a batch; where that raises on its halves, so that only what raises is skipped.

        Args:
            what: see `add`.
            items: the batch.
            act: may be done again on a part of what it raised with.

        Returns:
            What `act` returned: one outcome, if nothing raised.
        """
        try:
            return [act(items)]
        except ThrottledError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if len(items) <= 1:
                self.add(what, error, *items)
                return []
        middle = len(items) // 2
        return [
            *self.each(what, items[:middle], act),
            *self.each(what, items[middle:], act),
        ]


def _place(error: BaseException) -> str:
    """Return where it was raised, as `file.py:12`."""
    frames = extract_tb(error.__traceback__, limit=-1)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
