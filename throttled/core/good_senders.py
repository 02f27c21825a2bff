"""Exemptions of good senders inside networks that are throttled or banned. Owns nothing."""

from collections.abc import Sequence

from throttled import address
from throttled.clock import Moment
from throttled.core.recorder import Recorder
from throttled.decide.engine import Engine
from throttled.decide.networks import exempt
from throttled.model import SCOPES, Decision, Evidence, Scope


class GoodSenders:
    """Returns the exemptions.

    Args:
        engine: knows which networks are throttled or banned.
        recorder: knows the good senders.
    """

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self._engine = engine
        self._recorder = recorder

    def inside(self, decisions: Sequence[Decision], now: Moment) -> list[Decision]:
        """Return entries of their own for the good senders of networks that are about to be hit."""
        return [
            entry
            for d in decisions
            if address.is_network(d.subject) and d.action != "release"
            for entry in self._entries(d.subject, d.scope, d.until, now)
        ]

    def newcomers(self, evidence: Sequence[Evidence], now: Moment) -> list[Decision]:
        """Return the same for who turned out good in a network that is active."""
        found: list[Decision] = []
        for e in evidence:
            network = address.network_of(e.subject)
            for scope in SCOPES:
                until = self._engine.in_force(network, scope, now.boot) if network else 0.0
                if until:
                    until += now.wall - now.boot
                    found += self._entries(network, scope, until, now, e.subject)
        return found

    def _entries(
        self, network: str, scope: Scope, until: float, now: Moment, only: str = ""
    ) -> list[Decision]:
        senders = self._recorder.senders(network, scope, until, now, only)
        return exempt(network, scope, senders, until, now.wall)
