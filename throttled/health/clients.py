"""Findings about clients: more than the cap, health checks, skipped events.

Owns counts that should not grow.
"""

from collections.abc import Iterator

from throttled.clock import now
from throttled.core.behind import shown
from throttled.core.pipeline import Pipeline
from throttled.health.growth import Growths
from throttled.model import Finding


class ClientReporter:
    """Looks at what is counted of clients."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._growths = Growths()

    def __call__(self, at: float) -> Iterator[Finding]:
        """Yield what is odd."""
        yield from self._health_checks(at)
        yield from self._proxied()
        yield from self._shared()
        yield from self._caps(at)

    def _caps(self, at: float) -> Iterator[Finding]:
        pipeline = self._pipeline
        evicted = pipeline.engine.sizes()["dropped"]
        if self._growths.lately("clients-full", evicted, at):
            what = f"more clients than max_clients: {evicted:,} counters evicted early"
            hint = "rare clients are missed: raise max_clients if there is memory"
            yield Finding("warning", what, hint, "clients-full")
        skipped = pipeline.skipped_by_kind()
        if self._growths.lately("skipped", sum(skipped.values()), at):
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped.items()))
            what = f"skipped after unexpected errors since the start: {counts}"
            hint = "everything else continues; the journal has the details: please report it"
            yield Finding("warning", what, hint, "skipped")

    def _shared(self) -> Iterator[Finding]:
        for client, why in self._pipeline.engine.shared.found().items():
            what = f"many clients share {client} ({why} within a day): it is never banned"
            hint = (
                "a NAT or proxy rewrites their addresses, so they cannot be distinguished: have it "
                "keep the addresses, see docs/proxies.md; if it is one host: [protect] networks"
            )
            yield Finding("warning", what, hint, "shared-address")

    def _proxied(self) -> Iterator[Finding]:
        rows = self._pipeline.behind.active(now().wall)
        if rows:
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            what = f"behind a proxy, so not stopped here: {shown(rows)}{more}"
            hint = "see: throttled list --proxied; run throttled where their packets arrive"
            yield Finding("warning", what, hint, "proxied-clients")

    def _health_checks(self, at: float) -> Iterator[Finding]:
        pipeline = self._pipeline
        reason = pipeline.ladder.protection.reason
        clients = [c for c in pipeline.engine.checks.clients(at) if not reason(c)]
        if clients:
            what, _, hint = pipeline.engine.checks.hint(clients[0], at).partition("; ")
            more = f" (and {len(clients) - 1} more)" if len(clients) > 1 else ""
            yield Finding("warning", f"{what}{more}", hint, "health-check")
