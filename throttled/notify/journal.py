"""The daemon's own log: levels, their form on standard error, and a line for each decision.

systemd's journal takes the priority of a line from `<N>` in front of it (sd-daemon(3)); who runs
the daemon in a terminal reads the level's name. Decisions, their ends and operators' commands are
at notice, trouble at warning and error, the rest at info, explanations at debug.

Owns how many decisions were logged lately.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from throttled.model import Decision, Snapshot
from throttled.notify import line

#: Between logging's INFO and WARNING.
NOTICE = 25
#: By the name that `--log-level` takes.
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": NOTICE,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: Decisions of one batch that are logged one by one.
SHOWN = 100
#: Maximum number of decision lines in a window (seconds): half of what journald takes by default
#: (RateLimitBurst=10000 in 30 s), so that it drops none of ours.
_LINES, _WINDOW = 5_000, 30.0
#: syslog(3)'s priorities, by the lowest level that has them.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5))
_INFO, _DEBUG = 6, 7

log = logging.getLogger("throttled")


class Formatter(logging.Formatter):
    """Writes a record; `journal`: for systemd's journal, with the priority before each line."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text; a traceback has several lines."""
        text = super().format(record)
        if self._journal:
            prefix = f"<{_priority(record.levelno)}>"
            return prefix + text.replace("\n", f"\n{prefix}")
        usual = record.levelno in {logging.INFO, NOTICE}
        return f"throttled: {text}" if usual else f"throttled: {record.levelname.lower()}: {text}"


def set_up(level: str, stream: TextIO = sys.stderr) -> None:
    """Send what is logged to a stream.

    Args:
        level: what is less important is left out, see `LEVELS`.
        stream: standard error; the journal if `JOURNAL_STREAM` says so (systemd.exec(5)).
    """
    logging.addLevelName(NOTICE, "NOTICE")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(journal=_is_journal(stream)))
    # Debug lines of libraries (pyroute2: each netlink message) explain no decision.
    logging.basicConfig(handlers=[handler], level=max(logging.INFO, LEVELS[level]), force=True)
    log.setLevel(LEVELS[level])


class Journal:
    """Writes a line for each decision, and for the end of each entry."""

    def __init__(self, clock: Callable[[], float], *, would: bool) -> None:
        """Write nothing yet.

        Args:
            clock: seconds, never set back.
            would: the daemon observes: nothing is enforced.
        """
        self._clock = clock
        self._would = would
        self._began = clock()
        self._left = _LINES
        self._omitted = 0

    def __call__(self, decisions: Sequence[Decision]) -> None:
        """Write decisions."""
        lines = [line.line(decision, would=self._would) for decision in decisions[:SHOWN]]
        self._write(lines, len(decisions) - len(lines))

    def bulk(self, decisions: Sequence[Decision]) -> None:
        """Write decisions of `import` and `unban --all`, with half of the lines at most.

        The other half is left to the decisions on clients that offend meanwhile.
        """
        room = max(0, self._left - _LINES // 2)
        lines = [line.line(each, would=self._would) for each in decisions[: min(SHOWN, room)]]
        self._write(lines, 0)
        self._omitted += len(decisions) - len(lines)

    def ended(self, ended: Sequence[tuple[Snapshot, Decision]], count: int) -> None:
        """Write what expired, each with the throttle that follows a ban.

        Args:
            ended: entries and what follows them, the first ones.
            count: how many there are.
        """
        lines = []
        for row, decision in ended[:SHOWN]:
            lines.append(line.expired(row))
            if decision.action != "release":
                lines.append(line.line(decision, would=self._would))
        self._write(lines, count - min(len(ended), SHOWN))

    def _write(self, lines: Sequence[str], more: int) -> None:
        """Write lines as far as there is room for them; `more`: decisions that have none."""
        if self._clock() - self._began >= _WINDOW:
            self._began, self._left = self._clock(), _LINES
            if self._omitted:
                log.warning(
                    "suppressed the lines of %d decisions: more than %d in %d s",
                    *(self._omitted, _LINES, _WINDOW),
                )
            self._omitted = 0
        for text in lines[: self._left]:
            log.log(NOTICE, "%s", text)
        more += len(lines[self._left :])
        if more and self._left:
            log.log(NOTICE, "%d more decisions at once; see: throttled list", more)
        elif more:
            self._omitted += more
        self._left = max(0, self._left - len(lines))


def _priority(level: int) -> int:
    for lowest, priority in _PRIORITIES:
        if level >= lowest:
            return priority
    return _INFO if level >= logging.INFO else _DEBUG


def _is_journal(stream: TextIO) -> bool:
    """Return whether a stream is what systemd connected to the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
