"""Places the time of a log line: from its text to seconds since the epoch. Pure.

RFC 3164 writes neither year nor zone. The year is the latest that puts the line no later than a
day after a reference (now, or the last change of an old file): a line of 31 December read on 1
January is last year's. An hour that occurs twice, when summer time ends, is taken for its second
occurrence as soon as the reference has got there.

A `Clock` owns one bounded cache; when it is full it starts empty.
"""

import re
from calendar import isleap
from collections.abc import Iterator
from datetime import datetime, tzinfo

_DAY = 86_400.0
_SKEW = 60.0  # seconds that a line may be ahead of the reference in an hour that occurs twice
_CACHED = 4_096  # a flood writes thousands of lines a second, all with the same text

_RFC3164 = re.compile(r"([A-Z][a-z]{2}) ([ 0-9]?[0-9]) ([0-9]{2}):([0-9]{2}):([0-9]{2})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def iso_date(year: str, day: str) -> str:
    """Return `2026-08-02` of `2026` and `Aug 2` or `Aug  2`; no date where the month is none."""
    month = _MONTHS.index(day[:3]) + 1 if day[:3] in _MONTHS else 0
    return f"{year}-{month:02}-{int(day[3:]):02}"


class Clock:
    """Reads the times of one log.

    Args:
        zone: of times that name none.
        reference: seconds since the epoch, see above.
    """

    def __init__(self, zone: tzinfo, reference: float) -> None:
        self._zone = zone
        self._reference = reference
        #: Text to (time, first reference for which this holds, first for which it does not).
        self._placed: dict[str, tuple[float, float, float]] = {}

    def iso(self, text: str, reference: float | None = None) -> float | None:
        """Return seconds since the epoch of an ISO 8601 time, or None where the text is none."""
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        # With fractions each line has another time: nothing to remember.
        return moment.timestamp() if moment.tzinfo else self.time(text, reference)

    def time(self, text: str, reference: float | None = None) -> float | None:
        """Return seconds since the epoch, or None where the text is no time."""
        if reference is None:
            reference = self._reference
        known = self._placed.get(text)
        if known is not None and known[1] <= reference < known[2]:
            return known[0]
        try:
            placed = self._place(text, reference)
        except (ValueError, OverflowError, OSError):
            return None
        if len(self._placed) >= _CACHED:
            self._placed.clear()
        self._placed[text] = placed
        return placed[0]

    def _place(self, text: str, reference: float) -> tuple[float, float, float]:
        """Choose the latest moment that the reference allows, else the earliest."""
        moment, until = 0.0, float("inf")
        for moment, since in self._moments(text, reference):
            if since <= reference:
                return moment, since, until
            until = since
        return moment, float("-inf"), until

    def _moments(self, text: str, reference: float) -> Iterator[tuple[float, float]]:
        """Yield what a text may mean, latest first: (time, first reference that allows it)."""
        for local in self._readings(text, reference):
            first = local.replace(tzinfo=self._zone).timestamp()
            second = local.replace(tzinfo=self._zone, fold=1).timestamp()
            if second > first:
                yield second, second - _SKEW
            yield first, first - _DAY

    def _readings(self, text: str, reference: float) -> Iterator[datetime]:
        """Yield local times, one for each year that a text without year may mean, latest first."""
        match = _RFC3164.fullmatch(text)
        if match is None:
            yield datetime.fromisoformat(text)
            return
        month = _MONTHS.index(match[1]) + 1
        day, hour, minute, second = map(int, match.group(2, 3, 4, 5))
        year = datetime.fromtimestamp(reference, self._zone).year + 2
        while True:  # until the caller has what it wants, or the calendar ends
            if isleap(year) or (month, day) != (2, 29):
                # The zone is added together with the fold, in `_moments`.
                yield datetime(year, month, day, hour, minute, min(second, 59))  # noqa: DTZ001
            year -= 1
