"""What is odd about senders: limits that act without an effect, and what fell to a cap.

Owns counts that should not grow.
"""

from collections.abc import Iterator

from throttled.core.pipeline import Pipeline
from throttled.health.growth import Growths
from throttled.model import Finding


class SenderReporter:
    """Looks at what is counted of accounts and other senders."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._growths = Growths()

    def __call__(self, at: float) -> Iterator[Finding]:
        """Yield what is odd."""
        senders, policy = self._pipeline.senders, self._pipeline.ladder.policy
        acting = [g for g in senders.gauges() if policy.mode_of(g.name) != "report"]
        for incoming, asked, about, key in (
            (False, senders.acting, "messages", "not-connected"),
            (True, senders.receiving, "recipients", "not-connected-recipients"),
        ):
            names = sorted(g.name for g in acting if g.limit.incoming == incoming)
            if names and not asked:
                what = f"limits that only report, as Postfix does not ask about {about}"
                hint = 'throttled postfix connect; or set mode = "report" in these limits'
                yield Finding("warning", f"{what}: {_list(names)}", hint, key)
        dropped = senders.dropped + senders.queue.evicted
        if self._growths.lately("senders-full", dropped, at):
            what = f"more senders or messages than are tracked: {dropped:,} evicted early"
            hint = "the others are counted; is one host or account sending under many names?"
            yield Finding("warning", what, hint, "senders-full")


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
