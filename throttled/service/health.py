"""Reports what is wrong: to the service manager, and to the receivers of notifications.

Owns the reporters (`throttled.health`).
"""

from collections.abc import Sequence

from throttled.clock import Moment, now
from throttled.core.pipeline import Pipeline
from throttled.errors import StoreError
from throttled.health.findings import Reporter, findings, summary, worst
from throttled.linux.systemd import notify
from throttled.model import Finding
from throttled.notify.hook import Hook


class Health:
    """What the reporters find.

    Args:
        reporters: all there are.
        pipeline: whose store says how many entries are active.
        hook: is given the findings once a second.
        observing: nothing is enforced.
    """

    def __init__(
        self, reporters: Sequence[Reporter], pipeline: Pipeline, hook: Hook, *, observing: bool
    ) -> None:
        self._reporters = reporters
        self._pipeline = pipeline
        self._hook = hook
        self._observing = observing

    def findings(self) -> list[Finding]:
        """Return what is wrong; nothing when all is well."""
        return findings(self._reporters, self._pipeline.skipped, now().boot)

    def tick(self, _moment: Moment) -> None:
        """Report the state to the hook and the service manager; without that we are restarted."""
        notify("WATCHDOG=1")  # the event loop runs, whatever becomes of what follows
        wrong = self.findings()
        notify(f"STATUS={self.summary(wrong)}")
        self._hook.health(wrong)

    def summary(self, wrong: Sequence[Finding]) -> str:
        """Return one line for `systemctl status`."""
        if wrong:
            return worst(wrong)
        try:
            counts = self._pipeline.recorder.store.active.counts(now().wall)
        except StoreError as error:
            return f"error: {error.message}"
        return summary(counts, observing=self._observing)
