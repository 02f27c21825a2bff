"""Which clients are known good in each scope: always admitted, when strangers are delayed.

Read from the store in pieces at the start and every hour, and kept up to date with decisions and
new evidence: a new login counts a second or two after its line. What is protected (loopback,
mynetworks, the allowlist …) belongs to them too; a client whose host name is on the allowlist from
its first delivery or login on; a /64 in which two addresses are known good as a whole (`Pools`),
unless others in it take many places.

Owns them: at most `MOST` addresses, above that those later in the order of their text are
strangers.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from throttled import address
from throttled.clock import Moment
from throttled.core.pools import Pools
from throttled.core.recorder import Recorder
from throttled.decide.overload import known_good
from throttled.decide.protect import Protection
from throttled.errors import StoreError
from throttled.model import RESTRICTING, SCOPES, Decision, Scope

log = logging.getLogger("throttled")

#: Each means of admission control has room for more.
MOST = 100_000
#: Addresses between two iterations of the event loop, some milliseconds; and of which new evidence
#: waits.
_PIECE, _PENDING = 250, 20_000
_EVERY = 3600.0


class KnownGood:
    """Addresses and networks."""

    def __init__(
        self, recorder: Recorder, allowed: Callable[[str], bool] = lambda _client: False
    ) -> None:
        """Know nobody yet.

        Args:
            recorder: its store has the evidence; it reports new evidence from now on.
            allowed: returns whether a client with evidence has a host name on the allowlist.
        """
        self.read = False  # all that the store has
        self.full = False
        self._recorder = recorder
        self._allowed = allowed
        self._good: dict[Scope, set[bytes]] = {scope: set() for scope in SCOPES}
        self._pools = {scope: Pools() for scope in SCOPES}
        self._protected: dict[int, dict[bytes, bool]] = {}
        self._networks: set[str] = set()
        #: Addresses with new evidence; those that come first are recorded by now.
        self._evident: dict[str, None] = {}
        self._recorded: list[str] = []
        self._added: dict[Scope, dict[str, bool]] = {scope: {} for scope in SCOPES}
        self._due = 0.0  # boot clock, of the next reading
        recorder.evident = self.evident

    def __contains__(self, key: tuple[bytes, Scope]) -> bool:
        """Return whether a packed address is known good in a scope."""
        packed, scope = key
        if packed in self._good[scope] or packed in self._pools[scope]:
            return True
        return self.protects(packed)

    def protects(self, packed: bytes) -> bool:
        """Return whether a packed address is protected."""
        return bool(address.covering_parsed(self._protected, (packed, len(packed) * 8)))

    def subjects(self, scope: Scope) -> Iterator[str]:
        """Yield all that are known good in a scope."""
        yield from {*self._networks, *self._pools[scope]}
        yield from map(address.unpack, self._good[scope])

    def count(self, scope: Scope) -> int:
        """Return how many addresses are known good in a scope, without protected ones."""
        return len(self._good[scope])

    def protect(self, protection: Protection) -> None:
        """Take what is protected now."""
        networks = set(protection.networks)
        before, self._networks = self._networks, networks
        for scope in SCOPES:
            self._added[scope] |= dict.fromkeys(networks - before, True)
            removed = before - networks - set(self._pools[scope])
            self._added[scope] |= dict.fromkeys(removed, False)
        self._protected = {}
        for packed, prefix in map(address.parse, networks):
            self._protected.setdefault(prefix, {})[packed] = True

    def evident(self, addresses: Iterable[str]) -> None:
        """Learn of new good evidence, which is recorded soon."""
        if len(self._evident) < _PENDING:
            self._evident |= dict.fromkeys(addresses)

    def decided(self, decisions: Sequence[Decision]) -> None:
        """Learn what was decided: who is throttled or banned is no longer known good."""
        for decision in decisions:
            subject, scope = decision.subject, decision.scope
            if address.is_named(subject):
                continue
            single, pools = address.kind(subject) == "address", self._pools[scope]
            if decision.action in RESTRICTING:
                self._change(scope, pools.bar(subject, decision.until))
                if single:
                    self._put(subject, scope, good=False)
            elif decision.action == "release":
                self._change(scope, pools.unbar(subject))
                if single:
                    self.evident([subject])

    def crowded(self, scope: Scope, open_: Iterable[bytes], most: int, wall: float) -> None:
        """Make pools none for an hour that take too many places by addresses not known good.

        Args:
            scope: of the connections.
            open_: the packed address of each open connection.
            most: connections that such addresses of one pool may have.
            wall: now.
        """
        pools = self._pools[scope]
        members = (each for each in open_ if each in pools and each not in self._good[scope])
        for network, count in pools.count(members).items():
            if count > most:
                self._change(scope, pools.bar(network, wall + _EVERY))
                log.warning(
                    "%s in %s is known good no longer: %d connections of addresses that are "
                    "not by themselves",
                    network,
                    scope,
                    count,
                )

    def changes(self, scope: Scope) -> Mapping[str, bool]:
        """Return what was added (true) and removed (false) since the last call."""
        changes, self._added[scope] = self._added[scope], {}
        return changes

    def due(self, boot: float) -> bool:
        """Return whether the store is to be read."""
        return boot >= self._due

    def tick(self, now: Moment) -> None:
        """Judge who had new evidence a second ago.

        Raises:
            StoreError: the store cannot be read.
        """
        recorded, self._recorded = self._recorded, list(self._evident)
        self._evident = {}
        for scope, pools in self._pools.items():
            self._change(scope, pools.tick(now.wall))
        for start in range(0, len(recorded), _PIECE):
            self._judge(recorded[start : start + _PIECE], now.wall)

    async def load(self, now: Moment) -> None:
        """Read all evidence of the store; who has none any more is no longer known good.

        Raises:
            StoreError: it cannot be read; those known so far stay.
        """
        self._due = now.boot + _EVERY
        found, after = set[str](), ""
        while piece := self._recorder.store.good_addresses(after, now.wall, _PIECE):
            self._judge(piece, now.wall)
            found.update(piece)
            after = piece[-1]
            self.full = len(found) >= MOST
            if self.full:
                break
            await asyncio.sleep(0)
        known = set(map(address.unpack, self._good["mx"] | self._good["submission"]))
        others = sorted(known - found)
        for start in range(0, len(others), _PIECE):
            self._judge(others[start : start + _PIECE], now.wall)
            await asyncio.sleep(0)
        self.read = True

    def failed(self, boot: float, again: float) -> None:
        """Read the store again after some seconds."""
        self._due = boot + again

    def _judge(self, addresses: Sequence[str], wall: float) -> None:
        keys = [(subject, scope) for subject in addresses for scope in SCOPES]
        try:
            pasts = self._recorder.store.past(keys, wall)
        except StoreError:
            self.evident(addresses)
            raise
        formed: list[tuple[str, Scope]] = []
        for (subject, scope), past in pasts.items():
            good = known_good(past, wall) or self._allowed(subject)
            formed += [(pool, scope) for pool in self._put(subject, scope, good=good)]
        for (pool, scope), past in self._recorder.store.past(formed, wall).items():
            if past.action in RESTRICTING and past.until > wall:
                self._change(scope, self._pools[scope].bar(pool, past.until))

    def _put(self, subject: str, scope: Scope, *, good: bool) -> list[str]:
        """Note whether an address is known good, and return which networks become pools."""
        (packed, _), known = address.parse(subject), self._good[scope]
        if good == (packed in known) or (good and len(known) >= MOST):
            return []
        (known.add if good else known.discard)(packed)
        self._added[scope][subject] = good
        pools = self._pools[scope].put(subject, good=good)
        self._change(scope, pools)
        return [pool for pool, formed in pools.items() if formed]

    def _change(self, scope: Scope, pools: Mapping[str, bool]) -> None:
        """Note which networks are pools, and no longer are; protected ones stay."""
        self._added[scope] |= {each: on for each, on in pools.items() if each not in self._networks}
