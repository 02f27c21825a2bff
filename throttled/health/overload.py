"""Findings about overload: strangers are delayed, or nothing can delay them. Owns no state."""

import time
from collections.abc import Iterator, Sequence

from throttled.control.overload import NOBODY, READING, OverloadStatus
from throttled.model import Finding


def findings(rows: Sequence[OverloadStatus]) -> Iterator[Finding]:
    """Yield what an operator should know of the scopes."""
    for row in rows:
        if row.since:
            yield Finding("warning", delayed(row), _hint(row), f"overload-{row.scope}")
        if row.cap and row.why and row.mode == "enforce" and row.why not in (READING, NOBODY):
            what = f"overload in {row.scope}: everybody is admitted: {row.why}"
            yield Finding("warning", what, "see: throttled check", f"admission-{row.scope}")


def delayed(row: OverloadStatus) -> str:
    """Return that strangers are delayed: since when, how many, and what for."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.since))
    verb = "are" if row.drops else "would be"
    others = "are not" if row.drops else "wait behind them for a process of Postfix"
    return (
        f"strangers {verb} delayed in {row.scope} since {since}: more than {row.cap} connections; "
        f"known good clients {others}"
    )


def _hint(row: OverloadStatus) -> str:
    if row.drops:
        return "nothing needs to be done: strangers try again by themselves; see: throttled status"
    if row.why:
        return f"everybody is admitted: {row.why}"
    return f'to delay them: [overload] {row.scope} = "enforce"'
