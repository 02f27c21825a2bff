"""Addresses that many clients share: a swarm's ingress, a NAT or proxy in front. Pure.

Where a router or a container engine rewrites sources, Postfix sees one private address for all
clients: to ban it is to shut everybody out. It is known by what bots are not: it delivers, or logs
in, for many. Counted are private addresses only, that are in a network of this host, or any where
Postfix is elsewhere (in a container, whose networks are not known here).

Left out: this host's own addresses and mynetworks, unless a gateway: those deliver for many because
they are meant to, and are never banned anyway.

Owns what private addresses delivered, and which were recognised: until a restart, at most `_MOST`.
"""

from throttled import address
from throttled.decide.tables import Counters, Distinct
from throttled.facts import Facts

#: Sessions within a day that delivered mail without a login, or login names.
_DAY = 86400.0
_DELIVERIES, _LOGINS = 20, 5
_CLIENTS = 2_000
_MOST = 16


class SharedAddresses:
    """Counts what private addresses deliver."""

    def __init__(self, facts: Facts) -> None:
        """Begin with nothing counted.

        Args:
            facts: networks and addresses of this host.
        """
        self.facts = facts
        self._deliveries = Counters(_DAY, _CLIENTS)
        self._logins = Distinct(_DAY, _CLIENTS, _LOGINS)
        self._found: dict[str, str] = {}

    def delivered(self, client: str, at: float) -> None:
        """Count a session that delivered without a login."""
        if address.is_private(client):
            count = self._deliveries.add(client, at, 1)
            if count >= _DELIVERIES:
                self._recognise(client, f"{_DELIVERIES} sessions that delivered mail")

    def logged_in(self, client: str, user: str, at: float) -> None:
        """Count a login."""
        if user and address.is_private(client):
            count = self._logins.add(client, at, user.lower())
            if count >= _LOGINS:
                self._recognise(client, f"{_LOGINS} login names")

    def found(self) -> dict[str, str]:
        """Return the addresses that were recognised, and by what."""
        return {client: why for client, why in self._found.items() if self._foreign(client)}

    def _recognise(self, client: str, why: str) -> None:
        if len(self._found) < _MOST and self._foreign(client):
            self._found.setdefault(client, why)

    def _foreign(self, client: str) -> bool:
        """Return whether an address is no host that is meant to deliver for many."""
        facts = self.facts
        if not facts.services:  # Postfix is in a container, and its networks are not known
            return True
        if client in facts.gateways:
            return True
        meant = (*facts.own, *facts.mynetworks, *facts.relays, *facts.xclient, *facts.xforward)
        return not _in(client, meant) and _in(client, facts.connected)


def _in(client: str, networks: tuple[str, ...]) -> bool:
    return any(address.inside(client, network) for network in networks)
