"""A log that falls silent while connections arrive.

Postfix logs every connection that it accepts. While there are no lines of Postfix, the connections
to its ports are read every `_CHECK` seconds: those that were not there when the silence began were
not logged. While there are lines nothing is read. Limits: only connections of this network
namespace, and of those that the client closed first only such as are open at the check.

Owns which connections came during the silence, at most `_MOST`.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from throttled.core.pipeline import Pipeline
from throttled.model import Finding

_CHECK = 5.0
#: Connections, and seconds over which they come: a syslog daemon may delay lines for a while.
_CONNECTIONS, _SILENT = 3, 15.0
_MOST = 1000


def logged(pipeline: Pipeline) -> int:
    """Return how many events this host's Postfix logged: the sensor's are not of the log."""
    events = pipeline.counts.events
    ignored = pipeline.engine.hosts.total()  # another host's say nothing of this one
    return sum(events.values()) - events.get("handshake", 0) - ignored


class Silence:
    """Compares what is logged with what arrives."""

    def __init__(
        self, events: Callable[[], int], connections: Callable[[], AbstractSet[bytes]]
    ) -> None:
        """Ask nothing yet.

        Args:
            events: how many events of Postfix were read so far.
            connections: those to Postfix's ports, open ones and those of late; may raise OSError.
        """
        self._events = events
        self._connections = connections
        self._heard = -1
        self._since = 0.0  # on the clock of `tick`
        self._checked = 0.0
        self._before: AbstractSet[bytes] | None = None  # logged, or older than the silence
        self._unlogged: set[bytes] = set()

    def tick(self, at: float) -> None:
        """Look, when it is time to.

        Args:
            at: now, on the boot clock.
        """
        events = self._events()
        if events != self._heard:
            self._heard = events
            self._since = self._checked = at
            self._before = None
            self._unlogged = set()
        elif at - self._checked >= _CHECK:
            self._checked = at
            try:
                found = self._connections()
            except OSError:  # a kernel that does not tell leaves it at that
                return
            if self._before is None:
                self._before = found
            elif len(self._unlogged) < _MOST:
                self._unlogged |= found - self._before

    def findings(self, at: float) -> list[Finding]:
        """Return what an operator should know.

        Args:
            at: now, on the boot clock.
        """
        silent = at - self._since
        if len(self._unlogged) < _CONNECTIONS or silent < _SILENT:
            return []
        what = (
            f"Postfix logged nothing for {silent:.0f} s, but at least "
            f"{len(self._unlogged)} connections came"
        )
        hint = (
            "no client is counted meanwhile: where does Postfix log to (postconf "
            "maillog_file), does its syslog daemon run, is the disk full? see: throttled check"
        )
        return [Finding("fault", what, hint, "log-silent")]
