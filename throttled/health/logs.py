"""What is wrong with the logs: not followed, not read, lagging, of another host, with lines lost.

Owns since when a log has had events of other hosts only, and counts that should not grow.
"""

from collections.abc import Iterator, Mapping

from throttled.core.pipeline import Pipeline
from throttled.health.growth import Growths
from throttled.model import Finding
from throttled.sources.logs import Logs
from throttled.tail.pattern import MAX_NAMES, Scan

#: Seconds after which a log that has not been read to its end lags.
_BEHIND = 5.0
#: A log in which this host comes second is given this many events, or `_BEHIND` seconds.
_STRANGERS = 10
#: Names of other hosts that are shown.
_HOSTS = 5


class LogReporter:
    """Looks at the logs that are followed."""

    def __init__(self, logs: Logs, pipeline: Pipeline) -> None:
        self._logs = logs
        self._pipeline = pipeline
        self._growths = Growths()
        self._others: dict[str, float] = {}

    def __call__(self, at: float) -> Iterator[Finding]:
        """Yield what is wrong with the logs."""
        logs, growths = self._logs, self._growths
        unread = logs.unopened | {f.path: p[0] for f in logs.followers if (p := f.errors())}
        for path, what in unread.items():
            yield Finding("fault", what, "see: throttled check", f"log-unread:{path}")
        if not logs.followers:
            hint = "name the log in [log] files, or set maillog_file in Postfix's main.cf"
            yield Finding("fault", "no log is read: no client can be counted", hint, "no-log")
        for pattern, scan in logs.patterns.scans().items():
            yield from _matching(pattern, scan)
        others = self._pipeline.engine.hosts.others()
        for follower in logs.followers:
            path, state = follower.path, follower.tail.state()
            if follower.behind and at - follower.behind > _BEHIND:
                what = f"{path}: reading has been behind for {at - follower.behind:.0f} s"
                what += f", {state.lag:,} bytes unread" if state.lag else ""
                hint = "the log grows faster than it is read: is the CPU busy with other work?"
                yield Finding("warning", what, hint, f"log-lag:{path}")
            ignored = others.get(follower.number, {})
            if ignored and (
                sum(ignored.values()) >= _STRANGERS
                or at - self._others.setdefault(path, at) >= _BEHIND
            ):
                yield _others(path, ignored)
            if growths.lately(f"log-gap:{path}", state.gaps, at):
                what = f"{path}: deleted or damaged before it was read, {state.gaps} times"
                hint = "let logrotate keep rotated logs for a day, in the same directory"
                yield Finding("warning", what, hint, f"log-gap:{path}")
        lost = self._pipeline.counts.lines_lost
        if growths.lately("lines-lost", lost, at):
            what = f"the logger lost {lost:,} lines: their clients were not counted"
            hint = "raise its rate limit: RateLimitBurst= in journald.conf, imuxsock's in rsyslog's"
            yield Finding("warning", what, hint, "lines-lost")


def _matching(pattern: str, scan: Scan) -> Iterator[Finding]:
    """Say that a pattern means no file, or more than are followed."""
    if not scan.files:
        hint = "new files are found within seconds; is the path right? see: throttled check"
        yield Finding("warning", f"{pattern}: no file matches", hint, f"log-unmatched:{pattern}")
    elif not scan.complete or scan.total > len(scan.files):
        what = f"{pattern}: {scan.total:,} files match, {len(scan.files)} are followed"
        if not scan.complete:
            what += f"; only the first {MAX_NAMES:,} names were checked"
        hint = "those written last are followed: use a pattern that matches fewer"
        yield Finding("warning", what, hint, f"log-many:{pattern}")


def _others(path: str, ignored: Mapping[str, int]) -> Finding:
    """Say that no line of a log counts, as they are of other hosts, the first of which named."""
    names = ", ".join(list(ignored)[:_HOSTS])
    count = sum(ignored.values())
    what = f"{path}: all {count:,} events name other hosts and are not counted: {names}"
    first = next(iter(ignored))
    hint = f'if that is this host: throttled check, or [postfix] hosts = ["{first}"]'
    return Finding("fault", what, hint, f"other-host:{path}")
