"""Feeds the limits with what the kernel saw: connections that clients completed, logged or not.

Five times a second what the sensor counted is taken out of the kernel, counted by the engine and
judged, as a batch of log lines is. Without a sensor, or if it fails, the log alone is counted; as
the two are never added to each other (see `throttled.decide.limits`), nothing is switched.

Owns the sensor. One batch has at most `throttled.sources.sensor_maps.SOURCES` clients.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from throttled.clock import now
from throttled.config import schema
from throttled.core.pipeline import Pipeline
from throttled.errors import BackendError
from throttled.facts import Facts
from throttled.model import SCOPES, Decision, Finding, Scope
from throttled.sources.sensor import Sensor

log = logging.getLogger(__name__)

_EVERY = 0.2
#: A sensor that failed is tried again after so long.
_PATIENCE = 60.0

Ports = dict[Scope, list[int]]


class Handshakes:
    """The sensor, and what `status` says of it."""

    def __init__(self, pipeline: Pipeline, report: Callable[[Sequence[Decision]], None]) -> None:
        """Count nothing yet.

        Args:
            pipeline: where counts go.
            report: called with the decisions that they led to.
        """
        self._pipeline = pipeline
        self._report = report
        self._wanted = schema.Sensor().handshakes
        self._ports: Ports = {}
        self._sensor: Sensor | None = None
        self._error: BackendError | None = None
        self._tried = 0.0  # boot clock, when the sensor was opened last
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, settings: schema.Sensor, facts: Facts) -> None:
        """Count at the ports of Postfix's services, or nowhere."""
        self._wanted = settings.handshakes
        self._ports = direct(facts)
        self._open()

    def start(self) -> None:
        """Count until `close`."""
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self.start)
        if self._sensor is not None:
            self._drain(self._sensor)
        elif now().boot - self._tried > _PATIENCE:
            self._open()

    def close(self) -> None:
        """Count no more, and take the program out of the kernel."""
        if self._timer is not None:
            self._timer.cancel()
        self._sensor = None

    def finding(self) -> Finding:
        """Return what `status` and `check` say; a warning if the kernel should count and cannot."""
        if self._sensor is not None:
            ports = ", ".join(str(port) for scope in SCOPES for port in self._ports[scope])
            return Finding("ok", f"completed handshakes are counted at ports {ports}")
        alone = "connections are counted from the log alone"
        if self._error is not None:
            return Finding("warning", f"{self._error.message}; {alone}", self._error.hint)
        what = "no service of Postfix is known" if self._wanted else "off"
        return Finding("ok", f"{what}; {alone}")

    def findings(self) -> list[Finding]:
        """Return what is wrong: nothing if a sensor is wanted only where it can be."""
        found = []
        if self._error is not None and self._wanted is True:
            what = f"sensor: {self._error.message}"
            found.append(Finding("warning", what, self._error.hint, "sensor"))
        if self._sensor is not None and (missed := self._sensor.missed):
            what = f"the sensor missed {missed} handshakes: more clients at once than it counts"
            found.append(Finding("warning", what, "see: throttled top", "sensor-missed"))
        return found

    def _open(self) -> None:
        """Open a sensor for the SMTP ports, if the configuration wants one."""
        self._tried = now().boot
        if not self._wanted or not any(self._ports.values()):
            self._sensor = self._error = None
            return
        try:
            if self._sensor is None:
                self._sensor = Sensor()
            self._sensor.watch(self._ports)
        except BackendError as error:
            self._failed(error)
        else:
            self._error = None

    def _drain(self, sensor: Sensor) -> None:
        began = time.perf_counter()
        try:
            counted = sensor.drain()
        except BackendError as error:
            self._failed(error)
            return
        if not counted:
            return
        moment = now()
        engine, events = self._pipeline.engine, self._pipeline.counts.events
        for (client, scope), count in counted.items():
            engine.handshakes(client, scope, count, moment.boot)
        events["handshake"] = events.get("handshake", 0) + sum(counted.values())
        decisions, _spared = self._pipeline.settle(moment, began=began)
        self._report(decisions)

    def _failed(self, error: BackendError) -> None:
        self._sensor = None
        if self._error is None:
            level = logging.WARNING if self._wanted is True else logging.INFO
            log.log(level, "sensor: %s; connections are counted from the log alone", error.message)
        self._error = error


def direct(facts: Facts) -> Ports:
    """Return the ports at which clients connect themselves, and no proxy for them."""
    proxied = {service.port for service in facts.services if service.proxy}
    return {scope: [port for port in facts.ports(scope) if port not in proxied] for scope in SCOPES}
