"""What is wrong with recording and enforcing: database, firewall, ports. Owns nothing."""

from collections.abc import Callable, Iterator, Mapping

from throttled.core.leftovers import Leftovers
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.reopening import StoreFile
from throttled.health.findings import failures
from throttled.model import Finding, Scope


class EnforcementReporter:
    """Looks at what records and enforces decisions.

    Args:
        pipeline: its recorder and its enforcer.
        file: of the store.
        maintenance: of the store.
        leftovers: entries of other backends.
        ports: returns the ports that are filtered.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        file: StoreFile,
        maintenance: Maintenance,
        leftovers: Leftovers,
        ports: Callable[[], Mapping[Scope, tuple[int, ...]]],
    ) -> None:
        self._pipeline = pipeline
        self._file = file
        self._maintenance = maintenance
        self._leftovers = leftovers
        self._ports = ports

    def __call__(self, _at: float) -> Iterator[Finding]:
        """Yield what is wrong."""
        recorder = self._pipeline.recorder
        errors = {
            "store-unusable": self._file.error,
            "store-unwritten": recorder.error,
            "store-unread": recorder.unread or self._maintenance.error,
            "firewall": self._pipeline.enforcer.error,
        }
        yield from failures("fault", errors)
        if self._leftovers.finding is not None:
            yield self._leftovers.finding
        if not any(self._ports().values()):
            what = "no SMTP port of Postfix is known: no port is filtered"
            hint = "correct Postfix's configuration (see: postconf -M), or set [firewall] ports"
            yield Finding("fault", what, hint, "no-ports")
