"""Applies what holds now (configuration, facts of the host, allowlist) to the parts of the daemon.

Owns the watch on the host, and as of when the protection is.
"""

import logging
from collections.abc import Collection

from throttled.clock import Moment, now
from throttled.core.maintenance import Maintenance
from throttled.core.pipeline import Pipeline
from throttled.core.protected import Protected
from throttled.core.reconciler import Reconciler
from throttled.facts import Facts
from throttled.service.configuration import LiveConfiguration
from throttled.service.host_watch import HostWatch
from throttled.service.overload import Overload
from throttled.sources.handshakes import Handshakes
from throttled.sources.logs import Logs
from throttled.sources.policy_requests import PolicyRequests

log = logging.getLogger("throttled")


class Configurator:
    """Passes on what holds; entries that are active stay."""

    def __init__(  # noqa: PLR0913, PLR0917 - all parts that follow the configuration
        self,
        live: LiveConfiguration,
        pipeline: Pipeline,
        maintenance: Maintenance,
        protected: Protected,
        overload: Overload,
        reconciler: Reconciler,
        logs: Logs,
        handshakes: Handshakes,
        requests: PolicyRequests,
    ) -> None:
        """Apply nothing yet; watch the host from now on."""
        self._live = live
        self._pipeline = pipeline
        self._maintenance = maintenance
        self._protected = protected
        self._overload = overload
        self._reconciler = reconciler
        self._logs = logs
        self._handshakes = handshakes
        self._requests = requests
        self._moves = 0  # of the clock, when the allowlist was read last
        self._shared: Collection[str] = ()  # addresses that stand for many clients, of these
        self._host = HostWatch(live, self._changed)

    def close(self) -> None:
        """Watch the host no more."""
        self._host.close()

    def protect(self) -> None:
        """Make the protection anew: from facts, configuration and allowlist."""
        live, pipeline = self._live, self._pipeline
        store = pipeline.recorder.store
        self._shared = pipeline.engine.shared.found().keys()
        protection = live.protection(store, now().wall, self._shared)
        pipeline.reconfigure(live.config.policy(), protection)
        pipeline.engine.facts(live.named(store))
        pipeline.senders.facts(live.facts)
        self._protected.follow(protection)
        self._overload.follow(live.config, live.facts, protection)

    def follow(self) -> None:
        """Read logs, count handshakes and answer requests as configuration and facts say."""
        config, facts = self._live.config, self._live.facts
        self._logs.follow(config.logs(facts))
        self._handshakes.follow(config.sensor, facts)
        self._requests.hold = config.accounts.hold
        self._requests.follow(facts)

    def apply(self) -> None:
        """Apply changed facts, configuration or allowlist."""
        self._host.follow()
        self.protect()
        self._reconciler.reconfigure()
        self.follow()

    def tick(self, moment: Moment) -> None:
        """Apply the allowlist where an entry of it expired, and look for changes of the host."""
        self._host.tick()
        due = self._live.ended(moment.wall) or self._maintenance.moves != self._moves
        due |= self._pipeline.engine.shared.found().keys() != self._shared
        # Where the clock is not steady, the ends are about to move with it.
        if due and self._maintenance.steady(moment):
            self._moves = self._maintenance.moves
            self.apply()

    def check_host(self, _moment: Moment) -> None:
        """Ask the host again where a watch may have missed a change, or a log is missing."""
        if self._live.outdated() or not self._logs.followers or self._logs.unopened:
            self._host.ask_soon()

    def _changed(self, facts: Facts) -> None:
        if facts == self._live.facts:
            self._host.follow()  # a directory may have been replaced
            if self._reconciler.backend.at_interfaces:
                self._reconciler.reconfigure()  # it is at interfaces without an address too
            if self._logs.unopened:
                self._logs.follow(self._live.config.logs(facts))
            return
        log.info("addresses, routes or Postfix's configuration changed; applying the changes")
        self._live.facts = facts
        self.apply()
