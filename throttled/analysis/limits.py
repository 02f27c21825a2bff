"""From this host's logs and store: were Postfix's limits hit, and what do honest senders need?

Owns nothing but the one run.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo
from pathlib import Path

from throttled.decide.hosts import this_one
from throttled.errors import SourceError
from throttled.facts import Facts
from throttled.log_paths import is_journal
from throttled.maincf.evidence import Evidence
from throttled.parse import anvil
from throttled.parse.clock import Clock
from throttled.parse.header import any_form
from throttled.sources.history import read, reference
from throttled.store.store import Store

#: anvil_rate_time_unit, unless configured.
_UNIT = 60.0
_HOSTS = 1000


class Reader:
    """Reads logs, and counts for each instance by its syslog names.

    Args:
        instances: configuration directories with their syslog names.
        facts: what this host is called: other hosts' lines do not count.
        zone: of times that name none.
        since: wall clock; older lines do not count, and files that ended before are not opened.
    """

    def __init__(
        self, instances: Mapping[str, Iterable[str]], facts: Facts, zone: tzinfo, since: float
    ) -> None:
        self.found = {directory: Evidence() for directory in instances}
        self.unread: list[str] = []  # what could not be read, and why
        self._by_tag = {
            tag: self.found[directory] for directory, tags in instances.items() for tag in tags
        }
        self._facts = facts
        self._zone = zone
        self._since = since
        self._ours = {"": True}

    def read(self, logs: Iterable[str], progress: Callable[[str, int], None] | None = None) -> None:
        """Read logs.

        Args:
            logs: files, or a journal, see `throttled.log_paths`.
            progress: called with how much of which file has been read.
        """
        for path in logs:
            try:
                if is_journal(path) or Path(path).stat().st_mtime >= self._since:
                    self._log(path, progress)
            except SourceError as error:
                self.unread.append(error.message)
            except OSError as error:
                self.unread.append(f"{path}: {error.strerror}")

    def _log(self, path: str, progress: Callable[[str, int], None] | None) -> None:
        clock = Clock(self._zone, reference(path))
        for lines, consumed in read(path):
            for line in lines:
                head = any_form(line, clock, None)
                if head is None or (head[1] and head[1] < self._since):
                    continue
                origin, _, body = head
                of = self._by_tag.get(origin.instance)
                if of is None or not self._is_ours(origin.host):
                    continue
                of.read(origin.process, body.rstrip("\r"))
                if origin.process == "anvil" and (peak := anvil.read(body, *head[:2])):
                    of.peak(peak.where, peak.client, peak.count)
            if progress is not None:
                progress(path, consumed)

    def _is_ours(self, host: str) -> bool:
        if host not in self._ours and len(self._ours) < _HOSTS:
            self._ours[host] = this_one(host, self._facts)
        return self._ours.get(host, False)


def stored(found: Iterable[Evidence], store: Store, now: float) -> None:
    """Add what the daemon stored of clients' connections within a minute, of the last 30 days."""
    kept = store.peaks.read(now)
    for (_scope, _limit, count, within), clients in kept.highest.items():
        if count != "connections" or within != _UNIT:
            continue
        for client, value in clients.items():
            if client in kept.good:
                for one in found:
                    one.good.add(client)
                    one.note("connection rate", client, value)
