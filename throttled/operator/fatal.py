"""New lines of one Postfix instance that say that a daemon of its cannot work.

Owns the open logs of one watch.
"""

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from throttled.errors import SourceError
from throttled.host.zone import local_zone
from throttled.log_paths import is_journal
from throttled.parse.clock import Clock
from throttled.parse.header import any_form
from throttled.tail.file import FileTail
from throttled.tail.journal import JournalTail

#: Commands that any local user runs, wrongly too; the rest are daemons.
_USERS = ("sendmail", "postdrop", "postqueue")

_EXIT = re.compile(r"warning: process \S+ pid [0-9]+ (?:exit status|killed by signal) ")
_THROTTLING = re.compile(r"warning: (?:\S*/)?(\S+): bad command startup -- throttling")


class Watch:
    """Reads logs from their present end on.

    Args:
        sources: files, or a journal, see `throttled.log_paths`; what cannot be read is passed over.
        tags: syslog names of the instance: `postfix`, `postfix/submission`.
    """

    def __init__(self, sources: Iterable[str], tags: Iterable[str]) -> None:
        self._tags = frozenset(tags)
        self._clock = Clock(local_zone(), time.time())
        self._tails: list[FileTail | JournalTail] = []
        self.fatal = ""  # the first such line
        self.throttled: set[str] = set()  # programs that master(8) does not start for a minute
        self._failed = 0  # daemons that logged a fatal line, less those that ended since
        self.greeted = 0  # lines about clients that connected
        for source in sources:
            with suppress(SourceError):
                journal = is_journal(source)
                tail = JournalTail(None, path=source) if journal else FileTail(source, None)
                self._tails.append(tail)
        self.read()
        self.again()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for tail in self._tails:
            tail.close()

    @property
    def blind(self) -> bool:
        """Whether there is no log to read."""
        return not self._tails

    def again(self) -> None:
        """Count from here on."""
        self.fatal, self.greeted, self._failed = "", 0, 0
        self.throttled.clear()

    def ending(self) -> int:
        """Return how many daemons could not work and have not ended yet."""
        self.read()
        return self._failed

    def fails(self) -> bool:
        """Return whether a daemon could not work since `again`."""
        return bool(self.read() or self.throttled)

    def read(self) -> str:
        """Read what was written since; return the first line that begins with `fatal:`."""
        for tail in self._tails:
            with suppress(SourceError):
                while batch := tail.read():
                    for line in batch.lines:
                        self._line(line)
        return self.fatal

    def _line(self, line: str) -> None:
        head = any_form(line, self._clock, None)
        if head is None or head[0].instance not in self._tags or head[0].process in _USERS:
            return
        process, body = head[0].process, head[2]
        if body.startswith("fatal:"):
            self.fatal = self.fatal or f"{process}: {body}"
            self._failed += process != "master"
        elif process == "master":
            self._failed -= _EXIT.match(body) is not None
            if match := _THROTTLING.match(body):
                self.throttled.add(match[1])
        self.greeted += body.startswith(("connect from", "CONNECT from"))
